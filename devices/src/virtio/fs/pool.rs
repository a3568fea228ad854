//! The threads that serve a device's detached requests.
//!
//! They come when there is work that no idle one can take, up to a limit, and
//! leave after a while without any. A request beyond the limit waits here and
//! not on its queue's thread.
//!
//! A device has one pool for good, and not one for each activation: a guest
//! that resets again and again, with requests that nothing can wake, keeps at
//! most [`LIMIT`] threads of the host.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::deferred::{DeferredRequests, Hands};
use super::detached::{Detached, Lease, Served};
use super::threads::Threads;
use crate::virtio::Complaints;

/// The most threads that one pool has, and so the most of its requests that can
/// block at once.
const LIMIT: usize = 64;
/// How long a thread waits for work before it leaves.
const PATIENCE: Duration = Duration::from_secs(5);

/// The pool of one device.
#[derive(Debug)]
pub(super) struct Pool {
    shared: Arc<PoolShared>,
}

/// How a thread with this name is had, to serve what there is.
type SpawnThread = fn(String, Arc<PoolShared>) -> io::Result<()>;

fn spawn(name: String, shared: Arc<PoolShared>) -> io::Result<()> {
    let threads = Arc::clone(&shared.threads);
    let work = move || shared.serve();
    threads.start(name, Box::new(work)).map(drop)
}

#[derive(Debug)]
struct PoolShared {
    /// This, for the threads to come.
    own: Weak<PoolShared>,
    name: String,
    limit: usize,
    threads: Arc<dyn Threads>,
    spawn: SpawnThread,
    state: Mutex<PoolState>,
    work: Condvar,
    patience: Duration,
    complaints: Arc<Complaints>,
    deferred: Arc<DeferredRequests>,
    /// Those that may keep their thread waiting each time: threads of the pool
    /// serve them.
    stalling: Arc<DeferredRequests>,
}

#[derive(Debug, Default)]
struct PoolState {
    waiting: VecDeque<Queued>,
    /// How many requests were submitted so far.
    submitted: u64,
    /// Threads that the host was asked for and that have not begun.
    starting: usize,
    threads: usize,
    /// Threads that wait for work.
    idle: usize,
    closed: bool,
}

/// A request that no thread has begun with.
#[derive(Debug)]
struct Queued {
    number: u64,
    request: Detached,
}

impl Pool {
    /// A pool without threads; those to come are called `name`, and `threads`
    /// starts them.
    pub(super) fn new(name: String, threads: Arc<dyn Threads>) -> Self {
        Self::with_spawn(name, LIMIT, PATIENCE, threads, spawn)
    }

    /// A pool for which the host has no threads.
    #[cfg(test)]
    pub(super) fn without_threads() -> Self {
        Self::with_threads("pool".into(), LIMIT, PATIENCE, no_thread)
    }

    /// How many requests wait for a thread.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.shared.lock().waiting.len()
    }

    #[cfg(test)]
    fn with_limits(name: String, limit: usize, patience: Duration) -> Self {
        Self::with_threads(name, limit, patience, spawn)
    }

    #[cfg(test)]
    fn with_threads(name: String, limit: usize, patience: Duration, spawn: SpawnThread) -> Self {
        let threads = Arc::new(super::threads::Unconfined);
        Self::with_spawn(name, limit, patience, threads, spawn)
    }

    fn with_spawn(
        name: String,
        limit: usize,
        patience: Duration,
        threads: Arc<dyn Threads>,
        spawn: SpawnThread,
    ) -> Self {
        let complaints = Arc::<Complaints>::default();
        let shared = Arc::new_cyclic(|own: &Weak<PoolShared>| PoolShared {
            own: Weak::clone(own),
            limit,
            spawn,
            state: Mutex::default(),
            work: Condvar::new(),
            patience,
            deferred: DeferredRequests::new(
                name.clone(),
                Arc::clone(&threads),
                Arc::clone(&complaints),
            ),
            stalling: DeferredRequests::handed_to(
                Weak::clone(own) as Weak<dyn Hands>,
                name.clone(),
                Arc::clone(&threads),
                Arc::clone(&complaints),
            ),
            threads,
            complaints,
            name,
        });
        Self { shared }
    }

    /// Has `request` served. Gives it back when the host has no thread for it
    /// and none is there that will come to it.
    pub(super) fn submit(&self, request: Detached) -> Result<(), Detached> {
        self.shared.take(request)
    }

    /// Drops the requests under `lease` that no thread has begun with: the
    /// driver they came from is gone.
    pub(super) fn discard(&self, lease: &Arc<Lease>) {
        let mut state = self.shared.lock();
        let (gone, left) = std::mem::take(&mut state.waiting)
            .into_iter()
            .partition(|waiting| Arc::ptr_eq(&waiting.request.lease, lease));
        state.waiting = left;
        drop(state);
        let gone: VecDeque<Queued> = gone;
        drop(gone);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_all();
    }
}

impl Hands for PoolShared {
    fn take(&self, request: Detached) -> Result<(), Detached> {
        let Some(own) = self.own.upgrade() else {
            return Err(request);
        };
        let mut state = self.lock();
        let full = state.threads + state.starting >= self.limit;
        let number = state.submitted;
        state.submitted += 1;
        state.waiting.push_back(Queued { number, request });
        if full || state.idle >= state.waiting.len() {
            self.work.notify_one();
            return Ok(());
        }
        state.starting += 1;
        drop(state);
        let Err(error) = (self.spawn)(self.name.clone(), own) else {
            return Ok(());
        };
        let mut state = self.lock();
        state.starting -= 1;
        if state.threads + state.starting > 0 {
            // One that is there, or will be, takes it.
            self.work.notify_one();
            return Ok(());
        }
        let own = state.waiting.iter().position(|w| w.number == number);
        let own = own.and_then(|at| state.waiting.remove(at));
        let relied_on_it = std::mem::take(&mut state.waiting);
        drop(state);
        log::log!(
            self.complaints.level(),
            "cannot start a thread for a request that may block: {error}"
        );
        for waiting in relied_on_it {
            self.answer(waiting.request);
        }
        own.map_or(Ok(()), |own| Err(own.request))
    }
}

impl PoolShared {
    fn lock(&self) -> MutexGuard<'_, PoolState> {
        // Requests are served without the lock: nothing can panic under it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, request: Detached) {
        match request.serve() {
            Served::Over(Ok(())) => {}
            Served::Over(Err(error)) => error.report(&self.complaints),
            Served::Deferred(request) if request.may_stall() => self.stalling.put(request),
            Served::Deferred(request) => self.deferred.put(request),
        }
    }

    /// What a thread of the pool does until it leaves.
    fn serve(&self) {
        let mut state = self.lock();
        state.starting -= 1;
        state.threads += 1;
        loop {
            if let Some(Queued { request, .. }) = state.waiting.pop_front() {
                drop(state);
                self.answer(request);
                state = self.lock();
                continue;
            }
            if state.closed {
                break;
            }
            state.idle += 1;
            let (woken, timeout) = self
                .work
                .wait_timeout(state, self.patience)
                .unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if timeout.timed_out() && state.waiting.is_empty() {
                break;
            }
        }
        state.threads -= 1;
    }
}

#[cfg(test)]
fn no_thread(_: String, _: Arc<PoolShared>) -> io::Result<()> {
    Err(io::ErrorKind::WouldBlock.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
