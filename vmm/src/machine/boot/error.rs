//! Why the kernel is not in guest memory.

use crate::machine::acpi;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "memory is too small: the kernel and its initramfs need {needed_mib} MiB, \
         and there are {memory_mib} MiB; use --memory {needed_mib}M or more"
    )]
    MemoryTooSmall {
        /// What would do, in MiB.
        needed_mib: u64,
        /// What there is below the MMIO gap, in MiB.
        memory_mib: u64,
    },
    /// The initramfs lies below 2 GiB, together with the kernel.
    #[error("the initramfs is too large: {size_mib} MiB do not fit below 2 GiB with the kernel")]
    InitramfsTooLarge {
        /// Its size, in MiB.
        size_mib: u64,
    },
    /// The command line is longer than the kernel takes.
    #[error("the kernel command line is {length} bytes long, and this kernel takes {limit}")]
    CommandLineLength {
        /// Its length, in bytes.
        length: usize,
        /// The most that fits, in bytes.
        limit: usize,
    },
    #[error("the kernel command line may hold neither a NUL nor a newline")]
    CommandLineText,
    #[error("cannot load the kernel")]
    LoadKernel(#[source] linux_loader::loader::Error),
    /// The descriptor of the kernel file cannot be doubled.
    #[error("cannot read the kernel file again")]
    ReopenKernel(#[source] std::io::Error),
    #[error("cannot write the zero page")]
    ZeroPage(#[source] linux_loader::configurator::Error),
    #[error("cannot describe the machine to the kernel")]
    Acpi(#[from] acpi::Error),
    #[error("cannot write to guest memory")]
    Write(#[source] vm_memory::GuestMemoryError),
}
