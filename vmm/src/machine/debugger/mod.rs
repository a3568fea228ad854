//! The machine under gdb (`--gdb`): a thread that serves one gdb after the other
//! over its remote protocol, with the crate `gdbstub`.
//!
//! The guest waits for the first gdb before its first instruction. While it stands
//! still every processor is in its place in the [`Parking`]. gdb's threads are the
//! processors. When gdb detaches or is gone, the guest goes on without it and
//! another can come; when gdb kills, the machine ends.

mod breakpoints;
mod guest;
mod listener;
mod memory;
mod registers;
mod session;
mod target;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use kvm_bindings::{KVM_CAP_SET_GUEST_DEBUG, KVM_CAP_SET_GUEST_DEBUG2, KVM_GUESTDBG_BLOCKIRQ};
use kvm_ioctls::VmFd;
use rustix::event::{PollFd, PollFlags, poll};
use vmm_sandbox::{Role, Sandbox};

pub(super) use guest::Access;
use guest::Guest;
use listener::Link;
pub(crate) use listener::{Address, Error as ListenerError, Listener};
use session::End;

use super::ending::{Ending, FirstEnding};
use super::vcpu::Parking;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("this host's KVM cannot debug guests: leave --gdb out")]
    Unsupported,
    #[error("the host has no eventfd left; raise the limit of open files (ulimit -n)")]
    EventFd(#[source] io::Error),
    #[error("cannot start the thread that serves gdb")]
    Thread(#[source] io::Error),
}

/// What a machine has prepared for its debugger.
#[derive(Debug)]
pub(super) struct Preparation {
    listener: Listener,
    pub(super) parking: Arc<Parking>,
    cpus: u8,
    /// A step can keep interrupts out (`KVM_GUESTDBG_BLOCKIRQ`, from Linux 5.16 on).
    can_block_interrupts: bool,
}

impl Preparation {
    pub(super) fn new(vm: &VmFd, cpus: u8, listener: Listener) -> Result<Self, Error> {
        if vm.check_extension_raw(KVM_CAP_SET_GUEST_DEBUG.into()) <= 0 {
            return Err(Error::Unsupported);
        }
        let flags = vm.check_extension_raw(KVM_CAP_SET_GUEST_DEBUG2.into());
        let flags = u32::try_from(flags).unwrap_or(0);
        Ok(Self {
            listener,
            parking: Arc::new(Parking::new(cpus).map_err(Error::EventFd)?),
            cpus,
            can_block_interrupts: flags & KVM_GUESTDBG_BLOCKIRQ != 0,
        })
    }
}

/// The thread, while the machine runs. It ends with the parking, and dropping this
/// waits for that.
#[derive(Debug)]
pub(super) struct Debugger {
    parking: Arc<Parking>,
    /// Gives back the place of the socket, which is not for a confined thread to remove.
    thread: Option<JoinHandle<Listener>>,
}

impl Debugger {
    pub(super) fn start(
        preparation: Preparation,
        access: Access,
        ending: FirstEnding,
        sandbox: Sandbox,
    ) -> Result<Self, Error> {
        let Preparation {
            listener,
            parking,
            cpus,
            can_block_interrupts,
        } = preparation;
        let mut guest = Guest::new(access, cpus, can_block_interrupts);
        let thread = std::thread::Builder::new()
            .name("gdb".into())
            .spawn(move || {
                match sandbox.enter(Role::Debugger) {
                    Ok(()) => serve(&listener, &mut guest, &ending),
                    Err(error) => ending.set(Ok(Ending::unconfined("the debugger", &error))),
                }
                listener
            })
            .map_err(Error::Thread)?;
        Ok(Self {
            parking,
            thread: Some(thread),
        })
    }

    /// How long the guest has stood still since this was asked last.
    pub(super) fn take_pause(&self) -> Duration {
        self.parking.take_pause()
    }

    /// Whether the guest stands still.
    pub(super) fn is_paused(&self) -> bool {
        self.parking.is_paused()
    }
}

impl Drop for Debugger {
    fn drop(&mut self) {
        // Its panic aborts the process, or was seen in a test.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Serves one gdb after the other until the machine ends.
fn serve(listener: &Listener, guest: &mut Guest, ending: &FirstEnding) {
    while let Some(link) = wait(listener, guest) {
        guest.pause();
        match session::serve(link, guest) {
            Ok(End::Over) => return,
            Ok(End::Killed) => {
                ending.set(Ok(Ending::Killed));
                return;
            }
            Ok(End::Left) => {}
            Err(error) => log::warn!("{}", crate::outcome::line::of_error(&error)),
        }
        if let Err(error) = guest.leave() {
            log::warn!("{}", crate::outcome::line::of_error(&error));
            return;
        }
    }
}

/// Waits for a gdb; `None` when the machine ends before there is one.
fn wait(listener: &Listener, guest: &Guest) -> Option<Link> {
    let parking = &guest.access.parking;
    let news = parking.news();
    loop {
        if parking.is_closed() {
            return None;
        }
        let mut fds = [
            PollFd::new(listener, PollFlags::IN),
            PollFd::new(&news, PollFlags::IN),
        ];
        if let Err(error) = poll(&mut fds, None)
            && error != rustix::io::Errno::INTR
        {
            log::warn!("cannot wait for gdb: {error}");
            return None;
        }
        parking.take_news();
        match listener.accept() {
            Ok(link) => return Some(link),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => log::warn!("gdb cannot connect: {error}"),
        }
    }
}
