//! Where the threads of a device come from.

use std::fmt::Debug;
use std::io;
use std::thread::{Builder, JoinHandle};

/// What a thread is to do.
pub type Work = Box<dyn FnOnce() + Send>;

/// Starts the threads that serve a device's requests, whoever asks: the vCPU
/// that sets DRIVER_OK, or another of these threads.
///
/// A thread inherits what the one that starts it may do. So who wants them to
/// be able to do less, and not more, than vCPUs has a way of its own.
pub trait Threads: Debug + Send + Sync {
    /// Starts a thread called `name` that does `work`.
    ///
    /// # Errors
    ///
    /// When the host has no thread for it.
    fn start(&self, name: String, work: Work) -> io::Result<JoinHandle<()>>;
}

/// Threads that may do what the one may that asks for them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unconfined;

impl Threads for Unconfined {
    fn start(&self, name: String, work: Work) -> io::Result<JoinHandle<()>> {
        Builder::new().name(name).spawn(work)
    }
}
