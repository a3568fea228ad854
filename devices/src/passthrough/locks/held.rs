//! The locks of the guest on the host's files.
//!
//! A lock of `fcntl(2)` belongs to the whole process on the host, and goes when
//! the process closes the file anywhere. So the host is given locks of an open
//! file (`F_OFD_SETLK`), which conflict with those of other processes all the
//! same: one open file for each file that the guest has locks of, however many
//! processes of the guest have them. It has each byte that any of them has, as
//! they have it. When it is closed, by us or because this process ends, they
//! are gone.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::file::FileLocks;
use super::table::Table;
use super::waits::Waits;
use crate::filesystem::NodeId;

/// Files with locks, and who waits for some.
#[derive(Debug, Default)]
pub(in crate::passthrough) struct Locks {
    shared: Arc<LockedFiles>,
}

#[derive(Debug, Default)]
pub(super) struct LockedFiles {
    files: Mutex<HashMap<NodeId, Arc<FileLocks>>>,
    /// How many files there are, for a look without the lock.
    count: AtomicUsize,
    /// How many locks.
    total: Arc<AtomicUsize>,
    pub(super) waits: Mutex<Waits>,
}

/// A file's locks, while somebody works with them. They go once there are no
/// locks and no users.
#[derive(Debug)]
pub(super) struct Used {
    shared: Arc<LockedFiles>,
    node: NodeId,
    pub(super) file: Arc<FileLocks>,
}

impl Locks {
    /// The locks of `node`.
    pub(super) fn of(&self, node: NodeId) -> Used {
        let mut files = self.shared.files();
        let file = files.entry(node).or_insert_with(|| {
            self.shared.count.fetch_add(1, Ordering::SeqCst);
            Arc::new(FileLocks::new(Arc::clone(&self.shared.total)))
        });
        self.shared.used(node, file)
    }

    /// The same, if there are any.
    pub(super) fn known(&self, node: NodeId) -> Option<Used> {
        if self.shared.count.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let files = self.shared.files();
        files.get(&node).map(|file| self.shared.used(node, file))
    }

    /// Gives all locks up.
    pub(in crate::passthrough) fn clear(&self) {
        let files = std::mem::take(&mut *self.shared.files());
        self.shared.count.store(0, Ordering::SeqCst);
        for file in files.into_values() {
            // Whoever is at work with it sets no lock that stays: the last user
            // closes the host's file.
            file.close();
            file.change(Table::clear);
        }
    }

    /// How many files there are with locks, or with somebody who waits.
    #[cfg(test)]
    pub(in crate::passthrough) fn files(&self) -> usize {
        self.shared.files().len()
    }
}

impl LockedFiles {
    fn files(&self) -> MutexGuard<'_, HashMap<NodeId, Arc<FileLocks>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn waits(&self) -> MutexGuard<'_, Waits> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn used(self: &Arc<Self>, node: NodeId, file: &Arc<FileLocks>) -> Used {
        Used {
            shared: Arc::clone(self),
            node,
            file: Arc::clone(file),
        }
    }
}

impl Used {
    pub(super) fn shared(&self) -> &Arc<LockedFiles> {
        &self.shared
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        let mut files = self.shared.files();
        let listed = (files.get(&self.node)).is_some_and(|file| Arc::ptr_eq(file, &self.file));
        // Two owners: the list, and this. Others come only through the list.
        let last = listed && Arc::strong_count(&self.file) == 2 && self.file.table().is_empty();
        let gone = if last { files.remove(&self.node) } else { None };
        if gone.is_some() {
            self.shared.count.fetch_sub(1, Ordering::SeqCst);
        }
        drop(files);
        // Closes the host's file, outside the lock.
        drop(gone);
    }
}
