//! An IO-APIC whose pins send messages: what a driver writes to a pin's
//! redirection entry becomes the message that the local APICs get, an MSI
//! (82093AA data sheet, 3.2; Intel SDM volume 3, 11.11).
//!
//! KVM raises a message from the context of the thread that writes the eventfd,
//! where a pin of its own IO-APIC takes a thread of the kernel. So the machine
//! has the virtio devices here, and hears of each change by a [`Router`].
//!
//! Pins are edges: none waits for an end of interrupt, whatever their entry says
//! of the trigger mode.

use std::fmt;
use std::sync::Arc;

use crate::bus::BusDevice;

/// Bytes that the registers take up.
pub const LEN: u64 = 0x20;
/// How many pins there can be: a register is a byte, and each pin has two from
/// [`ENTRIES`] on.
pub const MOST_PINS: u8 = 120;

/// IOREGSEL: which register IOWIN is.
const SELECT: u64 = 0x00;
/// IOWIN.
const WINDOW: u64 = 0x10;

/// IOAPICID, IOAPICVER and IOAPICARB.
const ID: u8 = 0;
const VERSION: u8 = 1;
const ARBITRATION: u8 = 2;
/// The first half of the first redirection entry; each has two registers.
const ENTRIES: u8 = 0x10;

/// As the first of its kind: without the register for ends of interrupt.
const VERSION_82093AA: u32 = 0x11;
const ID_MASK: u32 = 0x0f00_0000;

/// The bits of a redirection entry (82093AA, 3.2.4): vector, delivery mode,
/// destination mode, mask, destination.
const VECTOR_AND_MODE: u64 = 0x7ff;
const LOGICAL: u64 = 1 << 11;
const MASKED: u64 = 1 << 16;
const DESTINATION_SHIFT: u32 = 56;
/// Delivery status and remote IRR, which are not the driver's.
const READ_ONLY: u64 = (1 << 12) | (1 << 14);

/// Where messages go (SDM 11.11.1), and the bits of the address.
const MESSAGE_ADDRESS: u32 = 0xfee0_0000;
const MESSAGE_DESTINATION_SHIFT: u32 = 12;
const MESSAGE_LOGICAL: u32 = 1 << 2;

/// What a pin sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// To which local APIC.
    pub address: u32,
    /// Which interrupt.
    pub data: u32,
}

/// Hears what the pin with this number, from 0 on, sends from now on: nothing
/// while the driver masks it. Called on the vCPU that wrote the entry, with the
/// device's lock held: it must not touch the bus.
pub type Router = Arc<dyn Fn(u8, Option<Message>) + Send + Sync>;

/// The IO-APIC.
pub struct IoApic {
    selected: u8,
    id: u32,
    entries: Vec<u64>,
    router: Router,
}

impl IoApic {
    /// An IO-APIC with so many pins, at least one and at most [`MOST_PINS`], all
    /// masked; `id` is what its identification register says.
    #[must_use]
    pub fn new(id: u8, pins: u8, router: Router) -> Self {
        Self {
            selected: 0,
            id: (u32::from(id) << 24) & ID_MASK,
            entries: vec![MASKED; usize::from(pins.clamp(1, MOST_PINS))],
            router,
        }
    }

    fn read_selected(&self) -> u32 {
        match self.selected {
            ID | ARBITRATION => self.id,
            VERSION => {
                let last = u32::try_from(self.entries.len() - 1).unwrap_or_default();
                VERSION_82093AA | (last << 16)
            }
            register => match half(register) {
                Some((pin, shift)) => {
                    let entry = self.entries.get(pin).copied().unwrap_or_default();
                    // Half of it.
                    u32::try_from((entry >> shift) & u64::from(u32::MAX)).unwrap_or_default()
                }
                None => 0,
            },
        }
    }

    fn write_selected(&mut self, value: u32) {
        if self.selected == ID {
            self.id = value & ID_MASK;
        } else if let Some((pin, shift)) = half(self.selected)
            && let Some(entry) = self.entries.get_mut(pin)
        {
            let before = message(*entry);
            let other = *entry & !(u64::from(u32::MAX) << shift);
            *entry = (other | (u64::from(value) << shift)) & !READ_ONLY;
            let after = message(*entry);
            if before != after {
                (self.router)(u8::try_from(pin).unwrap_or(u8::MAX), after);
            }
        }
    }
}

/// Which pin's entry a register belongs to, and how far up its half is.
fn half(register: u8) -> Option<(usize, u32)> {
    let index = register.checked_sub(ENTRIES)?;
    Some((usize::from(index / 2), u32::from(index % 2) * 32))
}

fn message(entry: u64) -> Option<Message> {
    if entry & MASKED != 0 {
        return None;
    }
    let destination = u32::try_from(entry >> DESTINATION_SHIFT).unwrap_or_default();
    let logical = if entry & LOGICAL != 0 {
        MESSAGE_LOGICAL
    } else {
        0
    };
    Some(Message {
        address: MESSAGE_ADDRESS | (destination << MESSAGE_DESTINATION_SHIFT) | logical,
        // Vector and delivery mode are the same bits in both.
        data: u32::try_from(entry & VECTOR_AND_MODE).unwrap_or_default(),
    })
}

impl BusDevice for IoApic {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        let value = match offset {
            SELECT => u32::from(self.selected),
            WINDOW => self.read_selected(),
            _ => 0,
        };
        data.fill(0);
        for (to, from) in data.iter_mut().zip(value.to_le_bytes()) {
            *to = from;
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        match (offset, data) {
            // Eight of its bits count.
            (SELECT, [register, ..]) => self.selected = *register,
            (WINDOW, &[a, b, c, d, ..]) => self.write_selected(u32::from_le_bytes([a, b, c, d])),
            _ => {}
        }
    }
}

impl fmt::Debug for IoApic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IoApic")
            .field("pins", &self.entries.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    type Heard = Arc<Mutex<Vec<(u8, Option<Message>)>>>;

    fn io_apic(pins: u8) -> (IoApic, Heard) {
        let heard = Heard::default();
        let ears = Arc::clone(&heard);
        let router: Router =
            Arc::new(move |pin, message| ears.lock().unwrap().push((pin, message)));
        (IoApic::new(1, pins, router), heard)
    }

    fn read(io_apic: &mut IoApic, register: u8) -> u32 {
        io_apic.write(SELECT, &u32::from(register).to_le_bytes());
        let mut bytes = [0; 4];
        io_apic.read(WINDOW, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn write(io_apic: &mut IoApic, register: u8, value: u32) {
        io_apic.write(SELECT, &u32::from(register).to_le_bytes());
        io_apic.write(WINDOW, &value.to_le_bytes());
    }

    #[test]
    fn a_driver_finds_the_pins_masked_and_counted() {
        let (mut io_apic, heard) = io_apic(3);
        assert_eq!(read(&mut io_apic, 0), 0x0100_0000);
        assert_eq!(read(&mut io_apic, 1), 0x0002_0011);
        assert_eq!(read(&mut io_apic, 2), 0x0100_0000);
        for register in [0x10, 0x12, 0x14] {
            assert_eq!(read(&mut io_apic, register), 0x1_0000);
            assert_eq!(read(&mut io_apic, register + 1), 0);
        }
        write(&mut io_apic, 0, 0xffff_ffff);
        assert_eq!(read(&mut io_apic, 0), 0x0f00_0000);
        assert!(heard.lock().unwrap().is_empty());
    }

    #[test]
    fn an_entry_becomes_a_message() {
        let (mut io_apic, heard) = io_apic(2);
        // Vector 0x31 to APIC 3, physical.
        write(&mut io_apic, 0x13, 0x0300_0000);
        write(&mut io_apic, 0x12, 0x31);
        // Lowest priority, logical, level-triggered, with the driver's idea of
        // what it cannot write.
        write(&mut io_apic, 0x12, 0xd931);
        write(&mut io_apic, 0x12, 0x1_0931);
        let message = |address, data| Some(Message { address, data });
        assert_eq!(
            *heard.lock().unwrap(),
            [
                (1, message(0xfee0_3000, 0x31)),
                (1, message(0xfee0_3004, 0x131)),
                (1, None)
            ]
        );
        write(&mut io_apic, 0x12, 0xd931);
        assert_eq!(read(&mut io_apic, 0x12), 0x8931);
        assert_eq!(read(&mut io_apic, 0x13), 0x0300_0000);
    }

    #[test]
    fn what_changes_nothing_is_not_told() {
        let (mut io_apic, heard) = io_apic(1);
        write(&mut io_apic, 0x10, 0x1_0031);
        write(&mut io_apic, 0x11, 0x0100_0000);
        write(&mut io_apic, 0x10, 0x1_0032);
        assert!(heard.lock().unwrap().is_empty());
        write(&mut io_apic, 0x10, 0x32);
        write(&mut io_apic, 0x10, 0x32);
        // A trigger mode is not part of the message.
        write(&mut io_apic, 0x10, 0x8032);
        assert_eq!(heard.lock().unwrap().len(), 1);
    }

    #[test]
    fn what_is_not_there_reads_as_zero_and_takes_no_write() {
        let (mut io_apic, heard) = io_apic(1);
        for register in [3, 0xf, 0x12, 0x13, 0xfe, 0xff] {
            write(&mut io_apic, register, 0x31);
            assert_eq!(read(&mut io_apic, register), 0, "{register:#x}");
        }
        io_apic.write(4, &[0xff; 4]);
        io_apic.write(WINDOW, &[0x31]);
        let mut bytes = [0xff; 8];
        io_apic.read(4, &mut bytes);
        assert_eq!(bytes, [0; 8]);
        assert!(heard.lock().unwrap().is_empty());
    }

    #[test]
    fn there_is_a_pin_at_least_and_no_more_than_have_registers() {
        let (mut none, _) = io_apic(0);
        assert_eq!(read(&mut none, 1) >> 16, 0);
        let (mut many, heard) = io_apic(255);
        assert_eq!(read(&mut many, 1) >> 16, 119);
        let last = 119_u8;
        write(&mut many, 0x10 + 2 * last, 0x40);
        assert_eq!(heard.lock().unwrap()[0].0, last);
    }
}
