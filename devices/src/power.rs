//! How the guest switches the machine off or asks for a reset: the sleep and
//! reset registers of hardware-reduced ACPI.
//!
//! The machine describes [`PowerRegisters`] in the FADT (ACPI 6.5, 5.2.9) at
//! whatever address it puts them, in port or memory space. Each register is
//! one byte.

use std::fmt;
use std::sync::Arc;

use crate::bus::BusDevice;

/// What the guest asked the machine to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PowerEvent {
    /// Switch off (ACPI S5).
    PowerOff,
    /// Start over.
    Reset,
}

/// Hears what the guest asked for. Called on the vCPU that asked, with the
/// device's lock held: it has to return soon and not touch the bus.
pub type PowerHandler = Arc<dyn Fn(PowerEvent) + Send + Sync>;

/// Offset of SLEEP_CONTROL_REG (ACPI 6.5, 4.8.3.7).
pub const SLEEP_CONTROL: u64 = 0;
/// Offset of SLEEP_STATUS_REG (ACPI 6.5, 4.8.3.7).
pub const SLEEP_STATUS: u64 = 1;
/// Offset of RESET_REG (ACPI 6.5, 4.8.3.6).
pub const RESET: u64 = 2;
/// Bytes the registers take up.
pub const LEN: u64 = 4;

/// The SLP_TYP for S5, for the first element of the DSDT's `\_S5` package.
pub const SLP_TYP_S5: u8 = 5;
/// RESET_VALUE: what the guest writes to [`RESET`].
pub const RESET_VALUE: u8 = 0x01;

/// SLP_TYPx, bits 2 to 4 of the sleep control register.
const SLP_TYP_SHIFT: u8 = 2;
const SLP_TYP_MASK: u8 = 0b111;
/// SLP_EN, bit 5 of the sleep control register; write only.
const SLP_EN: u8 = 1 << 5;

/// The sleep control, sleep status and reset registers.
pub struct PowerRegisters {
    handler: PowerHandler,
    control: u8,
}

impl PowerRegisters {
    /// Registers that report to `handler`.
    #[must_use]
    pub fn new(handler: PowerHandler) -> Self {
        Self {
            handler,
            control: 0,
        }
    }

    fn write_control(&mut self, value: u8) {
        // SLP_EN reads as zero.
        self.control = value & !SLP_EN;
        // Only S5 is offered; a sleep state that is not is no reason to stop.
        if value & SLP_EN != 0 && (value >> SLP_TYP_SHIFT) & SLP_TYP_MASK == SLP_TYP_S5 {
            (self.handler)(PowerEvent::PowerOff);
        }
    }
}

impl BusDevice for PowerRegisters {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let (SLEEP_CONTROL, Some(byte)) = (offset, data.first_mut()) {
            *byte = self.control;
        }
        // The sleep status holds WAK_STS alone, and nothing ever wakes up here.
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        // A wider access to a byte register is not one that ACPI makes.
        let &[value] = data else { return };
        match offset {
            SLEEP_CONTROL => self.write_control(value),
            RESET if value == RESET_VALUE => (self.handler)(PowerEvent::Reset),
            _ => {}
        }
    }
}

impl fmt::Debug for PowerRegisters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PowerRegisters")
            .field("control", &self.control)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn registers() -> (PowerRegisters, Arc<Mutex<Vec<PowerEvent>>>) {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&heard);
        let handler = Arc::new(move |event| log.lock().unwrap().push(event));
        (PowerRegisters::new(handler), heard)
    }

    #[test]
    fn s5_with_slp_en_switches_off() {
        let (mut registers, heard) = registers();
        // What Linux writes: SLP_TYP alone, then SLP_TYP with SLP_EN.
        registers.write(SLEEP_CONTROL, &[5 << 2]);
        assert!(heard.lock().unwrap().is_empty());
        registers.write(SLEEP_CONTROL, &[5 << 2 | 1 << 5]);
        assert_eq!(*heard.lock().unwrap(), [PowerEvent::PowerOff]);

        let mut data = [0xff];
        registers.read(SLEEP_CONTROL, &mut data);
        assert_eq!(data, [5 << 2]);
    }

    #[test]
    fn another_sleep_state_does_nothing() {
        let (mut registers, heard) = registers();
        registers.write(SLEEP_CONTROL, &[3 << 2 | 1 << 5]);
        assert!(heard.lock().unwrap().is_empty());
    }

    #[test]
    fn the_reset_value_resets_and_another_does_not() {
        let (mut registers, heard) = registers();
        registers.write(RESET, &[RESET_VALUE ^ 0xff]);
        registers.write(RESET, &[RESET_VALUE, 0]);
        registers.write(LEN - 1, &[RESET_VALUE]);
        assert!(heard.lock().unwrap().is_empty());
        registers.write(RESET, &[RESET_VALUE]);
        assert_eq!(*heard.lock().unwrap(), [PowerEvent::Reset]);
    }

    #[test]
    fn the_status_register_never_reports_a_wake() {
        let (mut registers, _) = registers();
        registers.write(SLEEP_STATUS, &[0xff]);
        let mut data = [0xff];
        registers.read(SLEEP_STATUS, &mut data);
        assert_eq!(data, [0]);
    }
}
