//! What is measured of an operation. Of all of it, less is better.

use serde::{Deserialize, Serialize};

/// A number for each round of an operation. See [`super::source::Source`] for who has which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Instructions. They depend on the compiler and, by the C library, on the processor.
    Instructions,
    /// System calls of the device's threads.
    SystemCalls,
    /// Allocations of memory by the device's threads.
    Allocations,
    /// Requests that the device took from its queues.
    Requests,
    /// Notifications by the driver.
    Kicks,
    /// Times a thread of the device woke up.
    Wakeups,
    /// Interrupts that the device raised.
    Interrupts,
    /// Requests that another thread than the queue's own served.
    Detached,
    /// Accesses to registers for which the guest was left, and that the VMM served.
    Exits,
    /// Memory of the VMM, and of its server.
    Resident,
}

impl Metric {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 10] = [
        Self::Instructions,
        Self::SystemCalls,
        Self::Allocations,
        Self::Requests,
        Self::Kicks,
        Self::Wakeups,
        Self::Interrupts,
        Self::Detached,
        Self::Exits,
        Self::Resident,
    ];

    /// Its name in files and on the terminal.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Instructions => "instructions",
            Self::SystemCalls => "system-calls",
            Self::Allocations => "allocations",
            Self::Requests => "requests",
            Self::Kicks => "kicks",
            Self::Wakeups => "wakeups",
            Self::Interrupts => "interrupts",
            Self::Detached => "detached",
            Self::Exits => "exits",
            Self::Resident => "resident",
        }
    }

    /// Whether it is the same for every compiler and processor, and so can be on
    /// record.
    #[must_use]
    pub fn is_portable(self) -> bool {
        !matches!(self, Self::Instructions | Self::Resident)
    }
}
