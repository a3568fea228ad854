//! The state of the boot processor at the kernel's 64-bit entry point: long
//! mode, flat segments, the first 4 GiB mapped one to one, by four levels of page tables
//! or by five
//! (`Documentation/arch/x86/boot.rst`, "64-bit Boot Protocol").
//!
//! The other processors start where the kernel's INIT and SIPI send them.

use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::error::Error;
use crate::machine::layout;

const CR0_PE: u64 = 1 << 0;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const CR4_LA57: u64 = 1 << 12;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
/// Bit 1 of the flags always reads as one. Interrupts are off.
const RFLAGS: u64 = 1 << 1;
const PRESENT_WRITABLE: u64 = 0b11;
const LARGE_PAGE: u64 = 1 << 7;
const LARGE_PAGE_SIZE: u64 = 2 << 20;
const ENTRIES: u64 = 512;

/// A segment descriptor of the GDT (Intel SDM vol. 3, 3.4.5): flat, 4 KiB
/// granular. `access` is the byte of type, S, DPL and P.
const fn descriptor(access: u8, long: bool) -> u64 {
    let flags: u64 = if long { 0b1010 } else { 0b1100 };
    0xffff | ((access as u64) << 40) | (0xf << 48) | (flags << 52)
}

const CODE_ACCESS: u8 = 0x9b;
const DATA_ACCESS: u8 = 0x93;
const TASK_ACCESS: u8 = 0x8b;
/// The boot protocol asks for code at selector 0x10 and data at 0x18.
const CODE_SELECTOR: u16 = 0x10;
const DATA_SELECTOR: u16 = 0x18;
const TASK_SELECTOR: u16 = 0x20;
const GDT: [u64; 5] = [
    0,
    0,
    descriptor(CODE_ACCESS, true),
    descriptor(DATA_ACCESS, false),
    // A 64-bit task state segment takes two entries; this one is never used,
    // but a processor in long mode has one.
    (0x67) | ((TASK_ACCESS as u64) << 40),
];

#[derive(Clone, Copy, Debug)]
pub(in crate::machine) struct Start {
    pub(in crate::machine) regs: kvm_regs,
    /// What is done to the segment and control registers that KVM gives.
    pub(in crate::machine) mode: fn(&mut kvm_sregs),
}

/// At `entry` in long mode, as the boot protocol asks.
pub(in crate::machine) fn start_at(entry: u64) -> Start {
    Start {
        regs: kvm_regs {
            rip: entry,
            rsi: layout::ZERO_PAGE,
            rsp: layout::BOOT_STACK,
            rbp: layout::BOOT_STACK,
            rflags: RFLAGS,
            ..Default::default()
        },
        mode: enter_long_mode,
    }
}

/// The same, with page tables of five levels.
pub(super) fn start_with_five_levels_at(entry: u64) -> Start {
    Start {
        mode: enter_with_five_levels,
        ..start_at(entry)
    }
}

fn segment(selector: u16, access: u8, long: bool) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        selector,
        type_: access & 0xf,
        present: 1,
        dpl: 0,
        db: u8::from(!long),
        s: (access >> 4) & 1,
        l: u8::from(long),
        g: 1,
        ..Default::default()
    }
}

fn enter_long_mode(sregs: &mut kvm_sregs) {
    let data = segment(DATA_SELECTOR, DATA_ACCESS, false);
    sregs.cs = segment(CODE_SELECTOR, CODE_ACCESS, true);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.tr = kvm_segment {
        limit: 0x67,
        g: 0,
        db: 0,
        ..segment(TASK_SELECTOR, TASK_ACCESS, false)
    };
    sregs.gdt.base = layout::GDT;
    sregs.gdt.limit = u16::try_from(size_of_val(&GDT) - 1).unwrap_or(u16::MAX);
    sregs.idt.base = 0;
    sregs.idt.limit = 0;
    sregs.cr3 = layout::PML4;
    sregs.cr4 |= CR4_PAE;
    sregs.cr0 |= CR0_PE | CR0_PG;
    sregs.efer |= EFER_LME | EFER_LMA;
}

fn enter_with_five_levels(sregs: &mut kvm_sregs) {
    enter_long_mode(sregs);
    sregs.cr3 = layout::PML5;
    sregs.cr4 |= CR4_LA57;
}

/// Writes the GDT and the page tables that [`start_at`] relies on.
pub(in crate::machine) fn write_tables(memory: &GuestMemoryMmap) -> Result<(), Error> {
    let write = |value: u64, at: u64| {
        memory
            .write_obj(value, GuestAddress(at))
            .map_err(Error::Write)
    };
    for (value, index) in GDT.into_iter().zip(0_u64..) {
        write(value, layout::GDT + index * 8)?;
    }
    write(layout::PML4 | PRESENT_WRITABLE, layout::PML5)?;
    write(layout::PDPT | PRESENT_WRITABLE, layout::PML4)?;
    for gib in 0..4 {
        let directory = layout::PAGE_DIRECTORIES + gib * layout::PAGE;
        write(directory | PRESENT_WRITABLE, layout::PDPT + gib * 8)?;
        for index in 0..ENTRIES {
            let page = (gib * ENTRIES + index) * LARGE_PAGE_SIZE;
            write(page | PRESENT_WRITABLE | LARGE_PAGE, directory + index * 8)?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_what_the_manual_says() {
        assert_eq!(descriptor(CODE_ACCESS, true), 0x00af_9b00_0000_ffff);
        assert_eq!(descriptor(DATA_ACCESS, false), 0x00cf_9300_0000_ffff);
    }

    #[test]
    fn the_page_tables_map_4_gib_one_to_one() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x2_0000)]).unwrap();
        write_tables(&memory).unwrap();
        let read = |at: u64| memory.read_obj::<u64>(GuestAddress(at)).unwrap();
        assert_eq!(read(layout::PML5), layout::PML4 | 3);
        assert_eq!(read(layout::PML4), layout::PDPT | 3);
        assert_eq!(
            read(layout::PDPT + 24),
            layout::PAGE_DIRECTORIES + 0x3000 + 3
        );
        assert_eq!(read(layout::PAGE_DIRECTORIES), 0x83);
        assert_eq!(read(layout::PAGE_DIRECTORIES + 0x3ff8), 0xffe0_0083);
    }

    #[test]
    fn a_kernel_with_five_levels_starts_with_a_table_more() {
        let start = |start: Start| {
            let mut sregs = kvm_sregs::default();
            (start.mode)(&mut sregs);
            (start.regs.rip, sregs.cr3, sregs.cr4)
        };
        let four = start(start_at(5));
        let five = start(start_with_five_levels_at(5));
        assert_eq!(four, (5, layout::PML4, 1 << 5));
        assert_eq!(five, (5, layout::PML5, 1 << 5 | 1 << 12));
    }

    #[test]
    fn no_two_boot_structures_overlap() {
        let spans = [
            (layout::GDT, size_of_val(&GDT) as u64),
            (layout::ZERO_PAGE, layout::PAGE),
            (layout::BOOT_STACK, 0),
            (layout::PML4, layout::PAGE),
            (layout::PDPT, layout::PAGE),
            (layout::PAGE_DIRECTORIES, 4 * layout::PAGE),
            (layout::PML5, layout::PAGE),
            (layout::COMMAND_LINE, layout::COMMAND_LINE_ROOM as u64),
            (layout::LOW_RAM_END, 0),
        ];
        assert!(
            spans
                .windows(2)
                .all(|pair| pair[0].0 + pair[0].1 <= pair[1].0)
        );
    }
}
