//! `boot_params`, the "zero page": what the kernel is told at its entry
//! (`Documentation/arch/x86/zero-page.rst`).

use linux_loader::configurator::linux::LinuxBootConfigurator;
use linux_loader::configurator::{BootConfigurator, BootParams};
use linux_loader::loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use vm_memory::{Address, GuestAddress, GuestMemory, GuestMemoryMmap, GuestMemoryRegion};

use super::error::Error;
use super::placement::Span;
use crate::machine::layout;

const E820_RAM: u32 = 1;
const E820_RESERVED: u32 = 2;
/// The kernel has no number for this loader.
const LOADER_UNDEFINED: u8 = 0xff;
const HDRS: u32 = 0x5372_6448;
const BOOT_FLAG: u16 = 0xaa55;
/// `CONFIG_PHYSICAL_ALIGN`'s default, for a `vmlinux`.
const KERNEL_ALIGNMENT: u32 = 0x20_0000;

/// What goes into the page.
pub(super) struct Contents {
    /// A bzImage's own header, which the kernel expects back.
    pub(super) header: Option<setup_header>,
    /// Where the initramfs is.
    pub(super) initramfs: Option<Span>,
    /// The length of the command line with its NUL, in bytes.
    pub(super) command_line_size: usize,
    pub(super) rsdp: Option<GuestAddress>,
}

pub(super) fn write(memory: &GuestMemoryMmap, contents: &Contents) -> Result<(), Error> {
    let mut params = boot_params {
        hdr: contents.header.unwrap_or(setup_header {
            boot_flag: BOOT_FLAG,
            header: HDRS,
            kernel_alignment: KERNEL_ALIGNMENT,
            ..Default::default()
        }),
        ..Default::default()
    };
    params.hdr.type_of_loader = LOADER_UNDEFINED;
    params.hdr.cmd_line_ptr = low(layout::COMMAND_LINE);
    params.hdr.cmdline_size = u32::try_from(contents.command_line_size).unwrap_or(u32::MAX);
    if let Some(span) = contents.initramfs {
        params.hdr.ramdisk_image = low(span.start);
        params.hdr.ramdisk_size = low(span.size);
    }
    params.acpi_rsdp_addr = contents.rsdp.map_or(0, |address| address.raw_value());
    let map = e820(memory);
    for (slot, entry) in params.e820_table.iter_mut().zip(&map) {
        *slot = *entry;
    }
    params.e820_entries = u8::try_from(map.len()).unwrap_or(u8::MAX);
    let params = BootParams::new(&params, GuestAddress(layout::ZERO_PAGE));
    LinuxBootConfigurator::write_bootparams(&params, memory).map_err(Error::ZeroPage)
}

/// Addresses and sizes below 4 GiB, where the header has 32 bits.
fn low(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn entry(start: u64, end: u64, kind: u32) -> boot_e820_entry {
    boot_e820_entry {
        addr: start,
        size: end - start,
        type_: kind,
    }
}

fn e820(memory: &GuestMemoryMmap) -> Vec<boot_e820_entry> {
    let mut map = vec![
        entry(0, layout::LOW_RAM_END, E820_RAM),
        // Also keeps the kernel from using the tables' memory as RAM.
        entry(layout::LOW_RAM_END, layout::HIGH_RAM, E820_RESERVED),
    ];
    map.extend(memory.iter().map(|region| {
        let start = region.start_addr().raw_value();
        entry(start.max(layout::HIGH_RAM), start + region.len(), E820_RAM)
    }));
    map
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::machine::memory;

    fn spans(size: u64) -> Vec<(u64, u64, u32)> {
        e820(&memory::reserve(size, 40).unwrap())
            .iter()
            .map(|entry| (entry.addr, entry.size, entry.type_))
            .collect()
    }

    #[test]
    fn a_small_machine_has_conventional_and_high_memory() {
        assert_eq!(
            spans(256 << 20),
            [
                (0, 0x9_fc00, E820_RAM),
                (0x9_fc00, 0x6_0400, E820_RESERVED),
                (0x10_0000, (256 << 20) - 0x10_0000, E820_RAM),
            ]
        );
    }

    #[test]
    fn a_large_machine_has_memory_above_4_gib() {
        let spans = spans(5 << 30);
        assert_eq!(spans[2], (0x10_0000, 0xd000_0000 - 0x10_0000, E820_RAM));
        assert_eq!(spans[3], (1 << 32, (5 << 30) - 0xd000_0000, E820_RAM));
    }
}
