//! An initramfs of the user's own.

use std::io;
use std::path::{Path, PathBuf};

use crate::machine::boot;
use crate::prepare::input;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot use the initramfs {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the initramfs {} is empty: name a cpio archive", .0.display())]
    Empty(PathBuf),
    #[error(
        "{} is no initramfs: name a cpio archive (cpio -H newc), compressed as the kernel can \
         unpack it or not at all", .0.display()
    )]
    Format(PathBuf),
}

/// How the archives begin that Linux unpacks, and what it decompresses
/// (`init/initramfs.c`, `lib/decompress.c`).
const FORMATS: [&[u8]; 10] = [
    b"070701",
    b"070702",
    &[0x1f, 0x8b],
    &[0x1f, 0x9e],
    b"BZh",
    &[0x5d, 0x00],
    &[0xfd, b'7', b'z', b'X', b'Z', 0x00],
    &[0x89, b'L', b'Z', b'O'],
    &[0x02, 0x21, 0x4c, 0x18],
    &[0x28, 0xb5, 0x2f, 0xfd],
];

/// Reads it, as far as any machine can take it.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let bytes = input::read(path, boot::LARGEST_INITRAMFS).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })?;
    if bytes.is_empty() {
        return Err(Error::Empty(path.to_owned()));
    }
    // The kernel skips zeros before an archive.
    let start = bytes.iter().position(|byte| *byte != 0);
    let archive = start
        .and_then(|start| bytes.get(start..))
        .unwrap_or_default();
    if !FORMATS.iter().any(|magic| archive.starts_with(magic)) {
        return Err(Error::Format(path.to_owned()));
    }
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_no_kernel_unpacks_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("initramfs");
        let read_back = |contents: &[u8]| {
            std::fs::write(&path, contents).unwrap();
            read(&path)
        };
        for magic in FORMATS {
            assert_eq!(
                read_back(&[magic, b"..."].concat()).unwrap().len(),
                magic.len() + 3
            );
        }
        assert!(read_back(b"\x00\x00070701").is_ok());
        for contents in [&b"#!/bin/sh\n"[..], b"070707", b"\x7fELF", &[0; 512]] {
            let error = read_back(contents).unwrap_err().to_string();
            assert!(error.contains("is no initramfs"), "{error}");
        }
        assert!(read_back(b"").unwrap_err().to_string().contains("is empty"));
    }
}
