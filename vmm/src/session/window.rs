//! The size of the host's terminal, for the pseudo-terminal in the guest.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use devices::filesystem::{Request, Result};
use guest_init::protocol::WindowSize;
use rustix::event::{EventfdFlags, PollFlags};

/// The size now, and the one that the guest knows.
#[derive(Debug)]
pub(super) struct Window(Mutex<Sizes>);

#[derive(Debug)]
struct Sizes {
    now: WindowSize,
    told: WindowSize,
    /// An eventfd that is ready when there may be another size; made for the
    /// first request that waits for one.
    changed: Option<Arc<OwnedFd>>,
}

impl Window {
    /// The guest knows the first size from its plan.
    pub(super) fn new(size: WindowSize) -> Self {
        Self(Mutex::new(Sizes {
            now: size,
            told: size,
            changed: None,
        }))
    }

    /// The terminal has another size.
    pub(super) fn resize(&self, size: WindowSize) {
        let mut sizes = self.lock();
        sizes.now = size;
        if let Some(changed) = &sizes.changed {
            // Full only if it is ready already.
            let _ = rustix::io::write(changed, &1_u64.to_ne_bytes());
        }
    }

    /// Waits for a size that the guest does not know.
    pub(super) fn next(&self, request: &Request<'_>) -> Result<WindowSize> {
        let waiter = request.waiter()?;
        loop {
            let changed = {
                let mut sizes = self.lock();
                if sizes.now != sizes.told {
                    sizes.told = sizes.now;
                    return Ok(sizes.now);
                }
                let changed = sizes.changed()?;
                // Whatever it says is known by now.
                let _ = rustix::io::read(&changed, &mut [0; 8]);
                changed
            };
            waiter.wait(&changed, PollFlags::IN)?;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Sizes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sizes {
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
