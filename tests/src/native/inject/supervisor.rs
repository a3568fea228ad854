//! The thread that decides about a call that was stopped.
//!
//! It shares memory and descriptors with the thread that waits, so it can make
//! the call itself. It allocates nothing and takes no lock before it has
//! answered: the thread that waits may hold any.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result, ensure};
use libc::{c_long, iovec, seccomp_notif, seccomp_notif_resp};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::rule::{Action, Rule};

/// `UIO_MAXIOV`.
const MAX_PIECES: usize = 1024;

/// Calls that wait until they are released.
#[derive(Debug)]
pub(super) struct Held {
    listener: OwnedFd,
    /// Nothing once all were released.
    calls: Mutex<Option<Vec<u64>>>,
}

impl Held {
    pub(super) fn new(listener: OwnedFd) -> Self {
        let calls = Mutex::new(Some(Vec::new()));
        Self { listener, calls }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<u64>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(&self, call: u64) -> Result<()> {
        match &mut *self.lock() {
            Some(calls) => calls.push(call),
            None => return send(&self.listener, go_on(call)),
        }
        Ok(())
    }

    pub(super) fn count(&self) -> usize {
        self.lock().as_ref().map_or(0, Vec::len)
    }

    pub(super) fn release(&self) -> Result<()> {
        let calls = self.lock().take().unwrap_or_default();
        (calls.into_iter()).try_for_each(|call| send(&self.listener, go_on(call)))
    }
}

/// Decides until the last thread with the filter has ended, and says what was
/// done.
pub(super) fn run(listener: &OwnedFd, mut rules: Vec<Rule>, held: &Held) -> Result<Vec<Rule>> {
    let late = Arc::new(listener.try_clone()?);
    loop {
        let mut ready = [PollFd::new(listener, PollFlags::IN)];
        match poll(&mut ready, None) {
            Err(Errno::INTR) => continue,
            outcome => outcome.context("cannot wait for calls")?,
        };
        if !ready[0].revents().contains(PollFlags::IN) {
            return Ok(rules);
        }
        let Some(call) = receive(listener)? else {
            continue;
        };
        #[allow(clippy::cast_sign_loss)] // numbers of calls are not negative
        let number = call.data.nr as u32;
        // Each counts the call; the first to apply has it.
        let mut decided = None;
        for rule in &mut rules {
            if let Some(action) = rule.apply(number) {
                decided.get_or_insert((rule, action));
            }
        }
        let Some((rule, action)) = decided else {
            send(listener, go_on(call.id))?;
            continue;
        };
        match action {
            Action::Fail(errno) => {
                rule.done();
                send(listener, fail(call.id, errno))?;
            }
            Action::Short(limit) => match transfer_less(&call, limit) {
                Some(outcome) => {
                    rule.done();
                    send(listener, result(call.id, outcome))?;
                }
                None => send(listener, go_on(call.id))?,
            },
            // Of another process: see above.
            Action::Hold => {
                rule.done();
                held.hold(call.id)?;
            }
            Action::Delay(time) => {
                rule.done();
                let late = Arc::clone(&late);
                thread::spawn(move || {
                    thread::sleep(time);
                    send(&late, go_on(call.id))
                });
            }
        }
    }
}

/// The next call; nothing when its thread was gone first.
fn receive(listener: &OwnedFd) -> Result<Option<seccomp_notif>> {
    let mut call = MaybeUninit::<seccomp_notif>::zeroed();
    // SAFETY: the kernel wants room for the structure, zeroed.
    let outcome = unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_RECV,
            call.as_mut_ptr(),
        )
    };
    if outcome == 0 {
        // SAFETY: numbers only, for which every pattern is a value.
        return Ok(Some(unsafe { call.assume_init() }));
    }
    let error = io::Error::last_os_error();
    match Errno::from_io_error(&error) {
        Some(Errno::NOENT | Errno::INTR) => Ok(None),
        _ => Err(error).context("cannot learn of a call"),
    }
}

fn send(listener: &OwnedFd, mut answer: seccomp_notif_resp) -> Result<()> {
    // SAFETY: the structure is whole and lives across the call.
    let outcome = unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_SEND,
            &raw mut answer,
        )
    };
    let error = io::Error::last_os_error();
    ensure!(
        outcome == 0 || Errno::from_io_error(&error) == Some(Errno::NOENT),
        "cannot decide about a call: {error}"
    );
    Ok(())
}

#[allow(clippy::cast_possible_truncation)] // the flag is bit 0
fn go_on(id: u64) -> seccomp_notif_resp {
    seccomp_notif_resp {
        id,
        val: 0,
        error: 0,
        flags: libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
    }
}

fn fail(id: u64, errno: Errno) -> seccomp_notif_resp {
    result(id, Err(errno))
}

fn result(id: u64, outcome: Result<i64, Errno>) -> seccomp_notif_resp {
    seccomp_notif_resp {
        id,
        val: outcome.unwrap_or(0),
        error: outcome.err().map_or(0, |errno| -errno.raw_os_error()),
        flags: 0,
    }
}

/// Makes a call that transfers data, with at most `limit` bytes or half of
/// them. Nothing when there are not two bytes to be halved.
fn transfer_less(call: &seccomp_notif, limit: Option<u64>) -> Option<Result<i64, Errno>> {
    let number = c_long::from(call.data.nr);
    let [file, buffer, length, low, high, flags] = call.data.args;
    let shorter = |all: u64| {
        let less = limit.map_or(all / 2, |limit| limit.min(all.saturating_sub(1)));
        (less > 0).then_some(less)
    };
    let outcome = match number {
        libc::SYS_read | libc::SYS_write | libc::SYS_pread64 | libc::SYS_pwrite64 => {
            let length = shorter(length)?;
            // SAFETY: what the waiting thread asked for, with less of its
            // buffer.
            unsafe { libc::syscall(number, file, buffer, length, low) }
        }
        _ => {
            let mut pieces = [const { MaybeUninit::<iovec>::uninit() }; MAX_PIECES];
            let count = usize::try_from(length).ok().filter(|n| *n <= MAX_PIECES)?;
            let given = std::ptr::with_exposed_provenance::<MaybeUninit<iovec>>(
                usize::try_from(buffer).ok()?,
            );
            // SAFETY: the waiting thread gave the kernel `count` pieces there,
            // and does not move before it is answered.
            let given = unsafe { std::slice::from_raw_parts(given, count) };
            pieces[..count].copy_from_slice(given);
            // SAFETY: as many as were copied.
            let pieces = unsafe {
                std::slice::from_raw_parts_mut(pieces.as_mut_ptr().cast::<iovec>(), count)
            };
            let all = pieces.iter().map(|piece| piece.iov_len as u64).sum();
            let mut left = usize::try_from(shorter(all)?).ok()?;
            for piece in &mut *pieces {
                piece.iov_len = piece.iov_len.min(left);
                left -= piece.iov_len;
            }
            // SAFETY: what the waiting thread asked for, with less of its
            // buffers.
            unsafe { libc::syscall(number, file, pieces.as_ptr(), length, low, high, flags) }
        }
    };
    Some(if outcome >= 0 {
        Ok(outcome)
    } else {
        let error = io::Error::last_os_error();
        Err(Errno::from_io_error(&error).unwrap_or(Errno::IO))
    })
}
