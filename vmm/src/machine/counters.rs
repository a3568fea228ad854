//! What the machine counts while it runs, for `--metrics` and for tests.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use vmm_kernel::Origin;

/// Why a vCPU left the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExitKind {
    /// The guest read a port.
    PortRead,
    /// The guest wrote a port.
    PortWrite,
    /// The guest read where there is no memory.
    MmioRead,
    /// The guest wrote where there is no memory.
    MmioWrite,
    /// A signal: how a vCPU is stopped, and asked whether it has halted.
    Interrupted,
    /// A triple fault.
    Shutdown,
    Other,
}

impl ExitKind {
    pub(crate) const ALL: [Self; 7] = [
        Self::PortRead,
        Self::PortWrite,
        Self::MmioRead,
        Self::MmioWrite,
        Self::Interrupted,
        Self::Shutdown,
        Self::Other,
    ];

    /// A stable name for metrics.
    #[must_use]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::PortRead => "port_read",
            Self::PortWrite => "port_write",
            Self::MmioRead => "mmio_read",
            Self::MmioWrite => "mmio_write",
            Self::Interrupted => "interrupted",
            Self::Shutdown => "shutdown",
            Self::Other => "other",
        }
    }
}

/// Counts and times of one machine. Shared with the running machine; every
/// read is a snapshot.
#[derive(Debug)]
pub(crate) struct MachineCounters {
    exits: [AtomicU64; ExitKind::ALL.len()],
    created: Instant,
    kernel_loaded: OnceLock<Instant>,
    kernel_origin: OnceLock<Origin>,
    first_run: OnceLock<Instant>,
}

impl MachineCounters {
    pub(super) fn new() -> Self {
        Self {
            exits: Default::default(),
            created: Instant::now(),
            kernel_loaded: OnceLock::new(),
            kernel_origin: OnceLock::new(),
            first_run: OnceLock::new(),
        }
    }

    /// How often vCPUs left the guest for this process, for one kind.
    #[must_use]
    pub(crate) fn exits(&self, kind: ExitKind) -> u64 {
        self.exits[kind as usize].load(Ordering::Relaxed)
    }

    /// When the machine's creation began.
    #[must_use]
    pub(crate) fn created(&self) -> Instant {
        self.created
    }

    /// When kernel, initramfs and tables were in guest memory.
    #[must_use]
    pub(crate) fn kernel_loaded(&self) -> Option<Instant> {
        self.kernel_loaded.get().copied()
    }

    /// What the kernel was loaded from.
    #[must_use]
    pub(crate) fn kernel_origin(&self) -> Option<Origin> {
        self.kernel_origin.get().copied()
    }

    /// When the first vCPU was about to enter the guest.
    #[must_use]
    pub(crate) fn first_run(&self) -> Option<Instant> {
        self.first_run.get().copied()
    }

    pub(super) fn count(&self, kind: ExitKind) {
        self.exits[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn mark_kernel_loaded(&self) {
        self.kernel_loaded.get_or_init(Instant::now);
    }

    pub(super) fn mark_kernel_origin(&self, origin: Origin) {
        self.kernel_origin.get_or_init(|| origin);
    }

    pub(super) fn mark_first_run(&self) {
        self.first_run.get_or_init(Instant::now);
    }
}
