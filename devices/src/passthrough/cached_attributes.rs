//! What the guest may have in its cache of a node.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::clock::Moment;
use super::stat::Stat;

/// The attributes that the guest was told last, and when: a hash of them in the
/// upper 40 bits, and the time in units of 64 milliseconds. 0 for none.
#[derive(Debug, Default)]
pub(super) struct CachedAttributes(AtomicU64);

const TIME_BITS: u32 = 24;
const TIME_UNIT: u64 = 64;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;

impl CachedAttributes {
    fn hash(status: &Stat) -> u64 {
        let raw = &status.raw;
        let mtime = (raw.stx_mtime.tv_sec, raw.stx_mtime.tv_nsec);
        let mut hasher = DefaultHasher::new();
        let seen = &status.seen;
        (raw.stx_size, mtime, seen.mode, seen.uid, seen.gid).hash(&mut hasher);
        // Never 0, which is none.
        (hasher.finish() | (1 << TIME_BITS)) & !TIME_MASK
    }

    pub(super) fn set(&self, status: &Stat, now: Moment) {
        let time = (now.milliseconds() / TIME_UNIT) & TIME_MASK;
        self.0.store(Self::hash(status) | time, Ordering::Relaxed);
    }

    /// The guest changed the file, and knows that what it was told is old.
    pub(super) fn forget(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    pub(super) fn is_none(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// Whether the guest may still trust something else than `status`.
    pub(super) fn contradicts(&self, status: &Stat, now: Moment, trusted: Duration) -> bool {
        let told = self.0.load(Ordering::Relaxed);
        let time = now.milliseconds() / TIME_UNIT;
        let age = time.wrapping_sub(told) & TIME_MASK;
        told != 0
            && Duration::from_millis(age * TIME_UNIT) <= trusted
            && told & !TIME_MASK != Self::hash(status)
    }
}
