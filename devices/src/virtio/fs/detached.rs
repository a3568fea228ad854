//! A request that was taken off its queue's thread because it may block.
//!
//! A reset must not wait for what never comes, such as a line on the host's
//! standard input, and after it guest memory belongs to whatever the guest
//! does next: a late reply would overwrite it. A system call that waits with
//! guest pages for its buffer cannot be told to forget them. So a detached
//! request is served from a private copy ([`Bounce`]), and its reply is copied
//! to the guest under a [`Lease`], which a reset revokes. What is left behind
//! then is a thread of the pool that writes to unused memory, and a
//! channel without a receiver.
//!
//! The copy lives from the moment a thread of the pool begins with the request
//! until the reply is in guest memory: there are never more copies than
//! threads of the pool and deferred requests together, however slowly the
//! queue's thread gives requests back. One is as long as the longest request and reply
//! together, 5 MiB; what of it nobody writes to takes no memory of the host.

use std::sync::mpsc::Sender;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use vm_memory::{Address, GuestMemory};
use vmm_sys_util::eventfd::EventFd;

use super::bounce::{Bounce, BounceError};
use super::server::RequestServer;
use crate::filesystem::{Change, Deferral};
use crate::virtio::drain::Chain;
use crate::window::Windows;

/// What everybody but the driver adds to a queue's kick. Beyond 32 bits, so
/// that the sum still tells how often the driver kicked.
pub(super) const WAKE: u64 = 1 << 32;

/// Leave to touch guest memory for as long as the driver that made a request
/// is there.
#[derive(Debug, Default)]
pub(super) struct Lease {
    revoked: RwLock<bool>,
}

impl Lease {
    /// Ends the lease; on return no guest memory is touched under it.
    pub(super) fn revoke(&self) {
        *self.revoked.write().unwrap_or_else(PoisonError::into_inner) = true;
    }

    fn with<T>(&self, touch: impl FnOnce() -> T) -> Option<T> {
        let revoked = self.revoked.read().unwrap_or_else(PoisonError::into_inner);
        (!*revoked).then(touch)
    }
}

/// A request on its way through the pool.
pub(super) struct Detached {
    /// The request in guest memory.
    pub(super) chain: Chain,
    pub(super) server: Arc<dyn RequestServer>,
    pub(super) lease: Arc<Lease>,
    /// Where it came from.
    pub(super) finished: Sender<Finished>,
    pub(super) kick: Arc<EventFd>,
    /// What a buffer can be in that is not in memory.
    pub(super) windows: Windows,
    /// When it was taken from its queue.
    pub(super) arrived: Instant,
    /// Set when a thread has begun with it.
    pub(super) begun: Option<Box<Begun>>,
}

/// A request that was served, perhaps without an answer yet.
pub(super) struct Begun {
    bounce: Bounce,
    deferral: Deferral,
    /// When that was the first time.
    since: Instant,
    /// When it was the last time.
    last: Instant,
    /// What had happened before it.
    seen: Change,
}

/// What became of a request that was served.
pub(super) enum Served {
    /// It was answered, or found to have no answer, which is said why.
    Over(Result<(), BounceError>),
    /// It is to be served again.
    Deferred(Detached),
}

/// A detached request that was answered, or was found to have no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Finished {
    /// The first descriptor of the request.
    pub(super) head: u16,
    /// How many bytes of an answer there are.
    pub(super) len: u32,
}

struct BouncedReply {
    bounce: Bounce,
    len: usize,
}

impl Detached {
    /// Answers the request and hands it back to its queue, unless the driver
    /// it came from is gone, or the request is deferred.
    pub(super) fn serve(self) -> Served {
        self.serve_as(|bounce, server, deferral| bounce.answer(server, Some(deferral)))
    }

    /// Answers the request, deferred or not.
    pub(super) fn serve_at_last(self) -> Result<(), BounceError> {
        match self.serve_as(|bounce, server, _| bounce.answer(server, None)) {
            Served::Over(outcome) => outcome,
            Served::Deferred(_) => Ok(()),
        }
    }

    fn serve_as(
        mut self,
        answer: impl FnOnce(
            &Bounce,
            &dyn RequestServer,
            &Deferral,
        ) -> Result<Option<usize>, BounceError>,
    ) -> Served {
        let seen = self.server.change();
        let begun = match self.begun.take() {
            Some(begun) => self.lease.with(|| Ok(begun.again(seen))),
            None => (self.lease)
                .with(|| Bounce::copy_of(&self.chain, &self.windows, &*self.server))
                .map(|copied| copied.map(|bounce| Begun::new(bounce, self.arrived, seen))),
        };
        let Some(begun) = begun else {
            return Served::Over(Ok(()));
        };
        let answered = begun.and_then(|begun| {
            let len = answer(&begun.bounce, &*self.server, &begun.deferral)?;
            Ok((begun, len))
        });
        let reply = match answered {
            Ok((begun, None)) => {
                self.begun = Some(Box::new(begun));
                return Served::Deferred(self);
            }
            Ok((begun, Some(len))) => Ok(BouncedReply {
                len: len.min(begun.bounce.reply_len),
                bounce: begun.bounce,
            }),
            Err(error) => Err(error),
        };
        let deliver = || {
            let reply = reply.as_ref().ok()?;
            reply.deliver(&self.chain, &self.windows, &*self.server)
        };
        let Some(len) = self.lease.with(deliver) else {
            return Served::Over(Ok(()));
        };
        let len = len.unwrap_or(0);
        let head = self.chain.head_index();
        // The copy goes before the queue may take its time.
        let outcome = reply.map(drop);
        // When the queue is gone nobody is to be woken either.
        if self.finished.send(Finished { head, len }).is_ok()
            && let Err(error) = self.kick.write(WAKE)
        {
            log::error!("cannot wake a queue: {error}");
        }
        Served::Over(outcome)
    }

    /// Since when it has been served.
    pub(super) fn since(&self) -> Option<Instant> {
        self.begun.as_ref().map(|begun| begun.since)
    }

    /// When it is to be served again: `next` says how long after the last time,
    /// by how long it had waited then.
    pub(super) fn due(&self, next: fn(Duration) -> Duration) -> Option<Instant> {
        let begun = self.begun.as_ref()?;
        begun.last.checked_add(next(begun.last - begun.since))
    }

    /// Whether that is now, because of the time or of what has changed.
    pub(super) fn is_due(
        &self,
        change: Change,
        now: Instant,
        next: fn(Duration) -> Duration,
    ) -> bool {
        let begun = self.begun.as_ref();
        begun.is_none_or(|begun| begun.seen.events != change.events)
            || self.due(next).is_none_or(|due| due <= now)
    }

    /// Whether serving it may wait for somebody else whatever it asks.
    pub(super) fn may_stall(&self) -> bool {
        let Some(begun) = &self.begun else {
            return false;
        };
        let stalls = (begun.bounce).with_request(|request| self.server.may_block(request));
        stalls.unwrap_or(false)
    }
}

impl Begun {
    fn new(bounce: Bounce, arrived: Instant, seen: Change) -> Self {
        let now = Instant::now();
        Self {
            bounce,
            deferral: Deferral::since(arrived),
            since: now,
            last: now,
            seen,
        }
    }

    /// The same, now that it is served again.
    fn again(self, seen: Change) -> Self {
        let last = Instant::now();
        Self { last, seen, ..self }
    }
}

impl std::fmt::Debug for Detached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Detached")
            .field("head", &self.chain.head_index())
            .finish_non_exhaustive()
    }
}

impl BouncedReply {
    /// Copies the reply to the driver's buffers, and says how many bytes there
    /// were; or one of `server`'s that says that some of them are not there.
    fn deliver(&self, chain: &Chain, windows: &Windows, server: &dyn RequestServer) -> Option<u32> {
        self.copy_to(chain, windows, self.len).or_else(|| {
            let len = self.bounce.answer_fault(server).ok()?;
            self.copy_to(chain, windows, len)
        })
    }

    /// Copies `all` bytes of the reply; `None` when a window has no room.
    fn copy_to(&self, chain: &Chain, windows: &Windows, all: usize) -> Option<u32> {
        let mut done = 0;
        for descriptor in chain.clone().writable() {
            let space = usize::try_from(descriptor.len()).unwrap_or(usize::MAX);
            let len = space.min(all - done);
            if len == 0 {
                continue;
            }
            let Some(from) = self.bounce.reply_slice(done, len) else {
                break;
            };
            if let Ok(to) = chain.memory().get_slice(descriptor.addr(), len) {
                from.copy_to_volatile_slice(to);
            } else if let Some((window, at)) = windows.find(descriptor.addr().raw_value(), len) {
                window.copy_from(at, &from).ok()?;
            } else {
                break;
            }
            done += len;
            if done == all {
                break;
            }
        }
        Some(u32::try_from(done).unwrap_or(u32::MAX))
    }
}
