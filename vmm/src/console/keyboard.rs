//! What the user types on an interactive machine, and the escape in it.
//!
//! As with QEMU and kvmtool, Ctrl-A is the escape: Ctrl-A x ends the machine
//! and Ctrl-A Ctrl-A types one Ctrl-A.

use std::io::{self, ErrorKind};

/// Bytes read of a terminal or another input at a time.
pub(crate) const READ_SIZE: usize = 4096;

/// Ctrl-A.
const ESCAPE: u8 = 0x01;

/// Tells the guest's keys from the escape.
#[derive(Debug, Default)]
pub(crate) struct Keyboard {
    escaped: bool,
    /// The guest takes no more keys. The escape still works.
    closed: bool,
}

/// What a read of the terminal meant.
#[derive(Debug, PartialEq, Eq)]
enum Typed {
    /// These bytes are for the guest.
    Keys(Vec<u8>),
    /// The user wants the machine to end.
    Quit,
}

impl Keyboard {
    /// Takes what was read from the terminal, and gives the keys to `sink`
    /// until that says that the guest takes no more. Says whether the user
    /// wants to quit.
    pub(crate) fn take(&mut self, bytes: &[u8], mut sink: impl FnMut(&[u8]) -> bool) -> bool {
        match self.type_in(bytes) {
            Typed::Quit => return true,
            Typed::Keys(keys) if self.closed || keys.is_empty() => {}
            Typed::Keys(keys) => self.closed = !sink(&keys),
        }
        false
    }

    fn type_in(&mut self, bytes: &[u8]) -> Typed {
        let mut keys = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            match (std::mem::take(&mut self.escaped), byte) {
                (false, ESCAPE) => self.escaped = true,
                (true, b'x' | b'X') => return Typed::Quit,
                (false, _) | (true, ESCAPE) => keys.push(byte),
                // Not a command of ours: the guest gets both keys.
                (true, _) => keys.extend([ESCAPE, byte]),
            }
        }
        Typed::Keys(keys)
    }
}

/// Writes `bytes` to a sink that does not block; says whether the sink is
/// still open. Keys that do not fit are lost, as on a terminal whose input
/// queue is full: waiting for the guest would stop the escape from working.
pub(crate) fn deliver(mut sink: impl io::Write, bytes: &[u8]) -> bool {
    match sink.write_all(bytes) {
        Ok(()) => true,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(reads: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut keyboard = Keyboard::default();
        let mut all = Vec::new();
        for read in reads {
            match keyboard.type_in(read) {
                Typed::Keys(keys) => all.extend(keys),
                Typed::Quit => return (all, true),
            }
        }
        (all, false)
    }

    #[test]
    fn the_escape_quits_even_when_split_over_two_reads() {
        assert_eq!(typed(&[b"ls\x01", b"x"]), (b"ls".to_vec(), true));
    }

    #[test]
    fn a_doubled_escape_types_one() {
        assert_eq!(typed(&[b"\x01\x01x"]), (b"\x01x".to_vec(), false));
    }

    #[test]
    fn an_escape_before_any_other_key_reaches_the_guest() {
        assert_eq!(typed(&[b"\x01k"]), (b"\x01k".to_vec(), false));
    }

    #[test]
    fn the_escape_works_after_the_guest_closed_its_input() {
        let mut keyboard = Keyboard::default();
        let mut seen = Vec::new();
        let mut sink = |keys: &[u8]| {
            seen.extend_from_slice(keys);
            false
        };
        assert!(!keyboard.take(b"a", &mut sink));
        assert!(!keyboard.take(b"b", &mut sink));
        assert!(keyboard.take(b"\x01x", &mut sink));
        assert_eq!(seen, b"a");
    }
}
