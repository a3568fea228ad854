//! The locks of one file, on the host and in a table.

use std::fs::File;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::super::budget::Descriptor;
use super::super::sys;
use super::table::{HeldLock, Table, Whose};
use crate::filesystem::{Lock, LockKind, LockOwner, LockRange, Result};

/// The most locks that a guest can have; the next one is `ENOLCK`. The host's
/// kernel keeps those of a file in a list, which it walks for each new one.
const MOST: usize = 8192;

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

/// Why a lock is not to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LockRefusal {
    /// Somebody else has one that conflicts.
    Conflict,
    Failed(Errno),
}

impl FileLocks {
    pub(super) fn new(total: Arc<AtomicUsize>) -> Self {
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
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
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

    /// Closes the host's file. A thread that is in a system call with it, which
    /// a dead server may never end, is its last user and closes it afterwards.
    pub(super) fn close(&self) {
        if let Ok(mut host) = self.host.try_lock() {
            let file = host.take();
            drop(host);
            drop(file);
        }
    }

    /// Forgets locks that the host did not give up, but their owner has.
    pub(super) fn forget(&self, whose: Whose) {
        self.change(|table| table.remove(whose, super::table::ALL));
    }

    /// Whether the host's file is open. It stays so while somebody works with
    /// the locks.
    pub(super) fn is_open(&self) -> bool {
        self.host().is_some()
    }

    /// Takes a lock. The host's file is to be [open](Self::is_open), or is
    /// `fresh`.
    pub(super) fn lock(
        &self,
        entry: HeldLock,
        fresh: Option<Descriptor<File>>,
    ) -> std::result::Result<(), LockRefusal> {
        let HeldLock { owner, lock, .. } = entry;
        let mut host = self.host();
        let table = self.table();
        if table.conflicts(owner, lock).next().is_some() {
            return Err(LockRefusal::Conflict);
        }
        let covered = table.covers(owner, lock);
        drop(table);
        // In the middle of another it makes three of one.
        if self.total.load(Ordering::SeqCst) + 2 > MOST {
            return Err(LockRefusal::Failed(Errno::NOLCK));
        }
        if host.is_none() {
            *host = fresh;
        }
        if !covered {
            // All locks were given up meanwhile: the guest is gone.
            let file = host.as_ref().ok_or(LockRefusal::Failed(Errno::BADF))?;
            sys::lock(&**file, lock.kind, lock.range).map_err(|error| match error {
                Errno::AGAIN | Errno::ACCESS => LockRefusal::Conflict,
                // It was opened by who could do less.
                Errno::BADF => LockRefusal::Failed(Errno::NOLCK),
                other => LockRefusal::Failed(other),
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
        if let Some(found) = self.table().conflict(owner, lock) {
            return Ok(Some(found));
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
