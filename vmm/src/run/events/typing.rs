//! Standard input, where it is for a terminal or a serial console.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use event_manager::{EventOps, Events, MutEventSubscriber};
use rustix::event::{PollFd, PollFlags, Timespec};
use vmm_sys_util::timerfd::TimerFd;

use super::event_loop::EventLoop;
use super::queue::{self, Event, Queue};
use crate::console::feed::{Fed, Feed};
use crate::console::keyboard::{Keyboard, READ_SIZE, deliver};
use crate::console::keys::{self, Keys};
use crate::console::terminal;
use crate::machine::ConsoleInput;

/// How long to wait before more is typed on a console that takes no more.
const CONSOLE_FULL_PAUSE: Duration = Duration::from_millis(10);

/// Lets the loop carry what comes in to where `keys` says.
pub(in crate::run) fn follow(
    keys: Keys,
    console: ConsoleInput,
    events: &mut EventLoop,
) -> io::Result<()> {
    match keys {
        Keys::Stream => {}
        Keys::Console if keys::is_terminal_of_others() => {}
        Keys::Terminal { writer, .. } => {
            let sink = move |keys: &[u8]| deliver(&writer, keys);
            events.add(TypedKeys::new(keys::stdin()?, sink, events.queue()));
        }
        Keys::Console if terminal::input_is_ours() => {
            // Keys that a full console does not take are lost, as they are on
            // any terminal.
            let sink = move |keys: &[u8]| {
                let _ = console.enqueue(keys);
                true
            };
            events.add(TypedKeys::new(keys::stdin()?, sink, events.queue()));
        }
        Keys::Console => {
            let enqueue = move |bytes: &[u8]| console.enqueue(bytes);
            events.add(ConsoleFeed::new(keys::stdin()?, enqueue, events.queue())?);
        }
    }
    Ok(())
}

/// The keys that the user types on a terminal, and the escape in them.
pub(super) struct TypedKeys<S> {
    terminal: File,
    keyboard: Keyboard,
    sink: S,
    queue: Queue,
}

impl<S: FnMut(&[u8]) -> bool> TypedKeys<S> {
    pub(super) fn new(terminal: File, sink: S, queue: Queue) -> Self {
        Self {
            terminal,
            keyboard: Keyboard::default(),
            sink,
            queue,
        }
    }
}

impl<S: FnMut(&[u8]) -> bool> MutEventSubscriber for TypedKeys<S> {
    fn process(&mut self, _events: Events, ops: &mut EventOps<'_>) {
        let mut buffer = [0; READ_SIZE];
        match read_now(&self.terminal, &mut buffer) {
            None => {}
            Some(0) => queue::forget(ops, self.terminal.as_raw_fd()),
            Some(count) => {
                let bytes = buffer.get(..count).unwrap_or_default();
                if self.keyboard.take(bytes, &mut self.sink) {
                    self.queue.push(Event::Quit);
                }
            }
        }
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        queue::watch(ops, &self.terminal, &self.queue);
    }
}

/// A pipe or a file, typed on the guest's serial console as fast as that takes
/// it.
pub(super) struct ConsoleFeed<E> {
    input: File,
    enqueue: E,
    feed: Feed,
    /// For a console that is full, and for an input that cannot be polled.
    again: TimerFd,
    /// epoll refuses regular files and `/dev/null`: they are always ready.
    is_polled: bool,
    queue: Queue,
}

impl<E: Fn(&[u8]) -> usize> ConsoleFeed<E> {
    pub(super) fn new(input: File, enqueue: E, queue: Queue) -> io::Result<Self> {
        Ok(Self {
            input,
            enqueue,
            feed: Feed::default(),
            again: TimerFd::new().map_err(io::Error::from)?,
            is_polled: true,
            queue,
        })
    }

    fn again_in(&mut self, pause: Duration, ops: &mut EventOps<'_>) {
        if self.again.reset(pause, None).is_err() {
            self.end(ops);
        }
    }

    fn end(&self, ops: &mut EventOps<'_>) {
        queue::forget(ops, self.input.as_raw_fd());
        queue::forget(ops, self.again.as_raw_fd());
    }
}

impl<E: Fn(&[u8]) -> usize> MutEventSubscriber for ConsoleFeed<E> {
    fn process(&mut self, events: Events, ops: &mut EventOps<'_>) {
        let from_timer = events.fd() == self.again.as_raw_fd();
        if from_timer && self.again.wait().is_err() {
            return;
        }
        let input = &self.input;
        let fed = self
            .feed
            .step(|buffer| read_now(input, buffer), &self.enqueue);
        match fed {
            Fed::Everything if !self.is_polled => self.again_in(Duration::from_nanos(1), ops),
            Fed::Everything if from_timer => queue::watch(ops, &self.input, &self.queue),
            Fed::Everything => {}
            Fed::Full => {
                // Or a pipe with more in it would wake the loop all the time.
                queue::forget(ops, self.input.as_raw_fd());
                self.again_in(CONSOLE_FULL_PAUSE, ops);
            }
            Fed::End => self.end(ops),
        }
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        queue::watch(ops, &self.again, &self.queue);
        self.is_polled = queue::try_watch(ops, &self.input).is_ok();
        if !self.is_polled {
            self.again_in(Duration::from_nanos(1), ops);
        }
    }
}

/// Reads without waiting: another process that has the same terminal or pipe
/// may have been quicker. `None` when there is nothing, 0 at the end and when
/// nothing more can be read.
fn read_now(file: &File, buffer: &mut [u8]) -> Option<usize> {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    match rustix::event::poll(&mut [PollFd::new(file, PollFlags::IN)], Some(&now)) {
        Ok(0) | Err(_) => None,
        Ok(_) => match rustix::io::read(file, buffer) {
            Ok(count) => Some(count),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => None,
            Err(_) => Some(0),
        },
    }
}
