//! What is compared.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The lengths of the calls, in bytes.
pub const SIZES: [u64; 6] = [64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20];

/// Linux before 6.11 loads a module of one byte less over direct I/O, and hangs
/// with this one.
pub const FIRST_BAD_MODULE: u64 = 4_194_265;

/// How often a call is made to count the instructions of the whole machine, and
/// how often to count the guest's. The least is shown: that is the one with the
/// fewest interrupts of the clock in it. A long call has many of them, each time
/// about as many.
#[must_use]
pub fn repeats(bytes: u64) -> usize {
    if bytes <= 1 << 20 { 3 } else { 1 }
}

/// How the driver bounces arguments; `virtiofs.bounce=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// One `kmalloc()` of any length.
    FlatNocap,
    /// One `kmalloc()` of at most 252 pages.
    Flat,
    /// Single pages, copied.
    Scattered,
    /// The caller's pages; what is no kernel direct I/O as with `Flat`.
    PagesFlat,
    /// The caller's pages; what is no kernel direct I/O as with `Scattered`.
    Pages,
}

impl Strategy {
    /// All of them, from what was to what is the default.
    pub const ALL: [Self; 5] = [
        Self::FlatNocap,
        Self::Flat,
        Self::Scattered,
        Self::PagesFlat,
        Self::Pages,
    ];

    /// As the driver's parameter has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::FlatNocap => "flat-nocap",
            Self::Flat => "flat",
            Self::Scattered => "scattered",
            Self::PagesFlat => "pages-flat",
            Self::Pages => "pages",
        }
    }
}

/// Whether the kernel reads a file or writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// `kernel_read()` and its like.
    Read,
    /// `kernel_write()`.
    Write,
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Read, Self::Write];

    /// As `kernel_rw` has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// What goes into the lab: where things are there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The program that runs guests.
    pub vmm: PathBuf,
    /// The guest's side, `guest-kernel/comparison/measure`.
    pub script: PathBuf,
    /// The kernels to measure.
    pub kernels: Vec<Kernel>,
}

/// One kernel version.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kernel {
    /// `6.1`.
    pub version: String,
    /// Products of the variant `test`.
    pub test: PathBuf,
    /// The kernel without the series and modules for it, where its failure is
    /// part of the comparison.
    pub stock: Option<Stock>,
}

/// The kernel without the series.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stock {
    /// Its bzImage.
    pub kernel: PathBuf,
    /// Modules for it.
    pub modules: Vec<PathBuf>,
}
