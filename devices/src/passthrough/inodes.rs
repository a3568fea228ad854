//! The table of inodes the guest knows.
//!
//! Sharded by identity so that workers do not wait for each other. The
//! shard's index is the low bits of an inode's number, so both ways of
//! looking one up lead to the same shard and one lock keeps them in step.

use std::borrow::Borrow;
use std::collections::VecDeque;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::hashing::{NumberSet, RandomState};
use super::inode::Inode;
use super::stat::Identity;
use crate::filesystem::{NodeId, ROOT, Result};
use rustix::io::Errno;

const SHARD_BITS: u32 = 4;
const SHARDS: usize = 1 << SHARD_BITS;

/// Inodes of a shard for which there may be room always.
const FEW: usize = 64;

/// An inode that is looked up by its number: the key is in it, once.
#[derive(Debug)]
struct ByNumber(Arc<Inode>);

impl Borrow<NodeId> for ByNumber {
    fn borrow(&self) -> &NodeId {
        &self.0.number
    }
}

/// An inode that is looked up by its identity.
#[derive(Debug)]
struct ByIdentity(Arc<Inode>);

impl Borrow<Identity> for ByIdentity {
    fn borrow(&self) -> &Identity {
        &self.0.identity
    }
}

/// Equality and hash of an entry are those of its key, as `Borrow` demands.
macro_rules! keyed {
    ($entry:ty, $key:ty) => {
        impl PartialEq for $entry {
            fn eq(&self, other: &Self) -> bool {
                <Self as Borrow<$key>>::borrow(self) == <Self as Borrow<$key>>::borrow(other)
            }
        }

        impl Eq for $entry {}

        impl Hash for $entry {
            fn hash<H: Hasher>(&self, state: &mut H) {
                <Self as Borrow<$key>>::borrow(self).hash(state);
            }
        }
    };
}
keyed!(ByNumber, NodeId);
keyed!(ByIdentity, Identity);

#[derive(Debug, Default)]
struct InodeShard {
    by_number: NumberSet<ByNumber>,
    by_identity: NumberSet<ByIdentity>,
}

impl InodeShard {
    fn take(&mut self, number: NodeId) -> Option<ByNumber> {
        let removed = self.by_number.take(&number);
        if let Some(ByNumber(inode)) = &removed {
            self.by_identity.remove(&inode.identity);
        }
        self.give_back();
        removed
    }

    /// Gives room back that was for many more: as seldom as there was more made.
    fn give_back(&mut self) {
        let room = self.by_number.capacity();
        if let Some(room) = room_to_keep(self.by_number.len(), room) {
            self.by_number.shrink_to(room);
            self.by_identity.shrink_to(room);
        }
    }
}

/// What a table with `room` for more than its `len` entries is to shrink to.
fn room_to_keep(len: usize, room: usize) -> Option<usize> {
    (room > FEW && len < room / 4).then_some(2 * len)
}

/// All inodes of one share.
#[derive(Debug)]
pub(super) struct Inodes {
    root: Arc<Inode>,
    shards: [RwLock<InodeShard>; SHARDS],
    hasher: RandomState,
    /// Counts up for ever: a number that was forgotten never comes back.
    next: AtomicU64,
    /// How many are kept to which the guest has no reference any more.
    most_forgotten: usize,
    /// Those, in the order in which they were forgotten. May name some that
    /// the guest knows again.
    forgotten: Mutex<VecDeque<NodeId>>,
}

impl Inodes {
    /// A table that knows the share's root alone. The root is never
    /// forgotten; of the others, the last `most_forgotten` stay.
    pub(super) fn new(root: Arc<Inode>, most_forgotten: usize) -> Self {
        Self {
            root,
            shards: Default::default(),
            hasher: RandomState::default(),
            next: AtomicU64::new(1),
            most_forgotten,
            forgotten: Mutex::default(),
        }
    }

    fn shard_of_number(&self, number: NodeId) -> &RwLock<InodeShard> {
        // The mask makes the cast exact.
        #[allow(clippy::cast_possible_truncation)]
        let index = (number & (SHARDS as u64 - 1)) as usize;
        &self.shards[index]
    }

    fn read(shard: &RwLock<InodeShard>) -> RwLockReadGuard<'_, InodeShard> {
        shard.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(shard: &RwLock<InodeShard>) -> RwLockWriteGuard<'_, InodeShard> {
        shard.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The inode with this number; `ESTALE` when the guest does not hold it.
    pub(super) fn get(&self, number: NodeId) -> Result<Arc<Inode>> {
        if number == ROOT {
            return Ok(Arc::clone(&self.root));
        }
        Self::read(self.shard_of_number(number))
            .by_number
            .get(&number)
            .map(|entry| Arc::clone(&entry.0))
            .ok_or(Errno::STALE)
    }

    fn bucket(&self, identity: &Identity) -> u64 {
        self.hasher.hash_one(identity) & (SHARDS as u64 - 1)
    }

    /// The inode with this identity, without taking a reference.
    pub(super) fn find(&self, identity: &Identity) -> Option<Arc<Inode>> {
        if *identity == self.root.identity {
            return Some(Arc::clone(&self.root));
        }
        let shard = Self::read(self.shard_of_number(self.bucket(identity)));
        shard.by_identity.get(identity).map(|e| Arc::clone(&e.0))
    }

    /// Takes a reference to the inode with this identity, if there is one.
    pub(super) fn reference(&self, identity: &Identity) -> Option<Arc<Inode>> {
        if *identity == self.root.identity {
            return Some(Arc::clone(&self.root));
        }
        let shard = Self::read(self.shard_of_number(self.bucket(identity)));
        let ByIdentity(inode) = shard.by_identity.get(identity)?;
        // Under the shard's lock, so a concurrent forget cannot have seen
        // zero yet.
        inode.references.fetch_add(1, Ordering::Relaxed);
        Some(Arc::clone(inode))
    }

    /// Takes a reference to the inode with this identity; makes it with the
    /// number it is given when there is none yet. Says whether it was made.
    pub(super) fn reference_or_insert(
        &self,
        identity: &Identity,
        make: impl FnOnce(NodeId) -> Result<Inode>,
    ) -> Result<(Arc<Inode>, bool)> {
        if let Some(inode) = self.reference(identity) {
            return Ok((inode, false));
        }
        let bucket = self.bucket(identity);
        let mut shard = Self::write(self.shard_of_number(bucket));
        if let Some(ByIdentity(inode)) = shard.by_identity.get(identity) {
            inode.references.fetch_add(1, Ordering::Relaxed);
            return Ok((Arc::clone(inode), false));
        }
        let number = (self.next.fetch_add(1, Ordering::Relaxed) << SHARD_BITS) | bucket;
        let inode = Arc::new(make(number)?);
        shard.by_number.insert(ByNumber(Arc::clone(&inode)));
        shard.by_identity.insert(ByIdentity(Arc::clone(&inode)));
        Ok((inode, true))
    }

    /// Takes a reference to the inode with this number.
    pub(super) fn reference_to(&self, number: NodeId) -> Result<Arc<Inode>> {
        if number == ROOT {
            return Ok(Arc::clone(&self.root));
        }
        let shard = Self::read(self.shard_of_number(number));
        let ByNumber(inode) = shard.by_number.get(&number).ok_or(Errno::STALE)?;
        inode.references.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::clone(inode))
    }

    /// Drops `count` references; more than there are drop all of them. The
    /// last one takes the inode out of the table, or gives it back if it
    /// stays.
    #[must_use = "what stays is to be kept without its descriptor"]
    pub(super) fn forget(&self, number: NodeId, count: u64) -> Option<Arc<Inode>> {
        if number == ROOT {
            return None;
        }
        let mut shard = Self::write(self.shard_of_number(number));
        let ByNumber(inode) = shard.by_number.get(&number)?;
        let before = inode.references.load(Ordering::Relaxed);
        let left = before.saturating_sub(count);
        inode.references.store(left, Ordering::Relaxed);
        if left > 0 {
            return None;
        }
        if self.most_forgotten > 0 {
            let kept = (before > 0).then(|| Arc::clone(inode));
            drop(shard);
            if kept.is_some() {
                self.note_forgotten(number);
            }
            return kept;
        }
        let removed = shard.take(number);
        drop(shard);
        // Closes the descriptor, outside the lock.
        drop(removed);
        None
    }

    /// Whether the guest has no reference to a node with this number.
    pub(super) fn is_forgotten(&self, number: NodeId) -> bool {
        let inode = self.get(number);
        inode.map_or(true, |inode| inode.references.load(Ordering::Relaxed) == 0)
    }

    fn note_forgotten(&self, number: NodeId) {
        let mut forgotten = self.lock_forgotten();
        forgotten.push_back(number);
        let too_many = forgotten.len() > self.most_forgotten;
        drop(forgotten);
        if too_many {
            self.drop_oldest_forgotten();
        }
    }

    /// Drops the inode that was forgotten first, unless the guest knows it
    /// again; false when there is none.
    pub(super) fn drop_oldest_forgotten(&self) -> bool {
        let oldest = self.lock_forgotten().pop_front();
        oldest.is_some_and(|number| {
            self.remove_forgotten(number);
            true
        })
    }

    fn lock_forgotten(&self) -> MutexGuard<'_, VecDeque<NodeId>> {
        self.forgotten
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an inode out of the table unless the guest knows it again.
    pub(super) fn remove_forgotten(&self, number: NodeId) {
        let mut shard = Self::write(self.shard_of_number(number));
        let forgotten = |ByNumber(inode): &ByNumber| inode.references.load(Ordering::Relaxed) == 0;
        if shard.by_number.get(&number).is_some_and(forgotten) {
            let removed = shard.take(number);
            drop(shard);
            drop(removed);
        }
    }

    /// The share's root.
    pub(super) fn root(&self) -> Arc<Inode> {
        Arc::clone(&self.root)
    }

    /// Hands `each` every inode but the root, while nobody can be added to or
    /// taken from some of them.
    pub(super) fn for_each(&self, mut each: impl FnMut(&Arc<Inode>)) {
        for shard in &self.shards {
            for ByNumber(inode) in &Self::read(shard).by_number {
                each(inode);
            }
        }
    }

    /// Forgets everything but the root.
    pub(super) fn clear(&self) {
        for shard in &self.shards {
            let emptied = std::mem::take(&mut *Self::write(shard));
            drop(emptied);
        }
        self.lock_forgotten().clear();
    }

    /// How many there are, the root not counted.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|s| Self::read(s).by_number.len())
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_shrinks_once_three_quarters_of_it_are_empty() {
        assert_eq!(room_to_keep(0, FEW), None);
        assert_eq!(room_to_keep(0, FEW + 1), Some(0));
        assert_eq!(room_to_keep(100, 400), None);
        assert_eq!(room_to_keep(99, 400), Some(198));
        assert_eq!(room_to_keep(400, 400), None);
    }
}
