//! Who of the guest has which locks of one file.
//!
//! The host knows one owner for all of them (see [`held`](super::held)), so
//! what they are to each other is decided here, as `fcntl(2)` has it: an
//! owner's locks never conflict with its own, and a new one takes the place of
//! what the owner had there.

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::collections::BTreeMap;

use crate::filesystem::{Handle, Lock, LockKind, LockOwner, LockRange};

/// A lock that somebody has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HeldLock {
    pub(super) owner: LockOwner,
    /// What it was taken with.
    pub(super) handle: Handle,
    pub(super) lock: Lock,
}

/// Whose locks are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Owner(LockOwner),
    /// Whoever took them with this.
    Handle(Handle),
}

impl Whose {
    fn is(self, entry: &HeldLock) -> bool {
        match self {
            Self::Owner(owner) => entry.owner == owner,
            Self::Handle(handle) => entry.handle == handle,
        }
    }
}

/// All bytes of a file.
pub(super) const ALL: LockRange = LockRange {
    start: 0,
    end: LockRange::END,
};

fn overlap(one: LockRange, other: LockRange) -> Option<LockRange> {
    let start = one.start.max(other.start);
    let end = one.end.min(other.end);
    (start <= end).then_some(LockRange { start, end })
}

/// `range` without `hole`: what is in front of it, and what is behind it.
fn without(range: LockRange, hole: LockRange) -> impl Iterator<Item = LockRange> {
    let LockRange { start, end } = range;
    let front = (start < hole.start).then(|| LockRange {
        start,
        end: end.min(hole.start - 1),
    });
    let back = (hole.end < end).then(|| LockRange {
        start: start.max(hole.end.saturating_add(1)),
        end,
    });
    front.into_iter().chain(back)
}

/// The locks of one owner, by their first byte. They do not overlap.
type OwnLocks = BTreeMap<u64, HeldLock>;

/// Those of them that have bytes in `range`.
fn within(locks: &OwnLocks, range: LockRange) -> impl Iterator<Item = &HeldLock> {
    let before = locks.range(..range.start).next_back();
    let before = before.filter(move |(_, entry)| entry.lock.range.end >= range.start);
    let rest = locks.range(range.start..=range.end);
    before.into_iter().chain(rest).map(|(_, entry)| entry)
}

/// The locks of one file.
#[derive(Debug, Default)]
pub(super) struct Table {
    owners: BTreeMap<LockOwner, OwnLocks>,
    count: usize,
}

impl Table {
    /// How many locks there are.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The locks that keep `owner` from having `lock`. Nothing keeps it from
    /// having none: asked for that, they are all that others have there.
    pub(super) fn conflicts(
        &self,
        owner: LockOwner,
        lock: Lock,
    ) -> impl Iterator<Item = &HeldLock> + use<'_> {
        let others = self
            .owners
            .iter()
            .filter(move |(other, _)| **other != owner);
        let theirs = others.flat_map(move |(_, locks)| within(locks, lock.range));
        theirs.filter(move |entry| (lock.kind, entry.lock.kind) != (LockKind::Read, LockKind::Read))
    }

    /// The first of them. Its owner's locks that touch are one for the host,
    /// whoever took them and with what.
    pub(super) fn conflict(&self, owner: LockOwner, lock: Lock) -> Option<Lock> {
        let HeldLock { owner, lock, .. } = *self.conflicts(owner, lock).next()?;
        let locks = self.owners.get(&owner)?;
        let LockRange { mut start, mut end } = lock.range;
        let same = |other: &&HeldLock| other.lock.kind == lock.kind;
        let before = locks.range(..start).rev().map(|(_, other)| other);
        for other in before.take_while(same) {
            if other.lock.range.end.checked_add(1) != Some(start) {
                break;
            }
            start = other.lock.range.start;
        }
        let behind = locks.range(start..).map(|(_, other)| other);
        let own_end = end;
        let behind = behind.skip_while(move |other| other.lock.range.start <= own_end);
        for other in behind.take_while(same) {
            if end.checked_add(1) != Some(other.lock.range.start) {
                break;
            }
            end = other.lock.range.end;
        }
        let range = LockRange { start, end };
        Some(Lock { range, ..lock })
    }

    /// Those who keep `owner` from having `lock`, each once.
    pub(super) fn ahead(&self, owner: LockOwner, lock: Lock) -> Vec<LockOwner> {
        let mut ahead: Vec<_> = self
            .conflicts(owner, lock)
            .map(|entry| entry.owner)
            .collect();
        // One owner's come one after the other.
        ahead.dedup();
        ahead
    }

    /// Whether the owner has exactly this kind of lock there already.
    pub(super) fn covers(&self, owner: LockOwner, lock: Lock) -> bool {
        let Some(locks) = self.owners.get(&owner) else {
            return false;
        };
        let mut covered = lock.range.start;
        for entry in within(locks, lock.range) {
            let LockRange { start, end } = entry.lock.range;
            if entry.lock.kind != lock.kind || start > covered {
                return false;
            }
            if end >= lock.range.end {
                return true;
            }
            covered = end.saturating_add(1);
        }
        false
    }

    /// Takes `entry` in, in the place of what its owner had there.
    pub(super) fn insert(&mut self, mut entry: HeldLock) {
        self.remove(Whose::Owner(entry.owner), entry.lock.range);
        let locks = self.owners.entry(entry.owner).or_default();
        let LockRange { start, end } = entry.lock.range;
        let before = locks.range(..start).next_back();
        let before = before.filter(|(_, other)| other.lock.range.end.checked_add(1) == Some(start));
        let after = end.checked_add(1).and_then(|next| locks.get(&next));
        // One lock where two touch, so that a program which locks byte by
        // byte does not have one for each.
        let same = |other: &&HeldLock| {
            (other.handle, other.lock.kind, other.lock.pid)
                == (entry.handle, entry.lock.kind, entry.lock.pid)
        };
        let before = before.map(|(_, other)| other).filter(same).copied();
        let after = after.filter(same).copied();
        for touching in [before, after].into_iter().flatten() {
            let range = touching.lock.range;
            locks.remove(&range.start);
            self.count -= 1;
            entry.lock.range.start = entry.lock.range.start.min(range.start);
            entry.lock.range.end = entry.lock.range.end.max(range.end);
        }
        locks.insert(entry.lock.range.start, entry);
        self.count += 1;
    }

    /// Takes everything out.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether the locks of `owner` can be some of `whose`.
    fn may_be(owner: LockOwner, whose: Whose) -> bool {
        match whose {
            Whose::Owner(one) => owner == one,
            Whose::Handle(_) => true,
        }
    }

    /// The bytes of `range` that would be free without `whose` locks. One pass
    /// over what goes and what stays: a guest may have thousands of each.
    pub(super) fn freed(&self, whose: Whose, range: LockRange) -> Vec<LockRange> {
        let own = (self.owners.iter()).filter(|(owner, _)| Self::may_be(**owner, whose));
        let own = own.flat_map(|(_, locks)| within(locks, range));
        let going = union(own.filter(|entry| whose.is(entry)), range);
        if going.is_empty() {
            return going;
        }
        let all = self.owners.values().flat_map(|locks| within(locks, range));
        let staying = union(all.filter(|entry| !whose.is(entry)), range);
        let (mut freed, mut at) = (Vec::new(), 0);
        for LockRange { mut start, end } in going {
            while let Some(other) = staying.get(at).filter(|other| other.start <= end) {
                if other.start > start {
                    freed.push(LockRange {
                        start,
                        end: other.start - 1,
                    });
                }
                start = start.max(other.end + 1);
                if other.end > end {
                    // It may reach into what goes next.
                    break;
                }
                at += 1;
            }
            if start <= end {
                freed.push(LockRange { start, end });
            }
        }
        freed
    }

    /// Takes `whose` locks out of `range`, and says whether there were any.
    pub(super) fn remove(&mut self, whose: Whose, range: LockRange) -> bool {
        let own = (self.owners.iter()).filter(|(owner, _)| Self::may_be(**owner, whose));
        let going: Vec<HeldLock> = own
            .flat_map(|(_, locks)| within(locks, range))
            .filter(|entry| whose.is(entry))
            .copied()
            .collect();
        for entry in &going {
            let Some(locks) = self.owners.get_mut(&entry.owner) else {
                continue;
            };
            locks.remove(&entry.lock.range.start);
            self.count -= 1;
            for part in without(entry.lock.range, range) {
                let lock = Lock {
                    range: part,
                    ..entry.lock
                };
                locks.insert(part.start, HeldLock { lock, ..*entry });
                self.count += 1;
            }
            if locks.is_empty() {
                self.owners.remove(&entry.owner);
            }
        }
        !going.is_empty()
    }
}

/// The bytes of `range` that any of `entries` has, in order, each once.
fn union<'a>(entries: impl Iterator<Item = &'a HeldLock>, range: LockRange) -> Vec<LockRange> {
    let parts = entries.filter_map(|entry| overlap(entry.lock.range, range));
    let mut parts: Vec<LockRange> = parts.collect();
    parts.sort_unstable_by_key(|part| part.start);
    parts.dedup_by(|next, last| {
        let overlaps = next.start <= last.end;
        if overlaps {
            last.end = last.end.max(next.end);
        }
        overlaps
    });
    parts
}
