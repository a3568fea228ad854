//! What was served, counted per opcode.
//!
//! Every worker adds to the same counters with relaxed atomics: each number
//! is exact, but a snapshot taken while requests are under way may have
//! counted one of them in one place and not yet in another.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::opcode::Opcode;

/// Number of buckets in a latency histogram.
pub const LATENCY_BUCKETS: usize = 25;

/// What a server did so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricsSnapshot {
    /// One for each opcode that occurred, in the order of their numbers.
    /// Requests with a number the protocol does not define, or too short to
    /// have one, come first, under `Opcode(0)`.
    pub operations: Vec<OperationMetrics>,
}

impl MetricsSnapshot {
    /// The numbers of `opcode`, if it occurred.
    #[must_use]
    pub fn operation(&self, opcode: Opcode) -> Option<&OperationMetrics> {
        self.operations
            .iter()
            .find(|operation| operation.opcode == opcode)
    }
}

/// What a server did for one opcode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationMetrics {
    /// The opcode.
    pub opcode: Opcode,
    /// Requests, with those that failed.
    pub count: u64,
    /// Requests answered with an errno, or that could not be answered.
    pub errors: u64,
    /// Bytes of reply bodies, without their headers. For READ, the data read.
    pub bytes_read: u64,
    /// Bytes of data that requests brought and the file system took: the
    /// data of WRITE and the values of SETXATTR.
    pub bytes_written: u64,
    /// Requests by the time from their decoding to their reply: bucket 0 has
    /// those under 1 microsecond, bucket `n` those from 2^(n-1) to under 2^n
    /// microseconds, the last one all that took longer than 2^23
    /// microseconds (8.4 s).
    pub latency: [u64; LATENCY_BUCKETS],
}

/// How one request went.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) opcode: Opcode,
    pub(super) failed: bool,
    pub(super) bytes_read: usize,
    pub(super) bytes_written: usize,
    pub(super) duration: Duration,
}

/// The counters behind a [`MetricsSnapshot`].
#[derive(Debug)]
pub(super) struct Metrics {
    operations: [OperationCounters; Opcode::COUNT],
}

#[derive(Debug, Default)]
struct OperationCounters {
    count: AtomicU64,
    errors: AtomicU64,
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
    latency: [AtomicU64; LATENCY_BUCKETS],
}

impl Metrics {
    pub(super) fn new() -> Self {
        Self {
            operations: std::array::from_fn(|_| OperationCounters::default()),
        }
    }

    pub(super) fn record(&self, served: Sample) {
        // The holes in the numbering count as unknown, like what lies above.
        let number = if served.opcode.is_defined() {
            served.opcode.0 as usize
        } else {
            0
        };
        let Some(counters) = self.operations.get(number) else {
            return;
        };
        counters.count.fetch_add(1, Ordering::Relaxed);
        if served.failed {
            counters.errors.fetch_add(1, Ordering::Relaxed);
        }
        if served.bytes_read > 0 {
            counters
                .bytes_read
                .fetch_add(served.bytes_read as u64, Ordering::Relaxed);
        }
        if served.bytes_written > 0 {
            counters
                .bytes_written
                .fetch_add(served.bytes_written as u64, Ordering::Relaxed);
        }
        if let Some(bucket) = counters.latency.get(bucket(served.duration)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn snapshot(&self) -> MetricsSnapshot {
        let operations = (0..)
            .zip(&self.operations)
            .map(|(number, counters)| counters.snapshot(Opcode(number)))
            .filter(|operation| operation.count > 0)
            .collect();
        MetricsSnapshot { operations }
    }
}

impl OperationCounters {
    fn snapshot(&self, opcode: Opcode) -> OperationMetrics {
        OperationMetrics {
            opcode,
            count: self.count.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            bytes_read: self.bytes_read.load(Ordering::Relaxed),
            bytes_written: self.bytes_written.load(Ordering::Relaxed),
            latency: std::array::from_fn(|bucket| {
                self.latency
                    .get(bucket)
                    .map_or(0, |count| count.load(Ordering::Relaxed))
            }),
        }
    }
}

/// The bucket for `duration`: the number of bits in its microseconds.
fn bucket(duration: Duration) -> usize {
    let bits = u128::BITS - duration.as_micros().leading_zeros();
    (bits as usize).min(LATENCY_BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_double_from_one_microsecond() {
        assert_eq!(bucket(Duration::from_nanos(999)), 0);
        assert_eq!(bucket(Duration::from_micros(1)), 1);
        assert_eq!(bucket(Duration::from_micros(2)), 2);
        assert_eq!(bucket(Duration::from_micros(3)), 2);
        assert_eq!(bucket(Duration::from_micros(4)), 3);
        assert_eq!(bucket(Duration::from_micros((1 << 23) - 1)), 23);
        assert_eq!(bucket(Duration::from_micros(1 << 23)), 24);
        assert_eq!(bucket(Duration::MAX), 24);
    }
}
