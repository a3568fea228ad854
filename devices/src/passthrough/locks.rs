//! Advisory locks: GETLK, SETLK, SETLKW, and what becomes of locks when a file
//! is closed.
//!
//! | file | what |
//! | --- | --- |
//! | `table` | who of the guest has which locks of one file |
//! | `held` | the same on the host, for the guest as a whole |
//! | `waits` | who waits for whom |
//!
//! Locks of `flock(2)` need none of it: one belongs to an open file, which is
//! one of the host's too.
//!
//! Nobody waits in a call of the host. A lock that is not to be had is asked
//! for again later ([`Request::defer`]): when this guest has given some up, and
//! from time to time, because what others do nobody tells.

mod file;
mod held;
mod table;
mod waiting;
mod waits;

use std::fs::File;
use std::sync::Arc;

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::{Errno, retry_on_intr};

use super::Passthrough;
use super::budget::{Descriptor, Purpose};
use super::handle::Open;
use super::sys;
use crate::filesystem::{
    Handle, Lock, LockArgs, LockKind, LockOperations, LockOwner, Request, Result, WOULD_WAIT,
};
use file::LockRefusal;
pub(super) use held::Locks;
use held::Used;
use table::{ALL, HeldLock, Whose};
use waiting::WaitingForLock;

impl LockOperations for Passthrough {
    fn getlk(&self, request: &Request<'_>, args: &LockArgs) -> Result<Option<Lock>> {
        let open = self.lockable(request, args)?;
        let file = &open.file()?.file;
        match self.locks.known(request.node) {
            Some(used) => used.file.find(args.owner, args.lock, file),
            None => sys::find_lock(&**file, args.lock.kind, args.lock.range),
        }
    }

    fn setlk(&self, request: &Request<'_>, args: &LockArgs) -> Result<()> {
        request.go_on()?;
        let open = self.lockable(request, args)?;
        if args.flock {
            return flock(request, &open, args);
        }
        if args.lock.kind == LockKind::Unlock {
            return self.unlock(request, Whose::Owner(args.owner), args);
        }
        let flags = open.file()?.flags;
        let suits = match args.lock.kind {
            LockKind::Write => open.node.may_write(),
            _ => !flags.contains(OFlags::WRONLY),
        };
        // The guest's kernel has seen to it.
        if !suits {
            return Err(Errno::BADF);
        }
        let used = self.locks.of(request.node);
        let entry = HeldLock {
            owner: args.owner,
            handle: args.handle,
            lock: args.lock,
        };
        // Not under the lock of the table: a lease of the host's may keep it
        // waiting.
        let fresh = match used.file.is_open() {
            true => None,
            false => Some(self.open_to_lock(&open, args.lock.kind, request.may_wait())?),
        };
        match used.file.lock(entry, fresh) {
            // The guest is gone, or closed the file at the same time.
            Ok(()) if self.handles.get(request.node, args.handle).is_err() => {
                drop(used);
                self.unlock_with(request, args.handle);
                Err(Errno::BADF)
            }
            Ok(()) => {
                // What was for this owner alone others may have now.
                if args.lock.kind == LockKind::Read {
                    request.changed();
                }
                Ok(())
            }
            Err(LockRefusal::Failed(error)) => Err(error),
            Err(LockRefusal::Conflict) if !args.wait => Err(Errno::AGAIN),
            Err(LockRefusal::Conflict) => Err(wait(request, used, args)),
        }
    }
}

impl Passthrough {
    /// What is to be locked.
    fn lockable(&self, request: &Request<'_>, args: &LockArgs) -> Result<Arc<Open>> {
        if !self.config.locks {
            return Err(Errno::NOSYS);
        }
        self.handles.get(request.node, args.handle)
    }

    /// The file once more, for locks: to be read and written, so that it serves
    /// for both kinds, or as far as the host allows.
    fn open_to_lock(
        &self,
        open: &Open,
        kind: LockKind,
        may_wait: bool,
    ) -> Result<Descriptor<File>> {
        // A guest that has as many as it may has none for locks.
        let scarce = |error| match error {
            Errno::MFILE | Errno::NFILE => Errno::NOLCK,
            other => other,
        };
        let permit = self.permit(Purpose::Open).map_err(scarce)?;
        let reopen = |flags| self.reopen_unless_leased(open.host(), flags, may_wait);
        let alone = match kind {
            LockKind::Write => OFlags::WRONLY,
            _ => OFlags::RDONLY,
        };
        let fd = if self.config.read_only {
            reopen(OFlags::RDONLY)
        } else {
            match reopen(OFlags::RDWR) {
                Ok(fd) => Ok(fd),
                Err(WOULD_WAIT) => Err(WOULD_WAIT),
                // A program that runs, a file to append to only, one that may
                // only be read.
                Err(_) if alone == OFlags::WRONLY => {
                    reopen(alone).or_else(|_| reopen(alone | OFlags::APPEND))
                }
                Err(_) => reopen(alone),
            }
        };
        Ok(Descriptor::new(File::from(fd.map_err(scarce)?), permit))
    }

    fn unlock(&self, request: &Request<'_>, whose: Whose, args: &LockArgs) -> Result<()> {
        let Some(used) = self.locks.known(request.node) else {
            return Ok(());
        };
        if used.file.unlock(whose, args.lock.range)? {
            request.changed();
        }
        Ok(())
    }

    /// FLUSH: the owner closed the file somewhere, which ends its locks.
    pub(super) fn unlock_for(&self, request: &Request<'_>, owner: LockOwner) {
        self.unlock_all(request, Whose::Owner(owner));
    }

    /// RELEASE: locks that belong to the open file end with it.
    pub(super) fn unlock_with(&self, request: &Request<'_>, handle: Handle) {
        self.unlock_all(request, Whose::Handle(handle));
    }

    fn unlock_all(&self, request: &Request<'_>, whose: Whose) {
        let Some(used) = self.locks.known(request.node) else {
            return;
        };
        match used.file.unlock(whose, ALL) {
            Ok(true) => request.changed(),
            Ok(false) => {}
            Err(error) => {
                log::warn!("the host keeps a lock that was given up: {error}");
                // Nobody is left who could give it up, and others may want it.
                used.file.forget(whose);
                request.changed();
            }
        }
    }

    /// RELEASE of a file that was locked with `flock(2)`. Closing it does the
    /// same, but somebody else may still be at work with it.
    pub(super) fn unlock_open(request: &Request<'_>, open: &Open) {
        if retry_on_intr(|| rustix::fs::flock(open.host(), FlockOperation::Unlock)).is_ok() {
            request.changed();
        }
    }

    /// How many files there are with locks.
    #[cfg(test)]
    pub(super) fn locked_files(&self) -> usize {
        self.locks.files()
    }
}

/// What to answer to somebody who is to wait.
fn wait(request: &Request<'_>, used: Used, args: &LockArgs) -> Errno {
    if !request.may_wait() {
        return WOULD_WAIT;
    }
    match WaitingForLock::begin(used, args.owner, args.lock) {
        Ok(waiting) => request.defer(Box::new(waiting)),
        Err(error) => error,
    }
}

/// `flock(2)` changes the kind of a lock by giving it up first, here as there.
fn flock(request: &Request<'_>, open: &Open, args: &LockArgs) -> Result<()> {
    let operation = match args.lock.kind {
        LockKind::Read => FlockOperation::NonBlockingLockShared,
        LockKind::Write => FlockOperation::NonBlockingLockExclusive,
        LockKind::Unlock => FlockOperation::NonBlockingUnlock,
    };
    let outcome = retry_on_intr(|| rustix::fs::flock(open.host(), operation));
    let again = request.was_deferred();
    match outcome {
        Ok(()) if args.lock.kind == LockKind::Write => Ok(()),
        Ok(()) => {
            request.changed();
            Ok(())
        }
        Err(Errno::AGAIN) => {
            if !again {
                request.changed();
            }
            Err(match (args.wait, request.may_wait()) {
                (false, _) => Errno::AGAIN,
                (true, false) => WOULD_WAIT,
                (true, true) => request.defer(Box::new(())),
            })
        }
        Err(error) => Err(error),
    }
}
