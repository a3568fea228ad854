//! What the host has to tell the guest at a time of its own: another size of
//! the terminal, a signal for the command.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use devices::filesystem::{Request, Result};
use rustix::event::{EventfdFlags, PollFlags};

/// A value that the guest waits for when it is another than the one it knows.
#[derive(Debug)]
pub(super) struct News<T>(Mutex<State<T>>);

#[derive(Debug)]
struct State<T> {
    now: T,
    told: T,
    /// An eventfd that is ready when there may be another value; made for the
    /// first request that waits for one.
    changed: Option<Arc<OwnedFd>>,
}

impl<T: Copy + PartialEq> News<T> {
    /// The guest knows the first value.
    pub(super) fn new(known: T) -> Self {
        Self(Mutex::new(State {
            now: known,
            told: known,
            changed: None,
        }))
    }

    /// The value is another one.
    pub(super) fn set(&self, value: T) {
        let mut state = self.lock();
        state.now = value;
        if let Some(changed) = &state.changed {
            // Full only if it is ready already.
            let _ = rustix::io::write(changed, &1_u64.to_ne_bytes());
        }
    }

    /// Waits for a value that the guest does not know.
    pub(super) fn next(&self, request: &Request<'_>) -> Result<T> {
        let waiter = request.waiter()?;
        loop {
            let changed = {
                let mut state = self.lock();
                if state.now != state.told {
                    state.told = state.now;
                    return Ok(state.now);
                }
                let changed = state.changed()?;
                // Whatever it says is known by now.
                let _ = rustix::io::read(&changed, &mut [0; 8]);
                changed
            };
            waiter.wait(&changed, PollFlags::IN)?;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn changed(&mut self) -> Result<Arc<OwnedFd>> {
        let changed = match &self.changed {
            Some(changed) => changed,
            None => {
                let flags = EventfdFlags::CLOEXEC.union(EventfdFlags::NONBLOCK);
                let event = rustix::event::eventfd(0, flags)?;
                self.changed.insert(Arc::new(event))
            }
        };
        Ok(Arc::clone(changed))
    }
}
