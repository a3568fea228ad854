//! The virtio-fs device (virtio 1.2, 5.11): a configuration space, a hiprio
//! queue, request queues, and a thread for each of them.
//!
//! It moves requests and knows nothing of what is in them: that is the
//! [`RequestServer`]'s. A request is served on its queue's own thread
//! (`worker`), unless it may block; then it is detached (`detached`) to a
//! thread of the device's `pool`, and the queue goes on.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;
use virtio_bindings::virtio_config::{VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_VERSION_1};
use virtio_bindings::virtio_ids::VIRTIO_ID_FS;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::QueueT;

use self::pool::Pool;
use self::tag::TAG_SPACE;
use self::worker::Worker;
use super::{ActivateError, Activation, Complaints, SharedMemory, VirtioDevice};
use crate::window::Window;

mod bounce;
mod counters;
mod deferred;
mod detached;
mod pool;
mod server;
mod tag;
mod threads;
mod worker;

pub use counters::{Counters, QueueCounts};
pub use server::RequestServer;
pub use tag::{Tag, TagError};
pub use threads::{Threads, Unconfined, Work};

/// The most request queues a device can have. Linux uses at most one for each CPU.
pub const MAX_REQUEST_QUEUES: u16 = 64;

/// The elements a queue can have. With fewer than 16 Linux would be left with
/// requests of a few pages; the most is what 256 pages (1 MiB) and the headers
/// need, four times over, so that several requests without indirect descriptors
/// fit.
pub const QUEUE_SIZES: RangeInclusive<u16> = 16..=1024;

/// The queues of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queues {
    /// Request queues, 1 to [`MAX_REQUEST_QUEUES`]. The hiprio queue is one more.
    pub requests: u16,
    /// Elements of each queue: a power of two in [`QUEUE_SIZES`]. Linux makes no
    /// request with more descriptors than that, so a small queue makes small
    /// requests.
    pub size: u16,
}

impl Default for Queues {
    fn default() -> Self {
        Self {
            requests: 1,
            size: *QUEUE_SIZES.end(),
        }
    }
}

/// `VIRTIO_FS_SHMCAP_ID_CACHE` (virtio 1.3, 5.11.6.4): the region in which files
/// are mapped.
const SHMCAP_ID_CACHE: u32 = 0;

/// How long a reset waits for requests that are being served before it has
/// the server wake them.
const PATIENCE: Duration = Duration::from_millis(100);

/// The part of a queue that deferred requests may take. One is three
/// descriptors when the driver has no indirect ones; so even then there is
/// room for a request that ends their wait.
const DEFERRED_PART: u16 = 4;

const FEATURES: u64 =
    1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_RING_F_INDIRECT_DESC;

/// `struct virtio_fs_config` up to where `VIRTIO_FS_F_NOTIFICATION` adds to
/// it: the tag and `le32 num_request_queues`.
const CONFIG_SIZE: usize = TAG_SPACE + 4;

/// Why there is no such device.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum FsError {
    /// The number of request queues.
    #[error("{0} request queues: give 1 to {MAX_REQUEST_QUEUES}")]
    RequestQueues(u16),
    /// The elements of a queue.
    #[error(
        "queues of {0} elements: give a power of two from {least} to {most}",
        least = QUEUE_SIZES.start(),
        most = QUEUE_SIZES.end()
    )]
    QueueSize(u16),
}

/// A virtio-fs device.
pub struct Fs {
    tag: Tag,
    server: Arc<dyn RequestServer>,
    queue_sizes: Vec<u16>,
    config: [u8; CONFIG_SIZE],
    features: u64,
    counters: Arc<Counters>,
    threads: Arc<dyn Threads>,
    pool: Arc<Pool>,
    complaints: Arc<Complaints>,
    /// Those of the live queues.
    workers: Vec<Worker>,
    /// There may be something to reset.
    active: bool,
    window: Option<Arc<Window>>,
}

impl Fs {
    /// A device that exports what `server` serves as `tag`, over `queues` and
    /// the hiprio queue.
    ///
    /// # Errors
    ///
    /// The number of request queues or their size is out of range.
    pub fn new(tag: Tag, server: Arc<dyn RequestServer>, queues: Queues) -> Result<Self, FsError> {
        if queues.requests == 0 || queues.requests > MAX_REQUEST_QUEUES {
            return Err(FsError::RequestQueues(queues.requests));
        }
        if !queues.size.is_power_of_two() || !QUEUE_SIZES.contains(&queues.size) {
            return Err(FsError::QueueSize(queues.size));
        }
        let count = 1 + usize::from(queues.requests);
        let threads: Arc<dyn Threads> = Arc::new(Unconfined);
        Ok(Self {
            config: config_space(&tag, queues.requests),
            queue_sizes: vec![queues.size; count],
            features: FEATURES,
            counters: Arc::new(Counters::new(count)),
            pool: pool(&tag, &threads),
            threads,
            complaints: Arc::default(),
            workers: Vec::new(),
            active: false,
            window: None,
            server,
            tag,
        })
    }

    /// Offers `VIRTIO_F_ACCESS_PLATFORM`: the driver then uses the DMA API of
    /// its platform for what it passes to the device. Addresses stay those of
    /// the guest's memory, as they are on a platform without an IOMMU.
    #[must_use]
    pub fn with_access_platform(mut self) -> Self {
        self.features |= 1 << VIRTIO_F_ACCESS_PLATFORM;
        self
    }

    /// Has `window` for the region in which files are mapped (DAX), if there is
    /// one.
    #[must_use]
    pub fn with_window(mut self, window: Option<Arc<Window>>) -> Self {
        self.window = window;
        self
    }

    /// Has the threads that serve requests started by `threads`.
    #[must_use]
    pub fn with_threads(mut self, threads: Arc<dyn Threads>) -> Self {
        self.pool = pool(&self.tag, &threads);
        self.threads = threads;
        self
    }

    /// The tag.
    #[must_use]
    pub fn tag(&self) -> &Tag {
        &self.tag
    }

    /// What the queues have done. Taken before the device goes behind a
    /// transport, it stays valid.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }
}

impl VirtioDevice for Fs {
    fn id(&self) -> u32 {
        VIRTIO_ID_FS
    }

    fn features(&self) -> u64 {
        self.features
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn shared_memory(&self, id: u32) -> Option<SharedMemory> {
        let window = self.window.as_ref().filter(|_| id == SHMCAP_ID_CACHE)?;
        Some(SharedMemory {
            base: window.base(),
            len: window.len(),
        })
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        self.active = true;
        let requests = activation.queues.iter().filter(|live| live.index > 0);
        let smallest = requests.map(|live| live.queue.size()).min().unwrap_or(0);
        self.server
            .limit_deferred(usize::from(smallest / DEFERRED_PART));
        for live in activation.queues {
            let index = live.index;
            let started = Worker::start(
                live,
                activation.memory.clone(),
                Arc::clone(&activation.interrupt),
                worker::Service {
                    tag: self.tag.clone(),
                    server: Arc::clone(&self.server),
                    counters: Arc::clone(&self.counters),
                    threads: Arc::clone(&self.threads),
                    pool: Arc::clone(&self.pool),
                    windows: activation.windows.clone(),
                    complaints: Arc::clone(&self.complaints),
                },
            );
            match started {
                Ok(worker) => self.workers.push(worker),
                Err(source) => {
                    self.reset();
                    return Err(ActivateError::SpawnWorker { index, source });
                }
            }
        }
        Ok(())
    }

    fn stop_queue(&mut self, index: u16) {
        if let Some(at) = self.workers.iter().position(|w| w.index() == index) {
            self.workers.swap_remove(at).join();
        }
    }

    fn reset(&mut self) {
        if !std::mem::take(&mut self.active) {
            return;
        }
        for worker in &self.workers {
            worker.stop();
        }
        // A server that is reset while it answers would have to forget again
        // what that answer opens, so this is not the rule.
        let until = Instant::now() + PATIENCE;
        while !self.workers.iter().all(Worker::ended) {
            if Instant::now() >= until {
                self.server.reset();
                break;
            }
            thread::sleep(PATIENCE / 1000);
        }
        for worker in self.workers.drain(..) {
            worker.join();
        }
        self.server.reset();
    }
}

impl Drop for Fs {
    fn drop(&mut self) {
        self.reset();
    }
}

impl fmt::Debug for Fs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fs")
            .field("tag", &self.tag)
            .field("queues", &self.queue_sizes.len())
            .field("live", &self.workers.len())
            .finish_non_exhaustive()
    }
}

fn pool(tag: &Tag, threads: &Arc<dyn Threads>) -> Arc<Pool> {
    let name = worker::thread_name(tag, "pool");
    Arc::new(Pool::new(name, Arc::clone(threads)))
}

fn config_space(tag: &Tag, request_queues: u16) -> [u8; CONFIG_SIZE] {
    let mut config = [0; CONFIG_SIZE];
    let (name, queues) = config.split_at_mut(TAG_SPACE);
    for (to, from) in name.iter_mut().zip(tag.as_str().bytes()) {
        *to = from;
    }
    queues.copy_from_slice(&u32::from(request_queues).to_le_bytes());
    config
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
