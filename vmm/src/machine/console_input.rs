//! The guest's serial console, from outside.

use std::sync::{Arc, Mutex, PoisonError};

use devices::serial::Serial;

/// Types on the guest's serial console. Clones go to the same console.
#[derive(Clone, Debug)]
pub(crate) struct ConsoleInput(Arc<Mutex<Serial>>);

impl ConsoleInput {
    pub(super) fn new(serial: Arc<Mutex<Serial>>) -> Self {
        Self(serial)
    }

    /// Sends `input` and says how many bytes were taken: fewer than all while
    /// the guest does not read and the buffer is full.
    pub(crate) fn enqueue(&self, input: &[u8]) -> usize {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .enqueue(input)
    }

    /// Types a SysRq key; says whether the guest listens to it.
    pub(crate) fn sysrq(&self, key: u8) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .sysrq(key)
    }
}
