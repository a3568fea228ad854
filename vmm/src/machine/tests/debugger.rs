//! A machine under gdb, whose remote protocol these tests speak. Breakpoints and
//! steps are tested end to end: software KVM has none.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use super::*;
use tempfile::TempDir;

/// A debugger.
struct Gdb(UnixStream);

impl Gdb {
    fn ask(&mut self, packet: &str) -> String {
        self.send(packet);
        self.answer()
    }

    fn send(&mut self, packet: &str) {
        let sum = packet.bytes().fold(0_u8, u8::wrapping_add);
        write!(self.0, "${packet}#{sum:02x}").unwrap();
        assert_eq!(self.byte(), b'+', "{packet}");
    }

    fn byte(&mut self) -> u8 {
        let mut byte = [0];
        self.0.read_exact(&mut byte).unwrap();
        byte[0]
    }

    fn answer(&mut self) -> String {
        while self.byte() != b'$' {}
        let mut text = String::new();
        loop {
            match self.byte() {
                b'#' => break,
                b'*' => {
                    let last = text.chars().last().unwrap();
                    for _ in 29..self.byte() {
                        text.push(last);
                    }
                }
                byte => text.push(char::from(byte)),
            }
        }
        self.byte();
        self.byte();
        let _ = self.0.write_all(b"+");
        text
    }

    fn rip(&mut self, thread: u8) -> u64 {
        assert_eq!(self.ask(&format!("Hgp1.{thread}")), "OK");
        let registers = self.ask("g");
        let digits = &registers[16 * 16..17 * 16];
        u64::from_str_radix(digits, 16).unwrap().swap_bytes()
    }
}

/// A machine that runs `code` in long mode, and its debugger.
fn debugged(code: &[u8], cpus: u8) -> (RunningMachine, Gdb, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gdb");
    let listener = Listener::bind(&crate::machine::debugger::Address::Unix(path.clone())).unwrap();
    let parts = Parts {
        cpus,
        debugger: Some(listener),
        ..parts(&SerialOutput::default())
    };
    let running = long_mode_machine(parts, code).start().unwrap();
    let gdb = connect(&path);
    (running, gdb, directory)
}

fn connect(path: &std::path::Path) -> Gdb {
    let stream = UnixStream::connect(path).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut gdb = Gdb(stream);
    let features = gdb.ask("qSupported:multiprocess+;swbreak+;hwbreak+;vContSupported+");
    assert!(features.contains("PacketSize="), "{features}");
    assert_eq!(gdb.ask("?"), "T05thread:p01.01;");
    gdb
}

fn end(running: RunningMachine) -> Ending {
    running.ended().read().unwrap();
    running.finish().unwrap()
}

/// Five NOPs, and the end.
fn nops() -> Vec<u8> {
    [&[0x90; 5], POWER_OFF_64].concat()
}

#[test]
fn the_guest_waits_before_its_first_instruction() {
    let (running, mut gdb, _directory) = debugged(&nops(), 1);
    assert_eq!(gdb.rip(1), CODE);
    assert_eq!(gdb.ask("m1000,3"), "909090");
    assert!(running.is_paused() && running.take_pause() > Duration::ZERO);
    gdb.send("vCont;c");
    assert_eq!(end(running), Ending::PowerOff);
    assert_eq!(gdb.answer(), "W00");
}

#[test]
fn a_guest_that_runs_is_interrupted_left_and_met_again() {
    // jmp $
    let (running, mut gdb, directory) = debugged(&[0xeb, 0xfe], 2);
    gdb.send("vCont;c");
    std::thread::sleep(Duration::from_millis(20));
    gdb.0.write_all(&[3]).unwrap();
    assert_eq!(gdb.answer(), "T02thread:p01.01;");
    assert!(running.is_paused());
    assert_eq!(gdb.rip(1), CODE);
    assert_eq!(gdb.ask("Z0,1000,1"), "OK");
    assert_eq!(gdb.ask("D;1"), "OK");
    drop(gdb);
    let mut gdb = connect(&directory.path().join("gdb"));
    // The breakpoint went with whoever had set it.
    assert_eq!(gdb.ask("m1000,2"), "ebfe");
    assert_eq!(gdb.ask("qfThreadInfo"), "mp01.01,p01.02");
    assert_eq!(gdb.ask("vKill;1"), "OK");
    assert_eq!(end(running), Ending::Killed);
}

/// Before the kernel has page tables a breakpoint at one of its functions is for a
/// debug register, whatever processors without any make of the address.
#[test]
fn a_breakpoint_where_nothing_is_mapped_waits_in_a_debug_register() {
    let (running, mut gdb, _directory) = debugged(&nops(), 2);
    for slot in 0..4 {
        assert_eq!(gdb.ask(&format!("Z0,ffffffff8100000{slot},1")), "OK");
    }
    assert_ne!(gdb.ask("Z0,ffffffff81000004,1"), "OK");
    assert_eq!(gdb.ask("z0,ffffffff81000002,1"), "OK");
    assert_eq!(gdb.ask("Z1,ffffffff81000004,1"), "OK");
    assert_eq!(gdb.ask("vKill;1"), "OK");
    assert_eq!(end(running), Ending::Killed);
}

#[test]
fn a_debugger_that_is_gone_lets_the_guest_go_on() {
    let (running, gdb, _directory) = debugged(&nops(), 1);
    drop(gdb);
    assert_eq!(end(running), Ending::PowerOff);
}

#[test]
fn a_machine_that_waits_for_gdb_can_be_stopped() {
    let (running, mut gdb, _directory) = debugged(&nops(), 2);
    running.ending.set(Ok(Ending::Stopped));
    assert_eq!(end(running), Ending::Stopped);
    // What it had not read makes the end a reset.
    let read = gdb.0.read(&mut [0]);
    assert!(
        matches!(&read, Ok(0))
            || read.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
    );
}

/// Entries that lead to themselves, to where no memory is, and nowhere.
#[test]
fn page_tables_that_lie_are_survived() {
    let (running, mut gdb, _directory) = debugged(&nops(), 1);
    let registers = gdb.ask("g");
    let table = running.vm.memory();
    let pml4 = GuestAddress(layout::PML4);
    for (entry, slot) in [
        u64::MAX,
        0x000f_ffff_ffff_f067,
        layout::PML4 | 7,
        0x8000_0000_0000_0087,
        0x2_0000_0083,
    ]
    .into_iter()
    .zip(1_u64..)
    {
        let at = pml4.0 + 8 * slot;
        table.write_obj(entry, GuestAddress(at)).unwrap();
        for offset in [0, 0xfff, 0x20_0000, 0x7f_ffff_fff8] {
            let address = (slot << 39) + offset;
            for packet in ["m#,1000", "Z0,#,1", "z0,#,1", "M#,1:00"] {
                // Whatever the answer, there is one.
                gdb.ask(&packet.replace('#', &format!("{address:x}")));
            }
        }
    }
    assert_eq!(gdb.ask("mffffffffffffff00,200"), "E0e");
    assert_eq!(gdb.ask("g"), registers);
    assert_eq!(gdb.ask("vKill;1"), "OK");
    assert_eq!(end(running), Ending::Killed);
}
