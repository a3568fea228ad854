//! The archive that the kernel unpacks as its first root.

use std::io::{self, Write};

use cpio::newc::{Builder, ModeFileType, trailer};

/// An archive being written.
#[derive(Debug)]
pub(super) struct Archive<W> {
    sink: W,
    inode: u32,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(sink: W) -> Self {
        Self { sink, inode: 0 }
    }

    pub(super) fn directory(&mut self, name: &str) -> io::Result<()> {
        let entry = Builder::new(name).mode(0o755);
        self.add(entry.set_mode_file_type(ModeFileType::Directory), &[])
    }

    /// A character device with the numbers (major, minor).
    pub(super) fn device(&mut self, name: &str, (major, minor): (u32, u32)) -> io::Result<()> {
        let entry = Builder::new(name).mode(0o600);
        let entry = entry.rdev_major(major).rdev_minor(minor);
        self.add(entry.set_mode_file_type(ModeFileType::Char), &[])
    }

    pub(super) fn file(&mut self, name: &str, mode: u32, data: &[u8]) -> io::Result<()> {
        let entry = Builder::new(name).mode(mode);
        self.add(entry.set_mode_file_type(ModeFileType::Regular), data)
    }

    /// Ends the archive and gives back what it was written to.
    pub(super) fn finish(self) -> io::Result<W> {
        trailer(self.sink)
    }

    fn add(&mut self, entry: Builder, data: &[u8]) -> io::Result<()> {
        let size =
            u32::try_from(data.len()).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        // Entries of one inode are links to one file.
        self.inode += 1;
        let mut writer = entry.ino(self.inode).write(&mut self.sink, size);
        writer.write_all(data)?;
        writer.finish().map(drop)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn cpio_lists_what_was_written() {
        let mut archive = Archive::new(Vec::new());
        archive.directory("dev").unwrap();
        archive.file("dev/odd", 0o640, b"12345").unwrap();
        archive.file("init", 0o755, b"#!").unwrap();
        let bytes = archive.finish().unwrap();
        let mut child = Command::new("cpio")
            .args(["--list", "--verbose", "--numeric-uid-gid", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let list = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<Vec<&str>> = list
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(
            (lines[1][0], lines[1][4], lines[1][8]),
            ("-rw-r-----", "5", "dev/odd")
        );
        assert_eq!(
            (lines[2][0], lines[2][4], lines[2][8]),
            ("-rwxr-xr-x", "2", "init")
        );
    }
}
