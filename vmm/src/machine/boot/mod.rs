//! Puts a kernel into guest memory with everything it expects to find there.

pub(crate) mod command_line;
mod mp_table;
pub(super) mod registers;
mod zero_page;

use std::fs::File;

use linux_loader::loader::bootparam::setup_header;
use linux_loader::loader::{KernelLoader, bzimage::BzImage, elf::Elf};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::{acpi, layout, memory};
use crate::kernel::{Discovery, Image, Kernel};
use registers::Start;

/// The 64-bit entry point of a bzImage, from its load address
/// (`Documentation/arch/x86/boot.rst`).
const BZIMAGE_ENTRY_64: u64 = 0x200;
/// `initrd_addr_max` of every current kernel, for a `vmlinux`, which says
/// none.
const INITRAMFS_LIMIT: u64 = 0x7fff_ffff;
const MIB: u64 = 1 << 20;

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

/// A range of guest-physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: u64,
    size: u64,
}

/// What the machine looks like to the kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hardware {
    pub(super) cpus: u8,
    pub(super) devices: usize,
}

/// Loads everything and says where the boot processor starts.
pub(super) fn load(
    guest: &GuestMemoryMmap,
    kernel: &Kernel,
    initramfs: Option<&[u8]>,
    user_command_line: &str,
    hardware: Hardware,
) -> Result<Start, Error> {
    let initramfs_span = place_initramfs(kernel, initramfs, memory::low_end(guest))?;
    let (entry, header) = load_kernel(guest, kernel)?;
    if let (Some(bytes), Some(span)) = (initramfs, initramfs_span) {
        guest
            .write_slice(bytes, GuestAddress(span.start))
            .map_err(Error::Write)?;
    }
    let discovery = kernel.discovery();
    let text = command_line::compose(discovery, hardware.devices, user_command_line);
    command_line::write(guest, kernel, &text)?;
    let rsdp = match discovery {
        Discovery::Acpi => Some(acpi::write(guest, hardware.cpus, hardware.devices)?),
        Discovery::CommandLine => None,
    };
    // Always: a kernel with ACPI ignores it, unless the user says acpi=off.
    mp_table::write(guest, hardware.cpus)?;
    let contents = zero_page::Contents {
        header,
        initramfs: initramfs_span,
        command_line_size: text.len() + 1,
        rsdp,
    };
    zero_page::write(guest, &contents)?;
    registers::write_tables(guest)?;
    Ok(registers::start_at(entry))
}

/// Copies the kernel and returns its 64-bit entry point and setup header.
fn load_kernel(
    guest: &GuestMemoryMmap,
    kernel: &Kernel,
) -> Result<(u64, Option<setup_header>), Error> {
    // The loader seeks; `Kernel` is read at positions only.
    let mut file: File = kernel.file.try_clone().map_err(Error::ReopenKernel)?;
    let high_ram = Some(GuestAddress(layout::HIGH_RAM));
    let loaded = match &kernel.image {
        Image::BzImage(_) => BzImage::load(guest, None, &mut file, high_ram),
        Image::Elf(_) => Elf::load(guest, None, &mut file, high_ram),
    }
    .map_err(Error::LoadKernel)?;
    let entry = match &kernel.image {
        Image::BzImage(_) => loaded.kernel_load.0 + BZIMAGE_ENTRY_64,
        Image::Elf(elf) => elf.entry,
    };
    Ok((entry, loaded.setup_header))
}

/// Where the initramfs goes: as high as the kernel allows, so that it is out
/// of the kernel's way while that unpacks and moves itself. Also where it is
/// checked that all fits.
fn place_initramfs(
    kernel: &Kernel,
    initramfs: Option<&[u8]>,
    low_end: u64,
) -> Result<Option<Span>, Error> {
    let limit = match &kernel.image {
        Image::BzImage(header) => u64::from(header.initrd_addr_max),
        Image::Elf(_) => INITRAMFS_LIMIT,
    };
    place(
        kernel.footprint_end(),
        initramfs.map_or(0, |bytes| bytes.len() as u64),
        low_end,
        limit,
    )
}

fn place(kernel_end: u64, size: u64, low_end: u64, limit: u64) -> Result<Option<Span>, Error> {
    let room = size.next_multiple_of(layout::PAGE);
    let needed = whole_pages(kernel_end).saturating_add(room);
    if needed > low_end {
        return Err(Error::MemoryTooSmall {
            needed_mib: needed.div_ceil(MIB),
            memory_mib: low_end / MIB,
        });
    }
    if size == 0 {
        return Ok(None);
    }
    // `limit` is the last byte it may occupy.
    let end = low_end.min(limit + 1) / layout::PAGE * layout::PAGE;
    if needed > end {
        return Err(Error::InitramfsTooLarge {
            size_mib: size.div_ceil(MIB),
        });
    }
    Ok(Some(Span {
        start: end - room,
        size,
    }))
}

/// The size of the pages that hold `bytes`; a kernel file may claim any size.
fn whole_pages(bytes: u64) -> u64 {
    bytes
        .checked_next_multiple_of(layout::PAGE)
        .unwrap_or(u64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests;
