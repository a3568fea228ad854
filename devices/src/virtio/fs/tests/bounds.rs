//! What a guest can take of the host by one share, while it writes to another. The
//! numbers are those of the README.

use std::ffi::CStr;
use std::fs::File;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat, renameat, unlinkat};

use super::session::{Session, init, request};
use super::*;
use crate::filesystem::ROOT;
use crate::fuse::Opcode;
use crate::passthrough::{Config, Passthrough};

/// Bytes that the neighbour writes at a time.
const BLOCK: u32 = 512;

/// A share with a directory of its own.
struct Share {
    session: Session<Passthrough>,
    directory: tempfile::TempDir,
}

impl Share {
    fn with(config: Config) -> Self {
        // In memory, where there is such a place: what is deep takes long elsewhere.
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let directory = directory.unwrap();
        let fs = Passthrough::new(directory.path(), config).unwrap();
        let mut session = Session::of(fs, 1, None);
        assert_eq!(session.exchange(1, &init()).0, 0);
        Self { session, directory }
    }

    fn named(&mut self, opcode: Opcode, words: &[u32], name: &str) -> (i32, Vec<u8>) {
        let mut request = request(opcode, ROOT, words);
        request.extend(name.bytes().chain([0]));
        let len = u32::try_from(request.len()).unwrap();
        request[..4].copy_from_slice(&len.to_le_bytes());
        self.session.exchange(1, &request)
    }

    /// Its errno.
    fn mkdir(&mut self, name: &str) -> i32 {
        self.named(Opcode::MKDIR, &[0o755, 0], name).0
    }
}

/// A `dd` to a file of another share.
struct Neighbour {
    share: Share,
    node: u64,
    handle: [u32; 2],
    written: u32,
}

impl Neighbour {
    fn new() -> Self {
        let mut share = Share::with(Config::default());
        let flags = libc::O_WRONLY.cast_unsigned();
        let (errno, made) = share.named(Opcode::CREATE, &[flags, 0o644, 0, 0], "data");
        assert_eq!(errno, 0);
        let word = |at: usize| u32::from_le_bytes(made[at..at + 4].try_into().unwrap());
        // `struct fuse_entry_out`, and `struct fuse_open_out` behind it.
        let (node, handle) = (word(0).into(), [word(128), word(132)]);
        Self {
            share,
            node,
            handle,
            written: 0,
        }
    }

    /// Writes the next block.
    fn goes_on(&mut self) {
        let [low, high] = self.handle;
        let mut body = vec![low, high, self.written, 0, BLOCK, 0, 0, 0, 0, 0];
        body.resize(body.len() + BLOCK as usize / 4, 0x6464_6464);
        let write = request(Opcode::WRITE, self.node, &body);
        let (errno, answer) = self.share.session.exchange(1, &write);
        assert_eq!((errno, &answer[..4]), (0, &BLOCK.to_le_bytes()[..]));
        self.written += BLOCK;
    }

    /// All of it is there.
    fn ends(self) {
        let path = self.share.directory.path().join("data");
        let data = std::fs::read(path).unwrap();
        assert_eq!(data, vec![b'd'; self.written as usize]);
    }
}

#[test]
fn a_share_whose_nodes_are_too_many_answers_so_and_the_other_is_written_to() {
    const NODES: usize = 200;
    let mut taken = Share::with(Config {
        max_inodes: NODES,
        ..Config::default()
    });
    let mut other = Neighbour::new();
    for number in 0..NODES {
        assert_eq!(taken.mkdir(&number.to_string()), 0);
        other.goes_on();
    }
    for number in 0..NODES {
        assert_eq!(taken.mkdir(&format!("more-{number}")), libc::ENOMEM);
        other.goes_on();
    }
    // The other has places of its own.
    assert_eq!(other.share.mkdir("new"), 0);
    assert_eq!(taken.named(Opcode::LOOKUP, &[], "7").0, 0);
    other.ends();
}

#[test]
fn requests_that_wait_over_resets_take_neither_threads_nor_the_other_share() {
    let mut taken = machine();
    let mut other = Neighbour::new();
    for round in 0..300 {
        for _ in 0..SIZE / 2 {
            taken.request.submit(DETACHED, 64);
        }
        taken.kick(1);
        if round == 0 {
            taken.wait_until_waiting(64);
        }
        let detached = || taken.counters.snapshot()[1].detached;
        let all = u64::from(SIZE / 2) * (round + 1);
        wait_for("all detached", || (detached() == all).then_some(()));
        // What does not wait is answered beside them.
        let head = taken.hiprio.submit(b"now", 64);
        taken.kick(0);
        assert_eq!(taken.hiprio.wait_used(), (head, 3));
        other.goes_on();
        assert_eq!(taken.server.waiting.load(Ordering::SeqCst), 64);
        taken.reset();
        assert_eq!(taken.pool.waiting(), 0);
        taken.bind();
    }
    taken.server.gate.open();
    other.ends();
}

/// Directories one in the other, by system calls that know no path.
struct Chain {
    top: File,
    deepest: File,
    depth: usize,
}

impl Chain {
    fn below(path: &Path, depth: usize) -> Self {
        let top = File::open(path).unwrap();
        let mut deepest = Self::step(&top, c".");
        for _ in 0..depth {
            mkdirat(&deepest, c"d", Mode::RWXU).unwrap();
            deepest = Self::step(&deepest, c"d");
        }
        Self {
            top,
            deepest,
            depth,
        }
    }

    fn step(at: &File, name: &CStr) -> File {
        File::from(openat(at, name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap())
    }
}

/// What was moved there is moved back first: the server has it open, and to remove what
/// is above something open takes as long as it is deep.
impl Drop for Chain {
    fn drop(&mut self) {
        let _ = renameat(&self.deepest, c"moved", &self.top, c"moved");
        for _ in 0..self.depth {
            self.deepest = Self::step(&self.deepest, c"..");
            let _ = unlinkat(&self.deepest, c"d", AtFlags::REMOVEDIR);
        }
    }
}

#[test]
fn a_directory_that_is_too_deep_is_stale_and_the_other_share_is_written_to() {
    const DEEPEST: usize = 16_384;
    let mut taken = Share::with(Config::default());
    let mut other = Neighbour::new();
    assert_eq!(taken.mkdir("moved"), 0);
    let (errno, found) = taken.named(Opcode::LOOKUP, &[], "moved");
    assert_eq!(errno, 0);
    let node = u32::from_le_bytes(found[..4].try_into().unwrap());
    let chain = Chain::below(taken.directory.path(), DEEPEST + 1);
    renameat(&chain.top, c"moved", &chain.deepest, c"moved").unwrap();
    for _ in 0..10 {
        let getattr = request(Opcode::GETATTR, node.into(), &[0; 4]);
        taken.session.submit(1, &getattr, 256);
        // Has a thread of its own.
        other.goes_on();
        let (head, _) = taken.session.queues[1].wait_used();
        let answer = taken.session.queues[1].reply(head, 8);
        assert_eq!(answer[4..], (-libc::ESTALE).to_le_bytes());
    }
    other.ends();
}

/// Counts warnings about a share.
struct Lines(AtomicU32);

static LINES: Lines = Lines(AtomicU32::new(0));

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let is_warning = record.level() <= log::Level::Warn;
        if is_warning && record.args().to_string().contains("'loud'") {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn flush(&self) {}
}

#[test]
fn a_driver_that_misbehaves_has_ten_lines_over_all_resets_and_the_other_share_its_data() {
    log::set_logger(&LINES).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let server = Arc::<Server>::default();
    let behind: Arc<dyn RequestServer> = Arc::clone(&server) as _;
    let device = Fs::new(Tag::new("loud").unwrap(), behind, Queues::default()).unwrap();
    let mut taken = Machine::of(server, device);
    let mut other = Neighbour::new();
    for _ in 0..100 {
        taken.request.set_available(SIZE + 1);
        taken.kick(1);
        wait_for("NEEDS_RESET", || (taken.status() == 0x4f).then_some(()));
        other.goes_on();
        taken.reset();
        taken.bind();
    }
    assert_eq!(taken.exchange(b"good"), b"GOOD");
    assert_eq!(LINES.0.load(Ordering::SeqCst), 10);
    other.ends();
}
