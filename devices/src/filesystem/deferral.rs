//! Requests that wait without a thread.
//!
//! What a request waits for is not always a file that `poll(2)` knows of: the
//! host tells nobody when somebody gives a lock up. Such a request is
//! *deferred*. It gets no answer for the moment, and is served again from its
//! beginning whenever something has changed that it may wait for, and from
//! time to time. So any number can wait; how many may is bounded, because
//! each occupies a place in the guest's queue.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::{Errno, Result};

/// Requests that can be deferred before it is known how many there is room
/// for.
const FEW: usize = 4;

/// The deferred requests of one server.
#[derive(Debug)]
pub(super) struct Deferrals {
    state: Mutex<DeferralState>,
    changed: Condvar,
    /// How many there are, for a look without the lock.
    count: AtomicUsize,
}

#[derive(Debug)]
struct DeferralState {
    by_unique: BTreeMap<u64, Arc<Mark>>,
    count: usize,
    limit: usize,
    change: Change,
}

impl Default for Deferrals {
    fn default() -> Self {
        Self {
            state: Mutex::new(DeferralState {
                by_unique: BTreeMap::new(),
                count: 0,
                limit: FEW,
                change: Change::default(),
            }),
            changed: Condvar::new(),
            count: AtomicUsize::new(0),
        }
    }
}

/// How much has happened that deferred requests may wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Something changed: each is worth another try.
    pub events: u64,
    /// Only who waits for changes was woken, for reasons of its own.
    wakes: u64,
}

/// What is known of one request while it is deferred.
#[derive(Default)]
struct Mark {
    interrupted: AtomicBool,
    kept: Mutex<Option<Box<dyn Send>>>,
}

impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Mark").field(&self.interrupted).finish()
    }
}

impl Deferrals {
    fn lock(&self) -> MutexGuard<'_, DeferralState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn limit(&self, most: usize) {
        self.lock().limit = most;
    }

    /// Marks the request `unique` as interrupted; says whether it is deferred.
    pub(super) fn interrupt(&self, unique: u64) -> bool {
        let mut state = self.lock();
        let Some(mark) = state.by_unique.get(&unique) else {
            return false;
        };
        mark.interrupted.store(true, Ordering::Release);
        state.change.events += 1;
        drop(state);
        self.changed.notify_all();
        true
    }

    /// Interrupts all.
    pub(super) fn interrupt_all(&self) {
        let mut state = self.lock();
        for mark in state.by_unique.values() {
            mark.interrupted.store(true, Ordering::Release);
        }
        state.change.events += 1;
        drop(state);
        self.changed.notify_all();
    }

    /// Something changed that deferred requests may wait for.
    pub(super) fn changed(&self) {
        if self.count.load(Ordering::SeqCst) > 0 {
            self.lock().change.events += 1;
            self.changed.notify_all();
        }
    }

    pub(super) fn wake(&self) {
        self.lock().change.wakes += 1;
        self.changed.notify_all();
    }

    pub(super) fn change(&self) -> Change {
        self.lock().change
    }

    pub(super) fn wait(&self, seen: Change, patience: Duration) -> Change {
        let state = self.lock();
        let unchanged = |state: &mut DeferralState| state.change == seen;
        let waited = (self.changed).wait_timeout_while(state, patience, unchanged);
        waited.unwrap_or_else(PoisonError::into_inner).0.change
    }

    fn enter(self: &Arc<Self>, unique: u64, over: impl Fn() -> bool) -> Result<Entered> {
        let mut state = self.lock();
        if over() {
            return Err(Errno::INTR);
        }
        if state.count >= state.limit {
            return Err(Errno::AGAIN);
        }
        state.count += 1;
        self.count.store(state.count, Ordering::SeqCst);
        let mark = Arc::<Mark>::default();
        // A number that is used twice: see `Admission::enter`.
        state.by_unique.insert(unique, Arc::clone(&mark));
        drop(state);
        Ok(Entered {
            deferrals: Arc::clone(self),
            unique,
            mark,
        })
    }
}

/// A request's place among the deferred ones, if it comes to that. Whoever
/// carries the request keeps it until there is an answer.
#[derive(Debug)]
pub struct Deferral {
    begun: Instant,
    entered: OnceLock<Entered>,
}

impl Default for Deferral {
    fn default() -> Self {
        Self::since(Instant::now())
    }
}

#[derive(Debug)]
struct Entered {
    deferrals: Arc<Deferrals>,
    unique: u64,
    mark: Arc<Mark>,
}

impl Deferral {
    /// That of a request which has been there since `begun`.
    #[must_use]
    pub fn since(begun: Instant) -> Self {
        Self {
            begun,
            entered: OnceLock::new(),
        }
    }

    /// Since when the request has been there.
    #[must_use]
    pub fn begun(&self) -> Instant {
        self.begun
    }

    /// Whether the request was deferred and has been interrupted since.
    pub(super) fn is_interrupted(&self) -> bool {
        let entered = self.entered.get();
        entered.is_some_and(|entered| entered.mark.interrupted.load(Ordering::Acquire))
    }

    /// Whether the request was deferred before.
    pub(super) fn is_entered(&self) -> bool {
        self.entered.get().is_some()
    }

    /// Defers the request and keeps `what` for as long, or until the next
    /// time. `EAGAIN` when too many are deferred, `EINTR` when its session is
    /// `over`.
    pub(super) fn enter(
        &self,
        deferrals: &Arc<Deferrals>,
        unique: u64,
        over: impl Fn() -> bool,
        what: Box<dyn Send>,
    ) -> Result<()> {
        let entered = match self.entered.get() {
            Some(entered) => entered,
            None => {
                let fresh = deferrals.enter(unique, over)?;
                self.entered.get_or_init(|| fresh)
            }
        };
        let kept = entered.mark.kept.lock();
        let before = kept.unwrap_or_else(PoisonError::into_inner).replace(what);
        // What it does when it is dropped is its own affair.
        drop(before);
        Ok(())
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut state = self.deferrals.lock();
        state.count -= 1;
        self.deferrals.count.store(state.count, Ordering::SeqCst);
        let own = |mark: &Arc<Mark>| Arc::ptr_eq(mark, &self.mark);
        if state.by_unique.get(&self.unique).is_some_and(own) {
            state.by_unique.remove(&self.unique);
        }
    }
}
