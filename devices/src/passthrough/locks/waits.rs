//! Who waits for whose locks.
//!
//! The host does not look for deadlocks among locks of open files, and could
//! not tell the guest's processes apart anyway. So it is done here, as the host
//! does it for processes: who would wait for somebody that waits for them, over
//! any number of others, is told `EDEADLK`. What processes of the host or of
//! other guests wait for is not known, and a deadlock with them is not found.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::file::FileLocks;
use crate::filesystem::{Lock, LockOwner};

/// How many owners a search passes at most. The host gives up after ten.
const MOST: usize = 64;

/// Those who wait at the moment.
#[derive(Debug, Default)]
pub(super) struct Waits {
    pub(super) all: BTreeMap<u64, LockWait>,
    pub(super) next: u64,
}

#[derive(Debug)]
pub(super) struct LockWait {
    pub(super) owner: LockOwner,
    pub(super) file: Arc<FileLocks>,
    pub(super) lock: Lock,
}

impl Waits {
    /// Whether `owner` would wait for itself.
    pub(super) fn is_deadlock(&self, wait: &LockWait) -> bool {
        let mut passed = BTreeSet::new();
        let mut ahead = wait.ahead();
        while let Some(owner) = ahead.pop() {
            if owner == wait.owner {
                return true;
            }
            if !passed.insert(owner) {
                continue;
            }
            if passed.len() > MOST {
                return false;
            }
            let waits = self.all.values().filter(|wait| wait.owner == owner);
            ahead.extend(waits.flat_map(LockWait::ahead));
            ahead.sort_unstable();
            ahead.dedup();
        }
        false
    }
}

impl LockWait {
    /// Those it waits for.
    fn ahead(&self) -> Vec<LockOwner> {
        self.file.table().ahead(self.owner, self.lock)
    }
}
