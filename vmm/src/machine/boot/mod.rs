//! Puts a kernel into guest memory with everything it expects to find there.

pub(crate) mod command_line;
mod error;
mod mp_table;
mod placement;
pub(super) mod registers;
mod zero_page;

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::{acpi, layout, memory};
pub(crate) use error::Error;
pub(crate) use placement::LARGEST_INITRAMFS;
use registers::Start;
use vmm_kernel::{Discovery, Kernel, Origin};

/// What the machine looks like to the kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hardware {
    pub(super) cpus: u8,
    pub(super) devices: usize,
    /// Whether page tables can have five levels.
    pub(super) five_levels: bool,
}

/// Loads everything and says where the boot processor starts, and what the kernel was
/// loaded from.
pub(super) fn load(
    guest: &GuestMemoryMmap,
    kernel: &Kernel,
    initramfs: Option<&[u8]>,
    user_command_line: &str,
    hardware: Hardware,
) -> Result<(Start, Origin), Error> {
    let initramfs_span = placement::place_initramfs(kernel, initramfs, memory::low_end(guest))?;
    let discovery = kernel.discovery();
    let text = command_line::compose(discovery, hardware.devices, user_command_line);
    let loaded = kernel.load(guest, layout::HIGH_RAM, &text, hardware.five_levels)?;
    if let (Some(bytes), Some(span)) = (initramfs, initramfs_span) {
        guest
            .write_slice(bytes, GuestAddress(span.start))
            .map_err(Error::Write)?;
    }
    command_line::write(guest, kernel, &text)?;
    let rsdp = match discovery {
        Discovery::Acpi => {
            let wiring = command_line::wiring(discovery, user_command_line);
            Some(acpi::write(
                guest,
                hardware.cpus,
                (hardware.devices, wiring),
            )?)
        }
        Discovery::CommandLine => None,
    };
    // Always: a kernel with ACPI ignores it, unless the user says acpi=off.
    mp_table::write(guest, hardware.cpus)?;
    let contents = zero_page::Contents {
        header: loaded.setup_header,
        initramfs: initramfs_span,
        command_line_size: text.len() + 1,
        rsdp,
    };
    zero_page::write(guest, &contents)?;
    registers::write_tables(guest)?;
    let start = if loaded.five_levels {
        registers::start_with_five_levels_at(loaded.entry)
    } else {
        registers::start_at(loaded.entry)
    };
    Ok((start, loaded.origin))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests;
