//! The windows in which guests have files mapped: where they are, and whether
//! there can be as many and as large ones.

use devices::window::{AREAS_PER_UNIT, UNIT};
use vmm_options::size::Size;

use super::layout;

/// How much larger than its memory all windows of a guest can be: Linux takes
/// 64 bytes for each of their pages, which is then a quarter of the memory.
const TIMES_MEMORY: u64 = 16;

/// Areas of this process's address space that are for nothing mapped in a
/// window.
const OTHER_AREAS: u64 = 8192;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "dax= of {total} in all is more than a guest with {memory} of memory can keep account of: \
         use at most {limit}, or raise --memory"
    )]
    Memory {
        total: Size,
        memory: Size,
        limit: Size,
    },
    #[error(
        "dax= of {total} in all is more than this CPU can address beside the guest's memory \
         ({limit} in all): use less"
    )]
    BeyondAddressWidth { total: Size, limit: Size },
    #[error(
        "dax= of {total} in all can take {needed} memory mappings of this process, and the host \
         allows {limit}: use less, or raise vm.max_map_count with sysctl"
    )]
    Areas {
        total: Size,
        needed: u64,
        limit: u64,
    },
}

/// Where windows of these `sizes` go, one after the other above the `memory` of
/// a guest, all in bytes.
///
/// # Errors
///
/// When they are too large for the guest or the host.
pub(crate) fn place(memory: u64, sizes: &[u64]) -> Result<Vec<u64>, Error> {
    let total = sizes
        .iter()
        .fold(0, |sum: u64, size| sum.saturating_add(*size));
    let limit = memory.saturating_mul(TIMES_MEMORY);
    if total > limit {
        return Err(Error::Memory {
            total: Size::from_bytes(total),
            memory: Size::from_bytes(memory),
            limit: Size::from_bytes(limit),
        });
    }
    let needed = (total / UNIT)
        .saturating_mul(AREAS_PER_UNIT)
        .saturating_add(OTHER_AREAS);
    match max_map_count() {
        Some(limit) if !sizes.is_empty() && needed > limit => {
            return Err(Error::Areas {
                total: Size::from_bytes(total),
                needed,
                limit,
            });
        }
        _ => {}
    }
    let mut next = layout::memory_end(memory);
    let mut bases = Vec::with_capacity(sizes.len());
    for size in sizes {
        let base = next.checked_next_multiple_of(layout::WINDOW_ALIGNMENT);
        let end = base.and_then(|base| base.checked_add(*size));
        let (Some(base), Some(end)) = (base, end) else {
            return Err(Error::BeyondAddressWidth {
                total: Size::from_bytes(total),
                limit: Size::from_bytes(u64::MAX),
            });
        };
        bases.push(base);
        next = end;
    }
    Ok(bases)
}

/// As [`place`], for nothing but its errors, with `address_bits` for how wide a
/// guest-physical address may be.
pub(super) fn check(memory: u64, sizes: &[u64], address_bits: u32) -> Result<(), Error> {
    let bases = place(memory, sizes)?;
    let limit = 1_u64.checked_shl(address_bits).unwrap_or(u64::MAX);
    match bases.last().zip(sizes.last()) {
        Some((base, size)) if base.saturating_add(*size) > limit => {
            Err(Error::BeyondAddressWidth {
                total: Size::from_bytes(sizes.iter().sum()),
                limit: Size::from_bytes(limit),
            })
        }
        _ => Ok(()),
    }
}

/// `vm.max_map_count` of the host.
fn max_map_count() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/sys/vm/max_map_count").ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn windows_follow_the_memory_and_each_other_without_touching() {
        let small = place(512 << 20, &[2 << 20, 3 * GIB]).unwrap();
        assert_eq!(small, [4 * GIB, 5 * GIB]);
        let large = place(8 * GIB, &[2 << 20]).unwrap();
        assert_eq!(large, [9 * GIB]);
        assert!(place(512 << 20, &[]).unwrap().is_empty());
    }

    #[test]
    fn windows_that_cannot_be_are_refused_with_what_to_do() {
        let is = |text: &str, result: Result<(), Error>| {
            let message = result.unwrap_err().to_string();
            assert!(message.contains(text), "{message}");
            assert!(!message.contains('\n'), "{message}");
        };
        check(512 << 20, &[8 * GIB], 40).unwrap();
        is(
            "use at most 8G, or raise --memory",
            check(512 << 20, &[4 * GIB, 5 * GIB], 40),
        );
        is("64G in all): use less", check(60 * GIB, &[8 * GIB], 36));
        is("vm.max_map_count", check(1 << 50, &[1 << 50], 52));
        is("--memory", check(512 << 20, &[u64::MAX, u64::MAX], 52));
    }
}
