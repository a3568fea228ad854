//! The requests that wait without a thread each, and the one thread that has
//! them served again.
//!
//! Again means: at once when the server says that something changed, and
//! otherwise when a part of the time has gone by that the request has waited
//! already. Nobody tells us what the host's processes do, so a lock that one of
//! them gives up is noticed a little late: by little for a young request, and
//! an old one costs little.
//!
//! The oldest is served first. Those that may keep their thread waiting each
//! time, as on a file system of the network whose server is gone, are
//! [handed](DeferredRequests::handed_to) to other threads in that order: none
//! of them waits for another. The thread comes with the first request and leaves a
//! moment after the last.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::detached::{Detached, Served};
use super::server::RequestServer;
use super::threads::Threads;
use crate::filesystem::Change;
use crate::virtio::Complaints;

/// The part of the time it has waited after which a request is served again.
const PART: u32 = 8;
/// The shortest and longest time after which it is.
const SOONEST: Duration = Duration::from_millis(1);
const LATEST: Duration = Duration::from_millis(50);
/// How long the thread stays when no request is left, but for those that others
/// serve at the time.
const LINGER: Duration = Duration::from_millis(200);

/// Deferred requests of one device.
#[derive(Debug)]
pub(super) struct DeferredRequests {
    name: String,
    state: Mutex<DeferredState>,
    complaints: Arc<Complaints>,
    threads: Arc<dyn Threads>,
    spawn: SpawnKeeper,
    hands: Option<Weak<dyn Hands>>,
}

/// Who serves requests that may keep a thread waiting.
pub(super) trait Hands: std::fmt::Debug + Send + Sync {
    /// Has `request` served, or gives it back for want of a thread.
    fn take(&self, request: Detached) -> Result<(), Detached>;
}

#[derive(Debug, Default)]
struct DeferredState {
    /// The oldest first.
    requests: Vec<Detached>,
    /// There is a thread.
    kept: bool,
}

type SpawnKeeper = fn(Arc<DeferredRequests>, Arc<dyn RequestServer>) -> io::Result<()>;

fn spawn(all: Arc<DeferredRequests>, server: Arc<dyn RequestServer>) -> io::Result<()> {
    let (threads, name) = (Arc::clone(&all.threads), all.name.clone());
    let work = move || all.keep(&*server);
    threads.start(name, Box::new(work)).map(drop)
}

impl DeferredRequests {
    /// None; the thread to come is called `name`, and `threads` starts it.
    pub(super) fn new(
        name: String,
        threads: Arc<dyn Threads>,
        complaints: Arc<Complaints>,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            state: Mutex::default(),
            complaints,
            threads,
            spawn,
            hands: None,
        })
    }

    /// As [`new`](Self::new), for requests that are not to be served by the
    /// one thread, but by `hands`, who put them back when they wait on.
    pub(super) fn handed_to(
        hands: Weak<dyn Hands>,
        name: String,
        threads: Arc<dyn Threads>,
        complaints: Arc<Complaints>,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            state: Mutex::default(),
            complaints,
            threads,
            spawn,
            hands: Some(hands),
        })
    }

    fn lock(&self) -> MutexGuard<'_, DeferredState> {
        // Requests are served without the lock: nothing can panic under it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `request` served again until there is an answer.
    pub(super) fn put(self: &Arc<Self>, request: Detached) {
        let server = Arc::clone(&request.server);
        let mut state = self.lock();
        state.put(request);
        let kept = std::mem::replace(&mut state.kept, true);
        drop(state);
        if kept {
            server.wake();
            return;
        }
        let Err(error) = (self.spawn)(Arc::clone(self), server) else {
            return;
        };
        log::log!(
            self.complaints.level(),
            "cannot start a thread for requests that wait: {error}"
        );
        let mut state = self.lock();
        state.kept = false;
        let all = std::mem::take(&mut state.requests);
        drop(state);
        for request in all {
            self.over(request.serve_at_last());
        }
    }

    /// What the thread does.
    fn keep(self: &Arc<Self>, server: &dyn RequestServer) {
        let mut busy = Instant::now();
        loop {
            let change = server.change();
            let Some(due) = self.take_due(change, busy.elapsed() >= LINGER) else {
                return;
            };
            if !due.is_empty() {
                busy = Instant::now();
            }
            for request in due {
                let Some(request) = self.hand(request) else {
                    continue;
                };
                match request.serve() {
                    Served::Deferred(request) => self.lock().put(request),
                    Served::Over(outcome) => self.over(outcome),
                }
            }
            let patience = self.patience();
            server.wait_for_change(change, patience);
        }
    }

    /// Hands `request` to others where there are any, or gives it back.
    fn hand(&self, request: Detached) -> Option<Detached> {
        match self.hands.as_ref().and_then(Weak::upgrade) {
            Some(hands) => hands.take(request).err(),
            None => Some(request),
        }
    }

    /// Those that are to be served again; nothing when there are none at all
    /// and this thread is to `leave` then.
    fn take_due(&self, change: Change, leave: bool) -> Option<Vec<Detached>> {
        let now = Instant::now();
        let mut state = self.lock();
        if state.requests.is_empty() && leave {
            state.kept = false;
            return None;
        }
        let is_due = |request: &Detached| request.is_due(change, now, next);
        let (due, left) = std::mem::take(&mut state.requests)
            .into_iter()
            .partition(is_due);
        state.requests = left;
        Some(due)
    }

    /// The time until the next is due.
    fn patience(&self) -> Duration {
        let now = Instant::now();
        let state = self.lock();
        let due = state
            .requests
            .iter()
            .filter_map(|request| request.due(next));
        let first = due.min();
        first.map_or(LATEST, |due| due.saturating_duration_since(now))
    }

    fn over(&self, outcome: Result<(), super::bounce::BounceError>) {
        if let Err(error) = outcome {
            error.report(&self.complaints);
        }
    }
}

impl DeferredState {
    fn put(&mut self, request: Detached) {
        let since = request.since();
        let at = (self.requests).partition_point(|other| other.since() <= since);
        self.requests.insert(at, request);
    }
}

/// How long after its last try a request is served again that has waited for
/// `waited` by then.
fn next(waited: Duration) -> Duration {
    (waited / PART).clamp(SOONEST, LATEST)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
