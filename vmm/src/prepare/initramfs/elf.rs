//! The little that has to be known of an executable: whether it runs in a
//! guest that has no libraries.

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("it is no x86-64 executable")]
    NotExecutable,
    #[error("it is dynamically linked")]
    Dynamic,
}

const EM_X86_64: u64 = 62;
const PT_INTERP: u64 = 3;

/// Checks that `elf` is a static x86-64 executable (ELF-64 Object File Format
/// 1.5, sections 2 and 8).
pub(crate) fn check_static(elf: &[u8]) -> Result<(), Error> {
    if elf.get(..6) != Some(b"\x7fELF\x02\x01") || number(elf, 18, 2) != Some(EM_X86_64) {
        return Err(Error::NotExecutable);
    }
    let headers = |elf| {
        Some((
            number(elf, 32, 8)?,
            number(elf, 54, 2)?,
            number(elf, 56, 2)?,
        ))
    };
    let (offset, size, count) = headers(elf).ok_or(Error::NotExecutable)?;
    for index in 0..count {
        let header = index
            .checked_mul(size)
            .and_then(|bytes| bytes.checked_add(offset))
            .and_then(|at| usize::try_from(at).ok())
            .ok_or(Error::NotExecutable)?;
        if number(elf, header, 4).ok_or(Error::NotExecutable)? == PT_INTERP {
            return Err(Error::Dynamic);
        }
    }
    Ok(())
}

/// The little-endian number of `size` bytes at `offset`.
fn number(bytes: &[u8], offset: usize, size: usize) -> Option<u64> {
    let bytes = bytes.get(offset..offset.checked_add(size)?)?;
    Some(
        bytes
            .iter()
            .rev()
            .fold(0, |value, byte| value << 8 | u64::from(*byte)),
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_own_executable_is_dynamic_and_the_guests_init_is_not() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert_eq!(check_static(&own), Err(Error::Dynamic));
        assert_eq!(check_static(crate::prepare::initramfs::INIT), Ok(()));
    }

    #[test]
    fn what_is_cut_short_or_something_else_is_refused() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        for length in [0, 5, 17, 19, 40, 57, 64] {
            assert_eq!(
                check_static(own.get(..length).unwrap()),
                Err(Error::NotExecutable)
            );
        }
        assert_eq!(check_static(b"#!/bin/sh\n"), Err(Error::NotExecutable));
    }
}
