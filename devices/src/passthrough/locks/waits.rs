//! Who waits for whose locks.
//!
//! The host does not look for deadlocks among locks of open files, and could
//! not tell the guest's processes apart anyway. So it is done here, as the host
//! does it for processes: who would wait for somebody that waits for them, over
//! any number of others, is told `EDEADLK`. What processes of the host or of
//! other guests wait for is not known, and a deadlock with them is not found.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rustix::io::Errno;

use super::held::{FileLocks, Shared, Used};
use crate::filesystem::{Lock, LockOwner, Result};

/// Most owners that a search passes. The host gives up after ten.
const MOST: usize = 64;

/// Those who wait at the moment.
#[derive(Debug, Default)]
pub(super) struct Waits {
    all: BTreeMap<u64, Wait>,
    next: u64,
}

#[derive(Debug)]
struct Wait {
    owner: LockOwner,
    file: Arc<FileLocks>,
    lock: Lock,
}

/// Somebody waits until this is dropped.
#[derive(Debug)]
pub(super) struct Waiting {
    number: u64,
    shared: Arc<Shared>,
    /// Keeps the host's file open, for the next try.
    _used: Used,
}

impl Waits {
    /// Whether `owner` would wait for itself.
    fn is_deadlock(&self, wait: &Wait) -> bool {
        let mut passed = BTreeSet::new();
        let mut ahead = wait.ahead();
        while let Some(owner) = ahead.pop() {
            if owner == wait.owner {
                return true;
            }
            if !passed.insert(owner) || passed.len() > MOST {
                continue;
            }
            let waits = self.all.values().filter(|wait| wait.owner == owner);
            ahead.extend(waits.flat_map(Wait::ahead));
        }
        false
    }
}

impl Wait {
    /// Those it waits for.
    fn ahead(&self) -> Vec<LockOwner> {
        self.file.table().ahead(self.owner, self.lock)
    }
}

impl Waiting {
    /// `owner` waits for `lock`; `EDEADLK` when that would be for itself.
    pub(super) fn begin(used: Used, owner: LockOwner, lock: Lock) -> Result<Self> {
        let shared = Arc::clone(used.shared());
        let wait = Wait {
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

impl Drop for Waiting {
    fn drop(&mut self) {
        let gone = self.shared.waits().all.remove(&self.number);
        drop(gone);
    }
}
