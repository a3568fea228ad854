//! ACPI tables: how a kernel without any hint on its command line finds the
//! processors, the IO-APIC, the serial port, the virtio-mmio devices and the
//! power switch.
//!
//! Hardware-reduced ACPI (ACPI 6.5, 4.1): no 8259, no PIT, no fixed power
//! management blocks, so that the kernel spends no time on them when it boots.
//! The boot code calls [`write`]; the `devices` crate has the registers named
//! here.

use acpi_tables::Aml;
use acpi_tables::aml;
use acpi_tables::fadt::{FADT, FADTBuilder, Flags, PmProfile};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{
    EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic,
};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use devices::power;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::layout;
use super::wiring::Wiring;

const OEM: [u8; 6] = *b"MICROV";
const OEM_TABLE: [u8; 8] = *b"MICROVMM";
const OEM_REVISION: u32 = 1;
/// Revision 2 makes AML integers 64 bits wide (ACPI 6.5, 5.2.11.1).
const DSDT_REVISION: u8 = 2;
/// The size of a table header (ACPI 6.5, 5.2.6), in bytes.
const TABLE_HEADER: u32 = 36;

/// IA-PC boot architecture flags (ACPI 6.5, 5.2.9.3): no VGA, no MSI, no PCIe
/// ASPM, no CMOS clock; and, by their absence, no legacy devices and no
/// keyboard controller to probe.
const NO_VGA: u16 = 1 << 2;
const NO_MSI: u16 = 1 << 3;
const NO_ASPM: u16 = 1 << 4;
const NO_CMOS_CLOCK: u16 = 1 << 5;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There are more devices than the tables have room for.
    #[error("the ACPI tables take {0} bytes, more than there is room for: use fewer shares")]
    TooLarge(usize),
    #[error("cannot write the ACPI tables to guest memory")]
    Write(#[source] vm_memory::GuestMemoryError),
}

/// Writes the tables of a machine with `cpus` processors and `devices`
/// virtio-mmio devices, and returns where the root pointer is.
pub(super) fn write(
    memory: &GuestMemoryMmap,
    cpus: u8,
    (devices, wiring): (usize, Wiring),
) -> Result<GuestAddress, Error> {
    let mut tables = Tables { bytes: Vec::new() };
    let dsdt = tables.add(&dsdt(devices, wiring));
    let fadt = tables.add(&to_bytes(&fadt(dsdt)));
    let madt = tables.add(&to_bytes(&madt(
        cpus,
        wiring.message_pins(devices).is_some(),
    )));
    let mut xsdt = XSDT::new(OEM, OEM_TABLE, OEM_REVISION);
    xsdt.add_entry(fadt);
    xsdt.add_entry(madt);
    let xsdt = tables.add(&to_bytes(&xsdt));

    let room = layout::ACPI_TABLES.end - layout::ACPI_TABLES.start;
    if tables.bytes.len() as u64 > room {
        return Err(Error::TooLarge(tables.bytes.len()));
    }
    let rsdp = GuestAddress(layout::RSDP);
    memory
        .write_slice(&tables.bytes, GuestAddress(layout::ACPI_TABLES.start))
        .and_then(|()| memory.write_slice(&to_bytes(&Rsdp::new(OEM, xsdt)), rsdp))
        .map_err(Error::Write)?;
    Ok(rsdp)
}

/// Tables one after the other, each with the address it will have.
struct Tables {
    bytes: Vec<u8>,
}

impl Tables {
    fn add(&mut self, table: &[u8]) -> u64 {
        let aligned = self.bytes.len().next_multiple_of(16);
        self.bytes.resize(aligned, 0);
        self.bytes.extend_from_slice(table);
        layout::ACPI_TABLES.start + aligned as u64
    }
}

fn to_bytes(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

fn port_register(port: u16) -> GAS {
    GAS::new(
        AddressSpace::SystemIo,
        8,
        0,
        AccessSize::ByteAccess,
        u64::from(port),
    )
}

fn fadt(dsdt: u64) -> FADT {
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, OEM_REVISION)
        .dsdt_64(dsdt)
        .preferred_pm_profile(PmProfile::EnterpriseServer)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::ResetRegSup)
        .flag(Flags::Headless)
        // "Not a fixed feature": there is no power or sleep button.
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton)
        .flag(Flags::Wbinvd);
    fadt.iapc_boot_arch = (NO_VGA | NO_MSI | NO_ASPM | NO_CMOS_CLOCK).into();
    fadt.sleep_control_reg = port_register(layout::SLEEP_CONTROL_PORT);
    fadt.sleep_status_reg = port_register(layout::SLEEP_STATUS_PORT);
    fadt.reset_reg = port_register(layout::RESET_PORT);
    fadt.reset_value = power::RESET_VALUE;
    fadt.finalize()
}

fn madt(cpus: u8, messages: bool) -> MADT {
    let mut madt = MADT::new(
        OEM,
        OEM_TABLE,
        OEM_REVISION,
        LocalInterruptController::Address(layout::LOCAL_APIC),
    );
    for id in 0..cpus {
        madt.add_structure(ProcessorLocalApic::new(id, id, EnabledStatus::Enabled));
    }
    madt.add_structure(IoApic::new(0, layout::IO_APIC, 0));
    if messages {
        madt.add_structure(IoApic::new(
            layout::MESSAGE_IO_APIC_ID,
            layout::MESSAGE_IO_APIC,
            layout::FIRST_MESSAGE,
        ));
    }
    madt
}

fn dsdt(devices: usize, wiring: Wiring) -> Vec<u8> {
    let mut body = Vec::new();
    serial().to_aml_bytes(&mut body);
    for index in 0..devices {
        append_virtio_device(&mut body, index, wiring.interrupt(index));
    }
    let scope = aml::Scope::raw("\\_SB_".into(), body);
    // The first element is SLP_TYP for the sleep control register (ACPI 6.5,
    // 7.4.2); the others are for machines with fixed hardware.
    let s5 = to_bytes(&aml::Name::new(
        "\\_S5_".into(),
        &aml::Package::new(vec![&power::SLP_TYP_S5, &0_u8, &0_u8, &0_u8]),
    ));

    let mut dsdt = Sdt::new(
        *b"DSDT",
        TABLE_HEADER,
        DSDT_REVISION,
        OEM,
        OEM_TABLE,
        OEM_REVISION,
    );
    dsdt.append_slice(&s5);
    dsdt.append_slice(&scope);
    dsdt.as_slice().to_vec()
}

/// COM1 as a Plug and Play device: with hardware-reduced ACPI no interrupt is
/// known before a device asks for it.
fn serial() -> RawDevice {
    let ports = layout::SERIAL_PORTS;
    let length = u8::try_from(ports.len()).unwrap_or(u8::MAX);
    RawDevice(to_bytes(&aml::Device::new(
        "COM1".into(),
        vec![
            &aml::Name::new("_HID".into(), &aml::EISAName::new("PNP0501")),
            &aml::Name::new("_UID".into(), &aml::ZERO),
            &aml::Name::new(
                "_CRS".into(),
                &aml::ResourceTemplate::new(vec![
                    &aml::IO::new(ports.start, ports.start, 1, length),
                    &aml::Interrupt::new(true, true, false, false, layout::SERIAL_PIN),
                ]),
            ),
        ],
    )))
}

/// `LNRO0005` is what Linux knows a virtio-mmio device by
/// (`drivers/virtio/virtio_mmio.c`).
fn append_virtio_device(body: &mut Vec<u8>, index: usize, interrupt: u32) {
    let name = format!("V{index:03X}");
    let window = u32::try_from(layout::virtio_window(index)).unwrap_or(u32::MAX);
    let length = u32::try_from(layout::VIRTIO_MMIO_SIZE).unwrap_or(u32::MAX);
    let uid = u32::try_from(index).unwrap_or(u32::MAX);
    aml::Device::new(
        name.as_str().into(),
        vec![
            &aml::Name::new("_HID".into(), &"LNRO0005"),
            &aml::Name::new("_UID".into(), &uid),
            &aml::Name::new(
                "_CRS".into(),
                &aml::ResourceTemplate::new(vec![
                    &aml::Memory32Fixed::new(true, window, length),
                    // Edge, active high, and shared: they are given out
                    // round-robin.
                    &aml::Interrupt::new(true, true, false, true, interrupt),
                ]),
            ),
        ],
    )
    .to_aml_bytes(body);
}

struct RawDevice(Vec<u8>);

impl Aml for RawDevice {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        sink.vec(&self.0);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use vm_memory::GuestMemoryMmap;

    fn memory() -> GuestMemoryMmap {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x10_0000)]).unwrap()
    }

    fn read(memory: &GuestMemoryMmap, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
        bytes
    }

    fn table(memory: &GuestMemoryMmap, at: u64) -> Vec<u8> {
        let len: u32 = memory.read_obj(GuestAddress(at + 4)).unwrap();
        read(memory, at, len as usize)
    }

    fn sums_to_zero(bytes: &[u8]) -> bool {
        bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)) == 0
    }

    fn u64_at(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(*bytes[at..].first_chunk().unwrap())
    }

    #[test]
    fn every_table_is_reached_from_the_root_pointer_and_sums_to_zero() {
        let memory = memory();
        let root = write(&memory, 4, (3, Wiring::Messages)).unwrap();

        let rsdp = read(&memory, root.0, 36);
        assert_eq!(&rsdp[..8], b"RSD PTR ");
        assert!(sums_to_zero(&rsdp[..20]) && sums_to_zero(&rsdp));
        let xsdt = table(&memory, u64_at(&rsdp, 24));
        assert!(xsdt.starts_with(b"XSDT") && sums_to_zero(&xsdt));
        let fadt = table(&memory, u64_at(&xsdt, 36));
        assert!(fadt.starts_with(b"FACP") && sums_to_zero(&fadt));
        let madt = table(&memory, u64_at(&xsdt, 44));
        assert!(madt.starts_with(b"APIC") && sums_to_zero(&madt));
        let dsdt = table(&memory, u64_at(&fadt, 140));
        assert!(dsdt.starts_with(b"DSDT") && sums_to_zero(&dsdt));
    }

    #[test]
    fn the_madt_has_each_processor_and_the_io_apics() {
        let madt = to_bytes(&madt(3, true));
        let entries = &madt[44..];
        assert_eq!(&entries[..8], [0, 8, 0, 0, 1, 0, 0, 0]);
        assert_eq!(&entries[16..24], [0, 8, 2, 2, 1, 0, 0, 0]);
        assert_eq!(&entries[24..32], [1, 12, 0, 0, 0, 0, 0xc0, 0xfe]);
        // The other one: its interrupts go on where those of the first end.
        assert_eq!(&entries[36..44], [1, 12, 1, 0, 0, 0x10, 0xc0, 0xfe]);
        assert_eq!(&entries[44..48], [24, 0, 0, 0]);
        assert_eq!(to_bytes(&self::madt(3, false)).len(), 44 + 36);
    }

    #[test]
    fn each_device_has_its_own_name_window_and_pin() {
        let pins = dsdt(18, Wiring::Pins);
        let messages = dsdt(18, Wiring::Messages);
        let found = |table: &[u8], needle: &[u8]| {
            table.windows(needle.len()).any(|window| window == needle)
        };
        let holds = |needle: &[u8]| found(&pins, needle);
        assert!(holds(b"V000") && holds(b"V011"));
        // Memory32Fixed: tag, length, read/write, base, length.
        assert!(holds(&[0x86, 9, 0, 1, 0xa0, 0x2f, 2, 0xd0, 0, 0x10, 0, 0]));
        // Extended interrupt: consumer, edge, active high, shared; pin 23.
        assert!(holds(&[0x89, 6, 0, 0b1011, 1, 23, 0, 0, 0]));
        assert!(found(&messages, &[0x89, 6, 0, 0b1011, 1, 41, 0, 0, 0]));
    }

    #[test]
    fn hundreds_of_devices_fit() {
        write(&memory(), 255, (500, Wiring::Messages)).unwrap();
    }

    #[test]
    fn more_devices_than_there_is_room_for_are_refused() {
        let written = write(&memory(), 1, (4000, Wiring::Messages));
        assert!(matches!(written, Err(Error::TooLarge(_))));
    }
}
