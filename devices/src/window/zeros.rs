//! The zeros that stand where a mapped file was cut off.
//!
//! A guest can have all of a window torn and store to every page of it, so however
//! much is torn, this is all the memory that it takes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FallocateFlags, MemfdFlags};

use super::UNIT;
use crate::filesystem::Result;

/// A file in memory of one [`UNIT`], to be mapped many times.
#[derive(Debug)]
pub(super) struct Zeros(OwnedFd);

impl Zeros {
    pub(super) fn new() -> Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::NOEXEC_SEAL;
        let made = rustix::fs::memfd_create(c"zeros", flags)
            // Before Linux 6.3.
            .or_else(|_| rustix::fs::memfd_create(c"zeros", MemfdFlags::CLOEXEC))?;
        rustix::fs::ftruncate(&made, UNIT)?;
        Ok(Self(made))
    }

    /// Zeros again, everywhere at once.
    pub(super) fn clear(&self) {
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if let Err(error) = rustix::fs::fallocate(&self.0, hole, 0, UNIT) {
            log::warn!("cannot clear the zeros of a window: {error}");
        }
    }
}

impl AsFd for Zeros {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
