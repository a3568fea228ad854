//! A request's private copy, for those that are served off their queue's thread.

use thiserror::Error;
use virtio_queue::desc::split::Descriptor;
use vm_memory::mmap::MmapRegionError;
use vm_memory::{
    Address, GuestMemory, GuestMemoryError, MmapRegion, VolatileMemory, VolatileMemoryError,
    VolatileSlice,
};

use super::server::RequestServer;
use crate::filesystem::Deferral;
use crate::virtio::Complaints;
use crate::virtio::buffers::{Readable, Writable};
use crate::virtio::drain::Chain;
use crate::window::Windows;

/// Why a request could not be copied.
#[derive(Debug, Error)]
pub(super) enum BounceError {
    #[error("cannot map memory for a copy")]
    Map(#[source] MmapRegionError),
    #[error("cannot copy")]
    Copy(#[source] GuestMemoryError),
    #[error("the copy is too short")]
    Short(#[source] VolatileMemoryError),
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

/// A request and room for its reply, in memory of our own: the reply behind the
/// request.
pub(super) struct Bounce {
    memory: MmapRegion,
    request_len: usize,
    pub(super) reply_len: usize,
    /// Some of the request is not where it says.
    faulty: bool,
}

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
        // There is no mapping of nothing.
        let len = (request_len + reply_len).max(1);
        let memory = MmapRegion::new(len).map_err(BounceError::Map)?;
        let mut done = 0;
        let mut faulty = false;
        for descriptor in chain.clone().readable() {
            let space = usize::try_from(descriptor.len()).unwrap_or(usize::MAX);
            let len = space.min(request_len - done);
            // Nothing may be anywhere, as in a chain that is served in place.
            if len == 0 {
                continue;
            }
            let to = memory.get_slice(done, len).map_err(BounceError::Short)?;
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
            memory,
            request_len,
            reply_len,
            faulty,
        })
    }

    /// The copy, to be read.
    pub(super) fn with_request<T>(&self, look: impl FnOnce(&Readable<'_>) -> T) -> Option<T> {
        let request = self.memory.get_slice(0, self.request_len).ok()?;
        Some(look(&Readable::new(&[request])))
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
        let len = self.serve(|request, reply| match deferral {
            Some(deferral) => server.answer_or_defer(request, reply, deferral),
            None => Some(server.answer(request, reply)),
        })?;
        Ok(len.map(|len| usize::try_from(len).unwrap_or(usize::MAX)))
    }

    /// Has it answered that memory is missing.
    pub(super) fn answer_fault(&self, server: &dyn RequestServer) -> Result<usize, BounceError> {
        let len = self.serve(|request, reply| server.answer_fault(request, reply))?;
        Ok(usize::try_from(len)
            .unwrap_or(usize::MAX)
            .min(self.reply_len))
    }

    fn serve<T>(
        &self,
        answer: impl FnOnce(Readable<'_>, Writable<'_>) -> T,
    ) -> Result<T, BounceError> {
        let request = self.memory.get_slice(0, self.request_len);
        let reply = self.memory.get_slice(self.request_len, self.reply_len);
        let (request, reply) = (
            [request.map_err(BounceError::Short)?],
            [reply.map_err(BounceError::Short)?],
        );
        Ok(answer(Readable::new(&request), Writable::new(&reply)))
    }

    /// `len` bytes of the reply from byte `from` on.
    pub(super) fn reply_slice(&self, from: usize, len: usize) -> Option<VolatileSlice<'_>> {
        let at = self.request_len.checked_add(from)?;
        self.memory.get_slice(at, len).ok()
    }
}

/// The bytes in `descriptors`, up to `limit`.
fn length(descriptors: impl Iterator<Item = Descriptor>, limit: usize) -> usize {
    descriptors.fold(0_usize, |sum, descriptor| {
        let len = usize::try_from(descriptor.len()).unwrap_or(usize::MAX);
        sum.saturating_add(len).min(limit)
    })
}
