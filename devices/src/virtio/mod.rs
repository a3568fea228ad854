//! Virtio 1.2: the register file, the status machine, queues and interrupts.
//!
//! A *transport* ([`mmio::MmioTransport`]) owns what the driver configures:
//! status, features, where the rings are. A *device* ([`VirtioDevice`], here
//! [`fs::Fs`]) is given live queues when the driver is done
//! ([`VirtioDevice::activate`]) and gives them up at reset. So no device asks
//! whether it is active, and no transport touches a queue that a device
//! serves.
//!
//! ```text
//!            vCPU                                  worker of a queue
//!   register write  -> MmioTransport                    ^     |
//!   QUEUE_NOTIFY    -> (ioeventfd) -> kick eventfd -----'     v
//!   interrupt      <- (irqfd) <- irq eventfd <- Interrupt <- used ring
//! ```
//!
//! Nothing here knows a hypervisor: the VMM registers [`mmio::MmioTransport::kicks`]
//! and [`mmio::MmioTransport::irq`] with whatever it has, and may map
//! [`mmio::MmioTransport::page`] for the driver to read.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use thiserror::Error;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

pub mod buffers;
mod chain;
mod drain;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
pub(crate) mod driver;
pub mod fs;
mod interrupt;
pub mod mmio;
mod queue;
mod register_page;
mod status;
#[cfg(test)]
mod tests;

pub use interrupt::Interrupt;
pub use queue::QueueError;
pub use register_page::RegisterPage;

use crate::window::Windows;

/// What a transport asks of a device. Queues, features and status belong to
/// the transport.
///
/// ```text
///   new --> activate --> [stop_queue ...] --> reset --> activate --> ...
/// ```
pub trait VirtioDevice: Send {
    /// The device ID (virtio 1.2, section 5).
    fn id(&self) -> u32;

    /// The feature bits the device offers, `VIRTIO_F_VERSION_1` among them.
    /// The same at every call.
    fn features(&self) -> u64;

    /// The largest size of each queue in elements, a power of two up to
    /// 32768; one entry for each queue. The same at every call.
    fn queue_sizes(&self) -> &[u16];

    /// The device configuration space as the driver reads it. It may not
    /// change while the device lives, which is why the transport's
    /// configuration generation never does.
    fn config(&self) -> &[u8];

    /// Where the guest has the shared memory region `id`, and its length, in
    /// bytes; nothing when there is no such region. The same at every call.
    fn shared_memory(&self, _id: u32) -> Option<SharedMemory> {
        None
    }

    /// Starts serving the queues in `activation`. Called when the driver sets
    /// DRIVER_OK, on the vCPU that sets it, which waits for the return.
    ///
    /// # Errors
    ///
    /// The device cannot be served; it then holds nothing of `activation`, and
    /// the driver is told that the device needs a reset.
    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError>;

    /// Stops serving the queue `index` and forgets it. On return nothing
    /// touches its rings or buffers any more. Does nothing for a queue that is
    /// not live.
    fn stop_queue(&mut self, index: u16);

    /// Stops serving all queues: back to what the device was before
    /// [`activate`](Self::activate). On return nothing touches guest memory
    /// any more. Called at any time, also when not active.
    fn reset(&mut self);
}

/// A shared memory region (virtio 1.3, 2.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedMemory {
    /// Its physical address in the guest.
    pub base: u64,
    /// Its length in bytes.
    pub len: u64,
}

/// What a device gets when the driver is ready.
#[derive(Debug)]
pub struct Activation {
    /// The guest's memory.
    pub memory: GuestMemoryMmap,
    /// What else a buffer can be in.
    pub windows: Windows,
    /// The feature bits both sides agreed on.
    pub features: u64,
    /// How to interrupt the driver.
    pub interrupt: Arc<Interrupt>,
    /// The queues the driver set up, by rising index. A driver need not use
    /// all that there are.
    pub queues: Vec<LiveQueue>,
}

/// A queue that the driver set up.
#[derive(Debug)]
pub struct LiveQueue {
    /// Its number.
    pub index: u16,
    /// The rings, checked to lie in guest memory.
    pub queue: virtio_queue::Queue,
    /// Counts the driver's notifications. Blocking, and shared with the VMM:
    /// it outlives the activation.
    pub kick: Arc<EventFd>,
}

/// How loud to be about a guest that misbehaves: it can do so as often as it
/// likes, and must not fill the host's log.
#[derive(Debug, Default)]
struct Complaints(AtomicU32);

impl Complaints {
    /// Counts a complaint and says at which level to make it.
    fn level(&self) -> log::Level {
        let loud = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |made| {
                (made < 10).then(|| made + 1)
            });
        if loud.is_ok() {
            log::Level::Warn
        } else {
            log::Level::Debug
        }
    }
}

/// Why a device could not be activated.
#[derive(Debug, Error)]
pub enum ActivateError {
    /// The host gave no thread for a queue.
    #[error("cannot start the thread of queue {index}")]
    SpawnWorker {
        /// The queue.
        index: u16,
        /// What the host said.
        source: io::Error,
    },
    /// The driver left the queues unusable.
    #[error("queue {index} is not usable")]
    Queue {
        /// The queue.
        index: u16,
        /// What is wrong with it.
        source: queue::QueueError,
    },
}
