//! The little that has to be known of an executable: whether it runs in a
//! guest that has no libraries.

use elf::ElfBytes;
use elf::abi::{EM_X86_64, PT_INTERP};
use elf::endian::AnyEndian;
use elf::file::Class;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("it is no x86-64 executable")]
    NotExecutable,
    #[error("it is dynamically linked")]
    Dynamic,
}

/// Checks that `bytes` are a static x86-64 executable.
pub(crate) fn check_static(bytes: &[u8]) -> Result<(), Error> {
    let file = ElfBytes::<AnyEndian>::minimal_parse(bytes).map_err(|_| Error::NotExecutable)?;
    let is_x86_64 = file.ehdr.e_machine == EM_X86_64 && file.ehdr.class == Class::ELF64;
    if !is_x86_64 || file.ehdr.endianness != AnyEndian::Little {
        return Err(Error::NotExecutable);
    }
    let names_a_loader = file
        .segments()
        .is_some_and(|segments| segments.iter().any(|segment| segment.p_type == PT_INTERP));
    if names_a_loader {
        return Err(Error::Dynamic);
    }
    Ok(())
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
