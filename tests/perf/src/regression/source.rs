//! Where numbers come from. Those of two sources are never compared.

use serde::{Deserialize, Serialize};

use super::metric::Metric;

/// A way to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The device in a process of its own, under callgrind and strace.
    Native,
    /// A whole guest in a deterministic lab.
    Lab,
}

impl Source {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Native, Self::Lab];

    /// Its name in files and on the terminal.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Lab => "lab",
        }
    }

    /// What is between what asks and the host's files.
    #[must_use]
    pub fn host_path(self) -> &'static str {
        match self {
            Self::Native => "the device over registers and guest memory, without a machine",
            Self::Lab => "a guest of one processor, vmm, and KVM on an emulated host",
        }
    }

    /// What it measures, in the order in which that is shown.
    #[must_use]
    pub fn metrics(self) -> &'static [Metric] {
        match self {
            Self::Native => &[
                Metric::Instructions,
                Metric::SystemCalls,
                Metric::Allocations,
                Metric::Requests,
                Metric::Kicks,
                Metric::Wakeups,
                Metric::Interrupts,
                Metric::Detached,
            ],
            Self::Lab => &[
                Metric::Instructions,
                Metric::Requests,
                Metric::Kicks,
                Metric::Wakeups,
                Metric::Interrupts,
                Metric::Detached,
                Metric::Exits,
                Metric::Resident,
            ],
        }
    }

    /// What a number of `metric` is.
    #[must_use]
    pub fn unit(self, metric: Metric) -> &'static str {
        match (self, metric) {
            (Self::Native, Metric::Instructions) => "instructions in user mode per round",
            (Self::Lab, Metric::Instructions) => {
                "instructions of guest, server and host together per round"
            }
            (_, Metric::SystemCalls) => "calls per round",
            (_, Metric::Allocations) => "calls of malloc and its like per round",
            (_, Metric::Requests | Metric::Detached) => "requests per round",
            (_, Metric::Kicks) => "notifications per round",
            (_, Metric::Wakeups) => "wake-ups per round",
            (_, Metric::Interrupts) => "interrupts per round",
            (_, Metric::Exits) => "accesses to registers that the VMM serves, per round",
            (_, Metric::Resident) => "KiB of memory without the guest's own",
        }
    }
}
