//! Draining a live queue: the loop of "disable notifications, take what is
//! there, enable, look once more", written once and safe against any ring.
//!
//! A [`Drain`] belongs to the one thread that serves its queue. Its rings were
//! checked to lie in guest memory ([`QueueConfig::build`]); what they hold is
//! the guest's word, and where it makes no sense the queue ends with a
//! [`DrainError`], which only a reset mends:
//!
//! * an available index that is further ahead than the ring is long. To go by
//!   it would serve garbage, to ignore it would spin, as the index never
//!   becomes what was expected;
//! * more requests in flight than the ring has elements: an element was made
//!   available again before it was used;
//! * a head that is no element: there is nothing to mark as used.
//!
//! A chain that is bad only in itself ([`ChainError`]) costs that chain alone.
//!
//! [`QueueConfig::build`]: super::queue::QueueConfig::build
//! [`ChainError`]: super::chain::ChainError

use std::sync::Arc;
use std::sync::atomic::Ordering;

use thiserror::Error;
use virtio_bindings::bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::Interrupt;
use super::chain::DescriptorTable;

/// A request: a chain of descriptors that keeps the memory it is in.
pub(crate) type Chain = DescriptorChain<Arc<GuestMemoryMmap>>;

/// Why a queue can no longer be served.
#[derive(Debug, Error)]
pub(crate) enum DrainError {
    /// The driver broke the rings.
    #[error("the rings are broken")]
    Rings(#[source] virtio_queue::Error),
    /// There is a request that cannot be taken.
    #[error("the available ring cannot be read")]
    Stalled,
    /// More requests are in flight than the queue has elements.
    #[error("an element was made available before it was used")]
    Overcommitted,
}

/// A queue while it is served.
#[derive(Debug)]
pub(crate) struct Drain {
    queue: Queue,
    /// This queue's own, so that threads do not share its reference count.
    memory: Arc<GuestMemoryMmap>,
    interrupt: Arc<Interrupt>,
    /// Whether the driver was told to notify us.
    notified: bool,
    /// Answers since the driver was last given the chance of an interrupt.
    unsignalled: u32,
}

impl Drain {
    /// Serves `queue`, whose rings are in `memory`.
    #[must_use]
    pub(crate) fn new(queue: Queue, memory: GuestMemoryMmap, interrupt: Arc<Interrupt>) -> Self {
        Self {
            queue,
            memory: Arc::new(memory),
            interrupt,
            notified: true,
            unsignalled: 0,
        }
    }

    /// The memory that chains are in.
    #[must_use]
    pub(crate) fn memory(&self) -> Arc<GuestMemoryMmap> {
        Arc::clone(&self.memory)
    }

    /// Where their descriptors are.
    #[must_use]
    pub(crate) fn table(&self) -> DescriptorTable {
        DescriptorTable {
            address: GuestAddress(self.queue.desc_table()),
            size: self.queue.size(),
        }
    }

    /// The next request, which the caller has to [`complete`](Self::complete).
    /// `None` when there is none: the driver will then notify of the next.
    /// Never waits, never loops.
    ///
    /// # Errors
    ///
    /// The driver broke the rings. The queue is then not to be touched again.
    pub(crate) fn next_request(&mut self) -> Result<Option<Chain>, DrainError> {
        if let Some(chain) = self.next_unnotified()? {
            return Ok(Some(chain));
        }
        let more = self
            .queue
            .enable_notification(self.memory.as_ref())
            .map_err(DrainError::Rings)?;
        self.notified = true;
        if !more {
            return Ok(None);
        }
        // The driver made one available between the two looks.
        self.next_unnotified()?.map(Some).ok_or(DrainError::Stalled)
    }

    /// As [`next_request`](Self::next_request), but with `None` the driver need not notify
    /// of the next: whoever calls looks again by himself.
    ///
    /// # Errors
    ///
    /// The driver broke the rings.
    pub(crate) fn next_unnotified(&mut self) -> Result<Option<Chain>, DrainError> {
        // `iter` and not `pop_descriptor_chain`: that one swallows the error of
        // an impossible index, and the queue would look empty and not empty by
        // turns for ever.
        let mut available =
            (self.queue.iter(Arc::clone(&self.memory))).map_err(DrainError::Rings)?;
        let Some(chain) = available.next() else {
            return Ok(None);
        };
        let in_flight = self.queue.next_avail().wrapping_sub(self.queue.next_used());
        if in_flight > self.queue.size() {
            return Err(DrainError::Overcommitted);
        }
        if self.notified {
            self.queue
                .disable_notification(self.memory.as_ref())
                .map_err(DrainError::Rings)?;
            self.notified = false;
        }
        Ok(Some(chain))
    }

    /// Gives the request that began at descriptor `head` back to the driver,
    /// with `len` bytes written to it. The driver sees it at once if it looks,
    /// and is made to look by [`signal`](Self::signal).
    ///
    /// # Errors
    ///
    /// `head` is not in the descriptor table: the driver broke the rings.
    pub(crate) fn complete(&mut self, head: u16, len: u32) -> Result<(), DrainError> {
        if head >= self.queue.size() {
            // `add_used` says the same, but loudly, however often it happens.
            return Err(DrainError::Rings(
                virtio_queue::Error::InvalidDescriptorIndex,
            ));
        }
        self.queue
            .add_used(self.memory.as_ref(), head, len)
            .map_err(DrainError::Rings)?;
        self.unsignalled = self.unsignalled.saturating_add(1);
        Ok(())
    }

    /// How many completed requests the driver was not yet signalled of.
    #[must_use]
    pub(crate) fn unsignalled(&self) -> u32 {
        self.unsignalled
    }

    /// Interrupts the driver, if there is something new to see and it wants
    /// to hear of it. Says whether it did.
    ///
    /// # Errors
    ///
    /// The rings cannot be read.
    pub(crate) fn signal(&mut self) -> Result<bool, DrainError> {
        if self.unsignalled == 0 {
            return Ok(false);
        }
        self.unsignalled = 0;
        let wanted = self
            .queue
            .needs_notification(self.memory.as_ref())
            .map_err(DrainError::Rings)?;
        if wanted && !self.no_interrupt() {
            self.interrupt.signal_used();
            return Ok(true);
        }
        Ok(false)
    }

    /// Whether a driver without EVENT_IDX asked for no interrupts (virtio 1.2,
    /// 2.7.7), which virtio-queue does not look at.
    fn no_interrupt(&self) -> bool {
        let flags = GuestAddress(self.queue.avail_ring());
        !self.queue.event_idx_enabled()
            && (self.memory.load::<u16>(flags, Ordering::Relaxed))
                .is_ok_and(|flags| u32::from(u16::from_le(flags)) & VRING_AVAIL_F_NO_INTERRUPT != 0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
