//! What guests do in the lab: the names are those of `tests/perf/lab/work`.

use super::super::measure::Operation;

/// The files of a share, of which workloads have rounds.
pub(super) const FILES: u64 = 1000;
/// The files of a large directory.
pub(super) const CROWD: u64 = 10_000;
/// The size of the module that is loaded, in bytes.
pub(super) const MODULE: u64 = 8 << 20;

/// A workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workload {
    /// What it is called.
    pub name: &'static str,
    /// What a round of it is.
    pub about: &'static str,
    /// Rounds that are measured; as many come before.
    pub rounds: u64,
    /// What the guest may keep: `cache=` of the share.
    pub cache: &'static str,
    /// The file of the kernel that boots.
    pub kernel: &'static str,
    /// What is measured of it.
    pub kind: Kind,
    /// Whether one request waits for the one before, so that the driver has to notify of
    /// each. Elsewhere notifications depend on who of both is faster.
    pub one_by_one: bool,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What the guest does.
    Work,
    /// From the start of the VMM to the guest's first process.
    Boot,
    /// The memory of the VMM while the guest does nothing.
    Memory,
}

impl Workload {
    /// It, as other sources have them.
    #[must_use]
    pub fn operation(&self) -> Operation {
        Operation {
            name: self.name.to_owned(),
            about: self.about.to_owned(),
        }
    }
}

const fn work(name: &'static str, about: &'static str, rounds: u64) -> Workload {
    Workload {
        name,
        about,
        rounds,
        cache: "auto",
        kernel: "bzImage",
        kind: Kind::Work,
        one_by_one: true,
    }
}

const fn raced(work: Workload) -> Workload {
    Workload {
        one_by_one: false,
        ..work
    }
}

/// All of them. The first is what the counts of the others are more than.
pub const ALL: [Workload; 15] = [
    Workload {
        kind: Kind::Boot,
        one_by_one: false,
        ..work("boot", "start of the VMM to the guest's init, bzImage", 1)
    },
    Workload {
        kind: Kind::Boot,
        one_by_one: false,
        ..work("boot-again", "the same once more", 1)
    },
    Workload {
        kind: Kind::Boot,
        kernel: "vmlinux",
        one_by_one: false,
        ..work("boot-vmlinux", "the first time with vmlinux", 1)
    },
    work("read-4k", "direct read of 4 KiB", 2000),
    work("write-4k", "direct write of 4 KiB", 2000),
    raced(work("read-1m", "direct read of 1 MiB", 16)),
    raced(work(
        "write-1m",
        "write of 1 MiB, with an fsync for all",
        32,
    )),
    raced(work("stat", "stat of a file not seen before", FILES)),
    work("open-read", "open, read, close of a small file", FILES),
    raced(work("ls-l", "an entry of ls -l of 10 000", CROWD)),
    work(
        "create",
        "create and close; counts are those of unlink as well",
        500,
    ),
    work("unlink", "unlink; counts are those of create as well", 500),
    work("append", "append of 4 bytes", 2000),
    Workload {
        cache: "never",
        one_by_one: false,
        ..work("insmod", "insmod of 8 MiB, cache=never", 1)
    },
    Workload {
        kind: Kind::Memory,
        ..work("memory", "memory of the VMM, one share", 1)
    },
];
