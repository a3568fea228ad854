//! The guest as the debugger has it: its processors in their parking, and what is
//! to happen to each when it goes on.

use std::sync::Arc;
use std::time::Duration;

use gdbstub::common::{Signal, Tid};
use gdbstub::stub::MultiThreadStopReason;
use kvm_bindings::{
    KVM_GUESTDBG_BLOCKIRQ, KVM_GUESTDBG_INJECT_BP, KVM_GUESTDBG_INJECT_DB, KVM_GUESTDBG_SINGLESTEP,
    kvm_guest_debug,
};
use kvm_ioctls::VcpuFd;
use vm_memory::{GuestAddress, GuestMemory, GuestMemoryMmap};

use super::breakpoints::{Breakpoints, Watched};
use super::memory;
use crate::machine::vcpu::{DebugExit, Kicker, Parking};

/// How long a processor that missed a kick runs on before the next.
const KICK_INTERVAL: Duration = Duration::from_millis(1);
/// DR6: a single step.
const DR6_STEP: u64 = 1 << 14;
/// Vectors of exceptions.
const DB: u32 = 1;
const BP: u32 = 3;

/// Why the guest stopped.
pub(super) type Reason = MultiThreadStopReason<u64>;

/// What a processor is to do when the guest goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Continue,
    Step,
    Stay,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("KVM does not debug vCPU {index}")]
    Control {
        index: usize,
        source: kvm_ioctls::Error,
    },
}

/// What a machine lends its debugger.
#[derive(Debug)]
pub(in crate::machine) struct Access {
    pub(in crate::machine) parking: Arc<Parking>,
    pub(in crate::machine) kicker: Kicker,
    pub(in crate::machine) memory: GuestMemoryMmap,
}

/// The guest in the hands of a debugger.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) access: Access,
    /// A step can keep interrupts out.
    can_block_interrupts: bool,
    pub(super) breakpoints: Breakpoints,
    /// By processor.
    pub(super) actions: Vec<Action>,
    /// Whose action gdb has named; the others are to stay where gdb says so.
    pub(super) named: Vec<bool>,
    /// Exceptions of the guest's own that were intercepted: `KVM_GUESTDBG_INJECT_`
    /// flags by processor.
    owed: Vec<u32>,
    /// The processor that stopped last.
    current: usize,
}

impl Guest {
    pub(super) fn new(access: Access, cpus: u8, can_block_interrupts: bool) -> Self {
        let cpus = usize::from(cpus);
        Self {
            access,
            can_block_interrupts,
            breakpoints: Breakpoints::default(),
            actions: vec![Action::Continue; cpus],
            named: vec![false; cpus],
            owed: vec![0; cpus],
            current: 0,
        }
    }

    /// gdb has said what this one is to do.
    pub(super) fn name(&mut self, tid: Tid) {
        if let Some(named) = self.named.get_mut(index(tid)) {
            *named = true;
        }
    }

    /// Number of processors.
    pub(super) fn cpus(&self) -> usize {
        self.actions.len()
    }

    /// Stops every processor. Returns early when the machine ends.
    pub(super) fn pause(&self) {
        self.access.parking.hold_all();
        while !self.access.parking.is_full() && !self.access.parking.is_closed() {
            self.access.kicker.kick();
            std::thread::sleep(KICK_INTERVAL);
        }
    }

    /// Lets the processors go on, each with its action.
    pub(super) fn resume(&mut self) -> Result<(), Error> {
        let released: Vec<usize> = (self.actions.iter().enumerate())
            .filter(|(_, action)| **action != Action::Stay)
            .map(|(index, _)| index)
            .collect();
        for &index in &released {
            let flags = self.flags(index);
            let debug = self.breakpoints.control(flags);
            self.prepare(index, &debug)?;
        }
        self.access.parking.release(released.into_iter());
        Ok(())
    }

    /// The guest goes on as if there had never been a debugger.
    pub(super) fn leave(&mut self) -> Result<(), Error> {
        self.pause();
        let exits = self.access.parking.take_exits();
        self.keep_what_is_the_guests(exits);
        self.breakpoints.clear(&self.access.memory);
        self.actions.fill(Action::Continue);
        for index in 0..self.cpus() {
            let mut debug = kvm_guest_debug::default();
            if let Some(owed) = self.owed.get_mut(index).map(std::mem::take) {
                debug.control = owed;
            }
            self.prepare(index, &debug)?;
        }
        self.access.parking.release(0..self.cpus());
        Ok(())
    }

    fn flags(&mut self, index: usize) -> u32 {
        let owed = self.owed.get_mut(index).map_or(0, std::mem::take);
        let step = match self.actions.get(index) {
            Some(Action::Step) if self.can_block_interrupts => {
                KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_BLOCKIRQ
            }
            Some(Action::Step) => KVM_GUESTDBG_SINGLESTEP,
            _ => 0,
        };
        owed | step
    }

    fn prepare(&self, index: usize, debug: &kvm_guest_debug) -> Result<(), Error> {
        let prepare = |fd: &VcpuFd| {
            // Tells the guest's watchdogs that it stood still; one without such a
            // clock knows nothing of that.
            let _ = fd.kvmclock_ctrl();
            fd.set_guest_debug(debug)
        };
        match self.access.parking.with(index, prepare) {
            Some(Err(source)) => Err(Error::Control { index, source }),
            // Not there: the machine ends.
            Some(Ok(())) | None => Ok(()),
        }
    }

    /// Looks at what brought processors in while the guest runs. If that is for
    /// gdb to know, the whole guest stops.
    pub(super) fn look(&mut self) -> Result<Option<Reason>, Error> {
        if self.access.parking.is_closed() {
            return Ok(Some(Reason::Exited(0)));
        }
        let mut exits = self.access.parking.take_exits();
        let ours = exits.iter().position(|exit| self.reason(exit).is_some());
        if let Some(ours) = ours {
            let (index, exit) = exits.swap_remove(ours);
            let reason = self.reason(&(index, exit));
            self.pause();
            exits.extend(self.access.parking.take_exits());
            self.keep_what_is_the_guests(exits);
            self.current = index;
            return Ok(reason);
        }
        for (index, _) in self.keep_what_is_the_guests(exits) {
            let flags = self.flags(index);
            let debug = self.breakpoints.control(flags);
            self.prepare(index, &debug)?;
            self.access.parking.release(std::iter::once(index));
        }
        Ok(None)
    }

    /// Stops the whole guest because gdb asks for it.
    pub(super) fn interrupt(&mut self) -> Reason {
        self.pause();
        let mut exits = self.access.parking.take_exits();
        let ours = exits.iter().position(|exit| self.reason(exit).is_some());
        let reason = ours.and_then(|ours| {
            let exit = exits.swap_remove(ours);
            self.current = exit.0;
            self.reason(&exit)
        });
        self.keep_what_is_the_guests(exits);
        reason.unwrap_or(Reason::SignalWithThread {
            tid: tid(self.current),
            signal: Signal::SIGINT,
        })
    }

    /// Remembers exceptions that the guest is owed. A breakpoint of ours is met
    /// again: its instruction was not executed.
    fn keep_what_is_the_guests(
        &mut self,
        exits: Vec<(usize, DebugExit)>,
    ) -> Vec<(usize, DebugExit)> {
        for (index, exit) in &exits {
            if self.reason(&(*index, *exit)).is_some() {
                continue;
            }
            if let Some(owed) = self.owed.get_mut(*index) {
                *owed = match exit.vector {
                    BP => KVM_GUESTDBG_INJECT_BP,
                    _ => KVM_GUESTDBG_INJECT_DB,
                };
            }
            if exit.vector == DB {
                self.access
                    .parking
                    .with(*index, |fd| tell_guest(fd, exit.dr6));
            }
        }
        exits
    }

    /// What gdb is to know of an exception, if it is one that it waits for.
    fn reason(&self, (index, exit): &(usize, DebugExit)) -> Option<Reason> {
        let tid = tid(*index);
        match exit.vector {
            BP => (self.breakpoints.is_in_memory(exit.pc)).then_some(Reason::SwBreak(tid)),
            DB => match self.breakpoints.hit(exit.dr6) {
                Some(slot) => Some(match slot.watched {
                    Watched::Execution { in_memory: true } => Reason::SwBreak(tid),
                    Watched::Execution { in_memory: false } => Reason::HwBreak(tid),
                    Watched::Access(kind, _) => Reason::Watch {
                        tid,
                        kind,
                        addr: slot.address,
                    },
                }),
                None => {
                    let steps = self.actions.get(*index) == Some(&Action::Step);
                    (steps && exit.dr6 & DR6_STEP != 0).then_some(Reason::SignalWithThread {
                        tid,
                        signal: Signal::SIGTRAP,
                    })
                }
            },
            _ => None,
        }
    }

    /// Where `address` is in memory, for the processor that stopped last or else for
    /// any that has page tables.
    pub(super) fn find(&self, address: u64) -> Option<GuestAddress> {
        let of = |index, translate: fn(&VcpuFd, u64) -> Option<GuestAddress>| {
            let translate = |fd: &VcpuFd| translate(fd, address);
            let found = self.access.parking.with(index, translate).flatten();
            found.filter(|at| self.access.memory.address_in_range(*at))
        };
        of(self.current, memory::translate)
            .or_else(|| (0..self.cpus()).find_map(|index| of(index, memory::translate_paged)))
    }
}

/// The guest's DR6 as the exception would have left it.
fn tell_guest(fd: &VcpuFd, dr6: u64) {
    if let Ok(mut registers) = fd.get_debug_regs() {
        registers.dr6 |= dr6;
        // The exception is delivered without it, too.
        let _ = fd.set_debug_regs(&registers);
    }
}

/// gdb's name for a processor: threads count from 1, as processors do in
/// the kernel's own scripts for gdb.
pub(super) fn tid(index: usize) -> Tid {
    Tid::MIN.saturating_add(index)
}

/// The processor that gdb calls `tid`.
pub(super) fn index(tid: Tid) -> usize {
    tid.get() - 1
}
