//! Files that are read whole: never what has no end, never more than a limit,
//! and without waiting for a writer that may never come.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Opens a file, or a pipe, as `<(...)` of a shell is one.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if kind.is_fifo() {
        // A writer that is there is waited for.
        rustix::io::ioctl_fionbio(&file, false)?;
    } else if !kind.is_file() {
        return Err(io::Error::other("neither a file nor a pipe"));
    }
    Ok(file)
}

/// The contents of a file of at most `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let too_large = || {
        let text = format!("larger than {} MiB", limit >> 20);
        io::Error::new(io::ErrorKind::FileTooLarge, text)
    };
    let file = open(path)?;
    let size = file.metadata()?.len();
    if size > limit {
        return Err(too_large());
    }
    let mut contents = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    // What grows meanwhile, and a pipe.
    file.take(limit.saturating_add(1))
        .read_to_end(&mut contents)?;
    if contents.len() as u64 > limit {
        return Err(too_large());
    }
    Ok(contents)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsRawFd;

    #[test]
    fn what_has_no_end_or_is_too_large_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        let error = read(&path, 4).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        let error = read(Path::new("/dev/zero"), 4).unwrap_err();
        assert!(error.to_string().contains("neither a file"), "{error}");
        assert!(read(directory.path(), 4).is_err());
    }

    #[test]
    fn a_pipe_is_read_up_to_the_limit_and_a_fifo_without_a_writer_is_empty() {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"12345").unwrap();
        let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
        // The writer stays: there is no end to wait for.
        assert!(read(Path::new(&path), 4).is_err());

        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fifo");
        mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert_eq!(read(&path, 4).unwrap(), b"");
    }
}
