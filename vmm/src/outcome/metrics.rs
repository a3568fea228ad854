//! `--metrics`: what a run did, as JSON with stable names.
//!
//! Tests assert on the counts: they are exact, and the same in every run of
//! the same work, where times are not.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use devices::fuse::{MetricsSnapshot, OperationMetrics, Server};
use devices::virtio::fs::{Counters, QueueCounts};
use serde::Serialize;

use super::report::{SCHEMA, Timings};
use crate::machine::{ExitKind, MachineCounters};

#[derive(Debug, Serialize)]
pub(crate) struct Metrics {
    schema: u32,
    /// Milliseconds since `vmm` was started.
    timings_ms: Timings,
    /// How often vCPUs left the guest for `vmm`, by reason.
    exits: BTreeMap<&'static str, u64>,
    /// By tag; the session is `vmm.session`.
    shares: BTreeMap<String, ShareMetrics>,
    process: ProcessUsage,
}

/// What one virtio-fs device did.
#[derive(Debug, Serialize)]
pub(crate) struct ShareMetrics {
    /// By the opcode's name in `linux/fuse.h`, without `FUSE_`.
    operations: BTreeMap<&'static str, Operation>,
    /// `hiprio`, `request-0`, `request-1` ...
    queues: BTreeMap<String, QueueMetrics>,
}

/// What was served of one opcode.
#[derive(Debug, Serialize)]
struct Operation {
    /// Requests, with those that failed.
    count: u64,
    /// Requests answered with an errno.
    errors: u64,
    /// Bytes of reply bodies.
    bytes_read: u64,
    /// Bytes of data taken.
    bytes_written: u64,
    /// Requests by the time their answer took: the first number is for less
    /// than 1 microsecond, each further one for less than twice the time of
    /// the one before, the last for all the rest. Zeros at the end are left
    /// out.
    latency_us_log2: Vec<u64>,
}

/// What one queue did.
#[derive(Debug, Serialize)]
struct QueueMetrics {
    /// Notifications by the driver.
    kicks: u64,
    /// Times the queue's thread woke up.
    wakeups: u64,
    /// Requests taken.
    requests: u64,
    /// Requests whose descriptors made no sense.
    malformed: u64,
    /// Requests handed to a thread of their own because they may block.
    detached: u64,
    /// Interrupts raised.
    interrupts: u64,
}

/// What the process uses.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct ProcessUsage {
    pub open_fds: u64,
    /// Resident memory without the guest's, in KiB.
    pub rss_kib: u64,
}

/// A device that is counted.
#[derive(Clone)]
pub(crate) struct MeteredDevice {
    pub tag: String,
    pub server: Arc<Server>,
    pub queues: Arc<Counters>,
}

impl std::fmt::Debug for MeteredDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MeteredDevice")
            .field("tag", &self.tag)
            .finish_non_exhaustive()
    }
}

impl Metrics {
    /// The metrics of a run that is over.
    #[must_use]
    pub(crate) fn collect(
        timings: Timings,
        machine: Option<&MachineCounters>,
        devices: &[MeteredDevice],
        process: ProcessUsage,
    ) -> Self {
        Self {
            schema: SCHEMA,
            timings_ms: timings,
            exits: ExitKind::ALL
                .into_iter()
                .map(|kind| {
                    (
                        kind.name(),
                        machine.map_or(0, |machine| machine.exits(kind)),
                    )
                })
                .collect(),
            shares: devices
                .iter()
                .map(|device| {
                    let share =
                        ShareMetrics::new(&device.server.metrics(), &device.queues.snapshot());
                    (device.tag.clone(), share)
                })
                .collect(),
            process,
        }
    }

    /// The metrics as JSON, with a newline at its end.
    #[must_use]
    pub(crate) fn json(&self) -> Vec<u8> {
        crate::outcome::report::json(self)
    }
}

impl ShareMetrics {
    fn new(served: &MetricsSnapshot, queues: &[QueueCounts]) -> Self {
        Self {
            operations: served
                .operations
                .iter()
                .map(|operation| (operation.opcode.name(), Operation::new(operation)))
                .collect(),
            queues: queues
                .iter()
                .enumerate()
                .map(|(index, counts)| {
                    let name = match index.checked_sub(1) {
                        None => "hiprio".to_owned(),
                        Some(number) => format!("request-{number}"),
                    };
                    (name, QueueMetrics::new(counts))
                })
                .collect(),
        }
    }
}

impl Operation {
    fn new(operation: &OperationMetrics) -> Self {
        let used = operation.latency.iter().rposition(|count| *count > 0);
        Self {
            count: operation.count,
            errors: operation.errors,
            bytes_read: operation.bytes_read,
            bytes_written: operation.bytes_written,
            latency_us_log2: operation
                .latency
                .iter()
                .take(used.map_or(0, |last| last + 1))
                .copied()
                .collect(),
        }
    }
}

impl QueueMetrics {
    fn new(counts: &QueueCounts) -> Self {
        Self {
            kicks: counts.kicks,
            wakeups: counts.wakeups,
            requests: counts.requests,
            malformed: counts.malformed,
            detached: counts.detached,
            interrupts: counts.interrupts,
        }
    }
}

/// Mappings from this size on are guest memory: nothing else in this process
/// is anonymous, writable and that large.
const GUEST_MAPPING_KIB: u64 = 16 << 10;

impl ProcessUsage {
    /// What this process uses now.
    #[must_use]
    pub(crate) fn now() -> Self {
        let open_fds = fs::read_dir("/proc/self/fd").map_or(0, |entries| {
            // Without the one that lists the others.
            (entries.count() as u64).saturating_sub(1)
        });
        let maps = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
        Self {
            open_fds,
            rss_kib: own_resident(&maps),
        }
    }
}

/// Adds up the resident memory in the text of `/proc/PID/smaps`, without the
/// guest's.
fn own_resident(smaps: &str) -> u64 {
    let mut total = 0_u64;
    let (mut plain, mut size) = (false, 0);
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let Some(first) = words.next() else { continue };
        let kib = || line.split_whitespace().nth(1).and_then(|n| n.parse().ok());
        match first {
            "Size:" => size = kib().unwrap_or(0),
            "Rss:" if plain && size >= GUEST_MAPPING_KIB => {}
            "Rss:" => total = total.saturating_add(kib().unwrap_or(0)),
            _ if first.ends_with(':') => {}
            // The head of a mapping: addresses, permissions, offset, device,
            // inode and, for files, a path.
            _ => plain = line.contains(" rw") && words.nth(3) == Some("0"),
        }
    }
    total
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use devices::fuse::{LATENCY_BUCKETS, Opcode};

    #[test]
    fn names_and_units_are_as_documented() {
        let mut latency = [0; LATENCY_BUCKETS];
        latency[2] = 7;
        let served = MetricsSnapshot {
            operations: vec![OperationMetrics {
                opcode: Opcode::READ,
                count: 7,
                errors: 1,
                bytes_read: 4096,
                bytes_written: 0,
                latency,
            }],
        };
        let queues = [QueueCounts::default(), QueueCounts::default()];
        let json = serde_json::to_value(ShareMetrics::new(&served, &queues)).unwrap();
        let read = &json["operations"]["READ"];
        assert_eq!(read["count"], 7);
        assert_eq!(read["errors"], 1);
        assert_eq!(read["bytes_read"], 4096);
        assert_eq!(read["latency_us_log2"], serde_json::json!([0, 0, 7]));
        assert_eq!(json["queues"]["hiprio"]["kicks"], 0);
        assert_eq!(json["queues"]["request-0"]["interrupts"], 0);
    }

    #[test]
    fn guest_memory_is_not_counted_as_ours() {
        let smaps = "55d000-55e000 r--p 00000000 08:01 123   /usr/bin/vmm\n\
                     Size:                  4 kB\nRss:                   4 kB\n\
                     7f0000000000-7f0020000000 rw-p 00000000 00:00 0\n\
                     Size:             524288 kB\nRss:              100000 kB\n\
                     7ff000-7ff100 rw-p 00000000 00:00 0      [stack]\n\
                     Size:                132 kB\nRss:                  20 kB\n";
        assert_eq!(own_resident(smaps), 24);
    }

    #[test]
    fn this_process_uses_something() {
        let usage = ProcessUsage::now();
        assert!(usage.open_fds >= 3);
        assert!(usage.rss_kib > 100);
    }
}
