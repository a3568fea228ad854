//! Requests that wait, and how they are made to stop waiting.
//!
//! A request that waits for something besides its own work, such as a line on
//! a terminal or room in a pipe, does so with a [`Waiter`]. The guest can
//! interrupt it (INTERRUPT), and the end of the session ends all of them: each
//! has an eventfd in the same `poll(2)` as the file it waits for.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::io::{Errno, Result};

use super::deferral::{Change, Deferral, Deferrals};

/// The requests that wait at the moment, by their `unique`.
#[derive(Debug, Default)]
pub struct Waiters {
    bells: Mutex<BTreeMap<u64, Arc<Bell>>>,
    /// How often all were interrupted. Changed under the lock of `bells`.
    ended: AtomicU64,
    /// Those that wait without a thread.
    deferrals: LazyLock<Arc<Deferrals>>,
}

/// Leave to wait, until all are interrupted the next time. A request gets it
/// before it is looked up whether there is a session at all: so none that began
/// before the end of its session starts to wait after it.
#[derive(Clone, Copy, Debug)]
pub struct Admission<'s> {
    waiters: &'s Waiters,
    ended: u64,
}

impl<'s> From<&'s Waiters> for Admission<'s> {
    fn from(waiters: &'s Waiters) -> Self {
        Self {
            waiters,
            ended: waiters.ended.load(Ordering::Acquire),
        }
    }
}

impl<'s> Admission<'s> {
    /// The request `unique` may wait from now on; `EINTR` when its session is
    /// over.
    pub(super) fn enter(self, unique: u64) -> Result<Waiter<'s>> {
        let flags = EventfdFlags::CLOEXEC.union(EventfdFlags::NONBLOCK);
        let bell = Arc::new(Bell {
            event: rustix::event::eventfd(0, flags)?,
            interrupted: AtomicBool::new(false),
        });
        let mut bells = self.waiters.lock();
        if self.waiters.ended.load(Ordering::Acquire) != self.ended {
            return Err(Errno::INTR);
        }
        // A hostile guest may use one number twice. Its INTERRUPT then finds
        // the later request only, which is its own loss.
        bells.insert(unique, Arc::clone(&bell));
        drop(bells);
        Ok(Waiter {
            waiters: self.waiters,
            unique,
            bell,
        })
    }

    /// The request `unique` is deferred from now on, as `deferral`.
    pub(super) fn defer(self, unique: u64, deferral: &Deferral, keep: Box<dyn Send>) -> Result<()> {
        let over = || self.waiters.ended.load(Ordering::Acquire) != self.ended;
        deferral.enter(&self.waiters.deferrals, unique, over, keep)
    }

    /// Something changed that deferred requests may wait for.
    pub(super) fn changed(self) {
        self.waiters.deferrals.changed();
    }
}

/// What wakes one request.
#[derive(Debug)]
struct Bell {
    event: OwnedFd,
    interrupted: AtomicBool,
}

/// A request that may wait, and be interrupted, until this is dropped.
#[derive(Debug)]
pub struct Waiter<'a> {
    waiters: &'a Waiters,
    unique: u64,
    bell: Arc<Bell>,
}

impl Waiters {
    /// None that wait.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            bells: Mutex::new(BTreeMap::new()),
            ended: AtomicU64::new(0),
            deferrals: LazyLock::new(Arc::default),
        }
    }

    /// Lets at most so many requests be deferred.
    pub fn limit_deferred(&self, most: usize) {
        self.deferrals.limit(most);
    }

    /// What has happened so far that deferred requests may wait for.
    pub fn change(&self) -> Change {
        self.deferrals.change()
    }

    /// Waits until there is another change than `seen`, or the time is up.
    pub fn wait_for_change(&self, seen: Change, patience: Duration) -> Change {
        self.deferrals.wait(seen, patience)
    }

    /// Wakes whoever [waits for changes](Self::wait_for_change).
    pub fn wake(&self) {
        self.deferrals.wake();
    }

    /// Interrupts the request `unique`; says whether it waits.
    pub fn interrupt(&self, unique: u64) -> bool {
        let bell = self.lock().get(&unique).cloned();
        if let Some(bell) = &bell {
            bell.interrupt();
        }
        bell.is_some() || self.deferrals.interrupt(unique)
    }

    /// Interrupts every request, those that have not begun to wait included.
    pub fn interrupt_all(&self) {
        let mut bells = self.lock();
        self.ended.fetch_add(1, Ordering::AcqRel);
        let all = std::mem::take(&mut *bells);
        drop(bells);
        for bell in all.values() {
            bell.interrupt();
        }
        self.deferrals.interrupt_all();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Bell>>> {
        self.bells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bell {
    fn interrupt(&self) {
        self.interrupted.store(true, Ordering::Release);
        // Full only if it rings already.
        let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
    }
}

impl Waiter<'_> {
    /// Waits until `file` is ready for `events`, or is in error.
    ///
    /// # Errors
    ///
    /// `EINTR` when the request was interrupted.
    pub fn wait(&self, file: impl AsFd, events: PollFlags) -> Result<()> {
        loop {
            let mut polled = [
                PollFd::from_borrowed_fd(self.bell.event.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(file.as_fd(), events),
            ];
            match rustix::event::poll(&mut polled, None) {
                // A signal to this thread says nothing about the request.
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
            if self.bell.interrupted.load(Ordering::Acquire) {
                return Err(Errno::INTR);
            }
            if !polled[1].revents().is_empty() {
                return Ok(());
            }
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut waiters = self.waiters.lock();
        if waiters
            .get(&self.unique)
            .is_some_and(|bell| Arc::ptr_eq(bell, &self.bell))
        {
            waiters.remove(&self.unique);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_request_from_before_the_end_of_its_session_does_not_start_to_wait() {
        let waiters = Waiters::new();
        let early = Admission::from(&waiters);
        waiters.interrupt_all();
        assert_eq!(early.enter(1).map(drop), Err(Errno::INTR));
        assert!(Admission::from(&waiters).enter(2).is_ok());
    }
}
