//! The second-chance clock of the inodes that have a descriptor.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::filesystem::NodeId;

/// Inodes that have a descriptor, in the order they got it. May name some that
/// are gone.
#[derive(Debug, Default)]
pub(super) struct SecondChance(Mutex<VecDeque<NodeId>>);

impl SecondChance {
    fn lock(&self) -> MutexGuard<'_, VecDeque<NodeId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the inode off that is to be looked at next.
    pub(super) fn next(&self) -> Option<NodeId> {
        self.lock().pop_front()
    }

    /// How many there are.
    pub(super) fn hands(&self) -> usize {
        self.lock().len()
    }

    /// Puts an inode that was looked at back, at the far end.
    pub(super) fn put_back(&self, number: NodeId) {
        self.lock().push_back(number);
    }

    /// Puts an inode on the clock. Forgotten ones are swept when they are
    /// the larger part of it, so it stays in proportion to what is `held`.
    pub(super) fn watch(&self, number: NodeId, held: usize, alive: impl Fn(NodeId) -> bool) {
        let mut clock = self.lock();
        clock.push_back(number);
        if clock.len() > 64 + 2 * held {
            clock.retain(|n| alive(*n));
        }
    }
}
