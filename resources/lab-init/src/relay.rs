//! Carries a stream between the command and a port.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lab_init::frame;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

/// What stops the relay of an output stream before its writers are gone.
#[derive(Clone)]
pub(crate) struct Valve {
    wake: Arc<OwnedFd>,
    closed: Arc<AtomicBool>,
}

impl Valve {
    pub(crate) fn new() -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            wake: Arc::new(wake),
            closed: Arc::default(),
        })
    }

    /// Ends the stream now: its writer gets `EPIPE` and `SIGPIPE`.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.finish();
    }

    /// Ends the stream once it holds no more data, though somebody who
    /// outlives the command may still have it open.
    pub(crate) fn finish(&self) {
        // Fails only when the counter is full, and then it is readable too.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

/// Carries what the command writes to `source` until it ends or `valve` says
/// so.
pub(crate) fn carry_out(source: OwnedFd, mut port: File, valve: &Valve) -> io::Result<()> {
    let mut source = File::from(source);
    let mut buffer = vec![0; frame::LARGEST];
    loop {
        let mut events = [
            PollFd::new(&source, PollFlags::IN),
            PollFd::new(&valve.wake, PollFlags::IN),
        ];
        poll(&mut events, None)?;
        let (data, over) = (
            !events[0].revents().is_empty(),
            !events[1].revents().is_empty(),
        );
        if valve.closed.load(Ordering::Acquire) || (over && !data) {
            break;
        }
        if !data {
            continue;
        }
        match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => frame::send(&mut port, &buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A terminal whose last user is gone.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
                break;
            }
            Err(error) => return Err(error),
        }
    }
    drop(source);
    frame::end(&mut port)
}

/// Carries the host's input to the command. `at_end` is written when the input
/// ends: nothing for a pipe, which is closed; the end-of-file character for a
/// terminal, which cannot be.
pub(crate) fn carry_in(mut port: File, sink: OwnedFd, at_end: &[u8]) -> io::Result<()> {
    let mut sink = Some(File::from(sink));
    let mut buffer = Vec::new();
    while frame::receive(&mut port, &mut buffer)? {
        // A command that closed its input loses nothing: the rest of the
        // input is read and forgotten, so that the host is not held up.
        if sink
            .as_mut()
            .is_some_and(|sink| sink.write_all(&buffer).is_err())
        {
            sink = None;
        }
    }
    match sink {
        Some(mut sink) => sink.write_all(at_end),
        None => Ok(()),
    }
}
