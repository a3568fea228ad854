//! Real file descriptors, one loop.

use std::cell::RefCell;
use std::io::{Seek, Write};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, raise};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::typing::{ConsoleFeed, TypedKeys};
use super::*;

/// A sink that keeps what it gets and takes `most` bytes at a time, none every
/// other time.
#[derive(Clone, Default)]
struct Sink(Rc<RefCell<(Vec<u8>, usize)>>);

impl Sink {
    fn enqueue(&self, most: usize) -> impl Fn(&[u8]) -> usize + 'static {
        let sink = self.clone();
        move |bytes| {
            let (typed, calls) = &mut *sink.0.borrow_mut();
            *calls += 1;
            let taken = if *calls % 2 == 0 {
                0
            } else {
                bytes.len().min(most)
            };
            typed.extend_from_slice(&bytes[..taken]);
            taken
        }
    }

    fn typed(&self) -> Vec<u8> {
        self.0.borrow().0.clone()
    }
}

/// Runs the loop until the sink has `length` bytes.
fn run_until(events: &mut EventLoop, sink: &Sink, length: usize) {
    while sink.typed().len() < length {
        events.manager.run().unwrap();
        assert!(events.queue.pop().is_none());
    }
}

fn pipe() -> (std::fs::File, std::fs::File) {
    let (reader, writer): (OwnedFd, OwnedFd) = rustix::pipe::pipe().unwrap();
    (reader.into(), writer.into())
}

#[test]
fn signals_come_through_the_loop_and_end_nobody() {
    let mut events = EventLoop::new().unwrap();
    events.add(Signals::new(events.queue()).unwrap());
    // Not SIGHUP, SIGINT or SIGQUIT: nohup(1) and a shell's `&` have these
    // ignored, and then none comes.
    for signal in [Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGPWR] {
        raise(signal).unwrap();
        assert_eq!(events.next().unwrap(), Event::Signal(signal as i32));
    }
    raise(Signal::SIGWINCH).unwrap();
    assert_eq!(events.next().unwrap(), Event::Resized);
}

#[test]
fn a_deadline_comes_when_it_was_last_set() {
    let mut events = EventLoop::new().unwrap();
    let deadline = Deadline::new(events.queue()).unwrap();
    events.add(deadline.clone());
    let far = Instant::now() + Duration::from_secs(3600);
    deadline.set(Some(far)).unwrap();
    let near = Instant::now() + Duration::from_millis(2);
    deadline.set(Some(near)).unwrap();
    assert_eq!(events.next().unwrap(), Event::DeadlinePassed);
    assert!(Instant::now() >= near);
    // One that has passed already comes, too.
    deadline.set(Some(near)).unwrap();
    assert_eq!(events.next().unwrap(), Event::DeadlinePassed);
    deadline.set(None).unwrap();
    assert_eq!(events.manager.run_with_timeout(0).unwrap(), 0);
}

#[test]
fn ticks_come_again_and_again() {
    let mut events = EventLoop::new().unwrap();
    let start = Instant::now();
    events.add(Ticks::new(Duration::from_millis(2), events.queue()).unwrap());
    for _ in 0..3 {
        assert_eq!(events.next().unwrap(), Event::Tick);
    }
    assert!(start.elapsed() >= Duration::from_millis(2));
}

#[test]
fn what_happens_once_is_heard_once() {
    let mut events = EventLoop::new().unwrap();
    let eventfd = EventFd::new(EFD_NONBLOCK).unwrap();
    events.add(OneShot::new(&eventfd, Event::Reported, events.queue()).unwrap());
    eventfd.write(1).unwrap();
    assert_eq!(events.next().unwrap(), Event::Reported);
    assert_eq!(events.manager.run_with_timeout(0).unwrap(), 0);
}

#[test]
fn keys_reach_the_guest_and_the_escape_reaches_the_run() {
    let (reader, mut writer) = pipe();
    let mut events = EventLoop::new().unwrap();
    let typed = Rc::new(RefCell::new(Vec::new()));
    let sink = Rc::clone(&typed);
    let sink = move |keys: &[u8]| {
        sink.borrow_mut().extend_from_slice(keys);
        true
    };
    events.add(TypedKeys::new(reader, sink, events.queue()));
    writer.write_all(b"ls\r\x01").unwrap();
    events.manager.run().unwrap();
    assert_eq!(*typed.borrow(), b"ls\r");
    writer.write_all(b"x").unwrap();
    assert_eq!(events.next().unwrap(), Event::Quit);
    // A terminal that is gone wakes nobody up.
    drop(writer);
    events.manager.run().unwrap();
    assert_eq!(events.manager.run_with_timeout(0).unwrap(), 0);
}

#[test]
fn a_pipe_is_typed_as_the_console_takes_it_and_its_end_is_quiet() {
    let (reader, mut writer) = pipe();
    let sink = Sink::default();
    let mut events = EventLoop::new().unwrap();
    events.add(ConsoleFeed::new(reader, sink.enqueue(1000), events.queue()).unwrap());
    let text = b"0123456789".repeat(1000);
    writer.write_all(&text).unwrap();
    run_until(&mut events, &sink, text.len());
    assert!(sink.typed() == text);
    drop(writer);
    while events.manager.run_with_timeout(100).unwrap() > 0 {}
}

#[test]
fn a_file_that_epoll_refuses_is_typed_to_its_end() {
    let mut file = tempfile::tempfile().unwrap();
    let text = b"0123456789".repeat(1000);
    file.write_all(&text).unwrap();
    file.rewind().unwrap();
    let sink = Sink::default();
    let mut events = EventLoop::new().unwrap();
    events.add(ConsoleFeed::new(file, sink.enqueue(4096), events.queue()).unwrap());
    run_until(&mut events, &sink, text.len());
    assert!(sink.typed() == text);
    while events.manager.run_with_timeout(100).unwrap() > 0 {}

    let null = std::fs::File::open("/dev/null").unwrap();
    events.add(ConsoleFeed::new(null, sink.enqueue(1), events.queue()).unwrap());
    while events.manager.run_with_timeout(100).unwrap() > 0 {}
    assert!(events.queue.pop().is_none());
}
