//! The session as a guest sees it, good and hostile.

use std::fs::OpenOptions;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use devices::filesystem::{Caller, Position, ROOT, Waiters};
use guest_init::protocol;

use super::*;

const CALLER: Caller = Caller {
    uid: 0,
    gid: 0,
    pid: 1,
    supplementary_gid: None,
};

/// The requests of a test.
static WAITERS: Waiters = Waiters::new();

fn request(unique: u64, node: NodeId) -> Request<'static> {
    Request::new(unique, node, CALLER, &WAITERS)
}

/// The space of a READ reply, in memory of the test.
struct Space {
    bytes: Vec<u8>,
    left: usize,
}

impl ReplyData for Space {
    fn space(&self) -> usize {
        self.left
    }

    fn fill_from(&mut self, mut file: &File, count: usize, position: Position) -> Result<usize> {
        assert_eq!(position, Position::Current);
        let mut buffer = vec![0; count];
        let count = file
            .read(&mut buffer)
            .map_err(|error| Errno::from_io_error(&error).unwrap())?;
        self.put(&buffer[..count])?;
        Ok(count)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.left = self.left.checked_sub(bytes.len()).ok_or(Errno::IO)?;
        self.bytes.extend(bytes);
        Ok(())
    }
}

/// The data of a WRITE request.
struct Data<'a>(&'a [u8]);

impl RequestData for Data<'_> {
    fn remaining(&self) -> usize {
        self.0.len()
    }

    fn drain_to(&mut self, mut file: &File, count: usize, _position: Position) -> Result<usize> {
        let count = file
            .write(&self.0[..count])
            .map_err(|error| Errno::from_io_error(&error).unwrap())?;
        self.0 = &self.0[count..];
        Ok(count)
    }

    fn take(&mut self, bytes: &mut [u8]) -> Result<()> {
        if bytes.len() > self.0.len() {
            return Err(Errno::IO);
        }
        let (taken, rest) = self.0.split_at(bytes.len());
        bytes.copy_from_slice(taken);
        self.0 = rest;
        Ok(())
    }
}

fn plan() -> Plan {
    Plan {
        command: vec!["true".into()],
        environment: Vec::new(),
        working_directory: None,
        hostname: "vm".into(),
        init: None,
        user: None,
        root: None,
        modules: None,
        shares: Vec::new(),
        terminal: Some(WindowSize {
            rows: 1,
            columns: 2,
        }),
        interactive: false,
        power_off: true,
    }
}

fn session_on(stdin: Option<File>, stdout: File) -> Session {
    let streams = Streams {
        stdin,
        stdout,
        stderr: tempfile::tempfile().unwrap(),
    };
    Session::new(&plan(), streams, || ()).unwrap()
}

fn session() -> Session {
    session_on(None, tempfile::tempfile().unwrap())
}

fn inode(session: &Session, name: &CStr) -> NodeId {
    session.lookup(&request(1, ROOT), name).unwrap().inode
}

fn read(session: &Session, unique: u64, name: &CStr, size: u32, offset: u64) -> Result<Vec<u8>> {
    let request = request(unique, inode(session, name));
    read_as(session, &request, size, offset)
}

fn read_as(session: &Session, request: &Request<'_>, size: u32, offset: u64) -> Result<Vec<u8>> {
    let mut space = Space {
        bytes: Vec::new(),
        left: size as usize,
    };
    let args = ReadArgs {
        handle: request.node,
        size,
        offset,
        flags: 0,
    };
    let count = session.read(request, &args, &mut space)?;
    assert_eq!(count, space.bytes.len());
    Ok(space.bytes)
}

fn write(session: &Session, name: &CStr, bytes: &[u8]) -> Result<usize> {
    write_as(session, &request(1, inode(session, name)), bytes)
}

fn write_as(session: &Session, request: &Request<'_>, bytes: &[u8]) -> Result<usize> {
    let args = WriteArgs {
        handle: request.node,
        size: u32::try_from(bytes.len()).unwrap(),
        offset: 0,
        flags: 1,
        from_cache: false,
        kill_privileges: false,
    };
    session.write(request, &args, &mut Data(bytes))
}

fn open(session: &Session, node: NodeId, flags: u32) -> Result<Opened> {
    let args = OpenArgs {
        flags,
        kill_privileges: false,
    };
    session.open(&request(1, node), args)
}

fn pipe() -> (File, File) {
    let (reader, writer) = std::io::pipe().unwrap();
    (OwnedFd::from(reader).into(), OwnedFd::from(writer).into())
}

#[test]
fn the_plan_is_read_in_parts() {
    let session = session();
    let mut json = Vec::new();
    loop {
        let part = read(&session, 1, c"plan", 10, json.len() as u64).unwrap();
        if part.is_empty() {
            break;
        }
        json.extend(part);
    }
    assert_eq!(serde_json::from_slice::<Plan>(&json).unwrap(), plan());
    assert_eq!(read(&session, 1, c"plan", 10, u64::MAX), Ok(Vec::new()));
}

#[test]
fn every_file_is_found_listed_and_opened_for_its_one_purpose() {
    let session = session();
    for name in [
        protocol::PLAN,
        protocol::STDIN,
        protocol::STDOUT,
        protocol::STDERR,
        protocol::STATUS,
        protocol::WINDOW_SIZE,
        protocol::MARK,
        protocol::TAINTED,
        protocol::CLOCK,
    ] {
        let node = Node::named(name.as_bytes()).unwrap();
        assert_eq!(Node::of(node.inode()), Some(node));
        let (right, wrong) = if node.is_writable() { (1, 0) } else { (0, 1) };
        let opened = open(&session, node.inode(), right).unwrap();
        assert!(opened.behaviour.direct_io);
        for flags in [wrong, 2] {
            assert_eq!(open(&session, node.inode(), flags), Err(Errno::ACCESS));
        }
    }
}

#[test]
fn unknown_names_and_inodes_get_an_errno() {
    let session = session();
    assert_eq!(
        session.lookup(&request(1, ROOT), c"other"),
        Err(Errno::NOENT)
    );
    assert_eq!(session.lookup(&request(1, 2), c"plan"), Err(Errno::NOTDIR));
    for inode in [0, 12, u64::MAX] {
        assert_eq!(
            session.getattr(&request(1, inode), None).map(drop),
            Err(Errno::STALE)
        );
    }
}

#[test]
fn every_read_of_the_clock_is_the_time_at_that_moment() {
    let session = session();
    let time = |unique| {
        let text = read(&session, unique, c"clock", 64, 0).unwrap();
        let time = WallTime::from_text(&text).unwrap();
        Duration::new(time.seconds, time.nanoseconds)
    };
    let host = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    for unique in [1, 2] {
        let (before, time, after) = (host(), time(unique), host());
        assert!(
            before <= time && time <= after,
            "{before:?} {time:?} {after:?}"
        );
    }
    assert!(read(&session, 3, c"clock", 3, 0).is_err());
    assert_eq!(write(&session, c"clock", b"1.000000000"), Err(Errno::BADF));
}

#[test]
fn input_is_read_as_it_comes_and_ends_with_nothing() {
    let (stdin, mut host) = pipe();
    let session = session_on(Some(stdin), tempfile::tempfile().unwrap());
    host.write_all(b"hello").unwrap();
    assert_eq!(read(&session, 1, c"stdin", 3, 0).unwrap(), b"hel");
    assert_eq!(read(&session, 2, c"stdin", 3, 0).unwrap(), b"lo");
    drop(host);
    assert_eq!(read(&session, 3, c"stdin", 3, 0).unwrap(), b"");
}

#[test]
fn files_and_the_null_device_are_input_too() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"text").unwrap();
    file.rewind().unwrap();
    let session = session_on(Some(file), tempfile::tempfile().unwrap());
    assert_eq!(read(&session, 1, c"stdin", 99, 0).unwrap(), b"text");
    assert_eq!(read(&session, 1, c"stdin", 99, 0).unwrap(), b"");

    let null = File::open("/dev/null").unwrap();
    let session = session_on(Some(null), tempfile::tempfile().unwrap());
    assert_eq!(read(&session, 1, c"stdin", 99, 0).unwrap(), b"");
}

#[test]
fn a_read_that_waits_for_input_can_be_interrupted() {
    let (stdin, _host) = pipe();
    let session = session_on(Some(stdin), tempfile::tempfile().unwrap());
    let waiters = Waiters::new();
    let request = Request::new(7, inode(&session, c"stdin"), CALLER, &waiters);
    assert!(!waiters.interrupt(7));
    thread::scope(|scope| {
        let waiting = scope.spawn(|| read_as(&session, &request, 1, 0));
        while !waiters.interrupt(7) {
            thread::yield_now();
        }
        assert_eq!(waiting.join().unwrap(), Err(Errno::INTR));
    });
    assert!(!waiters.interrupt(7));
}

#[test]
fn a_reset_ends_every_read_that_waits() {
    let waiters = Waiters::new();
    let (stdin, _host) = pipe();
    let session = session_on(Some(stdin), tempfile::tempfile().unwrap());
    let request = |unique, name| Request::new(unique, inode(&session, name), CALLER, &waiters);
    let (input, size) = (request(1, c"stdin"), request(2, c"winsize"));
    thread::scope(|scope| {
        let input = scope.spawn(|| read_as(&session, &input, 1, 0));
        let size = scope.spawn(|| read_as(&session, &size, 99, 0));
        while !(input.is_finished() && size.is_finished()) {
            waiters.interrupt_all();
            thread::yield_now();
        }
        assert_eq!(input.join().unwrap(), Err(Errno::INTR));
        assert_eq!(size.join().unwrap(), Err(Errno::INTR));
    });
}

#[test]
fn a_new_window_size_ends_the_wait_for_it_only() {
    let (stdin, mut host) = pipe();
    let session = session_on(Some(stdin), tempfile::tempfile().unwrap());
    thread::scope(|scope| {
        let input = scope.spawn(|| read(&session, 1, c"stdin", 9, 0));
        let size = scope.spawn(|| read(&session, 2, c"winsize", 99, 0));
        thread::sleep(Duration::from_millis(20));
        session.resize(WindowSize {
            rows: 24,
            columns: 80,
        });
        assert_eq!(
            size.join().unwrap().unwrap(),
            br#"{"rows":24,"columns":80}"#
        );
        assert!(!input.is_finished());
        host.write_all(b"x").unwrap();
        assert_eq!(input.join().unwrap().unwrap(), b"x");
    });
}

#[test]
fn a_signal_for_the_command_is_told_once() {
    let session = session();
    thread::scope(|scope| {
        let signal = scope.spawn(|| read(&session, 1, c"signal", 16, 0));
        thread::sleep(Duration::from_millis(5));
        session.signal(15);
        assert_eq!(signal.join().unwrap().unwrap(), b"15");
        let next = scope.spawn(|| read(&session, 2, c"signal", 16, 0));
        thread::sleep(Duration::from_millis(5));
        assert!(!next.is_finished());
        session.signal(2);
        assert_eq!(next.join().unwrap().unwrap(), b"2");
    });
}

#[test]
fn output_arrives_and_a_closed_pipe_is_epipe() {
    let (mut host, stdout) = pipe();
    let session = session_on(None, stdout);
    assert_eq!(write(&session, c"stdout", b"text"), Ok(4));
    let mut text = [0; 4];
    host.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"text");
    drop(host);
    assert_eq!(write(&session, c"stdout", b"text"), Err(Errno::PIPE));
}

/// A session whose standard output is on a full disk, and was written to.
fn session_that_lost_output() -> Session {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let session = session_on(None, full);
    assert_eq!(session.lost_output().count(), 0);
    assert_eq!(write(&session, c"stdout", b"text"), Err(Errno::NOSPC));
    session
}

#[test]
fn output_that_is_lost_is_remembered_but_not_what_nobody_wants_to_read() {
    let session = session_that_lost_output();
    let lost: Vec<_> = session.lost_output().collect();
    assert_eq!(lost, [("standard output", Errno::NOSPC)]);

    let (host, stdout) = pipe();
    drop(host);
    let session = session_on(None, stdout);
    assert_eq!(write(&session, c"stdout", b"text"), Err(Errno::PIPE));
    assert_eq!(session.lost_output().count(), 0);
}

/// A disk that has room for the first part only.
#[test]
fn output_that_is_cut_short_is_lost_too() {
    struct Cut(bool);
    impl RequestData for Cut {
        fn remaining(&self) -> usize {
            9
        }
        fn drain_to(&mut self, _: &File, _: usize, _: Position) -> Result<usize> {
            if std::mem::replace(&mut self.0, true) {
                Err(Errno::DQUOT)
            } else {
                Ok(4)
            }
        }
        fn take(&mut self, _: &mut [u8]) -> Result<()> {
            Err(Errno::IO)
        }
    }
    let session = session();
    let request = request(1, inode(&session, c"stderr"));
    let written = session.stderr.write(&request, &mut Cut(false), 9);
    assert_eq!(written, Ok(4));
    let lost: Vec<_> = session.lost_output().collect();
    assert_eq!(lost, [("standard error", Errno::DQUOT)]);
}

#[test]
fn a_stream_that_does_not_block_loses_nothing() {
    let (mut host, stdout) = pipe();
    let flags = rustix::fs::fcntl_getfl(&stdout).unwrap();
    rustix::fs::fcntl_setfl(&stdout, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
    let session = session_on(None, stdout);
    let bytes = vec![7; 1 << 20];
    thread::scope(|scope| {
        let writing = scope.spawn(|| write(&session, c"stdout", &bytes));
        let mut copied = vec![0; bytes.len()];
        host.read_exact(&mut copied).unwrap();
        assert_eq!(writing.join().unwrap(), Ok(bytes.len()));
        assert!(copied == bytes);
    });
}

/// Writes to a stream whose other end, `host`, nobody reads.
#[track_caller]
fn assert_output_can_be_interrupted(host: OwnedFd, stdout: OwnedFd) {
    let session = session_on(None, stdout.into());
    let waiters = Waiters::new();
    let request = Request::new(7, inode(&session, c"stdout"), CALLER, &waiters);
    let mut host = Some(host);
    let mut interrupted = || {
        let start = Instant::now();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| write_as(&session, &request, &vec![7; 1 << 20]));
            while !waiting.is_finished() {
                if start.elapsed() > Duration::from_secs(20) {
                    host = None;
                }
                waiters.interrupt(7);
                thread::yield_now();
            }
            waiting.join().unwrap()
        })
    };
    // A part that was written is not denied, so it may take some to fill the
    // stream.
    let error = loop {
        match interrupted() {
            Ok(part) => assert!(part < 1 << 20),
            Err(error) => break error,
        }
    };
    assert_eq!(error, Errno::INTR);
    assert!(
        host.is_some(),
        "nothing but the end of the stream ended the write"
    );
}

#[test]
fn a_write_that_nobody_reads_can_be_interrupted() {
    let (host, stdout) = std::io::pipe().unwrap();
    assert_output_can_be_interrupted(host.into(), stdout.into());
}

#[test]
fn a_write_to_a_socket_that_nobody_reads_can_be_interrupted() {
    let (host, stdout) = std::os::unix::net::UnixStream::pair().unwrap();
    assert_output_can_be_interrupted(host.into(), stdout.into());
}

#[test]
fn the_flags_of_the_hosts_stream_stay_as_they_are() {
    let (mut host, stdout) = pipe();
    let given = stdout.try_clone().unwrap();
    let before = rustix::fs::fcntl_getfl(&given).unwrap();
    let session = session_on(None, stdout);
    assert_eq!(write(&session, c"stdout", b"text"), Ok(4));
    assert_eq!(rustix::fs::fcntl_getfl(&given).unwrap(), before);
    // The session keeps the pipe open no longer than it lives.
    drop((session, given));
    let mut all = Vec::new();
    host.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"text");
}

#[test]
fn only_what_waits_for_the_host_is_said_to_block() {
    let session = session();
    let is_stream = |name| session.is_stream(inode(&session, name));
    assert!(is_stream(c"stdin"));
    assert!(is_stream(c"winsize"));
    assert!(is_stream(c"signal"));
    assert!(is_stream(c"stdout"));
    assert!(!is_stream(c"plan"));
    assert!(!is_stream(c"status"));
    assert!(!session.is_stream(u64::MAX));
}

#[test]
fn the_first_status_counts_and_is_announced_once() {
    let calls = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&calls);
    let streams = Streams {
        stdin: None,
        stdout: tempfile::tempfile().unwrap(),
        stderr: tempfile::tempfile().unwrap(),
    };
    let session = Session::new(&plan(), streams, move || {
        counter.fetch_add(1, Ordering::Relaxed);
    })
    .unwrap();

    let json = br#"{"outcome":"exited","code":3}"#;
    assert_eq!(write(&session, c"status", json), Ok(json.len()));
    assert_eq!(
        write(&session, c"status", br#"{"outcome":"exited","code":0}"#),
        Err(Errno::EXIST)
    );
    assert_eq!(session.status(), Some(Status::Exited { code: 3 }));
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[test]
fn a_status_that_is_wrong_or_too_long_is_refused() {
    let session = session();
    for json in [
        &b""[..],
        b"{}",
        b"\xff",
        br#"{"outcome":"exited","code":300}"#,
        br#"{"outcome":"exited","code":3}{}"#,
    ] {
        assert_eq!(write(&session, c"status", json), Err(Errno::INVAL));
    }
    let long = vec![b' '; protocol::MAX_STATUS + 1];
    assert_eq!(write(&session, c"status", &long), Err(Errno::FBIG));
    assert_eq!(session.status(), None);
}

#[test]
fn a_write_that_claims_more_than_it_has_is_refused() {
    let session = session();
    let request = request(1, inode(&session, c"status"));
    let args = WriteArgs {
        handle: request.node,
        size: 100,
        offset: 0,
        flags: 1,
        from_cache: false,
        kill_privileges: false,
    };
    assert_eq!(
        session.write(&request, &args, &mut Data(b"{}")),
        Err(Errno::IO)
    );
}

#[test]
fn marks_have_the_time_of_their_first_mention() {
    let session = session();
    let before = Instant::now();
    assert_eq!(write(&session, c"mark", b"init-started"), Ok(12));
    let first = session.reached(Mark::InitStarted).unwrap();
    assert!(first >= before);
    write(&session, c"mark", b"init-started").unwrap();
    assert_eq!(session.reached(Mark::InitStarted), Some(first));
    assert_eq!(session.reached(Mark::CommandStarted), None);
    assert_eq!(write(&session, c"mark", b"other"), Err(Errno::INVAL));
    assert_eq!(write(&session, c"mark", &[b'x'; 99]), Err(Errno::FBIG));
}

#[test]
fn the_hosts_files_are_never_sought() {
    let mut stdout = tempfile::tempfile().unwrap();
    stdout.write_all(b"before ").unwrap();
    let check = stdout.try_clone().unwrap();
    let session = session_on(None, stdout);
    write(&session, c"stdout", b"after").unwrap();
    let mut text = [0; 12];
    check.read_exact_at(&mut text, 0).unwrap();
    assert_eq!(&text, b"before after");
}

#[test]
fn a_taint_is_a_number_of_64_bits_and_the_first_counts() {
    let session = session();
    for text in ["", "\n", "-1\n", "x", "18446744073709551616\n"] {
        let written = write(&session, c"tainted", text.as_bytes());
        assert_eq!(written, Err(Errno::INVAL), "{text:?}");
    }
    assert_eq!(write(&session, c"tainted", &[b'1'; 99]), Err(Errno::FBIG));
    assert_eq!(session.taint(), None);
    assert_eq!(
        write(&session, c"tainted", b"18446744073709551615\n"),
        Ok(21)
    );
    assert_eq!(write(&session, c"tainted", b"0\n"), Ok(2));
    assert_eq!(session.taint(), Some(u64::MAX));
}
