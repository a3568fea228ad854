//! One that waits for a lock.

use std::sync::Arc;

use rustix::io::Errno;

use super::held::{LockedFiles, Used};
use super::waits::LockWait;
use crate::filesystem::{Lock, LockOwner, Result};

/// Somebody waits until this is dropped.
#[derive(Debug)]
pub(super) struct WaitingForLock {
    number: u64,
    shared: Arc<LockedFiles>,
    /// Keeps the host's file open, for the next try.
    _used: Used,
}

impl WaitingForLock {
    /// `owner` waits for `lock`; `EDEADLK` when that would be for itself.
    pub(super) fn begin(used: Used, owner: LockOwner, lock: Lock) -> Result<Self> {
        let shared = Arc::clone(used.shared());
        let wait = LockWait {
            owner,
            file: Arc::clone(&used.file),
            lock,
        };
        let mut waits = shared.waits();
        if waits.is_deadlock(&wait) {
            drop(waits);
            return Err(Errno::DEADLK);
        }
        let number = waits.next;
        waits.next = waits.next.wrapping_add(1);
        waits.all.insert(number, wait);
        drop(waits);
        Ok(Self {
            number,
            shared,
            _used: used,
        })
    }
}

impl Drop for WaitingForLock {
    fn drop(&mut self) {
        let gone = self.shared.waits().all.remove(&self.number);
        drop(gone);
    }
}
