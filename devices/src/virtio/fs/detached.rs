//! A request that was taken off its queue's thread because it may block.
//!
//! A reset must not wait for what never comes, such as a line on the host's
//! standard input, and after it guest memory belongs to whatever the guest
//! does next: a late reply would overwrite it. A system call that waits with
//! guest pages for its buffer cannot be told to forget them. So a detached
//! request is served from a private copy ([`Bounce`]), and its reply is copied
//! to the guest under a [`Lease`], which a reset revokes. What is left behind
//! then is a thread of the pool that writes to unused memory, and a
//! channel without a receiver.
//!
//! The copy lives from the moment a thread of the pool begins with the request
//! until the reply is in guest memory: there are never more copies than the
//! pool has threads, however slow the queue's thread is in giving the requests
//! back, and are deferred. One is as long as the longest request and reply together, 5 MiB; what
//! of it nobody writes to takes no memory of the host.

use std::sync::mpsc::Sender;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use fuse_backend_rs::transport::{Reader, VirtioFsWriter};
use thiserror::Error;
use virtio_bindings::bindings::virtio_ring::{VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{
    Address, Bytes, GuestAddress, GuestMemory, GuestMemoryError, GuestMemoryMmap, VolatileSlice,
    mmap::FromRangesError,
};
use vmm_sys_util::eventfd::EventFd;

use super::server::RequestServer;
use crate::filesystem::{Change, Deferral};
use crate::virtio::Complaints;
use crate::virtio::drain::Chain;

/// What everybody but the driver adds to a queue's kick. Beyond 32 bits, so
/// that the sum still tells how often the driver kicked.
pub(super) const WAKE: u64 = 1 << 32;

/// Leave to touch guest memory for as long as the driver that made a request
/// is there.
#[derive(Debug, Default)]
pub(super) struct Lease {
    revoked: RwLock<bool>,
}

impl Lease {
    /// Ends the lease; on return no guest memory is touched under it.
    pub(super) fn revoke(&self) {
        *self.revoked.write().unwrap_or_else(PoisonError::into_inner) = true;
    }

    fn with<T>(&self, touch: impl FnOnce() -> T) -> Option<T> {
        let revoked = self.revoked.read().unwrap_or_else(PoisonError::into_inner);
        (!*revoked).then(touch)
    }
}

/// A request on its way through the pool.
pub(super) struct Detached {
    /// The request in guest memory.
    pub(super) chain: Chain,
    pub(super) server: Arc<dyn RequestServer>,
    pub(super) lease: Arc<Lease>,
    /// Where it came from.
    pub(super) finished: Sender<Finished>,
    pub(super) kick: Arc<EventFd>,
    /// Set when a thread has begun with it.
    pub(super) begun: Option<Box<Begun>>,
}

/// A request that was served, perhaps without an answer yet.
pub(super) struct Begun {
    bounce: Bounce,
    deferral: Deferral,
    /// When that was the first time.
    since: Instant,
    /// When it was the last time.
    last: Instant,
    /// What had happened before it.
    seen: Change,
}

/// What became of a request that was served.
pub(super) enum Served {
    /// It was answered, or found to have no answer, which is said why.
    Over(Result<(), BounceError>),
    /// It is to be served again.
    Deferred(Detached),
}

/// A detached request that was answered, or was found to have no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Finished {
    /// The first descriptor of the request.
    pub(super) head: u16,
    /// How many bytes of an answer there are.
    pub(super) len: u32,
}

struct BouncedReply {
    bounce: Bounce,
    len: usize,
}

/// Why a request could not be copied.
#[derive(Debug, Error)]
pub(super) enum BounceError {
    #[error("cannot map memory for a copy")]
    Map(#[source] FromRangesError),
    #[error("cannot copy")]
    Copy(#[source] GuestMemoryError),
    #[error("cannot describe the copy")]
    Describe(#[source] virtio_queue::Error),
    #[error("the copy cannot be read")]
    Read(#[source] fuse_backend_rs::transport::Error),
}

impl BounceError {
    /// Whether it says something about the host, and not about the guest.
    fn is_the_hosts(&self) -> bool {
        matches!(self, Self::Map(_))
    }

    /// Says it in the log, and not too often.
    pub(super) fn report(&self, complaints: &Complaints) {
        let level = match self.is_the_hosts() {
            true => complaints.level(),
            false => log::Level::Debug,
        };
        log::log!(level, "a request that may block gets no answer: {self}");
    }
}

impl Detached {
    /// Answers the request and hands it back to its queue, unless the driver
    /// it came from is gone, or the request is deferred.
    pub(super) fn serve(self) -> Served {
        self.serve_as(|bounce, server, deferral| bounce.answer(server, Some(deferral)))
    }

    /// Answers the request, deferred or not.
    pub(super) fn serve_at_last(self) -> Result<(), BounceError> {
        match self.serve_as(|bounce, server, _| bounce.answer(server, None)) {
            Served::Over(outcome) => outcome,
            Served::Deferred(_) => Ok(()),
        }
    }

    fn serve_as(
        mut self,
        answer: impl FnOnce(
            &Bounce,
            &dyn RequestServer,
            &Deferral,
        ) -> Result<Option<usize>, BounceError>,
    ) -> Served {
        let seen = self.server.change();
        let begun = match self.begun.take() {
            Some(begun) => self.lease.with(|| Ok(begun.again(seen))),
            None => (self.lease)
                .with(|| Bounce::copy_of(&self.chain, &*self.server))
                .map(|copied| copied.map(|bounce| Begun::new(bounce, seen))),
        };
        let Some(begun) = begun else {
            return Served::Over(Ok(()));
        };
        let answered = begun.and_then(|begun| {
            let len = answer(&begun.bounce, &*self.server, &begun.deferral)?;
            Ok((begun, len))
        });
        let reply = match answered {
            Ok((begun, None)) => {
                self.begun = Some(Box::new(begun));
                return Served::Deferred(self);
            }
            Ok((begun, Some(len))) => Ok(BouncedReply {
                len: len.min(begun.bounce.reply_len),
                bounce: begun.bounce,
            }),
            Err(error) => Err(error),
        };
        let deliver = || reply.as_ref().map_or(0, |reply| reply.deliver(&self.chain));
        let Some(len) = self.lease.with(deliver) else {
            return Served::Over(Ok(()));
        };
        let head = self.chain.head_index();
        // The copy goes before the queue may take its time.
        let outcome = reply.map(drop);
        // When the queue is gone nobody is to be woken either.
        if self.finished.send(Finished { head, len }).is_ok()
            && let Err(error) = self.kick.write(WAKE)
        {
            log::error!("cannot wake a queue: {error}");
        }
        Served::Over(outcome)
    }

    /// Since when it has been served.
    pub(super) fn since(&self) -> Option<Instant> {
        self.begun.as_ref().map(|begun| begun.since)
    }

    /// When it is to be served again: `next` says how long after the last time,
    /// by how long it had waited then.
    pub(super) fn due(&self, next: fn(Duration) -> Duration) -> Option<Instant> {
        let begun = self.begun.as_ref()?;
        begun.last.checked_add(next(begun.last - begun.since))
    }

    /// Whether that is now, because of the time or of what has changed.
    pub(super) fn is_due(
        &self,
        change: Change,
        now: Instant,
        next: fn(Duration) -> Duration,
    ) -> bool {
        let begun = self.begun.as_ref();
        begun.is_none_or(|begun| begun.seen.events != change.events)
            || self.due(next).is_none_or(|due| due <= now)
    }

    /// Whether serving it may wait for somebody else whatever it asks.
    pub(super) fn may_stall(&self) -> bool {
        let Some(begun) = &self.begun else {
            return false;
        };
        let request = begun.bounce.request();
        request.is_ok_and(|request| self.server.may_block(&request))
    }
}

impl Begun {
    fn new(bounce: Bounce, seen: Change) -> Self {
        let now = Instant::now();
        Self {
            bounce,
            deferral: Deferral::default(),
            since: now,
            last: now,
            seen,
        }
    }

    /// The same, now that it is served again.
    fn again(self, seen: Change) -> Self {
        let last = Instant::now();
        Self { last, seen, ..self }
    }
}

impl std::fmt::Debug for Detached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Detached")
            .field("head", &self.chain.head_index())
            .finish_non_exhaustive()
    }
}

impl BouncedReply {
    /// Copies the reply to the driver's buffers, and says how many bytes there
    /// were.
    fn deliver(&self, chain: &Chain) -> u32 {
        let mut done = 0;
        for descriptor in chain.clone().writable() {
            let space = usize::try_from(descriptor.len()).unwrap_or(usize::MAX);
            let len = space.min(self.len - done);
            let Some(from) = self.bounce.reply_slice(done, len) else {
                break;
            };
            let Ok(to) = chain.memory().get_slice(descriptor.addr(), len) else {
                break;
            };
            from.copy_to_volatile_slice(to);
            done += len;
            if done == self.len {
                break;
            }
        }
        u32::try_from(done).unwrap_or(u32::MAX)
    }
}

/// A request and room for its reply, in memory of our own. It is laid out as a
/// guest's would be, with a queue of one request at the bottom, because chains
/// only come out of queues, and what serves requests takes chains.
struct Bounce {
    memory: Arc<GuestMemoryMmap>,
    request_len: usize,
    reply_len: usize,
}

/// Two descriptors.
const DESCRIPTORS: usize = 0x0;
const AVAILABLE: usize = 0x100;
const USED: usize = 0x200;
/// Where the request begins; the reply follows it.
const REQUEST: usize = 0x1000;

impl Bounce {
    /// Copies the request that `chain` is, from guest memory: one byte more than
    /// `server` looks at, so that it sees what is too long. A driver that gives
    /// more space for the reply than `server` fills does not get more memory of
    /// the host.
    fn copy_of(chain: &Chain, server: &dyn RequestServer) -> Result<Self, BounceError> {
        let longest_request = server.longest_request().saturating_add(1);
        let request_len = length(chain.clone().readable(), longest_request);
        let reply_len = length(chain.clone().writable(), server.longest_reply());
        let len = REQUEST + request_len + reply_len;
        let memory =
            GuestMemoryMmap::from_ranges(&[(GuestAddress(0), len)]).map_err(BounceError::Map)?;
        let mut done = 0;
        for descriptor in chain.clone().readable() {
            let space = usize::try_from(descriptor.len()).unwrap_or(usize::MAX);
            let len = space.min(request_len - done);
            let from = (chain.memory())
                .get_slice(descriptor.addr(), len)
                .map_err(BounceError::Copy)?;
            let to = memory
                .get_slice(address(REQUEST + done), len)
                .map_err(BounceError::Copy)?;
            from.copy_to_volatile_slice(to);
            done += len;
        }
        Ok(Self {
            memory: Arc::new(memory),
            request_len,
            reply_len,
        })
    }

    /// The copy, to be read.
    fn request(&self) -> Result<Reader<'_>, BounceError> {
        let chain = self.chain()?;
        Reader::from_descriptor_chain(self.memory.as_ref(), chain).map_err(BounceError::Read)
    }

    /// Has the copy answered, or deferred where there is a `deferral`, and says
    /// how long the answer is.
    fn answer(
        &self,
        server: &dyn RequestServer,
        deferral: Option<&Deferral>,
    ) -> Result<Option<usize>, BounceError> {
        let chain = self.chain()?;
        let request = Reader::from_descriptor_chain(self.memory.as_ref(), chain.clone())
            .map_err(BounceError::Read)?;
        let reply = VirtioFsWriter::new(self.memory.as_ref(), chain).map_err(BounceError::Read)?;
        let len = match deferral {
            Some(deferral) => server.answer_or_defer(request, reply, deferral),
            None => Some(server.answer(request, reply)),
        };
        Ok(len.map(|len| usize::try_from(len).unwrap_or(usize::MAX)))
    }

    /// `len` bytes of the reply from byte `from` on.
    fn reply_slice(&self, from: usize, len: usize) -> Option<VolatileSlice<'_>> {
        let at = address(REQUEST + self.request_len + from);
        self.memory.get_slice(at, len).ok()
    }

    /// The copy as a chain.
    fn chain(&self) -> Result<Chain, BounceError> {
        self.describe().map_err(BounceError::Copy)?;
        let mut queue = Queue::new(2).map_err(BounceError::Describe)?;
        queue
            .try_set_desc_table_address(address(DESCRIPTORS))
            .and_then(|()| queue.try_set_avail_ring_address(address(AVAILABLE)))
            .and_then(|()| queue.try_set_used_ring_address(address(USED)))
            .map_err(BounceError::Describe)?;
        queue.set_ready(true);
        queue
            .iter(Arc::clone(&self.memory))
            .map_err(BounceError::Describe)?
            .next()
            .ok_or(BounceError::Describe(virtio_queue::Error::InvalidChain))
    }

    /// Writes the descriptors, and a ring in which one request is available:
    /// the chain at descriptor 0.
    #[allow(clippy::cast_possible_truncation)] // Lengths up to the limits, 16-bit flags.
    fn describe(&self) -> Result<(), GuestMemoryError> {
        let parts = [
            (REQUEST, self.request_len, 0),
            (
                REQUEST + self.request_len,
                self.reply_len,
                VRING_DESC_F_WRITE,
            ),
        ];
        // An empty part gets no descriptor: its address may be behind the end.
        let parts = parts.iter().filter(|(_, len, _)| *len > 0);
        let last = parts.clone().count().saturating_sub(1);
        for (index, (start, len, flags)) in parts.enumerate() {
            let flags = flags | if index < last { VRING_DESC_F_NEXT } else { 0 };
            let start = address(*start).raw_value();
            let descriptor = Descriptor::new(start, *len as u32, flags as u16, index as u16 + 1);
            let at = address(DESCRIPTORS + index * size_of::<Descriptor>());
            self.memory.write_obj(descriptor, at)?;
        }
        // Flags, index, first element.
        self.memory
            .write_obj([0, 1_u16.to_le(), 0], address(AVAILABLE))
    }
}

fn address(offset: usize) -> GuestAddress {
    GuestAddress(offset as u64)
}

/// The bytes in `descriptors`, up to `limit`.
fn length(descriptors: impl Iterator<Item = Descriptor>, limit: usize) -> usize {
    descriptors.fold(0_usize, |sum, descriptor| {
        let len = usize::try_from(descriptor.len()).unwrap_or(usize::MAX);
        sum.saturating_add(len).min(limit)
    })
}
