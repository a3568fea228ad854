//! The thread of a queue: waits for the driver, serves what is available,
//! waits again.
//!
//! It is the only one that touches the queue, so there is no lock on the data
//! path. One eventfd, the queue's kick, is everything it waits for: the driver
//! adds 1 to it, and [`WAKE`] is added by a detached request that came back and
//! by whoever wants the thread to end.
//!
//! # When the driver is interrupted
//!
//! On a request queue after each answer, before the next request is begun. An
//! answer then never waits for the request behind it, which may take any time.
//! It costs little: with EVENT_IDX, while the driver has not yet come round to
//! the first answer's interrupt, the later ones raise none, so a busy driver
//! gets one interrupt for each time it looks.
//!
//! On the hiprio queue once the queue has been empty for a [`LULL`], or after [`BATCH`]
//! requests: it carries FORGETs, which nothing waits for, and where one is there
//! are more. They gather meanwhile, without a notification. What came is served after each
//! lull, so nothing is late by more. Detached requests that came back together also share an
//! interrupt.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rustix::thread::Timespec;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

use super::counters::{Counters, QueueCounters};
use super::detached::{Detached, Finished, Lease, WAKE};
use super::pool::Pool;
use super::server::RequestServer;
use super::tag::Tag;
use super::threads::Threads;
use crate::virtio::chain::{ChainError, Walk};
use crate::virtio::drain::{Chain, Drain, DrainError};
use crate::virtio::{Complaints, Interrupt, LiveQueue};
use crate::window::Windows;

/// The hiprio queue (virtio 1.2, 5.11.2).
const HIPRIO: u16 = 0;
/// How many answers on the hiprio queue may gather before the driver is
/// interrupted, so that it gets its descriptors back.
const BATCH: u32 = 64;
/// How long what comes on the hiprio queue may gather. INTERRUPT comes there too, and waits
/// as long for a task that was sent a signal.
const LULL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 1_000_000,
};
/// Longest name of a thread in bytes, without the NUL (`TASK_COMM_LEN`).
const NAME_LIMIT: usize = 15;

/// What a worker needs of its device.
pub(super) struct Service {
    pub(super) tag: Tag,
    pub(super) server: Arc<dyn RequestServer>,
    pub(super) counters: Arc<Counters>,
    pub(super) threads: Arc<dyn Threads>,
    pub(super) pool: Arc<Pool>,
    /// What a buffer can be in that is not in memory.
    pub(super) windows: Windows,
    pub(super) complaints: Arc<Complaints>,
}

/// The handle of a queue's thread.
pub(super) struct Worker {
    index: u16,
    stop: Arc<AtomicBool>,
    lease: Arc<Lease>,
    kick: Arc<EventFd>,
    pool: Arc<Pool>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts serving `live`.
    pub(super) fn start(
        live: LiveQueue,
        memory: GuestMemoryMmap,
        interrupt: Arc<Interrupt>,
        service: Service,
    ) -> io::Result<Self> {
        let LiveQueue { index, queue, kick } = live;
        let stop = Arc::<AtomicBool>::default();
        let lease = Arc::<Lease>::default();
        let (finished_in, finished) = mpsc::channel();
        let role = if index == HIPRIO {
            "hiprio".to_owned()
        } else {
            (index - 1).to_string()
        };
        let name = thread_name(&service.tag, &role);
        let pool = Arc::clone(&service.pool);
        let threads = Arc::clone(&service.threads);
        let loop_ = Loop {
            index,
            drain: Drain::new(queue, memory, Arc::clone(&interrupt)),
            kick: Arc::clone(&kick),
            stop: Arc::clone(&stop),
            lease: Arc::clone(&lease),
            service,
            finished_in,
            finished,
            detached_now: 0,
        };
        let work = move || {
            let (tag, index) = (loop_.service.tag.clone(), loop_.index);
            let complaints = Arc::clone(&loop_.service.complaints);
            if let Err(error) = loop_.run() {
                let cause = std::error::Error::source(&error);
                let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
                log::log!(
                    complaints.level(),
                    "share '{tag}': queue {index} needs a reset: {error}{cause}"
                );
                interrupt.signal_needs_reset();
            }
        };
        let thread = threads.start(name, Box::new(work))?;
        Ok(Self {
            index,
            stop,
            lease,
            kick,
            pool,
            thread: Some(thread),
        })
    }

    /// The queue's index.
    pub(super) fn index(&self) -> u16 {
        self.index
    }

    /// Tells the thread to end when the request it serves is answered, and
    /// detached ones not to begin.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.lease.revoke();
        if let Err(error) = self.kick.write(WAKE) {
            log::error!("cannot wake queue {} to end it: {error}", self.index);
        }
    }

    /// Whether the thread has ended.
    pub(super) fn ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the end of the thread. On return nothing touches the queue,
    /// or guest memory for it, and what waits in the pool is dropped.
    pub(super) fn join(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.stop();
            // Only where panics unwind, that is in tests, which are to see it.
            if let Err(panic) = thread.join()
                && !thread::panicking()
            {
                std::panic::resume_unwind(panic);
            }
            self.pool.discard(&self.lease);
            self.empty_kick();
        }
    }
}

impl Worker {
    /// Takes everything out of the kick, which the next driver gets: a thread
    /// that had ended by itself did not.
    fn empty_kick(&self) {
        // With something in it, reading does not wait.
        if let Err(error) = self.kick.write(1).and_then(|()| self.kick.read()) {
            log::error!("cannot empty the kick of queue {}: {error}", self.index);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end();
    }
}

/// What the thread owns.
struct Loop {
    index: u16,
    drain: Drain,
    kick: Arc<EventFd>,
    stop: Arc<AtomicBool>,
    lease: Arc<Lease>,
    service: Service,
    finished_in: Sender<Finished>,
    finished: Receiver<Finished>,
    /// Detached requests that did not come back yet. Bounded by the size of
    /// the queue, as `Drain` sees to.
    detached_now: usize,
}

impl Loop {
    fn run(mut self) -> Result<(), DrainError> {
        let memory = self.drain.memory();
        let mut walk = Walk::new(&memory);
        // The first pass also arms the queue's notifications.
        loop {
            self.pass(&mut walk)?;
            match self.kick.read() {
                Ok(count) => self.woken(count),
                Err(error) => {
                    log::error!("queue {} cannot be waited for: {error}", self.index);
                    return Err(DrainError::Stalled);
                }
            }
            if self.index == HIPRIO {
                self.gather(&mut walk)?;
            }
            if self.stopped() {
                return Ok(());
            }
        }
    }

    /// Serves what the driver notified of, and what comes before there is a lull. The next
    /// [`pass`](Self::pass) tells of the last ones.
    #[cold]
    fn gather(&mut self, walk: &mut Walk<'_>) -> Result<(), DrainError> {
        let mut is_first = true;
        while self.serve_unnotified(walk)? {
            if !is_first {
                self.signal()?;
            }
            is_first = false;
            // A signal ends it early: no harm done.
            let _ = rustix::thread::nanosleep(&LULL);
        }
        Ok(())
    }

    /// Says whether there was something to serve.
    fn serve_unnotified(&mut self, walk: &mut Walk<'_>) -> Result<bool, DrainError> {
        self.take_back()?;
        let mut any = false;
        while !self.stopped()
            && let Some(chain) = self.drain.next_unnotified()?
        {
            any = true;
            self.serve(walk, chain)?;
            if self.drain.unsignalled() >= BATCH {
                self.signal()?;
            }
        }
        Ok(any)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn count(&self, add: impl FnOnce(&QueueCounters)) {
        if let Some(counters) = self.service.counters.queue(self.index) {
            add(counters);
        }
    }

    fn woken(&self, count: u64) {
        self.count(|counters| {
            counters.wakeups.add(1);
            counters.kicks.add(count % WAKE);
        });
    }

    /// Serves everything there is.
    fn pass(&mut self, walk: &mut Walk<'_>) -> Result<(), DrainError> {
        self.take_back()?;
        while !self.stopped() {
            let Some(chain) = self.drain.next_request()? else {
                break;
            };
            self.serve(walk, chain)?;
            if self.detached_now > 0 {
                self.take_back()?;
            }
            if self.index != HIPRIO || self.drain.unsignalled() >= BATCH {
                self.signal()?;
            }
        }
        self.signal()
    }

    fn signal(&mut self) -> Result<(), DrainError> {
        if self.drain.signal()? {
            self.count(|counters| counters.interrupts.add(1));
        }
        Ok(())
    }

    /// Gives the detached requests that came back to the driver.
    fn take_back(&mut self) -> Result<(), DrainError> {
        while self.detached_now > 0
            && let Ok(finished) = self.finished.try_recv()
        {
            self.detached_now -= 1;
            self.drain.complete(finished.head, finished.len)?;
        }
        Ok(())
    }

    /// Serves one request, or sends it to the pool. Compiled into the loop of every queue: a
    /// call costs one per cent of a READ.
    #[inline(always)]
    fn serve(&mut self, walk: &mut Walk<'_>, chain: Chain) -> Result<(), DrainError> {
        let head = chain.head_index();
        self.count(|counters| counters.requests.add(1));
        match self.answer(walk, chain) {
            Ok(Some(len)) => self.drain.complete(head, len),
            Ok(None) => {
                self.detached_now += 1;
                self.count(|counters| counters.detached.add(1));
                Ok(())
            }
            Err(refusal) => {
                log::debug!(
                    "queue {}, request {head}: bad descriptors: {refusal}",
                    self.index
                );
                self.count(|counters| counters.malformed.add(1));
                // There is no place that is known to be for an answer.
                self.drain.complete(head, 0)
            }
        }
    }

    /// The length of the answer, or nothing when the request is on its way
    /// through the pool.
    fn answer(&self, walk: &mut Walk<'_>, chain: Chain) -> Result<Option<u32>, ChainError> {
        let server = &self.service.server;
        match walk.walk(self.drain.table(), chain.head_index()) {
            Ok(()) => {}
            // What is in a window may not be there, which only system calls
            // can be told: they make the copy that a thread of the pool serves.
            Err(ChainError::Outside) if !self.service.windows.is_empty() => {
                if let Err(request) = self.detach(chain)
                    && let Err(error) = request.serve_at_last()
                {
                    error.report(&self.service.complaints);
                }
                return Ok(None);
            }
            Err(refusal) => return Err(refusal),
        }
        if !server.may_block(&walk.readable()) {
            let len = server.answer_at_once(walk.readable(), walk.writable());
            if len.is_some() {
                return Ok(len);
            }
        }
        match self.detach(chain) {
            Ok(()) => Ok(None),
            // No thread to be had: rather keep the queue waiting than leave
            // the request without an answer.
            Err(_) => Ok(Some(server.answer(walk.readable(), walk.writable()))),
        }
    }

    fn detach(&self, chain: Chain) -> Result<(), Detached> {
        let request = Detached {
            chain,
            server: Arc::clone(&self.service.server),
            lease: Arc::clone(&self.lease),
            finished: self.finished_in.clone(),
            kick: Arc::clone(&self.kick),
            windows: self.service.windows.clone(),
            arrived: Instant::now(),
            begun: None,
        };
        self.service.pool.submit(request)
    }
}

/// The name of a thread of the share `tag`: `fs-TAG-ROLE`, with as much of the
/// tag as fits what the kernel keeps of a name.
pub(super) fn thread_name(tag: &Tag, role: &str) -> String {
    let room = NAME_LIMIT.saturating_sub("fs--".len() + role.len());
    let tag = tag.as_str();
    let end = (0..=room.min(tag.len()))
        .rev()
        .find(|end| tag.is_char_boundary(*end));
    format!("fs-{}-{role}", &tag[..end.unwrap_or(0)])
}
