//! A writer of cpio archives in the form that the kernel unpacks as its
//! initramfs (`Documentation/driver-api/early-userspace/buffer-format.rst`:
//! newc, magic `070701`).
//!
//! Uncompressed: the archive lives in memory for the time of the boot, and
//! unpacking costs the guest more than copying.

/// An archive under construction.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

/// What an entry is, as in `st_mode`.
const S_IFCHR: u32 = 0o020_000;
const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;
const S_IFLNK: u32 = 0o120_000;

/// An entry's contents do not fit the format's 32-bit size.
#[derive(Debug, thiserror::Error)]
#[error("{path} is too large for an initramfs: it has {size} bytes")]
pub(crate) struct TooLarge {
    path: String,
    size: usize,
}

impl Archive {
    /// Adds a directory with permission bits `mode`. Parents come first.
    pub(crate) fn directory(&mut self, path: &str, mode: u32) {
        self.entry(path, S_IFDIR | mode, (0, 0), &[]);
    }

    /// Adds a file with permission bits `mode`.
    pub(crate) fn file(&mut self, path: &str, mode: u32, contents: &[u8]) -> Result<(), TooLarge> {
        if u32::try_from(contents.len()).is_err() {
            return Err(TooLarge {
                path: path.to_owned(),
                size: contents.len(),
            });
        }
        self.entry(path, S_IFREG | mode, (0, 0), contents);
        Ok(())
    }

    pub(crate) fn symlink(&mut self, path: &str, target: &str) {
        self.entry(path, S_IFLNK | 0o777, (0, 0), target.as_bytes());
    }

    pub(crate) fn character_device(&mut self, path: &str, mode: u32, major: u32, minor: u32) {
        self.entry(path, S_IFCHR | mode, (major, minor), &[]);
    }

    /// The finished archive.
    #[must_use]
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), contents: &[u8]) {
        self.entries += 1;
        let size = u32::try_from(contents.len()).unwrap_or(u32::MAX);
        let name_size = u32::try_from(path.len() + 1).unwrap_or(u32::MAX);
        // Inode, mode, owner, group, links, time, size, the file system's
        // device, the node's device, name's size, checksum (unused).
        let fields = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            size,
            0,
            0,
            device.0,
            device.1,
            name_size,
            0,
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(contents);
        self.pad();
    }

    fn pad(&mut self) {
        let length = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(length, 0);
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
        archive.directory("bin", 0o755);
        archive.file("bin/tool", 0o755, b"hello").unwrap();
        archive.file("empty", 0o600, b"").unwrap();
        archive.symlink("bin/link", "tool");
        let bytes = archive.finish();
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
        archive.character_device("dev/console", 0o600, 5, 1);
        let bytes = archive.finish();
        // 110 + "dev/console\0" is 122, padded to 124; then the trailer.
        assert_eq!(bytes.get(124..130), Some(&b"070701"[..]));
    }
}
