//! The threads that carry requests from `/dev/fuse` to the server, as the
//! device's do from the queues.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use devices::filesystem::Deferral;
use devices::fuse::Server;
use devices::virtio::fs::{RequestServer, Threads};

use super::buffers::{Buffers, Receive};
use super::driver::{self, ReadFailure, Request};

/// How many requests may wait without an answer: as on a queue of 1024
/// elements, though nothing else has to find a place in it here.
const DEFERRED: usize = 256;
/// How long one of them waits for a change before it is served again.
const AGAIN: Duration = Duration::from_millis(10);

/// A server with the device that asks it.
#[derive(Debug)]
pub struct Connection {
    threads: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// What starts the threads.
    threads: Arc<dyn Threads>,
    device: Arc<File>,
    server: Arc<Server>,
    /// Buffers without a request.
    idle: Mutex<Vec<Buffers>>,
    /// The first thing that went wrong on a thread which nobody joins.
    failure: Mutex<Option<anyhow::Error>>,
}

impl Connection {
    /// Begins to serve, with `queues` threads, which `threads` starts as all that
    /// are needed later.
    ///
    /// # Errors
    ///
    /// When there is no thread to be had.
    pub fn serve(
        device: Arc<File>,
        server: Arc<Server>,
        queues: u16,
        threads: Arc<dyn Threads>,
    ) -> Result<Self> {
        server.limit_deferred(DEFERRED);
        let shared = Arc::new(Shared {
            threads,
            device,
            server,
            idle: Mutex::default(),
            failure: Mutex::default(),
        });
        let threads = (0..queues).map(|queue| {
            let serving = Arc::clone(&shared);
            let work = move || serving.note(serving.run());
            (shared.threads).start(format!("fs-native-{queue}"), Box::new(work))
        });
        let threads = threads
            .collect::<io::Result<_>>()
            .context("cannot start a thread for a queue")?;
        Ok(Self { threads, shared })
    }

    /// Waits until the file system is unmounted, and ends the session as
    /// virtiofs does.
    ///
    /// # Errors
    ///
    /// What went wrong while it was served.
    pub fn finish(self) -> Result<()> {
        for thread in self.threads {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
        let buffers = self.shared.take()?;
        let destroy = driver::destroy();
        buffers.put(&destroy)?;
        buffers.answer(
            &self.shared.server,
            &Request::read(&destroy, destroy.len())?,
        )?;
        let mut failure = lock(&self.shared.failure);
        failure.take().map_or(Ok(()), Err)
    }
}

impl Shared {
    /// What the thread of a queue does.
    fn run(self: &Arc<Self>) -> Result<()> {
        let mut buffers = self.take()?;
        loop {
            let request = match buffers.receive(&self.device) {
                Ok(request) => request,
                Err(Receive::Wrong(error)) => return Err(error),
                Err(Receive::Read(error)) => match driver::judge(&error) {
                    ReadFailure::Again => continue,
                    ReadFailure::Unmounted => return Ok(()),
                    ReadFailure::Broken => {
                        return Err(error).context("cannot read a request from /dev/fuse");
                    }
                },
            };
            if request.is_interrupt() {
                self.delivered(
                    &request,
                    io::Write::write_all(&mut { self.device.as_ref() }, &request.not_implemented()),
                )?;
            } else if buffers.may_block(&self.server, &request)? {
                let full = std::mem::replace(&mut buffers, self.take()?);
                self.detach(full, request)?;
            } else if let Some(len) = buffers.answer_at_once(&self.server, &request)? {
                self.reply(&buffers, &request, len)?;
            } else {
                let full = std::mem::replace(&mut buffers, self.take()?);
                self.detach(full, request)?;
            }
        }
    }

    /// Serves a request that may block where it keeps no other waiting.
    fn detach(self: &Arc<Self>, buffers: Buffers, request: Request) -> Result<()> {
        let shared = Arc::clone(self);
        let work = move || {
            shared.note(shared.answer(&buffers, &request));
            lock(&shared.idle).push(buffers);
        };
        (self.threads)
            .start("fs-native-pool".to_owned(), Box::new(work))
            .context("cannot start a thread for a request that may block")?;
        Ok(())
    }

    /// Answers, however long it takes. Here each waits on a thread of its own.
    fn answer(&self, buffers: &Buffers, request: &Request) -> Result<()> {
        let deferral = Deferral::default();
        loop {
            let change = self.server.change();
            if let Some(len) = buffers.answer_or_defer(&self.server, request, &deferral)? {
                return self.reply(buffers, request, len);
            }
            self.server.wait_for_change(change, AGAIN);
        }
    }

    fn reply(&self, buffers: &Buffers, request: &Request, len: usize) -> Result<()> {
        match len {
            0 => Ok(()),
            len => self.delivered(request, buffers.deliver(&self.device, len)),
        }
    }

    /// An answer that the kernel refuses leaves a task waiting for ever.
    fn delivered(&self, request: &Request, outcome: io::Result<()>) -> Result<()> {
        match outcome {
            Err(error) if driver::nobody_waits(&error) => Ok(()),
            Err(error) if driver::judge(&error) == ReadFailure::Unmounted => Ok(()),
            Err(error) => Err(error).with_context(|| {
                let (opcode, unique) = (request.opcode, request.unique);
                format!("the kernel refuses the answer to request {unique}, opcode {opcode}")
            }),
            Ok(()) => Ok(()),
        }
    }

    fn take(&self) -> Result<Buffers> {
        let idle = lock(&self.idle).pop();
        idle.map_or_else(Buffers::new, Ok)
    }

    fn note(&self, outcome: Result<()>) {
        if let Err(error) = outcome {
            log::error!("{error:#}");
            lock(&self.failure).get_or_insert(error);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
