//! What time it is, as exact as the lifetime of the guest's cache needs.

#[cfg(test)]
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

#[cfg(not(test))]
use rustix::time::{ClockId, clock_gettime};

/// A point in time, in milliseconds of the host's monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(u64);

impl Moment {
    /// How long before `now` it was; nothing for what is yet to come.
    pub(super) fn age(self, now: Self) -> Duration {
        Duration::from_millis(now.0.saturating_sub(self.0))
    }

    pub(super) fn milliseconds(self) -> u64 {
        self.0
    }

    #[cfg(test)]
    pub(super) fn from_milliseconds(milliseconds: u64) -> Self {
        Self(milliseconds)
    }
}

/// A few milliseconds in which the coarse clock stands still. Comes again after
/// 49 days; never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tick(pub(super) u32);

/// The clock of a share.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// In tests it stands still until it is put forward.
    #[cfg(test)]
    at: AtomicU64,
    /// In tests every look is in a tick of its own, unless they stop it.
    #[cfg(test)]
    ticks: AtomicU32,
    #[cfg(test)]
    stopped: AtomicBool,
}

impl Clock {
    /// Reads the coarse clock: without a system call, a few milliseconds late.
    #[cfg(not(test))]
    #[allow(clippy::unused_self)]
    pub(super) fn now(&self) -> Moment {
        let time = clock_gettime(ClockId::MonotonicCoarse);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let milliseconds = u64::try_from(time.tv_nsec / 1_000_000).unwrap_or(0);
        Moment(seconds.saturating_mul(1000).saturating_add(milliseconds))
    }

    /// The tick that `now` is in.
    #[cfg(not(test))]
    #[allow(clippy::unused_self)]
    pub(super) fn tick(&self, now: Moment) -> Tick {
        // Its lower half is what is wanted.
        #[allow(clippy::cast_possible_truncation)]
        Tick(now.milliseconds() as u32 | 1)
    }

    #[cfg(test)]
    pub(super) fn tick(&self, _: Moment) -> Tick {
        let further = !self.stopped.load(Ordering::Relaxed);
        let last = self.ticks.fetch_add(further.into(), Ordering::Relaxed);
        Tick(last | 1 << 31)
    }

    #[cfg(test)]
    pub(super) fn stop_ticking(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn now(&self) -> Moment {
        Moment(self.at.load(Ordering::Relaxed))
    }

    #[cfg(test)]
    pub(super) fn put_forward(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.at.fetch_add(by, Ordering::Relaxed);
    }
}
