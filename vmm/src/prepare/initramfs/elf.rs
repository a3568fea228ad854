//! The little that has to be known of an executable: what it needs to run in a
//! guest that has no libraries.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use elf::ElfBytes;
use elf::abi::{EM_X86_64, PT_INTERP};
use elf::endian::AnyEndian;
use elf::file::Class;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no x86-64 executable")]
pub(crate) struct Error;

/// The loader that `bytes`, which are to be an x86-64 executable, name; `None` for a
/// static one.
pub(crate) fn loader(bytes: &[u8]) -> Result<Option<PathBuf>, Error> {
    let file = ElfBytes::<AnyEndian>::minimal_parse(bytes).map_err(|_| Error)?;
    let is_x86_64 = file.ehdr.e_machine == EM_X86_64 && file.ehdr.class == Class::ELF64;
    if !is_x86_64 || file.ehdr.endianness != AnyEndian::Little {
        return Err(Error);
    }
    let segments = file.segments().into_iter();
    let Some(segment) = (segments.flatten()).find(|segment| segment.p_type == PT_INTERP) else {
        return Ok(None);
    };
    let name = file.segment_data(&segment).map_err(|_| Error)?;
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    let path = PathBuf::from(OsStr::from_bytes(name));
    path.is_absolute().then_some(Some(path)).ok_or(Error)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_own_executable_is_dynamic_and_the_guests_init_is_not() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        let loader_of_own = loader(&own).unwrap().unwrap();
        assert!(loader_of_own.ends_with("ld-linux-x86-64.so.2"));
        assert_eq!(loader(crate::prepare::initramfs::INIT), Ok(None));
    }

    #[test]
    fn what_is_cut_short_or_something_else_is_refused() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        for length in [0, 5, 17, 19, 40, 57, 64] {
            assert_eq!(loader(own.get(..length).unwrap()), Err(Error));
        }
        assert_eq!(loader(b"#!/bin/sh\n"), Err(Error));
    }
}
