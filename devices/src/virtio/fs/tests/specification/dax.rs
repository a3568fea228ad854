//! 5.11.6.4, the DAX window: a real share with one, and one without.

use tempfile::TempDir;
use vm_memory::VolatileSlice;

use super::super::session::request;
use super::*;
use crate::passthrough::{Config, Passthrough};
use crate::window::{PAGE, UNIT, Window};

const BASE: u64 = 4 << 30;
/// Of the window. It has room for as many mappings.
const UNITS: u64 = 2;
/// [`PAGE`], for arrays.
const PAGE_SIZE: usize = 0x1000;
const LEN: u64 = UNITS * UNIT;

/// `FUSE_SETUPMAPPING_FLAG_READ`.
const READ: u64 = 2;

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        number: "5.11.6.4",
        level: Level::Is,
        says: "a window is the device's choice, and the driver's",
        check: no_window,
    },
    Clause {
        number: "5.11.6.4",
        level: Level::Is,
        says: "a mapping over another takes its place, and leaves what is beside it",
        check: mappings_over_mappings,
    },
    Clause {
        number: "5.11.6.4",
        level: Level::Is,
        says: "what is unmapped in part is there in its other parts",
        check: unmapped_in_part,
    },
    Clause {
        number: "5.11.6.4",
        level: Level::Is,
        says: "with no room for more, SETUPMAPPING fails until something is unmapped",
        check: no_room,
    },
    Clause {
        number: "5.11.6.4.1",
        level: Level::May,
        says: "the device has a window",
        check: the_window,
    },
    Clause {
        number: "5.11.6.4.1",
        level: Level::Must,
        says: "the window is shared memory region 0",
        check: the_window,
    },
    Clause {
        number: "5.11.6.4.1",
        level: Level::Must,
        says: "READ and WRITE are served whether the window is in use or not",
        check: reads_and_writes,
    },
    Clause {
        number: "5.11.6.4.1",
        level: Level::Must,
        says: "a mapping may lie over others, with all of it or with a part",
        check: mappings_over_mappings,
    },
    Clause {
        number: "5.11.6.4.1",
        level: Level::Must,
        says: "a mapping that goes beyond the end of the window is refused",
        check: beyond_the_end,
    },
    Clause {
        number: "5.11.6.4.2",
        level: Level::Driver,
        says: "a driver uses READ and WRITE where it finds no window, or beside it",
        check: no_window,
    },
];

/// What the four registers of a region say: its length and its place.
fn region(transport: &mut MmioTransport, id: u32) -> [u32; 4] {
    write32(transport, reg::VIRTIO_MMIO_SHM_SEL, id);
    [
        reg::VIRTIO_MMIO_SHM_LEN_LOW,
        reg::VIRTIO_MMIO_SHM_LEN_HIGH,
        reg::VIRTIO_MMIO_SHM_BASE_LOW,
        reg::VIRTIO_MMIO_SHM_BASE_HIGH,
    ]
    .map(|half| read32(transport, half))
}

fn no_window() {
    let mut transport = device("tag", 1);
    for id in [0, 1, 255] {
        assert_eq!(region(&mut transport, id), [u32::MAX; 4], "region {id}");
    }
    assert_eq!(Session::new(1).exchange(1, &read(2)).0, 0);
}

/// A share with a window, and in it a file whose pages are full of 'a', 'b' and so
/// on.
struct Mapped {
    session: Session<Passthrough>,
    window: Arc<Window>,
    directory: TempDir,
    node: u64,
    handle: u64,
}

fn words(numbers: &[u64]) -> Vec<u32> {
    let bytes = numbers.iter().flat_map(|number| number.to_le_bytes());
    let bytes: Vec<u8> = bytes.collect();
    let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
    bytes.chunks(4).map(word).collect()
}

fn first_number(reply: &[u8]) -> u64 {
    u64::from_le_bytes(reply[..8].try_into().unwrap())
}

impl Mapped {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (b'a'..=b'h')
            .flat_map(|letter| [letter; PAGE_SIZE])
            .collect();
        std::fs::write(directory.path().join("content"), content).unwrap();
        let window = Arc::new(Window::reserve(BASE, LEN).unwrap());
        let share = Passthrough::new(directory.path(), Config::default()).unwrap();
        let share = share.with_window(Arc::clone(&window));
        let mut session = Session::of(share, 1, Some(Arc::clone(&window)));
        assert_eq!(session.exchange(1, &init()).0, 0);
        let name = words(&[u64::from_le_bytes(*b"content\0")]);
        let (errno, entry) = session.exchange(1, &request(Opcode::LOOKUP, 1, &name));
        assert_eq!(errno, 0);
        let node = first_number(&entry);
        let flags = [libc::O_RDWR.cast_unsigned(), 0];
        let (errno, opened) = session.exchange(1, &request(Opcode::OPEN, node, &flags));
        assert_eq!(errno, 0);
        Self {
            session,
            window,
            directory,
            node,
            handle: first_number(&opened),
        }
    }

    /// Maps so many pages of the file from `from` on at page `at` of the window.
    fn map(&mut self, from: u64, pages: u64, at: u64) -> i32 {
        self.map_bytes(from * PAGE, pages * PAGE, at * PAGE)
    }

    fn map_bytes(&mut self, from: u64, len: u64, at: u64) -> i32 {
        let body = words(&[u64::MAX, from, len, READ, at]);
        let request = request(Opcode::SETUPMAPPING, self.node, &body);
        self.session.exchange(1, &request).0
    }

    fn unmap(&mut self, at: u64, pages: u64) {
        let mut body = vec![1];
        body.extend(words(&[at * PAGE, pages * PAGE]));
        let request = request(Opcode::REMOVEMAPPING, self.node, &body);
        assert_eq!(self.session.exchange(1, &request).0, 0);
    }

    /// The letters of the window's first pages, `.` where nothing is.
    fn seen(&self) -> String {
        let letter = |page: u64| {
            let mut byte = [0];
            let to = VolatileSlice::from(&mut byte[..]);
            match self.window.copy_to(page * PAGE, &to) {
                Ok(()) => char::from(byte[0]),
                Err(_) => '.',
            }
        };
        (0..6).map(letter).collect()
    }
}

fn the_window() {
    let mut mapped = Mapped::new();
    let transport = &mut mapped.session.transport;
    let len = u32::try_from(LEN).unwrap();
    assert_eq!(region(transport, 0), [len, 0, 0, 1]);
    assert_eq!(region(transport, 1), [u32::MAX; 4]);
    assert_eq!(mapped.map(2, 2, 1), 0);
    assert_eq!(mapped.seen(), ".cd...");
}

fn reads_and_writes() {
    let mut mapped = Mapped::new();
    for in_use in [false, true] {
        if in_use {
            assert_eq!(mapped.map(0, 4, 0), 0);
        }
        let mut body = words(&[mapped.handle, PAGE]);
        body.extend([3, 0, 0, 0, 0, 0]);
        let read = request(Opcode::READ, mapped.node, &body);
        assert_eq!(mapped.session.exchange(1, &read), (0, b"bbb".to_vec()));

        let text = if in_use { *b"with" } else { *b"none" };
        let mut body = words(&[mapped.handle, 0]);
        body.extend([4, 0, 0, 0, 0, 0, u32::from_le_bytes(text)]);
        let write = request(Opcode::WRITE, mapped.node, &body);
        assert_eq!(mapped.session.exchange(1, &write).0, 0);
        let file = std::fs::read(mapped.directory.path().join("content")).unwrap();
        assert_eq!(file[..4], text);
    }
    // A WRITE is in the window at once.
    assert_eq!(mapped.seen(), "wbcd..");
}

fn mappings_over_mappings() {
    let mut mapped = Mapped::new();
    assert_eq!(mapped.map(0, 4, 0), 0);
    assert_eq!(mapped.seen(), "abcd..");
    // The same place, and nothing is left of what was there.
    assert_eq!(mapped.map(4, 4, 0), 0);
    assert_eq!(mapped.seen(), "efgh..");
    assert_eq!(mapped.window.mapped(), 1);
    // The end of one.
    assert_eq!(mapped.map(0, 3, 2), 0);
    assert_eq!(mapped.seen(), "efabc.");
    // All of both.
    assert_eq!(mapped.map(1, 6, 0), 0);
    assert_eq!(mapped.seen(), "bcdefg");
    assert_eq!(mapped.window.mapped(), 1);
}

fn unmapped_in_part() {
    let mut mapped = Mapped::new();
    assert_eq!(mapped.map(0, 5, 0), 0);
    mapped.unmap(1, 2);
    assert_eq!(mapped.seen(), "a..de.");
    assert_eq!(mapped.window.mapped(), 2);
}

fn no_room() {
    let mut mapped = Mapped::new();
    for at in 0..UNITS {
        assert_eq!(mapped.map(at, 1, 2 * at), 0);
    }
    assert_eq!(mapped.map(7, 1, 5), libc::ENOMEM);
    assert_eq!(mapped.seen(), "a.b...");
    mapped.unmap(0, 1);
    assert_eq!(mapped.map(7, 1, 5), 0);
    assert_eq!(mapped.seen(), "..b..h");
}

fn beyond_the_end() {
    let mut mapped = Mapped::new();
    for (len, at) in [
        (PAGE, LEN),
        (2 * PAGE, LEN - PAGE),
        (LEN + PAGE, 0),
        (PAGE, u64::MAX - PAGE + 1),
        (u64::MAX - PAGE + 1, PAGE),
    ] {
        assert_eq!(
            mapped.map_bytes(0, len, at),
            libc::EINVAL,
            "{len:#x} at {at:#x}"
        );
    }
    assert_eq!(mapped.window.mapped(), 0);
    assert_eq!(mapped.map_bytes(0, PAGE, LEN - PAGE), 0);
}
