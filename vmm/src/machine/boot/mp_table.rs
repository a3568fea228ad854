//! The MP table (Intel MultiProcessor Specification 1.4): processors, the
//! IO-APIC and its wiring, for kernels that do not read ACPI.

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::error::Error;
use crate::machine::layout;

const SPEC_REVISION: u8 = 4;
/// The version register of the local APIC that KVM emulates.
const LOCAL_APIC_VERSION: u8 = 0x14;
/// The version register of the IO-APIC that KVM emulates.
const IO_APIC_VERSION: u8 = 0x11;
const ENABLED: u8 = 1 << 0;
const BOOT_PROCESSOR: u8 = 1 << 1;
/// CPUID feature bits FPU and APIC; kernels ask CPUID for the truth.
const FEATURES: u32 = (1 << 9) | (1 << 0);
/// Interrupt types (MP 1.4, 4.3.4).
const INT: u8 = 0;
const NMI: u8 = 1;
const EXT_INT: u8 = 3;
/// Local interrupts go to the pin of every local APIC.
const ALL_LOCAL_APICS: u8 = 0xff;
const FLOATING_POINTER_SIZE: u64 = 16;

/// Writes the table of a machine with `cpus` processors.
pub(super) fn write(memory: &GuestMemoryMmap, cpus: u8) -> Result<(), Error> {
    let start = layout::MP_TABLE.start;
    let table = configuration(cpus);
    memory
        .write_slice(
            &floating_pointer(start + FLOATING_POINTER_SIZE),
            GuestAddress(start),
        )
        .and_then(|()| memory.write_slice(&table, GuestAddress(start + FLOATING_POINTER_SIZE)))
        .map_err(Error::Write)
}

fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_sub(*byte))
}

/// MP 1.4, 4.1.
fn floating_pointer(table: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(b"_MP_");
    bytes[4..8].copy_from_slice(&u32::try_from(table).unwrap_or(0).to_le_bytes());
    bytes[8] = 1; // length, in units of 16 bytes
    bytes[9] = SPEC_REVISION;
    bytes[10] = checksum(&bytes);
    bytes
}

/// MP 1.4, 4.2 and 4.3.
fn configuration(cpus: u8) -> Vec<u8> {
    // Ids of local and IO-APICs are of one space (MP 1.4, 4.3.3).
    let io_apic_id = cpus;
    let mut entries = Vec::new();
    let mut count: u16 = 0;
    let mut add = |entry: &[u8]| {
        entries.extend_from_slice(entry);
        count += 1;
    };
    for id in 0..cpus {
        add(&processor(id));
    }
    add(b"\x01\x00ISA   ");
    add(&io_apic(io_apic_id));
    for pin in 0..layout::IO_APIC_PINS {
        // Polarity and trigger as the bus has them: ISA is active high, edge.
        add(&[3, INT, 0, 0, 0, pin, io_apic_id, pin]);
    }
    add(&[4, EXT_INT, 0, 0, 0, 0, ALL_LOCAL_APICS, 0]);
    add(&[4, NMI, 0, 0, 0, 0, ALL_LOCAL_APICS, 1]);
    with_header(&entries, count)
}

fn processor(id: u8) -> [u8; 20] {
    let mut entry = [0; 20];
    entry[1] = id;
    entry[2] = LOCAL_APIC_VERSION;
    entry[3] = ENABLED | if id == 0 { BOOT_PROCESSOR } else { 0 };
    entry[8..12].copy_from_slice(&FEATURES.to_le_bytes());
    entry
}

fn io_apic(id: u8) -> [u8; 8] {
    let [a, b, c, d] = layout::IO_APIC.to_le_bytes();
    [2, id, IO_APIC_VERSION, ENABLED, a, b, c, d]
}

fn with_header(entries: &[u8], count: u16) -> Vec<u8> {
    let length = u16::try_from(44 + entries.len()).unwrap_or(u16::MAX);
    let mut table = Vec::with_capacity(usize::from(length));
    table.extend_from_slice(b"PCMP");
    table.extend_from_slice(&length.to_le_bytes());
    table.push(SPEC_REVISION);
    table.push(0); // checksum, below
    table.extend_from_slice(b"MICROVMM"); // OEM id
    table.extend_from_slice(b"MICROVM     "); // product id
    table.extend_from_slice(&[0; 6]); // no OEM table
    table.extend_from_slice(&count.to_le_bytes());
    table.extend_from_slice(&layout::LOCAL_APIC.to_le_bytes());
    table.extend_from_slice(&[0; 4]); // no extended table
    table.extend_from_slice(entries);
    table[7] = checksum(&table);
    table
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn both_structures_sum_to_zero() {
        assert_eq!(checksum(&floating_pointer(0xf_0010)), 0);
        assert_eq!(checksum(&configuration(4)), 0);
    }

    #[test]
    fn every_entry_is_counted_and_the_length_is_the_table_s() {
        let table = configuration(2);
        let length = u16::from_le_bytes([table[4], table[5]]);
        let count = u16::from_le_bytes([table[34], table[35]]);
        assert_eq!(usize::from(length), table.len());
        // Two processors, the bus, the IO-APIC, its pins, two local interrupts.
        assert_eq!(count, 2 + 1 + 1 + 24 + 2);
        assert_eq!(table.len(), 44 + 2 * 20 + (1 + 1 + 24 + 2) * 8);
    }

    #[test]
    fn the_largest_machine_fits_below_one_mib() {
        let room = layout::MP_TABLE.end - layout::MP_TABLE.start - FLOATING_POINTER_SIZE;
        assert!((configuration(255).len() as u64) < room);
    }
}
