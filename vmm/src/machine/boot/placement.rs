//! Where the initramfs goes, and whether all fits.

use super::error::Error;
use crate::machine::layout;
use vmm_kernel::{Image, Kernel};

/// `initrd_addr_max` of every current kernel, for a `vmlinux`, which says
/// none.
const INITRAMFS_LIMIT: u64 = 0x7fff_ffff;
const MIB: u64 = 1 << 20;
/// More than fits into any machine: it would have to lie below the gap.
pub(crate) const LARGEST_INITRAMFS: u64 = layout::GAP.start;

/// A range of guest-physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u64,
    pub(super) size: u64,
}

/// Where the initramfs goes: as high as the kernel allows, so that it is out
/// of the kernel's way while that unpacks and moves itself. Also where it is
/// checked that all fits.
pub(super) fn place_initramfs(
    kernel: &Kernel,
    initramfs: Option<&[u8]>,
    low_end: u64,
) -> Result<Option<Span>, Error> {
    let limit = match &kernel.image {
        Image::BzImage(header) => u64::from(header.initrd_addr_max),
        Image::Elf(_) => INITRAMFS_LIMIT,
    };
    place(
        kernel.footprint_end(),
        initramfs.map_or(0, |bytes| bytes.len() as u64),
        low_end,
        limit,
    )
}

pub(super) fn place(
    kernel_end: u64,
    size: u64,
    low_end: u64,
    limit: u64,
) -> Result<Option<Span>, Error> {
    let room = whole_pages(size);
    let needed = whole_pages(kernel_end).saturating_add(room);
    // `limit` is the last byte that an initramfs may occupy.
    let highest = match size {
        0 => layout::GAP.start,
        _ => whole_pages_in(limit.saturating_add(1).min(layout::GAP.start)),
    };
    // First what more memory does not help against.
    if whole_pages(kernel_end) > highest {
        return Err(Error::KernelTooLarge {
            end_mib: kernel_end.div_ceil(MIB),
            limit_mib: highest / MIB,
        });
    }
    if needed > highest {
        return Err(Error::InitramfsTooLarge {
            size_mib: size.div_ceil(MIB),
            limit_mib: highest / MIB,
        });
    }
    if needed > low_end {
        return Err(Error::MemoryTooSmall {
            needed_mib: needed.div_ceil(MIB),
            memory_mib: low_end / MIB,
        });
    }
    if size == 0 {
        return Ok(None);
    }
    let end = whole_pages_in(low_end).min(highest);
    Ok(Some(Span {
        start: end - room,
        size,
    }))
}

/// The size of the pages that hold `bytes`; a kernel file may claim any size.
fn whole_pages(bytes: u64) -> u64 {
    bytes
        .checked_next_multiple_of(layout::PAGE)
        .unwrap_or(u64::MAX)
}

/// The size of the whole pages in `bytes`.
fn whole_pages_in(bytes: u64) -> u64 {
    bytes / layout::PAGE * layout::PAGE
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_initramfs_lies_at_the_end_of_a_small_memory() {
        let span = place(64 * MIB, 5000, 256 * MIB, INITRAMFS_LIMIT).unwrap();
        assert_eq!(
            span,
            Some(Span {
                start: 256 * MIB - 2 * layout::PAGE,
                size: 5000
            })
        );
    }

    #[test]
    fn an_initramfs_lies_below_the_kernel_s_limit_in_a_large_memory() {
        let span = place(64 * MIB, layout::PAGE, layout::GAP.start, INITRAMFS_LIMIT).unwrap();
        assert_eq!(span.unwrap().start, (1 << 31) - layout::PAGE);
    }

    #[test]
    fn a_memory_too_small_says_how_much_is_needed() {
        let error = place(64 * MIB, 10 * MIB + 1, 64 * MIB, INITRAMFS_LIMIT).unwrap_err();
        assert!(error.to_string().contains("use --memory 75M"), "{error}");
    }

    #[test]
    fn an_initramfs_beyond_2_gib_is_refused() {
        assert!(matches!(
            place(64 * MIB, 2048 * MIB, layout::GAP.start, INITRAMFS_LIMIT),
            Err(Error::InitramfsTooLarge {
                size_mib: 2048,
                limit_mib: 2048
            })
        ));
    }

    #[test]
    fn more_memory_is_asked_for_only_where_it_helps() {
        for low_end in [256 * MIB, layout::GAP.start] {
            for size in [2000 * MIB, 3400 * MIB, u64::MAX] {
                let result = place(64 * MIB, size, low_end, INITRAMFS_LIMIT);
                assert!(
                    matches!(result, Err(Error::InitramfsTooLarge { .. })),
                    "{result:?}"
                );
            }
        }
        let fits = place(64 * MIB, 1900 * MIB, 256 * MIB, INITRAMFS_LIMIT).unwrap_err();
        assert!(fits.to_string().contains("use --memory 1964M"), "{fits}");
        let least = place(64 * MIB, 1900 * MIB, 1964 * MIB, INITRAMFS_LIMIT).unwrap();
        assert_eq!(least.unwrap().start, 64 * MIB);
    }

    #[test]
    fn no_initramfs_needs_no_place() {
        assert_eq!(
            place(64 * MIB, 0, 128 * MIB, INITRAMFS_LIMIT).unwrap(),
            None
        );
    }

    #[test]
    fn a_kernel_that_claims_all_memory_there_could_be_is_refused() {
        for size in [0, 10] {
            assert!(matches!(
                place(u64::MAX, size, 256 * MIB, INITRAMFS_LIMIT),
                Err(Error::KernelTooLarge { .. })
            ));
        }
    }
}
