//! One gdb from its connection to its leave.

use std::io;

use gdbstub::conn::Connection;
use gdbstub::stub::state_machine::GdbStubStateMachine;
use gdbstub::stub::{DisconnectReason, GdbStub, GdbStubError};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::guest::{self, Guest};
use super::listener::Link;

type Failure = GdbStubError<guest::Error, io::Error>;
type Stub<'a> = GdbStubStateMachine<'a, Guest, Link>;

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// gdb has left, and the guest is to go on.
    Left,
    /// The machine is to end.
    Killed,
    /// The machine has ended.
    Over,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("gdb was not understood: {0}")]
    Protocol(String),
    #[error("cannot wait for gdb")]
    Poll(#[source] Errno),
    #[error("the connection to gdb is lost")]
    Connection(#[source] io::Error),
    #[error(transparent)]
    Guest(#[from] guest::Error),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let text = failure.to_string();
        if failure.is_target_error() {
            return (failure.into_target_error()).map_or(Self::Protocol(text), Self::Guest);
        }
        match failure.into_connection_error() {
            Some((source, _)) => Self::Connection(source),
            None => Self::Protocol(text),
        }
    }
}

/// Serves gdb until it leaves. The guest stands still at the beginning.
pub(super) fn serve(link: Link, guest: &mut Guest) -> Result<End, Error> {
    let mut stub = GdbStub::new(link).run_state_machine(guest)?;
    let mut buffer = [0; 4096];
    loop {
        stub = match stub {
            GdbStubStateMachine::Disconnected(mut stub) => {
                return Ok(match stub.get_reason() {
                    DisconnectReason::Disconnect => End::Left,
                    DisconnectReason::Kill => {
                        answer_kill(stub.borrow_conn());
                        End::Killed
                    }
                    DisconnectReason::TargetExited(_) | DisconnectReason::TargetTerminated(_) => {
                        End::Over
                    }
                });
            }
            stub => next(stub, guest, &mut buffer)?,
        };
        if let GdbStubStateMachine::Idle(_) = &stub
            && guest.access.parking.is_closed()
        {
            return Ok(End::Over);
        }
    }
}

/// Answers `vKill`, which `gdbstub` leaves to targets that can be started again. After
/// the older `k` nobody reads it, or is there any more.
fn answer_kill(link: &mut Link) {
    const OK: &[u8] = b"$OK#9a";
    let _ = link.write_all(OK).and_then(|()| link.flush());
}

/// Waits for gdb and the guest.
fn next<'a>(mut stub: Stub<'a>, guest: &mut Guest, buffer: &mut [u8]) -> Result<Stub<'a>, Error> {
    let link = match &mut stub {
        GdbStubStateMachine::Idle(stub) => stub.borrow_conn(),
        GdbStubStateMachine::Running(stub) => stub.borrow_conn(),
        _ => return Ok(stub),
    };
    let news = guest.access.parking.news();
    let mut fds = [
        PollFd::new(&*link, PollFlags::IN),
        PollFd::new(&news, PollFlags::IN),
    ];
    match poll(&mut fds, None) {
        Ok(_) => {}
        Err(Errno::INTR) => return Ok(stub),
        Err(error) => return Err(Error::Poll(error)),
    }
    let [said, news] = fds.map(|fd| !fd.revents().is_empty());
    let length = if said {
        match link.read(buffer).map_err(Error::Connection)? {
            0 => return Err(Error::Connection(io::ErrorKind::UnexpectedEof.into())),
            length => length,
        }
    } else {
        0
    };
    if news {
        guest.access.parking.take_news();
        if let GdbStubStateMachine::Running(running) = stub {
            stub = match guest.look()? {
                Some(reason) => running.report_stop(guest, reason)?,
                None => running.into(),
            };
        }
    }
    for byte in buffer.iter().take(length) {
        stub = match stub {
            GdbStubStateMachine::Idle(idle) => idle.incoming_data(guest, *byte)?,
            GdbStubStateMachine::Running(running) => running.incoming_data(guest, *byte)?,
            // gdb says nothing more.
            over => {
                stub = over;
                break;
            }
        };
        if let GdbStubStateMachine::CtrlCInterrupt(interrupt) = stub {
            let reason = guest.interrupt();
            stub = interrupt.interrupt_handled(guest, Some(reason))?;
        }
    }
    // The answer may come when the guest stops, but its acknowledgement is due.
    let link = match &mut stub {
        GdbStubStateMachine::Idle(stub) => stub.borrow_conn(),
        GdbStubStateMachine::Running(stub) => stub.borrow_conn(),
        GdbStubStateMachine::CtrlCInterrupt(stub) => stub.borrow_conn(),
        GdbStubStateMachine::Disconnected(stub) => stub.borrow_conn(),
    };
    link.flush().map_err(Error::Connection)?;
    Ok(stub)
}
