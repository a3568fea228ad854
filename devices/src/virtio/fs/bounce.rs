//! A request's private copy, for those that are served off their queue's thread.

use std::sync::Arc;

use fuse_backend_rs::transport::{Reader, VirtioFsWriter};
use thiserror::Error;
use virtio_bindings::bindings::virtio_ring::{VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{
    Address, Bytes, GuestAddress, GuestMemory, GuestMemoryError, GuestMemoryMmap, VolatileSlice,
    mmap::FromRangesError,
};

use super::server::RequestServer;
use crate::filesystem::Deferral;
use crate::virtio::Complaints;
use crate::virtio::drain::Chain;
use crate::window::Windows;

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

/// A request and room for its reply, in memory of our own. It is laid out as a
/// guest's would be, with a queue of one request at the bottom, because chains
/// only come out of queues, and what serves requests takes chains.
pub(super) struct Bounce {
    memory: Arc<GuestMemoryMmap>,
    request_len: usize,
    pub(super) reply_len: usize,
    /// Some of the request is not where it says.
    faulty: bool,
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
    /// the host. What is in one of the `windows` may not be there; then the answer
    /// will say so.
    pub(super) fn copy_of(
        chain: &Chain,
        windows: &Windows,
        server: &dyn RequestServer,
    ) -> Result<Self, BounceError> {
        let longest_request = server.longest_request().saturating_add(1);
        let request_len = length(chain.clone().readable(), longest_request);
        let reply_len = length(chain.clone().writable(), server.longest_reply());
        let len = REQUEST + request_len + reply_len;
        let memory =
            GuestMemoryMmap::from_ranges(&[(GuestAddress(0), len)]).map_err(BounceError::Map)?;
        let mut done = 0;
        let mut faulty = false;
        for descriptor in chain.clone().readable() {
            let space = usize::try_from(descriptor.len()).unwrap_or(usize::MAX);
            let len = space.min(request_len - done);
            let to = memory
                .get_slice(address(REQUEST + done), len)
                .map_err(BounceError::Copy)?;
            let from = descriptor.addr();
            match chain.memory().get_slice(from, len) {
                Ok(from) => from.copy_to_volatile_slice(to),
                Err(error) => {
                    let (window, at) =
                        (windows.find(from.raw_value(), len)).ok_or(BounceError::Copy(error))?;
                    faulty |= window.copy_to(at, &to).is_err();
                }
            }
            done += len;
        }
        Ok(Self {
            memory: Arc::new(memory),
            request_len,
            reply_len,
            faulty,
        })
    }

    /// The copy, to be read.
    pub(super) fn request(&self) -> Result<Reader<'_>, BounceError> {
        let chain = self.chain()?;
        Reader::from_descriptor_chain(self.memory.as_ref(), chain).map_err(BounceError::Read)
    }

    /// Has the copy answered, or deferred where there is a `deferral`, and says
    /// how long the answer is.
    pub(super) fn answer(
        &self,
        server: &dyn RequestServer,
        deferral: Option<&Deferral>,
    ) -> Result<Option<usize>, BounceError> {
        if self.faulty {
            return self.answer_fault(server).map(Some);
        }
        let (request, reply) = self.buffers()?;
        let len = match deferral {
            Some(deferral) => server.answer_or_defer(request, reply, deferral),
            None => Some(server.answer(request, reply)),
        };
        Ok(len.map(|len| usize::try_from(len).unwrap_or(usize::MAX)))
    }

    /// Has it answered that memory is missing.
    pub(super) fn answer_fault(&self, server: &dyn RequestServer) -> Result<usize, BounceError> {
        let (request, reply) = self.buffers()?;
        let len = server.answer_fault(request, reply);
        Ok(usize::try_from(len)
            .unwrap_or(usize::MAX)
            .min(self.reply_len))
    }

    fn buffers(&self) -> Result<(Reader<'_>, VirtioFsWriter<'_>), BounceError> {
        let chain = self.chain()?;
        let request = Reader::from_descriptor_chain(self.memory.as_ref(), chain.clone())
            .map_err(BounceError::Read)?;
        let reply = VirtioFsWriter::new(self.memory.as_ref(), chain).map_err(BounceError::Read)?;
        Ok((request, reply))
    }

    /// `len` bytes of the reply from byte `from` on.
    pub(super) fn reply_slice(&self, from: usize, len: usize) -> Option<VolatileSlice<'_>> {
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
