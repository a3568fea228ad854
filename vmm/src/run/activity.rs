//! When a guest last did something that is seen from outside.

use std::time::{Duration, Instant};

/// Watches counts that grow by what a guest does.
#[derive(Debug, Default)]
pub(super) struct Activity {
    count: u64,
    last: Option<Instant>,
}

impl Activity {
    /// So much was done by `now`.
    pub(super) fn note(&mut self, count: u64, now: Instant) {
        if count != self.count {
            self.count = count;
            self.last = Some(now);
        }
    }

    /// The guest stood still for so long, and could do nothing.
    pub(super) fn paused(&mut self, pause: Duration) {
        self.last = self
            .last
            .map(|last| last.checked_add(pause).unwrap_or(last));
    }

    /// For how long nothing was done by `now`; `None` if nothing ever was.
    pub(super) fn quiet(&self, now: Instant) -> Option<Duration> {
        self.last.map(|last| now.saturating_duration_since(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_is_something_done() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut activity = Activity::default();
        activity.note(0, start);
        assert_eq!(activity.quiet(start), None);
        activity.note(1, start + second);
        activity.note(1, start + 3 * second);
        assert_eq!(activity.quiet(start + 3 * second), Some(2 * second));
        activity.paused(second);
        assert_eq!(activity.quiet(start + 3 * second), Some(second));
        activity.note(2, start + 4 * second);
        assert_eq!(activity.quiet(start + 4 * second), Some(Duration::ZERO));
    }
}
