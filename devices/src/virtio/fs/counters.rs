//! What each queue of a device has done, for the VMM's metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of one queue at one moment, since the device was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// Notifications by the driver.
    pub kicks: u64,
    /// Times the queue's thread woke up: fewer than `kicks` where several
    /// came at once, more where detached requests came back or a reset ended
    /// the thread.
    pub wakeups: u64,
    /// Requests taken from the queue, those in `malformed` included.
    pub requests: u64,
    /// Requests refused because their descriptors make no sense.
    pub malformed: u64,
    /// Requests handed to the pool because they may block.
    pub detached: u64,
    /// Interrupts raised.
    pub interrupts: u64,
}

/// Counts of one queue, written by its worker alone.
#[derive(Debug, Default)]
pub(super) struct QueueCounters {
    pub(super) kicks: Counter,
    pub(super) wakeups: Counter,
    pub(super) requests: Counter,
    pub(super) malformed: Counter,
    pub(super) detached: Counter,
    pub(super) interrupts: Counter,
}

/// A number that goes up. Relaxed: it orders nothing.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub(super) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counts of all queues of a device. They go on over resets.
#[derive(Debug)]
pub struct Counters {
    queues: Vec<QueueCounters>,
}

impl Counters {
    /// Counters for `queues` queues, all zero.
    pub(super) fn new(queues: usize) -> Self {
        Self {
            queues: (0..queues).map(|_| QueueCounters::default()).collect(),
        }
    }

    /// The counters of queue `index`.
    pub(super) fn queue(&self, index: u16) -> Option<&QueueCounters> {
        self.queues.get(usize::from(index))
    }

    /// The counts by queue index: the hiprio queue first.
    #[must_use]
    pub fn snapshot(&self) -> Vec<QueueCounts> {
        (self.queues.iter())
            .map(|queue| QueueCounts {
                kicks: queue.kicks.get(),
                wakeups: queue.wakeups.get(),
                requests: queue.requests.get(),
                malformed: queue.malformed.get(),
                detached: queue.detached.get(),
                interrupts: queue.interrupts.get(),
            })
            .collect()
    }
}
