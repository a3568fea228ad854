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
use std::fs::File;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::super::budget::Descriptor;
use super::super::sys;
use super::table::{Entry, Table, Whose};
use super::waits::Waits;
use crate::filesystem::{Lock, LockKind, LockOwner, LockRange, NodeId, Result};

/// Most locks that a guest can have. More than that is `ENOLCK`. The host's
/// kernel has those of a file in a list, which it walks for each new one.
const MOST: usize = 8192;

/// Files with locks, and who waits for some.
#[derive(Debug, Default)]
pub(in crate::passthrough) struct Locks {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
pub(super) struct Shared {
    files: Mutex<HashMap<NodeId, Arc<FileLocks>>>,
    /// How many files there are, for a look without the lock.
    count: AtomicUsize,
    /// How many locks.
    total: Arc<AtomicUsize>,
    pub(super) waits: Mutex<Waits>,
}

/// The locks of one file.
#[derive(Debug)]
pub(super) struct FileLocks {
    /// The host's file, once there is something to lock. Held over the calls
    /// that set a lock on the host, which wait for nobody, so that the host's
    /// locks and the table say the same.
    host: Mutex<Option<Descriptor<File>>>,
    table: Mutex<Table>,
    total: Arc<AtomicUsize>,
}

/// A file's locks, for as long as somebody has to do with them. Without locks
/// or users they go.
#[derive(Debug)]
pub(super) struct Used {
    shared: Arc<Shared>,
    node: NodeId,
    pub(super) file: Arc<FileLocks>,
}

/// Why a lock is not to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Somebody else has one that conflicts.
    Conflict,
    Failed(Errno),
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
            let host = file.host().take();
            drop(host);
            file.change(Table::clear);
        }
    }

    /// How many files there are with locks, or with somebody who waits.
    #[cfg(test)]
    pub(in crate::passthrough) fn files(&self) -> usize {
        self.shared.files().len()
    }
}

impl Shared {
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
    pub(super) fn shared(&self) -> &Arc<Shared> {
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

impl FileLocks {
    fn new(total: Arc<AtomicUsize>) -> Self {
        Self {
            host: Mutex::default(),
            table: Mutex::default(),
            total,
        }
    }

    fn host(&self) -> MutexGuard<'_, Option<Descriptor<File>>> {
        self.host.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The table, never held across a system call.
    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the table and keeps count.
    fn change<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        let mut table = self.table();
        let before = table.len();
        let outcome = change(&mut table);
        if table.len() >= before {
            self.total.fetch_add(table.len() - before, Ordering::SeqCst);
        } else {
            self.total.fetch_sub(before - table.len(), Ordering::SeqCst);
        }
        outcome
    }

    /// Whether the host's file is open. It stays so while somebody has to do
    /// with the locks.
    pub(super) fn is_open(&self) -> bool {
        self.host().is_some()
    }

    /// Takes a lock. The host's file is to be [open](Self::is_open), or is
    /// `fresh`.
    pub(super) fn lock(
        &self,
        entry: Entry,
        fresh: Option<Descriptor<File>>,
    ) -> std::result::Result<(), Refusal> {
        let Entry { owner, lock, .. } = entry;
        let mut host = self.host();
        let table = self.table();
        if table.conflicts(owner, lock).next().is_some() {
            return Err(Refusal::Conflict);
        }
        let covered = table.covers(owner, lock);
        drop(table);
        // In the middle of another it makes three of one.
        if self.total.load(Ordering::SeqCst) + 2 > MOST {
            return Err(Refusal::Failed(Errno::NOLCK));
        }
        if host.is_none() {
            *host = fresh;
        }
        if !covered {
            // All locks were given up meanwhile: the guest is gone.
            let file = host.as_ref().ok_or(Refusal::Failed(Errno::BADF))?;
            sys::lock(&**file, lock.kind, lock.range).map_err(|error| match error {
                Errno::AGAIN | Errno::ACCESS => Refusal::Conflict,
                // It was opened by who could do less.
                Errno::BADF => Refusal::Failed(Errno::NOLCK),
                other => Refusal::Failed(other),
            })?;
        }
        self.change(|table| table.insert(entry));
        Ok(())
    }

    /// Gives locks up, and says whether there were any.
    pub(super) fn unlock(&self, whose: Whose, range: LockRange) -> Result<bool> {
        let host = self.host();
        let table = self.table();
        let freed = table.freed(whose, range);
        drop(table);
        // What the host refuses to give up is there still, for the guest too.
        for part in &freed {
            if let Some(file) = &*host {
                sys::lock(&**file, LockKind::Unlock, *part)?;
            }
        }
        Ok(self.change(|table| table.remove(whose, range)))
    }

    /// Who has a lock that keeps `owner` from having `lock`; `other` is the
    /// host's file where there is none with locks.
    pub(super) fn find(&self, owner: LockOwner, lock: Lock, other: &File) -> Result<Option<Lock>> {
        let host = self.host();
        if let Some(entry) = self.table().conflicts(owner, lock).next() {
            return Ok(Some(entry.lock));
        }
        match &*host {
            Some(file) => sys::find_lock(&**file, lock.kind, lock.range),
            None => sys::find_lock(other, lock.kind, lock.range),
        }
    }
}

impl Drop for FileLocks {
    fn drop(&mut self) {
        self.change(Table::clear);
    }
}
