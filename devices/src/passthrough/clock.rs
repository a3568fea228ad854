//! What time it is, as exact as the lifetime of the guest's cache needs.

use rustix::time::{ClockId, clock_gettime};

/// A point in time, in milliseconds of the host's monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(u64);

impl Moment {
    #[cfg(test)]
    pub(super) fn milliseconds(self) -> u64 {
        self.0
    }

    #[cfg(test)]
    pub(super) fn from_milliseconds(milliseconds: u64) -> Self {
        Self(milliseconds)
    }
}

impl Moment {
    /// By the coarse clock: without a system call, a few milliseconds late.
    pub(super) fn now() -> Self {
        let time = clock_gettime(ClockId::MonotonicCoarse);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let milliseconds = u64::try_from(time.tv_nsec / 1_000_000).unwrap_or(0);
        let now = seconds.saturating_mul(1000).saturating_add(milliseconds);
        Self(now)
    }
}
