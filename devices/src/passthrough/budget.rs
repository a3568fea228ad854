//! The budget of descriptors held for inodes.
//!
//! A kernel tree has more files than a process may have descriptors, so only
//! the inodes used lately keep theirs.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Resource, getrlimit};

use super::inode::Descriptor;
use crate::filesystem::NodeId;

/// Descriptors that are neither for inodes nor for open files: queues,
/// consoles, the guest's memory, and what other parts of the process do.
const RESERVED: usize = 128;
/// Fewer than this and a deep path could not be walked.
const LEAST: usize = 16;

/// Shares of this process; they divide the limit evenly among themselves.
static SHARES: AtomicUsize = AtomicUsize::new(0);

/// The descriptors of one share.
#[derive(Debug)]
pub(super) struct Budget {
    /// Set by the user; otherwise a part of the limit.
    budget: Option<usize>,
    /// `RLIMIT_NOFILE` when the share was made.
    limit: usize,
    held: Arc<AtomicUsize>,
    /// Inodes that have a descriptor, in the order they got it. May name some
    /// that are gone.
    clock: Mutex<VecDeque<NodeId>>,
}

impl Budget {
    /// Joins the other shares in dividing the limit, which the process has
    /// raised by now if it wants to.
    pub(super) fn new(budget: Option<usize>) -> Self {
        let limit = getrlimit(Resource::Nofile)
            .current
            .map_or(usize::MAX, |l| usize::try_from(l).unwrap_or(usize::MAX));
        SHARES.fetch_add(1, Ordering::Relaxed);
        Self {
            budget,
            limit,
            held: Arc::default(),
            clock: Mutex::default(),
        }
    }

    /// This share's part of all descriptors.
    fn part(&self) -> usize {
        let shares = SHARES.load(Ordering::Relaxed).max(1);
        (self.limit.saturating_sub(RESERVED) / shares).max(LEAST * 2)
    }

    /// How many may be held for inodes: half of this share's part.
    pub(super) fn budget(&self) -> usize {
        self.budget.unwrap_or(self.part() / 2).max(LEAST)
    }

    /// Whether the guest may open another file or directory when `open` of
    /// them are open.
    pub(super) fn may_open(&self, open: usize) -> bool {
        open < self.part().saturating_sub(self.budget()).max(LEAST)
    }

    /// Takes a descriptor into the count of those held for inodes.
    pub(super) fn count(&self, fd: OwnedFd) -> Arc<Descriptor> {
        Arc::new(Descriptor::new(fd, &self.held))
    }

    /// How many are held for inodes right now.
    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    pub(super) fn next_hand(&self) -> Option<NodeId> {
        self.clock
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    }

    pub(super) fn hands(&self) -> usize {
        self.clock
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Puts an inode that was looked at back on the clock, at the far end.
    pub(super) fn spare(&self, number: NodeId) {
        self.clock
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(number);
    }

    /// Puts an inode on the clock. Forgotten ones are swept when they are
    /// the larger part of it, so it stays in proportion to what is held.
    pub(super) fn watch(&self, number: NodeId, alive: impl Fn(NodeId) -> bool) {
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        clock.push_back(number);
        if clock.len() > 64 + 2 * self.held() {
            clock.retain(|n| alive(*n));
        }
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        SHARES.fetch_sub(1, Ordering::Relaxed);
    }
}
