//! Why a directory cannot be shared. Each message is one line that says what
//! is wrong and how to mend it; the cause is in `source()`.

use std::io;
use std::path::PathBuf;

/// Why [`Passthrough::new`](super::Passthrough::new) failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The directory cannot be opened.
    #[error("cannot open {} to share it; check that it exists and may be read", path.display())]
    OpenRoot {
        /// The path as given.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The path leads to something else than a directory.
    #[error("{} is not a directory; only directories can be shared", path.display())]
    NotADirectory {
        /// The path as given.
        path: PathBuf,
    },
    /// The root's attributes cannot be read.
    #[error("cannot read the attributes of {}; it needs a host with Linux 5.8 or later", path.display())]
    Examine {
        /// The path as given.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// `/proc` is not there.
    #[error("cannot open /proc/self/fd; mount procfs on /proc")]
    OpenProc(#[source] io::Error),
    /// The process may have too few descriptors.
    #[error(
        "the limit of open files is too low for this number of shares; raise it with ulimit -Hn"
    )]
    Descriptors,
    /// Options that contradict each other.
    #[error("POSIX ACLs are kept in extended attributes; turn on xattr as well")]
    AclWithoutXattr,
    /// The umask of one thread is that of all.
    #[error(
        "acl needs unshare(2), which the host refuses, as the usual profile of containers does; \
         leave acl out, or allow it"
    )]
    AclWithoutUmask,
    /// Owners cannot be kept there.
    #[error(
        "the file system of {} has no extended attributes to keep owners in; use owners=user",
        path.display()
    )]
    NoAttributes {
        /// The path as given.
        path: PathBuf,
    },
}
