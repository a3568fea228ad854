//! Guest RAM: anonymous host memory below and above the MMIO gap.
//!
//! Reserved lazily (`MAP_NORESERVE`, no page is touched until the guest does),
//! so an 8 GiB guest costs what it uses.

#![allow(unsafe_code)]

use std::sync::Arc;

use devices::virtio::RegisterPage;
use devices::window::Windows;
use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;
use vm_memory::{Address, GuestAddress, GuestMemory, GuestMemoryMmap, GuestMemoryRegion};
use vmm_options::size::Size;

use super::layout;

/// The smallest machine that makes sense, in bytes.
pub(crate) const MIN: u64 = 32 << 20;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("memory of {0} is not possible: use a multiple of 4 KiB, at least 32 MiB")]
    Size(Size),
    #[error("memory of {size} is more than this CPU can address ({limit})")]
    BeyondAddressWidth {
        /// What was asked for.
        size: Size,
        /// What a guest can address.
        limit: Size,
    },
    #[error("cannot reserve {size} of guest memory; use less --memory")]
    Reserve {
        /// What was asked for.
        size: Size,
        source: vm_memory::mmap::FromRangesError,
    },
    #[error("KVM does not take the guest memory")]
    Register(#[source] kvm_ioctls::Error),
    #[error("KVM does not take a window of dax=")]
    RegisterWindow(#[source] kvm_ioctls::Error),
    #[error("KVM does not take a page that the guest can only read")]
    RegisterPage(#[source] kvm_ioctls::Error),
}

/// The RAM regions of a machine of `size` bytes: start and size of each.
fn regions(size: u64) -> Vec<(u64, u64)> {
    let low = size.min(layout::GAP.start);
    let high = size - low;
    let mut regions = vec![(0, low)];
    if high > 0 {
        regions.push((layout::GAP.end, high));
    }
    regions
}

/// Reserves guest memory of `size` bytes; `address_bits` is how wide a
/// guest-physical address may be.
///
/// # Errors
///
/// When the size is impossible or the host has no room.
pub(crate) fn reserve(size: u64, address_bits: u32) -> Result<GuestMemoryMmap, Error> {
    if size < MIN || !size.is_multiple_of(layout::PAGE) {
        return Err(Error::Size(Size::from_bytes(size)));
    }
    let limit = 1_u64.checked_shl(address_bits).unwrap_or(u64::MAX);
    let gap = layout::GAP.end - layout::GAP.start;
    if size.checked_add(gap).is_none_or(|end| end > limit) {
        return Err(Error::BeyondAddressWidth {
            size: Size::from_bytes(size),
            limit: Size::from_bytes(limit.saturating_sub(gap)),
        });
    }
    let ranges = regions(size)
        .into_iter()
        .map(|(start, len)| Ok((GuestAddress(start), usize::try_from(len)?)))
        .collect::<Result<Vec<_>, std::num::TryFromIntError>>()
        .map_err(|_| Error::Size(Size::from_bytes(size)))?;
    let memory = GuestMemoryMmap::from_ranges(&ranges).map_err(|source| Error::Reserve {
        size: Size::from_bytes(size),
        source,
    })?;
    prefer_huge_pages(&memory);
    Ok(memory)
}

/// Asks for transparent huge pages: fewer faults while the guest touches its
/// memory first, and shorter page walks ever after. A host without them is no
/// error.
fn prefer_huge_pages(memory: &GuestMemoryMmap) {
    for region in memory.iter() {
        let size = usize::try_from(region.len()).unwrap_or(0);
        // SAFETY: the range is exactly one mapping that `region` owns, and
        // MADV_HUGEPAGE changes neither its contents nor its address.
        let result = unsafe {
            libc::madvise(
                region.as_ptr().cast::<libc::c_void>(),
                size,
                libc::MADV_HUGEPAGE,
            )
        };
        if result != 0 {
            log::debug!(
                "no huge pages for guest memory: {}",
                std::io::Error::last_os_error()
            );
        }
    }
}

/// Gives the memory to KVM, one slot per region.
///
/// The caller keeps a clone of `memory` alive as long as the VM and its
/// vCPUs: KVM accesses it by host address.
pub(super) fn register(vm: &VmFd, memory: &GuestMemoryMmap) -> Result<(), Error> {
    for (slot, region) in (0_u32..).zip(memory.iter()) {
        let slot = kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: region.start_addr().raw_value(),
            memory_size: region.len(),
            userspace_addr: region.as_ptr() as u64,
        };
        // SAFETY: the host range is one mapping owned by `region`, which lives
        // as long as any clone of `memory`; `Vm` and every `Vcpu` hold one
        // until their descriptors are closed. Slots are distinct and the guest
        // ranges do not overlap, because vm-memory has checked them.
        unsafe { vm.set_user_memory_region(slot) }.map_err(Error::Register)?;
    }
    Ok(())
}

/// Gives the windows to KVM, in the slots after those of the memory.
///
/// The caller keeps a clone of `windows` as long as the VM and its vCPUs.
pub(super) fn register_windows(
    vm: &VmFd,
    memory: &GuestMemoryMmap,
    windows: &Windows,
) -> Result<(), Error> {
    let first = u32::try_from(memory.num_regions()).unwrap_or(u32::MAX);
    for (slot, window) in (first..).zip(windows.iter()) {
        let slot = kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: window.base(),
            memory_size: window.len(),
            userspace_addr: window.host_address(),
        };
        // SAFETY: the host range belongs to `window` for as long as it lives,
        // and whatever is mapped there was mapped for the guest; `Vm` and every
        // `Vcpu` hold a clone of `windows` until their descriptors are closed.
        // Slots are distinct, and KVM refuses guest ranges that overlap.
        unsafe { vm.set_user_memory_region(slot) }.map_err(Error::RegisterWindow)?;
    }
    Ok(())
}

/// Gives a page of registers to KVM, for the guest to read.
///
/// The caller keeps `page` alive as long as the VM and its vCPUs.
pub(super) fn register_page(
    vm: &VmFd,
    slot: usize,
    page: &Arc<RegisterPage>,
    address: u64,
) -> Result<(), Error> {
    let slot = kvm_userspace_memory_region {
        slot: u32::try_from(slot).unwrap_or(u32::MAX),
        flags: KVM_MEM_READONLY,
        guest_phys_addr: address,
        memory_size: size_of::<RegisterPage>() as u64,
        userspace_addr: Arc::as_ptr(page) as u64,
    };
    // SAFETY: the host range is `page`, which is aligned to a page and a page long,
    // and lives until `Vm` and every `Vcpu` that hold a clone have closed their
    // descriptors. The guest can only read it, and all that writes to it are atomic
    // operations. The slot is a new one, and KVM refuses guest ranges that overlap.
    unsafe { vm.set_user_memory_region(slot) }.map_err(Error::RegisterPage)
}

/// Where RAM below the gap ends.
pub(super) fn low_end(memory: &GuestMemoryMmap) -> u64 {
    memory
        .iter()
        .next()
        .map_or(0, |region| region.start_addr().raw_value() + region.len())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn memory_below_the_gap_is_one_region() {
        assert_eq!(regions(256 << 20), [(0, 256 << 20)]);
        assert_eq!(regions(layout::GAP.start), [(0, layout::GAP.start)]);
    }

    #[test]
    fn the_rest_of_a_large_memory_starts_at_4_gib() {
        assert_eq!(
            regions(8 * GIB),
            [
                (0, layout::GAP.start),
                (4 * GIB, 8 * GIB - layout::GAP.start)
            ]
        );
    }

    #[test]
    fn a_large_memory_is_reserved_without_being_touched() {
        let memory = reserve(64 * GIB, 46).unwrap();
        assert_eq!(
            memory.iter().map(GuestMemoryRegion::len).sum::<u64>(),
            64 * GIB
        );
        assert_eq!(low_end(&memory), layout::GAP.start);
    }

    #[test]
    fn a_size_that_is_no_multiple_of_a_page_is_refused() {
        assert!(matches!(reserve((64 << 20) + 1, 40), Err(Error::Size(_))));
        assert!(matches!(reserve(0, 40), Err(Error::Size(_))));
        let small = reserve(1 << 20, 40).unwrap_err().to_string();
        assert!(small.contains("memory of 1M is"), "{small}");
        let large = reserve(64 * GIB, 36).unwrap_err().to_string();
        assert!(large.contains("memory of 64G is"), "{large}");
        assert!(large.contains("can address (64768M)"), "{large}");
    }

    #[test]
    fn memory_beyond_the_address_width_is_refused() {
        assert!(matches!(
            reserve(64 * GIB, 36),
            Err(Error::BeyondAddressWidth { .. })
        ));
    }
}
