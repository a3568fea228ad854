//! The share's root and the host resources that outlive any request: opened
//! once, before the guest starts, so that the threads which serve it can be
//! locked in afterwards.
//!
//! The guest's names are handed to the host one component at a time, paths are
//! made of names that were handed to it before, and no symbolic link is ever
//! followed.

use std::ffi::{CStr, CString};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::Error;
use super::credentials::set_thread_apart;
use super::sys::{self, count_call};
use crate::filesystem::Result;

/// Longest path of a descriptor, and its NUL: a number has ten digits at most.
const NAME_MAX: usize = 26;
/// Where the kernel has a process's descriptors.
const PROC: &str = "/proc/self/fd";

/// A descriptor's number as a path below `/proc/self/fd`, or with that before it.
#[derive(Debug)]
pub(super) struct FdName([u8; NAME_MAX]);

impl FdName {
    pub(super) fn of(fd: impl AsFd) -> Self {
        Self::below("", fd)
    }

    fn below(directory: &str, fd: impl AsFd) -> Self {
        let mut name = [0; NAME_MAX];
        // Shorter than there is room for: the NUL stays.
        let _ = write!(&mut name[..], "{directory}{}", fd.as_fd().as_raw_fd());
        Self(name)
    }

    pub(super) fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or(c"-1")
    }
}

/// The open root of a share.
#[derive(Debug)]
pub(super) struct Root {
    /// The directory itself, `O_PATH`.
    directory: OwnedFd,
    /// `/proc/self/fd`, through which an `O_PATH` descriptor becomes one that
    /// can be read.
    proc: OwnedFd,
    /// Whether the host lets us use `openat2(2)`; old container policies
    /// refuse it.
    openat2: bool,
    /// Whether the host lets a thread have a working directory and umask of its
    /// own; container policies may refuse it.
    apart: bool,
}

impl Root {
    /// Opens the share at `path`. A symbolic link there is the user's own
    /// and is followed.
    pub(super) fn open(path: &Path) -> std::result::Result<Self, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory =
            rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|error| match error {
                Errno::NOTDIR if path.exists() => Error::NotADirectory { path: path.into() },
                _ => Error::OpenRoot {
                    path: path.into(),
                    source: error.into(),
                },
            })?;
        let proc = rustix::fs::openat(
            CWD,
            PROC,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|error| Error::OpenProc(error.into()))?;
        let openat2 = rustix::fs::openat2(
            &directory,
            c".",
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            RESOLVE,
        )
        .is_ok();
        let apart = sys::unshare_fs().is_ok();
        if !apart {
            log::info!("the host refuses unshare(CLONE_FS): the process's umask is taken away");
            // One for all threads is good for all when it is this.
            rustix::process::umask(Mode::empty());
        }
        Ok(Self {
            directory,
            proc,
            openat2,
            apart,
        })
    }

    /// The root directory, `O_PATH`.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// `/proc/self/fd`.
    pub(super) fn proc(&self) -> BorrowedFd<'_> {
        self.proc.as_fd()
    }

    /// Whether threads can have an umask of their own.
    pub(super) fn sets_apart(&self) -> bool {
        self.apart
    }

    /// A path to what `fd` stands for, from the calling thread's working directory,
    /// for the calls that take no other.
    pub(super) fn path_to(&self, fd: impl AsFd) -> Result<FdName> {
        if !self.apart {
            return Ok(FdName::below("/proc/self/fd/", fd));
        }
        set_thread_apart(&self.proc)?;
        Ok(FdName::of(fd))
    }

    /// Opens the entry `name` of `directory` itself, whatever it is, with
    /// `O_PATH`: no permission to read it is needed, nothing is triggered and
    /// a symbolic link is not followed.
    pub(super) fn open_child(&self, directory: impl AsFd, name: &CStr) -> Result<OwnedFd> {
        one_component(name)?;
        count_call();
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if self.openat2 {
            rustix::fs::openat2(directory, name, flags, Mode::empty(), RESOLVE)
        } else {
            rustix::fs::openat(directory, name, flags, Mode::empty())
        }
    }

    /// Opens what `path`, names with slashes between them, leads to below
    /// `directory`, as [`open_child`](Self::open_child) does one name.
    pub(super) fn open_below(&self, directory: impl AsFd, path: &CStr) -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if self.openat2 {
            count_call();
            return rustix::fs::openat2(directory, path, flags, Mode::empty(), RESOLVE);
        }
        // Only openat2 keeps links in the middle of a path from being
        // followed.
        let mut at: Option<OwnedFd> = None;
        for name in path.to_bytes().split(|byte| *byte == b'/') {
            let name = CString::new(name).map_err(|_| Errno::INVAL)?;
            at = Some(match &at {
                Some(at) => self.open_child(at, &name)?,
                None => self.open_child(&directory, &name)?,
            });
        }
        at.ok_or(Errno::NOENT)
    }

    /// Opens what an `O_PATH` descriptor of a regular file or directory
    /// stands for. The caller has made sure that it is one of these: opening
    /// a FIFO could block and opening a device could do anything.
    pub(super) fn reopen(&self, fd: impl AsFd, flags: OFlags) -> Result<OwnedFd> {
        count_call();
        let name = FdName::of(fd);
        rustix::fs::openat(
            &self.proc,
            name.as_c_str(),
            flags | OFlags::CLOEXEC | OFlags::NOCTTY,
            Mode::empty(),
        )
    }

    /// Opens a directory for reading.
    pub(super) fn open_directory(&self, fd: impl AsFd) -> Result<OwnedFd> {
        self.reopen(fd, OFlags::RDONLY | OFlags::DIRECTORY)
    }
}

const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// Refuses a name that could lead anywhere but to a direct child. The server
/// has checked it already; this is the last line before the host.
pub(super) fn one_component(name: &CStr) -> Result<()> {
    match name.to_bytes() {
        b"" | b"." | b".." => Err(Errno::INVAL),
        bytes if bytes.contains(&b'/') => Err(Errno::INVAL),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn who_opens_a_share_keeps_their_umask_where_threads_have_their_own() {
        let directory = tempfile::tempdir().unwrap();
        // This thread's alone from here on.
        sys::unshare_fs().unwrap();
        rustix::process::umask(Mode::from_raw_mode(0o027));

        let root = Root::open(directory.path()).unwrap();
        assert!(root.sets_apart());
        assert_eq!(rustix::process::umask(Mode::empty()).as_raw_mode(), 0o027);
    }
}
