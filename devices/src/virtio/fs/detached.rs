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
//! back. One is as long as the longest request and reply together, 5 MiB; what
//! of it nobody writes to takes no memory of the host.

use std::sync::mpsc::Sender;
use std::sync::{Arc, PoisonError, RwLock};

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
    pub(super) fn is_the_hosts(&self) -> bool {
        matches!(self, Self::Map(_))
    }
}

impl Detached {
    /// Answers the request and hands it back to its queue, unless the driver
    /// it came from is gone. Says why if there was no answer.
    pub(super) fn serve(self) -> Result<(), BounceError> {
        let Self {
            chain,
            server,
            lease,
            finished,
            kick,
        } = self;
        let Some(copied) = lease.with(|| Bounce::copy_of(&chain, &*server)) else {
            return Ok(());
        };
        let reply = copied.and_then(|bounce| bounce.answer(server.as_ref()));
        let delivered = lease.with(|| reply.as_ref().map_or(0, |reply| reply.deliver(&chain)));
        let Some(len) = delivered else {
            return Ok(());
        };
        let head = chain.head_index();
        // The copy goes before the queue may take its time.
        let outcome = reply.map(drop);
        // When the queue is gone nobody is to be woken either.
        if finished.send(Finished { head, len }).is_ok()
            && let Err(error) = kick.write(WAKE)
        {
            log::error!("cannot wake a queue: {error}");
        }
        outcome
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

    /// Has the copy answered.
    fn answer(self, server: &dyn RequestServer) -> Result<BouncedReply, BounceError> {
        let chain = self.chain()?;
        let request = Reader::from_descriptor_chain(self.memory.as_ref(), chain.clone())
            .map_err(BounceError::Read)?;
        let reply = VirtioFsWriter::new(self.memory.as_ref(), chain).map_err(BounceError::Read)?;
        let len = usize::try_from(server.answer(request, reply)).unwrap_or(usize::MAX);
        Ok(BouncedReply {
            len: len.min(self.reply_len),
            bounce: self,
        })
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
