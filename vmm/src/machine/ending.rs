//! How a machine ends, and how whoever waits for that hears of it.

use std::io;
use std::sync::{Arc, OnceLock};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EventFd};

use crate::outcome::line;

/// How a machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The guest switched it off.
    PowerOff,
    /// The guest asked for a reset.
    Reset,
    /// Every processor halted with its interrupts off.
    Halted,
    /// The guest cannot go on; in words, with the registers.
    Crash(String),
    /// A [`Stopper`] stopped it.
    Stopped,
    /// Whoever debugs it has killed it.
    Killed,
}

impl Ending {
    /// The thread of `who` could not be confined, and does nothing.
    pub(super) fn unconfined(who: &str, error: &vmm_sandbox::Error) -> Self {
        Self::Crash(format!("{who}: {}", line::of_error(error)))
    }
}

/// The first reason to end, from whichever thread has one.
#[derive(Clone, Debug)]
pub(super) struct FirstEnding(Arc<Slot>);

#[derive(Debug)]
struct Slot {
    ending: OnceLock<Result<Ending, kvm_ioctls::Error>>,
    event: EventFd,
}

impl FirstEnding {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(Slot {
            ending: OnceLock::new(),
            event: EventFd::new(EFD_CLOEXEC)?,
        })))
    }

    /// Ends the machine, unless something has ended it already.
    pub(super) fn set(&self, ending: Result<Ending, kvm_ioctls::Error>) {
        if self.0.ending.set(ending).is_ok() {
            // The counter is 0 before this, so there is room for 1.
            let _ = self.0.event.write(1);
        }
    }

    pub(super) fn get(&self) -> Option<&Result<Ending, kvm_ioctls::Error>> {
        self.0.ending.get()
    }

    /// Readable once there is an ending.
    pub(super) fn event(&self) -> &EventFd {
        &self.0.event
    }
}

/// Ends a machine from another thread.
#[derive(Clone, Debug)]
pub(crate) struct Stopper(pub(super) FirstEnding);

impl Stopper {
    /// Ends the machine with [`Ending::Stopped`], now or as soon as it runs.
    /// Of several reasons to end, the first counts.
    pub(crate) fn stop(&self) {
        self.0.set(Ok(Ending::Stopped));
    }
}
