//! Every guest-physical address, port and interrupt of the machine: the only
//! file with such numbers.
//!
//! ```text
//! 0x0000_0000_0000  RAM  boot data, free for the kernel once it runs:
//!        0x0500     GDT
//!        0x7000     zero page (boot_params)
//!        0x8ff0     initial stack
//!        0x9000     page tables: PML4, PDPT, four PDs (identity, 4 GiB), PML5
//!      0x2_0000     command line
//!      0x9_fc00     reserved (would be the EBDA), up to 1 MiB
//!      0xe_0000     ACPI: RSDP, then the tables
//!      0xf_0000     MP table
//!     0x10_0000     kernel (bzImage; a vmlinux says where it goes)
//!            ...    initramfs, as high as the kernel allows
//! 0x0000_d000_0000  no RAM: the MMIO gap, 0.75 GiB
//!     0xd000_0fa0   virtio-mmio windows, 4 KiB each, one in two pages
//!     0xfec0_0000   IO-APIC of KVM
//!     0xfec0_1000   IO-APIC of the virtio devices
//!     0xfee0_0000   local APICs
//!     0xfffb_c000   identity map page and TSS, for KVM on Intel
//! 0x0001_0000_0000  RAM that did not fit below the gap
//!            ...    windows into files of the host, from a whole GiB on each
//! ```
//!
//! The two RAM regions never touch: a buffer that crosses from one region to
//! the next would not be one range of host memory.

use std::ops::Range;

use devices::io_apic;
use devices::power;
use devices::virtio::{RegisterPage, mmio};

/// The page size of the guest, in bytes.
pub(crate) const PAGE: u64 = 0x1000;

/// Global descriptor table of the boot processor.
pub(crate) const GDT: u64 = 0x500;
/// `boot_params`, one page.
pub(crate) const ZERO_PAGE: u64 = 0x7000;
/// Stack pointer of the boot processor.
pub(crate) const BOOT_STACK: u64 = 0x8ff0;
/// Page map level 4.
pub(crate) const PML4: u64 = 0x9000;
/// Page directory pointer table.
pub(crate) const PDPT: u64 = 0xa000;
/// Four page directories, one after the other.
pub(crate) const PAGE_DIRECTORIES: u64 = 0xb000;
/// Page map level 5, above the level 4.
pub(crate) const PML5: u64 = 0xf000;
/// Command line, with its NUL.
pub(crate) const COMMAND_LINE: u64 = 0x2_0000;
/// Room for the command line, in bytes.
pub(crate) const COMMAND_LINE_ROOM: usize = 0x1_0000;
/// Conventional memory ends here.
pub(crate) const LOW_RAM_END: u64 = 0x9_fc00;
/// ACPI's root pointer, where a BIOS would put it (ACPI 6.5, 5.2.5.1).
pub(crate) const RSDP: u64 = 0xe_0000;
/// The ACPI tables follow the root pointer.
pub(crate) const ACPI_TABLES: Range<u64> = 0xe_0040..0xf_0000;
/// MP floating pointer, where a BIOS would put it (MP 1.4, 4).
pub(crate) const MP_TABLE: Range<u64> = 0xf_0000..0x10_0000;
/// Memory above the legacy area.
pub(crate) const HIGH_RAM: u64 = 0x10_0000;

/// Where RAM below 4 GiB ends at the latest.
pub(crate) const GAP: Range<u64> = 0xd000_0000..0x1_0000_0000;

/// What the addresses of windows into files are multiples of: huge pages of any
/// size can be used there, on both sides.
pub(crate) const WINDOW_ALIGNMENT: u64 = 1 << 30;

/// The pages of the first virtio-mmio window.
const VIRTIO_MMIO: u64 = GAP.start;
/// What each window has: the second page begins with the registers that are memory.
const VIRTIO_MMIO_PAGES: u64 = 2 * PAGE;
/// The size of a virtio-mmio window, in bytes.
pub(crate) const VIRTIO_MMIO_SIZE: u64 = mmio::WINDOW;
/// How many windows there can be: as many as have a name in the DSDT.
pub(crate) const VIRTIO_MMIO_MAX: usize = 0x1000;

/// The IO-APIC, where KVM has it.
pub(crate) const IO_APIC: u32 = 0xfec0_0000;
/// The IO-APIC that sends messages.
pub(crate) const MESSAGE_IO_APIC: u32 = 0xfec0_1000;
/// What that calls itself; KVM's is 0.
pub(crate) const MESSAGE_IO_APIC_ID: u8 = 1;
/// The local APICs, where every processor has its own.
pub(crate) const LOCAL_APIC: u32 = 0xfee0_0000;
/// A page KVM needs on Intel processors without unrestricted guest mode.
pub(crate) const KVM_IDENTITY_MAP: u64 = 0xfffb_c000;
/// Three pages KVM needs on the same processors.
pub(crate) const KVM_TSS: usize = 0xfffb_d000;

/// COM1.
pub(crate) const SERIAL_PORTS: Range<u16> = ports(0x3f8, devices::serial::LEN);
/// The interrupt of COM1: an IO-APIC pin, and the same ISA interrupt.
pub(crate) const SERIAL_PIN: u32 = 4;
/// Keyboard controller data and command ports.
pub(crate) const I8042_PORTS: Range<u16> = ports(0x60, devices::i8042::LEN);
/// ACPI sleep control, sleep status and reset registers, one byte each, and a
/// byte to make four.
pub(crate) const POWER_PORTS: Range<u16> = ports(0x600, power::LEN);
/// ACPI sleep control register.
pub(crate) const SLEEP_CONTROL_PORT: u16 = power_port(power::SLEEP_CONTROL);
/// ACPI sleep status register.
pub(crate) const SLEEP_STATUS_PORT: u16 = power_port(power::SLEEP_STATUS);
/// ACPI reset register.
pub(crate) const RESET_PORT: u16 = power_port(power::RESET);

/// How many pins KVM's IO-APIC has.
pub(crate) const IO_APIC_PINS: u8 = 24;

/// The interrupt that is the first pin of the IO-APIC that sends messages: global
/// system interrupts go on from one IO-APIC to the next (ACPI 6.5, 5.2.13).
pub(crate) const FIRST_MESSAGE: u32 = IO_APIC_PINS as u32;

/// The IO-APIC pins for virtio devices, in the order they are given out. What
/// a PC wires to the lower pins is left alone (timer, keyboard, cascade,
/// serial, clock, coprocessor); pins below 16 come first because a kernel
/// without an IO-APIC driver has no others.
pub(crate) const DEVICE_PINS: [u32; 17] = [
    5, 6, 7, 9, 10, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23,
];

/// The ports of a device with `length` registers. There are 64 Ki ports, and
/// no device here has more than eight.
#[allow(clippy::cast_possible_truncation)]
const fn ports(first: u16, length: u64) -> Range<u16> {
    first..first + length as u16
}

#[allow(clippy::cast_possible_truncation)]
const fn power_port(register: u64) -> u16 {
    POWER_PORTS.start + register as u16
}

/// Where the addresses end that a machine with `memory` bytes uses for memory,
/// and for devices below 4 GiB.
#[must_use]
pub(crate) const fn memory_end(memory: u64) -> u64 {
    let high = memory.saturating_sub(GAP.start);
    GAP.end.saturating_add(high)
}

/// Where the window of the `index`th virtio device starts.
///
/// `index` is below [`VIRTIO_MMIO_MAX`].
#[must_use]
pub(crate) const fn virtio_window(index: usize) -> u64 {
    virtio_page(index) - RegisterPage::FIRST as u64
}

/// Where the page starts with the registers of the `index`th virtio device that can be
/// read as memory.
#[must_use]
pub(crate) const fn virtio_page(index: usize) -> u64 {
    VIRTIO_MMIO + index as u64 * VIRTIO_MMIO_PAGES + PAGE
}

/// The pin of KVM's IO-APIC for the `index`th virtio device: round-robin, so that
/// more devices than pins share them.
#[must_use]
pub(crate) const fn virtio_pin(index: usize) -> u32 {
    DEVICE_PINS[index % DEVICE_PINS.len()]
}

/// The interrupt of the `index`th virtio device on the IO-APIC that sends
/// messages: round-robin as well.
#[must_use]
#[allow(clippy::cast_possible_truncation)]
pub(crate) const fn message_interrupt(index: usize) -> u32 {
    FIRST_MESSAGE + index as u32 % io_apic::MOST_PINS as u32
}

#[cfg(test)]
mod tests {
    use devices::virtio::mmio::NOTIFY_OFFSET;

    use super::*;

    #[test]
    fn the_last_window_lies_below_the_io_apic() {
        assert!(virtio_window(VIRTIO_MMIO_MAX) <= u64::from(IO_APIC));
    }

    #[test]
    fn no_page_has_registers_of_two_devices_or_the_doorbell_of_any() {
        for index in 0..VIRTIO_MMIO_MAX {
            let (window, page) = (virtio_window(index), virtio_page(index));
            assert!(page.is_multiple_of(PAGE) && window >= GAP.start);
            assert!(window + NOTIFY_OFFSET < page);
            assert!(page + PAGE <= virtio_window(index + 1));
            assert!(window + VIRTIO_MMIO_SIZE <= page + PAGE);
        }
    }

    #[test]
    fn devices_past_the_free_pins_share_them_in_turn() {
        assert_eq!(virtio_pin(0), 5);
        assert_eq!(virtio_pin(16), 23);
        assert_eq!(virtio_pin(17), 5);
    }

    #[test]
    fn no_port_belongs_to_two_devices() {
        let devices = [I8042_PORTS, SERIAL_PORTS, POWER_PORTS];
        assert!(devices.windows(2).all(|pair| pair[0].end <= pair[1].start));
    }

    #[test]
    fn no_device_pin_is_the_serial_port_s() {
        assert!(!DEVICE_PINS.contains(&SERIAL_PIN));
    }
}
