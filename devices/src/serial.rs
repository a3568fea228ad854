//! COM1, the guest's kernel console: a 16550A on `vm-superio`.
//!
//! The library is the register file. This adds what a console needs: output
//! that cannot stop the guest, and input longer than the 64 bytes of the
//! UART's FIFO.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};

use vm_superio::serial::NoEvents;
use vm_superio::{Serial as Uart, Trigger};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::bus::BusDevice;

/// Number of ports.
pub const LEN: u64 = 8;

/// Input that waits for the guest to drain the FIFO, in bytes. More than a
/// person types, and than a terminal pastes at once.
const PENDING_LIMIT: usize = 64 * 1024;

struct Irq(EventFd);

impl Trigger for Irq {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

/// Registers of a 16550A that tell whether the guest listens, and their bits.
const INTERRUPT_ENABLE_REGISTER: u8 = 1;
const LINE_CONTROL_REGISTER: u8 = 3;
const LINE_STATUS_REGISTER: u8 = 5;
/// In the line status, until that is read: the byte on top of the FIFO is a break.
const BREAK: u8 = 0b1_0000;
const RECEIVE_INTERRUPT: u8 = 0b0001;
const ALL_INTERRUPTS: u8 = 0b1111;
const DIVISOR_LATCH_ACCESS: u8 = 0x80;

/// A serial port.
pub struct Serial {
    uart: Uart<Irq, NoEvents, Box<dyn Write + Send>>,
    /// Input the FIFO had no room for, oldest first.
    pending: VecDeque<u8>,
    /// The capacity of an empty FIFO in bytes.
    fifo_size: usize,
    /// The interrupt enable register as the guest last wrote it.
    interrupt_enable: u8,
    /// Offset 1 is the divisor's at the moment (DLAB in the line control).
    divisor_latch: bool,
    /// The NUL in the FIFO is a break.
    has_break: bool,
}

impl Serial {
    /// A port that writes what the guest sends to `output`, one byte and one
    /// `flush` at a time. When `output` fails the byte is lost;
    /// an `output` that blocks makes the vCPU wait, so give one that does not
    /// where that matters.
    ///
    /// # Errors
    ///
    /// The host has no eventfd to give.
    pub fn new(output: Box<dyn Write + Send>) -> io::Result<Self> {
        let irq = Irq(EventFd::new(EFD_NONBLOCK)?);
        let uart = Uart::new(irq, output);
        Ok(Self {
            fifo_size: uart.fifo_capacity(),
            uart,
            pending: VecDeque::new(),
            interrupt_enable: 0,
            divisor_latch: false,
            has_break: false,
        })
    }

    /// The interrupt: written once for each edge, to be registered as irqfd.
    #[must_use]
    pub fn irq(&self) -> &EventFd {
        &self.uart.interrupt_evt().0
    }

    /// Sends `input` to the guest, now as far as it listens and the FIFO has
    /// room, and the rest as the guest drains it. Says how many bytes were taken: fewer than
    /// all when the guest does not read and 64 KiB wait for it already.
    pub fn enqueue(&mut self, input: &[u8]) -> usize {
        let room = PENDING_LIMIT - self.pending.len().min(PENDING_LIMIT);
        let taken = input.len().min(room);
        self.pending.extend(input.iter().take(taken));
        self.feed();
        taken
    }

    /// Sends a break and `key`, which Linux takes for a SysRq key on its console
    /// (`Documentation/admin-guide/sysrq.rst`). Says whether it could: not
    /// while the guest does not listen, or has input before it that it did not read.
    pub fn sysrq(&mut self, key: u8) -> bool {
        let is_empty = self.pending.is_empty() && self.uart.fifo_capacity() == self.fifo_size;
        if !is_empty || !self.listens() {
            return false;
        }
        // A 16550A receives a break as a NUL with a flag. The key has to come
        // when the break was read: it must not be in the FIFO with it.
        self.has_break = true;
        self.pending.extend([0]);
        self.feed();
        self.pending.extend([key]);
        true
    }

    /// Moves waiting input into the FIFO when that has run empty: one
    /// interrupt for a full FIFO rather than one for each byte.
    fn feed(&mut self) {
        if self.pending.is_empty() || !self.listens() || self.uart.fifo_capacity() < self.fifo_size
        {
            return;
        }
        let (front, back) = self.pending.as_slices();
        let next = if front.is_empty() { back } else { front };
        let fed = match self.uart.enqueue_raw_bytes(next) {
            Ok(fed) => fed,
            // The bytes are in the FIFO all the same: it counts them itself.
            Err(_) => self.fifo_size - self.uart.fifo_capacity(),
        };
        self.pending.drain(..fed.min(self.pending.len()));
    }
}

impl Serial {
    /// Whether the guest takes input. Before a program has the console open,
    /// the driver reads and drops what is in the FIFO: input that was there
    /// before the guest, from a pipe, would lose its beginning.
    ///
    /// Linux shows that it listens by enabling the receive interrupt. While it
    /// probes the port it enables all four for a moment, which is no sign.
    fn listens(&self) -> bool {
        self.interrupt_enable & RECEIVE_INTERRUPT != 0
            && self.interrupt_enable & ALL_INTERRUPTS != ALL_INTERRUPTS
    }

    fn note(&mut self, register: u8, value: u8) {
        match register {
            INTERRUPT_ENABLE_REGISTER if !self.divisor_latch => self.interrupt_enable = value,
            LINE_CONTROL_REGISTER => self.divisor_latch = value & DIVISOR_LATCH_ACCESS != 0,
            _ => {}
        }
    }
}

impl BusDevice for Serial {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let (Ok(register), Some(byte)) = (u8::try_from(offset), data.first_mut()) {
            *byte = self.uart.read(register);
            if register == LINE_STATUS_REGISTER && std::mem::take(&mut self.has_break) {
                *byte |= BREAK;
            }
        }
        self.feed();
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        if let (Ok(register), &[value]) = (u8::try_from(offset), data) {
            // A lost byte is counted by `Events`; a lost edge cannot be mended
            // here, and the guest polls the line status as well.
            let _ = self.uart.write(register, value);
            self.note(register, value);
        }
        self.feed();
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serial")
            .field("pending", &self.pending.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    const DATA: u64 = 0;
    const INTERRUPT_ENABLE: u64 = 1;
    const MODEM_CONTROL: u64 = 4;
    const LINE_STATUS: u64 = 5;
    const DATA_READY: u8 = 1;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::WouldBlock.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A port whose guest takes input.
    fn listening() -> Serial {
        let mut serial = Serial::new(Box::new(io::sink())).unwrap();
        serial.write(INTERRUPT_ENABLE, &[1]);
        serial
    }

    fn read(serial: &mut Serial, register: u64) -> u8 {
        let mut data = [0];
        serial.read(register, &mut data);
        data[0]
    }

    fn receive_all(serial: &mut Serial) -> Vec<u8> {
        let mut received = Vec::new();
        while read(serial, LINE_STATUS) & DATA_READY != 0 {
            received.push(read(serial, DATA));
        }
        received
    }

    #[test]
    fn output_goes_to_the_writer() {
        let sink = Sink::default();
        let mut serial = Serial::new(Box::new(sink.clone())).unwrap();
        for byte in b"console" {
            serial.write(DATA, &[*byte]);
        }
        assert_eq!(*sink.0.lock().unwrap(), b"console");
    }

    #[test]
    fn output_that_fails_is_lost_and_the_guest_goes_on() {
        let mut serial = Serial::new(Box::new(Full)).unwrap();
        serial.write(DATA, b"x");
        serial.write(DATA, b"y");
        // The transmitter is empty again: the driver does not wait.
        assert_eq!(read(&mut serial, LINE_STATUS) & 0x60, 0x60);
    }

    #[test]
    fn input_longer_than_the_fifo_arrives_whole_and_in_order() {
        let mut serial = listening();
        let input: Vec<u8> = (0..=255).cycle().take(1000).collect();
        assert_eq!(serial.enqueue(&input[..700]), 700);
        assert_eq!(serial.enqueue(&input[700..]), 300);
        assert_eq!(receive_all(&mut serial), input);
    }

    #[test]
    fn input_is_bounded() {
        let mut serial = listening();
        let input = vec![b'a'; 2 * PENDING_LIMIT];
        assert_eq!(serial.enqueue(&input), PENDING_LIMIT);
        let fifo = serial.fifo_size;
        assert_eq!(serial.enqueue(&input), fifo);
        assert_eq!(serial.enqueue(&input), 0);
    }

    #[test]
    fn input_raises_one_interrupt_for_each_fifo() {
        let mut serial = listening();
        let fifo = serial.fifo_size;
        serial.enqueue(&vec![0; 2 * fifo]);
        assert_eq!(serial.irq().read().unwrap(), 1);
        receive_all(&mut serial);
        assert_eq!(serial.irq().read().unwrap(), 1);
    }

    #[test]
    fn input_during_loopback_waits_for_its_end() {
        let mut serial = listening();
        serial.write(MODEM_CONTROL, &[0x10]);
        assert_eq!(serial.enqueue(b"later"), 5);
        assert_eq!(receive_all(&mut serial), b"");
        serial.write(MODEM_CONTROL, &[0]);
        assert_eq!(receive_all(&mut serial), b"later");
    }

    #[test]
    fn input_waits_until_the_guest_listens() {
        const LINE_CONTROL: u64 = 3;
        let mut serial = Serial::new(Box::new(io::sink())).unwrap();
        assert_eq!(serial.enqueue(b"early"), 5);
        assert_eq!(receive_all(&mut serial), b"");
        // Linux probing the port: all interrupts on, and off again.
        serial.write(INTERRUPT_ENABLE, &[0x0f]);
        assert_eq!(receive_all(&mut serial), b"");
        serial.write(INTERRUPT_ENABLE, &[0]);
        // The divisor's upper half is no interrupt enable register.
        serial.write(LINE_CONTROL, &[0x80]);
        serial.write(INTERRUPT_ENABLE, &[1]);
        serial.write(LINE_CONTROL, &[0x03]);
        assert_eq!(receive_all(&mut serial), b"");

        serial.write(INTERRUPT_ENABLE, &[0x05]);
        assert_eq!(receive_all(&mut serial), b"early");
    }

    #[test]
    fn a_sysrq_is_a_break_and_then_its_key() {
        let mut serial = listening();
        assert!(serial.sysrq(b'l'));
        assert_eq!(serial.irq().read().unwrap(), 1);
        assert_eq!(read(&mut serial, LINE_STATUS) & 0x11, 0x11);
        // Once, and before the key.
        assert_eq!(read(&mut serial, LINE_STATUS) & 0x11, 0x01);
        assert!(!serial.sysrq(b'w'));
        assert_eq!(read(&mut serial, DATA), 0);
        assert_eq!(serial.irq().read().unwrap(), 1);
        assert_eq!(read(&mut serial, LINE_STATUS) & 0x11, 0x01);
        assert_eq!(receive_all(&mut serial), b"l");
        assert!(serial.sysrq(b'w'));
        assert_eq!(receive_all(&mut serial), b"\0w");
    }

    #[test]
    fn a_sysrq_is_not_for_a_guest_that_does_not_listen() {
        let mut serial = Serial::new(Box::new(io::sink())).unwrap();
        assert!(!serial.sysrq(b'l'));
        serial.write(INTERRUPT_ENABLE, &[1]);
        assert_eq!(receive_all(&mut serial), b"");
        serial.enqueue(b"typed");
        assert!(!serial.sysrq(b'l'));
        assert_eq!(receive_all(&mut serial), b"typed");
    }

    #[test]
    fn an_access_wider_than_a_port_is_harmless() {
        let sink = Sink::default();
        let mut serial = Serial::new(Box::new(sink.clone())).unwrap();
        serial.write(DATA, b"ab");
        let mut data = [0xff; 2];
        serial.read(LINE_STATUS, &mut data);
        assert_eq!(data, [0x60, 0]);
        assert!(sink.0.lock().unwrap().is_empty());
    }
}
