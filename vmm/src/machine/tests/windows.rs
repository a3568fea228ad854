//! Files of the host in the guest's memory.

use std::fs::File;
use std::os::unix::fs::FileExt;

use devices::filesystem::WindowPart;
use devices::window::{FilePart, PAGE, UNIT, Window, Windows};

use super::*;

/// `out` of AL to the serial port: `mov edx, 0x3f8; out dx, al`.
const SAY: &[u8] = &[0xba, 0xf8, 0x03, 0x00, 0x00, 0xee];
/// Where the page tables below map the window to.
const WINDOW: u32 = 0xc000_0000;

/// `mov ebx, address` in the window.
fn at(offset: u32) -> Vec<u8> {
    [&[0xbb], &(WINDOW + offset).to_le_bytes()[..]].concat()
}

/// `mov al, [rbx]`, and says it.
fn load(offset: u32) -> Vec<u8> {
    [&at(offset), &[0x8a, 0x03][..], SAY].concat()
}

/// `mov byte [rbx], value`.
fn store(offset: u32, value: u8) -> Vec<u8> {
    [&at(offset), &[0xc6, 0x03, value][..]].concat()
}

struct Guest {
    window: Arc<Window>,
    output: SerialOutput,
}

impl Guest {
    /// With a window of one unit.
    fn new() -> Self {
        let base = crate::machine::windows::place(32 * MIB, &[UNIT]).unwrap()[0];
        Self {
            window: Arc::new(Window::reserve(base, UNIT).unwrap()),
            output: SerialOutput::default(),
        }
    }

    fn map(&self, file: &File, writable: bool) {
        let place = WindowPart {
            offset: 0,
            len: UNIT / 2,
        };
        let part = FilePart {
            node: 1,
            offset: 0,
            writable,
        };
        self.window.map(place, file, part).unwrap();
    }

    /// Has it do these things and switch off.
    fn machine(&self, code: &[Vec<u8>]) -> Machine {
        let parts = Parts {
            windows: Windows::from_iter([Arc::clone(&self.window)]),
            ..parts(&self.output)
        };
        let code = [&code.concat(), POWER_OFF_64].concat();
        Machine::assemble(&kvm(), MachineCounters::new(), parts, |memory, _| {
            memory.write_slice(&code, GuestAddress(CODE)).unwrap();
            boot::registers::write_tables(memory)?;
            // The fourth page directory's first page: the window instead of 3 GiB.
            let entry = GuestAddress(layout::PAGE_DIRECTORIES + 3 * layout::PAGE);
            let page = self.window.base() | 0x83;
            memory.write_obj::<u64>(page, entry).unwrap();
            Ok(boot::registers::start_at(CODE))
        })
        .unwrap()
    }

    fn run(&self, code: &[Vec<u8>]) -> Ending {
        self.machine(code).run().unwrap()
    }
}

fn file(pages: u64) -> File {
    let file = tempfile::tempfile().unwrap();
    for page in 0..pages {
        file.write_all_at(b"abcdefgh", page * PAGE).unwrap();
    }
    file.set_len(pages * PAGE).unwrap();
    file
}

#[test]
fn a_guest_reads_and_writes_a_file_in_its_window() {
    let guest = Guest::new();
    let file = file(2);
    guest.map(&file, true);
    let code = [load(1), store(0x1002, b'X'), load(0x1002), load(0x1003)];
    assert_eq!(guest.run(&code), Ending::PowerOff);
    assert_eq!(guest.output.text(), "bXd");
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, PAGE).unwrap();
    assert_eq!(&bytes, b"abXd");
}

#[test]
fn a_file_that_the_host_cut_off_does_not_end_the_run() {
    let guest = Guest::new();
    let file = file(3);
    guest.map(&file, true);
    let machine = guest.machine(&[
        load(0),
        load(0x1000),
        store(0x2001, b'X'),
        load(0x2001),
        load(0x7_f000),
        load(0),
    ]);
    file.set_len(PAGE).unwrap();
    assert_eq!(machine.run().unwrap(), Ending::PowerOff);
    assert_eq!(guest.output.text(), "a\0X\0a");
    assert!(guest.window.is_torn());
    assert_eq!(file.metadata().unwrap().len(), PAGE);
}

#[test]
fn a_file_is_cut_off_while_the_guest_uses_it() {
    let guest = Guest::new();
    let file = file(3);
    guest.map(&file, false);
    // Says 'a', then reads the third page until there is a zero.
    let wait = [&at(0x2000), &[0x80, 0x3b, 0x00, 0x75, 0xfb][..]].concat();
    let machine = guest.machine(&[load(0), wait, load(0)]);
    let said = guest.output.clone();
    let stopper = machine.stopper();
    let host = std::thread::spawn(move || {
        let start = Instant::now();
        while said.text().is_empty() && start.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(1));
        }
        file.set_len(PAGE).unwrap();
        while said.text().len() < 2 && start.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(100));
        stopper.stop();
    });
    assert_eq!(machine.run().unwrap(), Ending::PowerOff);
    host.join().unwrap();
    assert_eq!(guest.output.text(), "aa");
}

#[test]
fn where_nothing_is_mapped_the_guest_crashes_and_says_why() {
    for (touch, writable) in [
        (load(0x10_0000), true),
        (store(0x10_0000, 1), true),
        (store(0, 1), false),
    ] {
        let guest = Guest::new();
        guest.map(&file(1), writable);
        let ending = guest.run(&[touch]);
        let Ending::Crash(text) = ending else {
            panic!("{ending:?}");
        };
        assert!(text.contains("vCPU 0"), "{text}");
        assert!(text.contains("dax="), "{text}");
    }
}

#[test]
fn windows_that_do_not_fit_make_no_machine() {
    let parts = |base| Parts {
        windows: Windows::from_iter([Arc::new(Window::reserve(base, UNIT).unwrap())]),
        ..parts(&SerialOutput::default())
    };
    // Over the guest's memory.
    let machine = Machine::assemble(&kvm(), MachineCounters::new(), parts(0), |memory, _| {
        boot::registers::write_tables(memory)?;
        Ok(boot::registers::start_at(CODE))
    });
    let error = machine.unwrap_err().to_string();
    assert!(error.contains("window"), "{error}");
}
