//! Advisory locks of files.

use rustix::io::Errno;

use super::request::{Handle, Request, Result};

/// GETLK, SETLK and SETLKW.
#[allow(unused_variables)]
pub trait LockOperations {
    /// A lock that keeps `args` from being had, if there is one. Never asked
    /// for locks of `flock(2)`.
    fn getlk(&self, request: &Request<'_>, args: &LockArgs) -> Result<Option<Lock>> {
        Err(Errno::NOSYS)
    }

    /// Takes a lock, changes its kind or gives it up; `EAGAIN` when somebody
    /// else has one that conflicts and `args.wait` is not set.
    fn setlk(&self, request: &Request<'_>, args: &LockArgs) -> Result<()> {
        Err(Errno::NOSYS)
    }
}

/// Who holds a lock, as the guest tells them apart: those who share a table
/// of open files, or an open file itself (locks of `flock(2)`, and
/// `F_OFD_SETLK`).
pub type LockOwner = u64;

/// What a lock lets others do, as with `fcntl(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// `F_RDLCK`: others may have the same.
    Read,
    /// `F_WRLCK`: nobody else has any.
    Write,
    /// `F_UNLCK`: there is none.
    Unlock,
}

/// Bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockRange {
    /// The first.
    pub start: u64,
    /// The last, not before the first; [`LockRange::END`] for all there will
    /// ever be.
    pub end: u64,
}

impl LockRange {
    /// `OFFSET_MAX`.
    pub const END: u64 = i64::MAX as u64;
}

/// A lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Its bytes. With `flock(2)`, it is always the whole file.
    pub range: LockRange,
    /// What it lets others do.
    pub kind: LockKind,
    /// The process that has it, 0 for one that the guest does not know.
    pub pid: u32,
}

/// What GETLK, SETLK and SETLKW ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockArgs {
    /// The open file.
    pub handle: Handle,
    /// Who asks.
    pub owner: LockOwner,
    /// For which lock.
    pub lock: Lock,
    /// It is one of `flock(2)`, which knows nothing of those of `fcntl(2)`.
    pub flock: bool,
    /// Whether to wait for it (SETLKW).
    pub wait: bool,
}
