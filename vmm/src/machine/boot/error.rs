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
    /// The initramfs lies where the kernel finds it, together with the kernel.
    #[error(
        "the initramfs is too large: {size_mib} MiB and the kernel do not fit below {limit_mib} \
         MiB, where this kernel looks for it"
    )]
    InitramfsTooLarge {
        /// Its size, in MiB.
        size_mib: u64,
        /// Where both have to end.
        limit_mib: u64,
    },
    #[error(
        "the kernel is too large: it starts in the first {end_mib} MiB of memory, and only          {limit_mib} are there for it"
    )]
    KernelTooLarge {
        /// Where it ends, in MiB.
        end_mib: u64,
        /// Where it has to end.
        limit_mib: u64,
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
    #[error(transparent)]
    Load(#[from] vmm_kernel::LoadError),
    #[error("cannot write the zero page")]
    ZeroPage(#[source] linux_loader::configurator::Error),
    #[error("cannot describe the machine to the kernel")]
    Acpi(#[from] acpi::Error),
    #[error("cannot write to guest memory")]
    Write(#[source] vm_memory::GuestMemoryError),
}
