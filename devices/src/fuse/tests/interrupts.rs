//! INTERRUPT, and requests that wait.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;

use super::guest::{Message, UNIQUE, answered_or_deferred, exchange};
use super::requests::{init, lock, read};
use crate::filesystem::{
    AttributeOperations, CreateOperations, Deferral, DirectoryOperations, FileOperations,
    FileSystem, IoctlOperations, LockArgs, LockOperations, LookupOperations, MappingOperations,
    ReadArgs, RemoveOperations, ReplyData, Request, Result, XattrOperations,
};
use crate::fuse::{Opcode, Server};
use crate::virtio::driver::PATIENCE;
use crate::virtio::fs::RequestServer;

/// A file system whose files say nothing.
struct Silence(File);

impl FileSystem for Silence {}
impl LookupOperations for Silence {}
impl CreateOperations for Silence {}
impl RemoveOperations for Silence {}
impl AttributeOperations for Silence {}
impl DirectoryOperations for Silence {}
impl XattrOperations for Silence {}

impl LockOperations for Silence {
    fn setlk(&self, request: &Request<'_>, _: &LockArgs) -> Result<()> {
        request.go_on()?;
        Err(request.defer(Box::new(())))
    }
}

impl IoctlOperations for Silence {}
impl MappingOperations for Silence {}

impl FileOperations for Silence {
    fn read(&self, request: &Request<'_>, _: &ReadArgs, _: &mut dyn ReplyData) -> Result<usize> {
        request.waiter()?.wait(&self.0, PollFlags::IN)?;
        Ok(0)
    }
}

/// A server in session, and what ends the silence.
fn silent() -> (Server, OwnedFd) {
    let (reader, writer) = std::io::pipe().unwrap();
    let server = Server::new(Arc::new(Silence(OwnedFd::from(reader).into())));
    exchange(&server, &init(7, 38, 0), 80).assert_success(64);
    (server, writer.into())
}

fn interrupt(unique: u64) -> Vec<u8> {
    Message::new(Opcode::INTERRUPT, 0).u64(unique).finish()
}

/// What a READ is answered with that `wake` is to wake, over and over. In the
/// end the file is ready, which `open` keeps it from being.
fn errno_of_read_under(server: &Server, open: OwnedFd, wake: impl Fn()) -> i32 {
    let start = Instant::now();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| exchange(server, &read(4, 0).finish(), 20));
        while !waiting.is_finished() && start.elapsed() < PATIENCE {
            wake();
            thread::yield_now();
        }
        drop(open);
        waiting.join().unwrap().errno()
    })
}

#[test]
fn an_interrupted_request_ends_with_eintr() {
    let (server, open) = silent();
    let errno = errno_of_read_under(&server, open, || {
        let answer = exchange(&server, &interrupt(UNIQUE), 16);
        answer.assert_well_formed();
    });
    assert_eq!(errno, Errno::INTR.raw_os_error());
}

#[test]
fn an_interrupt_is_heard_without_room_for_its_answer() {
    let (server, open) = silent();
    let errno = errno_of_read_under(&server, open, || {
        exchange(&server, &interrupt(UNIQUE), 0).assert_nothing();
    });
    assert_eq!(errno, Errno::INTR.raw_os_error());
}

#[test]
fn an_interrupt_ends_no_other_request() {
    let (server, open) = silent();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| exchange(&server, &read(4, 0).finish(), 20));
        for _ in 0..100 {
            exchange(&server, &interrupt(UNIQUE + 1), 16).assert_errno(Errno::AGAIN);
        }
        drop(open);
        waiting.join().unwrap().assert_success(0);
    });
}

#[test]
fn an_interrupt_that_finds_nothing_is_to_be_tried_again() {
    let (server, _open) = silent();
    exchange(&server, &interrupt(9), 16).assert_errno(Errno::AGAIN);
    exchange(&server, &interrupt(9), 0).assert_nothing();
    exchange(&server, &interrupt(9)[..44], 16).assert_errno(Errno::INVAL);
}

#[test]
fn the_end_of_the_session_ends_every_wait() {
    let destroy = Message::new(Opcode::DESTROY, 0).finish();
    let init = init(7, 38, 0);
    for end in [destroy, init] {
        let (server, open) = silent();
        let errno = errno_of_read_under(&server, open, || {
            exchange(&server, &end, 80).assert_well_formed();
        });
        // Before its session had begun again, it was not even begun.
        let expected = [Errno::INTR.raw_os_error(), Errno::IO.raw_os_error()];
        assert!(expected.contains(&errno), "{errno}");
    }
    let (server, open) = silent();
    let errno = errno_of_read_under(&server, open, || server.reset());
    assert!(
        [Errno::INTR, Errno::IO]
            .map(Errno::raw_os_error)
            .contains(&errno)
    );
}

/// Whether a SETLKW that is served once more gets an answer, and which.
fn once_more(server: &Server, deferral: &Deferral) -> Option<i32> {
    answered_or_deferred(server, &lock(Opcode::SETLKW, 1, 0).finish(), deferral)
}

#[test]
fn a_deferred_request_is_answered_when_it_is_interrupted() {
    let (server, _open) = silent();
    let deferral = Deferral::default();
    assert_eq!(once_more(&server, &deferral), None);
    exchange(&server, &interrupt(UNIQUE + 1), 16).assert_errno(Errno::AGAIN);
    assert_eq!(once_more(&server, &deferral), None);
    let change = server.change();
    exchange(&server, &interrupt(UNIQUE), 16).assert_well_formed();
    assert_ne!(server.change(), change);
    assert_eq!(
        once_more(&server, &deferral),
        Some(Errno::INTR.raw_os_error())
    );
    drop(deferral);
    exchange(&server, &interrupt(UNIQUE), 16).assert_errno(Errno::AGAIN);
}

#[test]
fn the_end_of_the_session_ends_what_is_deferred() {
    let destroy = Message::new(Opcode::DESTROY, 0).finish();
    let init = init(7, 38, 0);
    for end in [Some(destroy), Some(init), None] {
        let (server, _open) = silent();
        let deferral = Deferral::default();
        assert_eq!(once_more(&server, &deferral), None);
        match end {
            Some(end) => exchange(&server, &end, 80).assert_well_formed(),
            None => server.reset(),
        }
        let errno = once_more(&server, &deferral).unwrap();
        assert!(
            [Errno::INTR, Errno::IO]
                .map(Errno::raw_os_error)
                .contains(&errno)
        );
    }
}

#[test]
fn a_request_that_nobody_serves_again_is_not_deferred() {
    let (server, _open) = silent();
    let request = lock(Opcode::SETLKW, 1, 0).finish();
    exchange(&server, &request, 16).assert_errno(Errno::AGAIN);
    exchange(&server, &interrupt(UNIQUE), 16).assert_errno(Errno::AGAIN);
}

#[test]
fn a_deferred_request_counts_once_and_with_all_its_time() {
    let (server, _open) = silent();
    let deferral = Deferral::default();
    assert_eq!(once_more(&server, &deferral), None);
    assert_eq!(once_more(&server, &deferral), None);
    thread::sleep(Duration::from_millis(20));
    exchange(&server, &interrupt(UNIQUE), 16).assert_well_formed();
    assert!(once_more(&server, &deferral).is_some());
    let metrics = server.metrics();
    let setlkw = metrics.operation(Opcode::SETLKW).unwrap();
    assert_eq!((setlkw.count, setlkw.errors), (1, 1));
    // Buckets below the 15th are for less than 16.4 ms.
    assert_eq!(setlkw.latency[15..].iter().sum::<u64>(), 1);
}
