//! The thread that looks for pages of mapped files which the host has cut off.
//!
//! A processor that touches one does not leave KVM, which sets it aside, fetches
//! the page and tries again, without end (`kvm_setup_async_pf`). To look may read
//! from the host's disk, so nobody else waits for it.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use devices::window::Windows;
use vmm_sandbox::{Role, Sandbox};

/// How long a program of the guest may wait for zeros, with a window of some GiB.
const INTERVAL: Duration = Duration::from_millis(500);

/// For how long it is looked each time: what is mapped beyond that has its turn the
/// next time, so that many mappings take a hundredth of a processor at most.
const LOOK: Duration = Duration::from_millis(5);

#[derive(Debug, thiserror::Error)]
#[error("cannot start the thread that looks after dax= windows")]
pub(crate) struct Error(#[from] std::io::Error);

/// The thread. Dropping this ends it.
#[derive(Debug)]
pub(super) struct LostPages {
    /// Gone, it tells the thread to end.
    alive: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl LostPages {
    /// Starts it, if there are windows to look after.
    pub(super) fn look_for(windows: &Windows, sandbox: &Sandbox) -> Result<Option<Self>, Error> {
        if windows.is_empty() {
            return Ok(None);
        }
        let (windows, sandbox) = (windows.clone(), sandbox.clone());
        let (alive, told) = channel::<()>();
        let thread = std::thread::Builder::new()
            .name("windows".into())
            .spawn(move || {
                if let Err(error) = sandbox.enter(Role::Windows) {
                    log::error!("nobody looks after dax= windows: {error}");
                    return;
                }
                while let Err(RecvTimeoutError::Timeout) = told.recv_timeout(INTERVAL) {
                    windows.tear_for(LOOK);
                }
            })?;
        Ok(Some(Self {
            alive: Some(alive),
            thread: Some(thread),
        }))
    }
}

impl Drop for LostPages {
    fn drop(&mut self) {
        drop(self.alive.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
