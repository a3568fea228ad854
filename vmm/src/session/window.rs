//! The size of the host's terminal, for the pseudo-terminal in the guest.

use std::sync::{Mutex, MutexGuard, PoisonError};

use devices::filesystem::Result;
use guest_init::protocol::WindowSize;

use super::waiters::Waiter;

/// The size now, and the one that the guest knows.
#[derive(Debug)]
pub(super) struct Window(Mutex<Sizes>);

#[derive(Debug)]
struct Sizes {
    now: WindowSize,
    told: WindowSize,
}

impl Window {
    /// The guest knows the first size from its plan.
    pub(super) fn new(size: WindowSize) -> Self {
        Self(Mutex::new(Sizes {
            now: size,
            told: size,
        }))
    }

    /// Whoever calls it has to wake the requests that wait.
    pub(super) fn resize(&self, size: WindowSize) {
        self.lock().now = size;
    }

    /// Waits for a size that the guest does not know.
    pub(super) fn next(&self, waiter: &Waiter<'_>) -> Result<WindowSize> {
        loop {
            let mut sizes = self.lock();
            if sizes.now != sizes.told {
                sizes.told = sizes.now;
                return Ok(sizes.now);
            }
            drop(sizes);
            waiter.wait(None)?;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Sizes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
