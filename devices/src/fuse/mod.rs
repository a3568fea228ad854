//! The FUSE server: decodes a request, calls the file system, answers exactly
//! once.
//!
//! The virtio-fs device hands over each descriptor chain as a reader and a
//! writer. On its way through, a request meets these, in order:
//!
//! | where | what |
//! | --- | --- |
//! | `request` | the header and its lengths |
//! | `opcode` | what is known of each operation, and which function serves it |
//! | `negotiation` | INIT: what is agreed on decides the layout of the rest |
//! | `dispatch` | these functions: decode, call the file system, answer |
//! | `name`, `extensions` | parts of a body with rules of their own |
//! | `data`, `listing`, `encoding` | what a file system answers, as the guest wants it |
//! | `reply` | the room for an answer, and the header, written last |
//!
//! The guest is hostile: whatever it sends ends in an answer with an errno,
//! and the server lives on.

mod data;
mod dispatch;
mod encoding;
mod extensions;
mod flags;
mod limits;
mod listing;
mod metrics;
mod name;
mod negotiation;
mod opcode;
mod reply;
mod request;
#[cfg(test)]
mod tests;

use std::fmt;
use std::mem::size_of;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fuse_backend_rs::abi::fuse_abi::InitOut;
use rustix::io::Errno;

use self::extensions::Extensions;
use self::flags::InitFlags;
use self::limits::{MAX_REPLY, MAX_REQUEST};
pub use self::metrics::{LATENCY_BUCKETS, MetricsSnapshot, OperationMetrics};
use self::metrics::{Metrics, Sample};
use self::negotiation::{OUR_VERSION, Offer};
pub use self::opcode::Opcode;
use self::opcode::Wait;
use self::reply::Reply;
use self::request::{Body, Call, Header, RawRequest};
use crate::filesystem::{
    Admission, Caller, Change, Deferral, FileSystem, Request, Result, WOULD_WAIT, Waiters,
};
use crate::virtio::buffers::{Readable, Writable};
use crate::virtio::fs::RequestServer;

/// Serves one file system to one guest.
///
/// The workers of all queues share it.
pub struct Server {
    fs: Arc<dyn FileSystem>,
    /// What was agreed on at INIT, with [`ESTABLISHED`]; 0 before.
    session: AtomicU64,
    /// Held while a session begins or ends, so that the file system is told
    /// of one thing at a time whatever the guest's queues send.
    transition: Mutex<()>,
    /// The requests that wait.
    waiters: Waiters,
    metrics: Metrics,
}

/// How a request may wait.
#[derive(Clone, Copy)]
enum Patience<'d> {
    /// Not at all: it is not begun with then.
    None,
    /// On the thread that serves it.
    Here,
    /// The same, or without a thread.
    Deferred(&'d Deferral),
}

/// Set in [`Server::session`] while there is one. No flag of INIT: the
/// protocol gives its 64 bits away from the lowest up, and this server offers
/// none above bit 42.
const ESTABLISHED: u64 = 1 << 63;

impl Server {
    /// A server for `fs` that waits for INIT.
    #[must_use]
    pub fn new(fs: Arc<dyn FileSystem>) -> Self {
        Self {
            fs,
            session: AtomicU64::new(0),
            transition: Mutex::new(()),
            waiters: Waiters::new(),
            metrics: Metrics::new(),
        }
    }

    /// What was served since the server was made, sessions before a reset
    /// included.
    #[must_use]
    pub fn metrics(&self) -> MetricsSnapshot {
        self.metrics.snapshot()
    }

    fn execute<'a>(
        &self,
        request: RawRequest<'a>,
        reply: &mut Reply<'a>,
        patience: Patience<'_>,
    ) -> Result<()> {
        let RawRequest {
            header,
            mut body,
            mut extensions,
        } = request;
        let opcode = Opcode(header.opcode);
        if !reply.has_room() && !opcode.needs_no_reply() {
            return Err(Errno::IO);
        }
        let admission = Admission::from(&self.waiters);
        let session = match (opcode, self.session.load(Ordering::Acquire)) {
            (Opcode::INIT, _) => return self.init(&mut body, reply),
            (Opcode::DESTROY, _) => {
                self.end_session();
                return Ok(());
            }
            (_, 0) => return Err(Errno::IO),
            (_, session) => InitFlags::from_bits_retain(session),
        };
        let mut space;
        let extensions = if header.extensions_len == 0 {
            Extensions::default()
        } else {
            space = extensions::SPACE;
            extensions::read(&mut extensions, session, &mut space)?
        };
        let caller = caller(&header, extensions.group);
        if body.remaining() < opcode.smallest_body() {
            return Err(Errno::INVAL);
        }
        if opcode == Opcode::INTERRUPT {
            return self.interrupt(&mut body);
        }
        let operation = opcode.operation().ok_or(Errno::NOSYS)?;
        let request =
            Request::new(header.unique, header.node, caller, admission).labelled(extensions.label);
        operation(&mut Call {
            fs: &*self.fs,
            request: match patience {
                Patience::None => request.in_a_hurry(),
                Patience::Here => request,
                Patience::Deferred(deferral) => request.deferrable(deferral),
            },
            body,
            reply,
            agreed: session,
        })
    }

    /// Executes `request` and writes its answer to `reply`. Returns the
    /// length of the answer in bytes, which is what the device reports as
    /// used: 0 for a request without an answer (FORGET, BATCH_FORGET), and
    /// for one that left no room for the 16 bytes of a header.
    ///
    /// Nothing when the request would have to wait and must not, or was
    /// deferred.
    fn serve(
        &self,
        request: Readable<'_>,
        reply: Writable<'_>,
        patience: Patience<'_>,
    ) -> Option<u32> {
        let begun = match patience {
            Patience::Deferred(deferral) => deferral.begun(),
            Patience::None | Patience::Here => Instant::now(),
        };
        let mut reply = Reply::new(reply);
        let (opcode, unique, outcome) = match RawRequest::decode(request) {
            Ok(request) => {
                let Header { opcode, unique, .. } = request.header;
                (opcode, unique, self.execute(request, &mut reply, patience))
            }
            Err(malformed) => (malformed.opcode, malformed.unique, Err(Errno::INVAL)),
        };
        if outcome == Err(WOULD_WAIT) && !matches!(patience, Patience::Here) {
            return None;
        }
        let opcode = Opcode(opcode);
        let length = if opcode.is_silent() {
            0
        } else {
            reply.finish(unique, outcome)
        };
        self.metrics.record(Sample {
            opcode,
            failed: outcome.is_err(),
            bytes_read: reply.len(),
            bytes_written: reply.accepted(),
            duration: begun.elapsed(),
        });
        Some(length)
    }

    /// INTERRUPT names a request under way; that request is answered with
    /// `EINTR` if it is cut short. `EAGAIN` says that it was not found, because
    /// it is not yet read or is already answered, and the guest may ask again
    /// (Documentation/filesystems/fuse.rst, "Interrupting filesystem
    /// operations").
    fn interrupt(&self, body: &mut Body<'_>) -> Result<()> {
        let unique = body.object::<u64>()?;
        if self.waiters.interrupt(unique) {
            Ok(())
        } else {
            Err(Errno::AGAIN)
        }
    }

    /// INIT, the first or another one: a guest that boots again, or a driver
    /// that is bound again, need not have sent DESTROY.
    fn init(&self, body: &mut Body<'_>, reply: &mut Reply<'_>) -> Result<()> {
        let (max_readahead, offered) = match Offer::decode(body)? {
            Offer::NewerMajor => return reply.put(&OUR_VERSION),
            Offer::Known {
                max_readahead,
                flags,
            } => (max_readahead, flags),
        };
        reply.ensure(size_of::<InitOut>())?;
        let agreed = negotiation::agree(offered, &self.fs.capabilities());
        let transition = self.transition.lock();
        let _transition = transition.unwrap_or_else(PoisonError::into_inner);
        if self.session.swap(0, Ordering::AcqRel) != 0 {
            self.forget_guest();
        }
        self.fs.init(negotiation::agreement(agreed));
        self.session
            .store(agreed.bits() | ESTABLISHED, Ordering::Release);
        reply.put(&negotiation::reply(agreed, max_readahead))
    }

    fn end_session(&self) {
        let transition = self.transition.lock();
        let _transition = transition.unwrap_or_else(PoisonError::into_inner);
        if self.session.swap(0, Ordering::AcqRel) != 0 {
            self.forget_guest();
        }
    }

    /// The guest is gone, or starts afresh: no answer is waited for.
    fn forget_guest(&self) {
        self.waiters.interrupt_all();
        self.fs.destroy();
    }
}

impl RequestServer for Server {
    fn longest_request(&self) -> usize {
        MAX_REQUEST
    }

    fn longest_reply(&self) -> usize {
        MAX_REPLY
    }

    /// The guest can change a request after it was looked at here. Only its own
    /// queue then waits for it.
    fn may_block(&self, request: &Readable<'_>) -> bool {
        let Some(header) = request::peek_header(request) else {
            return false;
        };
        match Opcode(header.opcode).wait() {
            Wait::No => false,
            Wait::Yes => true,
            Wait::ByNode => self.fs.is_stream(header.node) || self.fs.may_stall(header.node),
            Wait::ByHost => self.fs.may_stall(header.node),
            Wait::ByHosts => {
                let other = request::peek_other_node(request);
                self.fs.may_stall(header.node) || other.is_some_and(|node| self.fs.may_stall(node))
            }
        }
    }

    fn answer(&self, request: Readable<'_>, reply: Writable<'_>) -> u32 {
        self.serve(request, reply, Patience::Here).unwrap_or(0)
    }

    fn answer_at_once(&self, request: Readable<'_>, reply: Writable<'_>) -> Option<u32> {
        self.serve(request, reply, Patience::None)
    }

    fn answer_or_defer(
        &self,
        request: Readable<'_>,
        reply: Writable<'_>,
        deferral: &Deferral,
    ) -> Option<u32> {
        self.serve(request, reply, Patience::Deferred(deferral))
    }

    fn answer_fault(&self, request: Readable<'_>, reply: Writable<'_>) -> u32 {
        match request::peek_header(&request) {
            Some(header) if !Opcode(header.opcode).is_silent() => {
                Reply::new(reply).finish(header.unique, Err(Errno::FAULT))
            }
            _ => 0,
        }
    }

    fn limit_deferred(&self, most: usize) {
        self.waiters.limit_deferred(most);
    }

    fn change(&self) -> Change {
        self.waiters.change()
    }

    fn wait_for_change(&self, seen: Change, patience: Duration) -> Change {
        self.waiters.wait_for_change(seen, patience)
    }

    fn wake(&self) {
        self.waiters.wake();
    }

    /// The session ends without DESTROY, and the next request has to be INIT.
    /// The file system is told even where there is no session any more: a
    /// request that was slow when the device was first reset may have opened
    /// something since.
    fn reset(&self) {
        let transition = self.transition.lock();
        let _transition = transition.unwrap_or_else(PoisonError::into_inner);
        self.session.store(0, Ordering::Release);
        self.forget_guest();
    }
}

fn caller(header: &Header, supplementary_gid: Option<u32>) -> Caller {
    Caller {
        uid: header.uid,
        gid: header.gid,
        pid: header.pid,
        supplementary_gid,
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Server")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}
