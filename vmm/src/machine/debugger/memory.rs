//! The guest's memory by the addresses that its processors use. KVM walks the
//! page tables, which are the guest's to write, and says where that ends.

use kvm_ioctls::VcpuFd;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// Within so many bytes neighbours stay neighbours, however large the page is.
const PAGE: u64 = 4096;
/// Paging is on.
const CR0_PG: u64 = 1 << 31;

/// Where `address` is in physical memory, as this processor sees it now.
pub(super) fn translate(fd: &VcpuFd, address: u64) -> Option<GuestAddress> {
    let translation = fd.translate_gva(address).ok()?;
    (translation.valid != 0).then_some(GuestAddress(translation.physical_address))
}

/// The same for a processor that has page tables; without, every address would be
/// a physical one.
pub(super) fn translate_paged(fd: &VcpuFd, address: u64) -> Option<GuestAddress> {
    let paged = fd.get_sregs().is_ok_and(|sregs| sregs.cr0 & CR0_PG != 0);
    paged.then(|| translate(fd, address)).flatten()
}

/// Reads what is at `address`, up to what is not mapped or no memory. Says how many
/// bytes that are.
pub(super) fn read(fd: &VcpuFd, memory: &GuestMemoryMmap, address: u64, data: &mut [u8]) -> usize {
    let mut done = 0;
    for (at, length) in pieces(address, data.len()) {
        let piece = data.get_mut(done..done + length);
        let (Some(piece), Some(physical)) = (piece, translate(fd, at)) else {
            break;
        };
        if memory.read_slice(piece, physical).is_err() {
            break;
        }
        done += length;
    }
    done
}

/// Writes `data` to `address`, whatever the page tables say of writing. Says
/// whether all was written; what is before the first obstacle is, in any case.
pub(super) fn write(fd: &VcpuFd, memory: &GuestMemoryMmap, address: u64, data: &[u8]) -> bool {
    let mut done = 0;
    for (at, length) in pieces(address, data.len()) {
        let piece = data.get(done..done + length);
        let (Some(piece), Some(physical)) = (piece, translate(fd, at)) else {
            break;
        };
        if memory.write_slice(piece, physical).is_err() {
            break;
        }
        done += length;
    }
    done == data.len()
}

/// `length` bytes from `address` on, divided at pages, up to the end of the address
/// space.
fn pieces(address: u64, length: usize) -> impl Iterator<Item = (u64, usize)> {
    let mut rest = length;
    let mut next = Some(address);
    std::iter::from_fn(move || {
        let at = next?;
        let room = usize::try_from(PAGE - at % PAGE).unwrap_or(usize::MAX);
        let piece = rest.min(room);
        rest -= piece;
        next = at.checked_add(piece as u64);
        (piece > 0).then_some((at, piece))
    })
}

#[cfg(test)]
mod tests {
    use super::pieces;

    #[test]
    fn pieces_end_at_pages_and_with_the_address_space() {
        let of = |address, length| pieces(address, length).collect::<Vec<_>>();
        assert_eq!(of(0xffe, 4), [(0xffe, 2), (0x1000, 2)]);
        assert_eq!(of(0x1000, 0x1001), [(0x1000, 0x1000), (0x2000, 1)]);
        assert_eq!(of(5, 0), []);
        assert_eq!(of(u64::MAX, 4), [(u64::MAX, 1)]);
    }
}
