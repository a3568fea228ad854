//! Requests that wait for the host, and how they are made to stop waiting.
//!
//! A READ of the command's input waits in `poll(2)` on the host's file. The
//! guest can interrupt it (FUSE_INTERRUPT), and a reset of the device ends all
//! of them: each waiting request therefore has an eventfd of its own in the
//! same `poll`.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use devices::filesystem::Result;
use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::io::Errno;

/// The requests that wait at the moment, by the `unique` of their header.
#[derive(Debug, Default)]
pub(super) struct Waiters(Mutex<HashMap<u64, Arc<Bell>>>);

/// What wakes one request.
#[derive(Debug)]
struct Bell {
    event: OwnedFd,
    interrupted: AtomicBool,
}

/// A request while it waits; dropping it ends that.
#[derive(Debug)]
pub(super) struct Waiter<'a> {
    waiters: &'a Waiters,
    unique: u64,
    bell: Arc<Bell>,
}

impl Waiters {
    /// The request `unique` may wait from now on.
    pub(super) fn enter(&self, unique: u64) -> Result<Waiter<'_>> {
        let flags = EventfdFlags::CLOEXEC.union(EventfdFlags::NONBLOCK);
        let bell = Arc::new(Bell {
            event: rustix::event::eventfd(0, flags)?,
            interrupted: AtomicBool::new(false),
        });
        // A hostile guest may use one number twice. Its INTERRUPT then finds
        // the later request only, which is its own loss.
        self.lock().insert(unique, Arc::clone(&bell));
        Ok(Waiter {
            waiters: self,
            unique,
            bell,
        })
    }

    /// Interrupts one request; says whether it waits.
    pub(super) fn interrupt(&self, unique: u64) -> bool {
        let bell = self.lock().get(&unique).cloned();
        if let Some(bell) = &bell {
            bell.interrupt();
        }
        bell.is_some()
    }

    /// Interrupts every request.
    pub(super) fn interrupt_all(&self) {
        for bell in self.lock().values() {
            bell.interrupt();
        }
    }

    /// Makes every request look again at what it waits for.
    pub(super) fn wake_all(&self) {
        for bell in self.lock().values() {
            bell.ring();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Bell>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bell {
    fn interrupt(&self) {
        self.interrupted.store(true, Ordering::Release);
        self.ring();
    }

    fn ring(&self) {
        // Full only if it rings already.
        let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
    }
}

impl Waiter<'_> {
    /// Waits until `file` is ready for `events` or somebody wakes this
    /// request; without a file, for the latter alone. `EINTR` when the
    /// request was interrupted.
    pub(super) fn wait(&self, file: Option<(BorrowedFd<'_>, PollFlags)>) -> Result<()> {
        let bell = PollFd::from_borrowed_fd(self.bell.event.as_fd(), PollFlags::IN);
        let polled = match file {
            None => rustix::event::poll(&mut [bell], None),
            Some((file, events)) => {
                let file = PollFd::from_borrowed_fd(file, events);
                rustix::event::poll(&mut [bell, file], None)
            }
        };
        match polled {
            // A signal to this thread says nothing about the request.
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        let _ = rustix::io::read(&self.bell.event, &mut [0; 8]);
        if self.bell.interrupted.load(Ordering::Acquire) {
            return Err(Errno::INTR);
        }
        Ok(())
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
