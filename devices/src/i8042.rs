//! The part of the i8042 keyboard controller that a machine without a
//! keyboard needs: the command that resets the CPU.
//!
//! Linux resets by it with `reboot=k`, and when nothing better is known. It
//! also probes for a keyboard, and what it reads decides whether that takes
//! seconds.

use std::fmt;

use crate::bus::BusDevice;
use crate::power::{PowerEvent, PowerHandler};

/// Number of ports, data (0x60) to status and command (0x64).
pub const LEN: u64 = 5;

/// Offset of the status register (read) and the command register (write).
const COMMAND: u64 = 4;
/// The command that pulses the CPU's reset line.
const RESET_CPU: u8 = 0xfe;

/// "The output buffer is full" and nothing else. The input buffer is thus
/// always free, which is all that Linux waits for before it sends
/// [`RESET_CPU`]. A buffer that never empties however much is read makes its
/// probe give up in under a millisecond; an empty one would make it wait half
/// a second for the answer to every command.
const STATUS: u8 = 0x01;
/// What the data port gives, as a port with nothing behind it does.
const DATA: u8 = 0xff;

/// Ports 0x60 to 0x64.
pub struct I8042 {
    handler: PowerHandler,
}

impl I8042 {
    /// A controller that reports a reset to `handler`.
    #[must_use]
    pub fn new(handler: PowerHandler) -> Self {
        Self { handler }
    }
}

impl BusDevice for I8042 {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(DATA);
        if let (COMMAND, Some(byte)) = (offset, data.first_mut()) {
            *byte = STATUS;
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        if offset == COMMAND && data.first() == Some(&RESET_CPU) {
            (self.handler)(PowerEvent::Reset);
        }
    }
}

impl fmt::Debug for I8042 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("I8042").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn controller() -> (I8042, Arc<AtomicUsize>) {
        let resets = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&resets);
        let handler = Arc::new(move |event| {
            assert_eq!(event, PowerEvent::Reset);
            count.fetch_add(1, Ordering::Relaxed);
        });
        (I8042::new(handler), resets)
    }

    #[test]
    fn the_reset_command_resets() {
        let (mut controller, resets) = controller();
        controller.write(COMMAND, &[RESET_CPU]);
        assert_eq!(resets.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn other_commands_and_ports_do_not_reset() {
        let (mut controller, resets) = controller();
        controller.write(COMMAND, &[0xaa]);
        controller.write(0, &[RESET_CPU]);
        controller.write(COMMAND, &[]);
        assert_eq!(resets.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_input_buffer_is_always_free_and_the_output_buffer_never_empties() {
        let (mut controller, _) = controller();
        let mut status = [0];
        for _ in 0..32 {
            controller.read(COMMAND, &mut status);
            assert_eq!(status, [0x01]);
            controller.read(0, &mut status);
            assert_eq!(status, [0xff]);
        }
    }
}
