//! The archive that the kernel unpacks as its initramfs
//! (`Documentation/driver-api/early-userspace/buffer-format.rst`: newc).
//!
//! Uncompressed: the archive lives in memory for the time of the boot, and
//! unpacking costs the guest more than copying.

use std::io::{self, Write};

use cpio::newc::{Builder, ModeFileType, trailer};

/// An archive under construction.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{path} is too large for an initramfs: it has {size} bytes")]
    TooLarge { path: String, size: usize },
    #[error("cannot pack {path} into an initramfs")]
    Write { path: String, source: io::Error },
}

impl Archive {
    /// Adds a directory with permission bits `mode`. Parents come first.
    pub(crate) fn directory(&mut self, path: &str, mode: u32) -> Result<(), Error> {
        self.entry(path, ModeFileType::Directory, mode, (0, 0), &[])
    }

    /// Adds a file with permission bits `mode`.
    pub(crate) fn file(&mut self, path: &str, mode: u32, contents: &[u8]) -> Result<(), Error> {
        self.entry(path, ModeFileType::Regular, mode, (0, 0), contents)
    }

    pub(crate) fn symlink(&mut self, path: &str, target: &str) -> Result<(), Error> {
        let target = target.as_bytes();
        self.entry(path, ModeFileType::Symlink, 0o777, (0, 0), target)
    }

    /// Adds a character device with the numbers (major, minor).
    pub(crate) fn character_device(
        &mut self,
        path: &str,
        mode: u32,
        device: (u32, u32),
    ) -> Result<(), Error> {
        self.entry(path, ModeFileType::Char, mode, device, &[])
    }

    /// The finished archive.
    pub(crate) fn finish(self) -> Result<Vec<u8>, Error> {
        trailer(self.bytes).map_err(|source| Error::Write {
            path: "the end".to_owned(),
            source,
        })
    }

    fn entry(
        &mut self,
        path: &str,
        kind: ModeFileType,
        mode: u32,
        (major, minor): (u32, u32),
        contents: &[u8],
    ) -> Result<(), Error> {
        let size = u32::try_from(contents.len()).map_err(|_| Error::TooLarge {
            path: path.to_owned(),
            size: contents.len(),
        })?;
        // Entries with the same inode number are links to one file.
        self.entries += 1;
        let mut writer = Builder::new(path)
            .ino(self.entries)
            .mode(mode)
            .set_mode_file_type(kind)
            .rdev_major(major)
            .rdev_minor(minor)
            .write(&mut self.bytes, size);
        let written = writer.write_all(contents);
        written
            .and_then(|()| writer.finish().map(drop))
            .map_err(|source| Error::Write {
                path: path.to_owned(),
                source,
            })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    /// Unpacks with busybox, the cpio that is there wherever this is built.
    #[test]
    fn another_cpio_unpacks_what_was_packed() {
        let mut archive = Archive::default();
        archive.directory("bin", 0o755).unwrap();
        archive.file("bin/tool", 0o755, b"hello").unwrap();
        archive.file("empty", 0o600, b"").unwrap();
        archive.symlink("bin/link", "tool").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);

        let directory = tempfile::tempdir().unwrap();
        let mut cpio = Command::new("busybox")
            .args(["cpio", "-idm"])
            .current_dir(&directory)
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        cpio.stdin.take().unwrap().write_all(&bytes).unwrap();
        assert!(cpio.wait().unwrap().success());

        let path = |name: &str| directory.path().join(name);
        assert_eq!(std::fs::read(path("bin/link")).unwrap(), b"hello");
        assert_eq!(std::fs::read(path("empty")).unwrap(), b"");
        assert_eq!(
            std::fs::read_link(path("bin/link")).unwrap().to_str(),
            Some("tool")
        );
    }

    #[test]
    fn every_header_has_110_bytes_and_every_part_is_aligned() {
        let mut archive = Archive::default();
        archive
            .character_device("dev/console", 0o600, (5, 1))
            .unwrap();
        let bytes = archive.finish().unwrap();
        // 110 + "dev/console\0" is 122, padded to 124; then the trailer.
        assert_eq!(bytes.get(124..130), Some(&b"070701"[..]));
    }
}
