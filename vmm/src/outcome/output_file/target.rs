//! What the path of an output leads to.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What is written, and so how.
#[derive(Debug)]
pub(super) enum Target {
    /// A file, or nothing yet: the path with its links followed, since it is
    /// not a link that is to be replaced.
    File(PathBuf),
    /// The file or the socket that this process's standard output or error is:
    /// a file in its place would be another one, and a socket cannot be
    /// opened.
    Stream(BorrowedFd<'static>),
    /// Something else, such as `/dev/tty`, which is written as it is.
    Special(fs::FileType),
}

/// Links that are followed, as in Linux.
const MOST_LINKS: usize = 40;

pub(super) fn of(path: &Path) -> io::Result<Target> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return followed(path).map(Target::File);
        }
        Err(error) => return Err(error),
    };
    let kind = metadata.file_type();
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !kind.is_file() && !kind.is_socket() {
        return Ok(Target::Special(kind));
    }
    match own_stream(&metadata) {
        Some(stream) => Ok(Target::Stream(stream)),
        None if kind.is_file() => followed(path).map(Target::File),
        None => Ok(Target::Special(kind)),
    }
}

fn own_stream(metadata: &Metadata) -> Option<BorrowedFd<'static>> {
    [rustix::stdio::stdout(), rustix::stdio::stderr()]
        .into_iter()
        .find(|stream| {
            rustix::fs::fstat(stream).is_ok_and(|stream| {
                (stream.st_dev, stream.st_ino) == (metadata.dev(), metadata.ino())
            })
        })
}

/// Follows the links that the last name of `path` is, also to what is not
/// there.
fn followed(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&path) {
            Ok(next) => path = directory(&path).join(next),
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}

/// The directory that the last name of `path` is in.
pub(super) fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// What makes two paths one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// A file that is there: its device and inode number.
    Inode(u64, u64),
    /// One that is not: its directory and its name.
    Name(PathBuf, OsString),
}

impl Identity {
    /// The file at `path`; `None` for what may have several writers, as a
    /// terminal may.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        match of(path).ok()? {
            Target::File(path) => match fs::metadata(&path) {
                Ok(metadata) => Some(Self::Inode(metadata.dev(), metadata.ino())),
                Err(_) => Some(Self::Name(
                    directory(&path).canonicalize().ok()?,
                    path.file_name()?.to_owned(),
                )),
            },
            Target::Stream(_) | Target::Special(_) => None,
        }
    }
}
