//! A machine whose guest runs, to its end.

use std::sync::Arc;
use std::time::Duration;

use vmm_sandbox::Sandbox;
use vmm_sys_util::eventfd::EventFd;

use super::Error;
use super::board::Board;
use super::debugger::{Access, Debugger, Preparation};
use super::ending::{Ending, FirstEnding};
use super::lost_pages::LostPages;
use super::vcpu::{Alarm, RollCall, VcpuThreads};
use super::vm::Vm;

/// A machine whose guest runs. Dropping it takes it down.
#[derive(Debug)]
pub(crate) struct RunningMachine {
    pub(super) threads: Option<VcpuThreads>,
    pub(super) board: Board,
    pub(super) ending: FirstEnding,
    pub(super) roll_call: Arc<RollCall>,
    pub(super) alarm: Arc<Alarm>,
    pub(super) debugger: Option<Debugger>,
    pub(super) _lost_pages: Option<LostPages>,
    /// Rounds in a row in which every processor had halted.
    pub(super) halted_rounds: u32,
    /// Closed last: it is what the others belong to.
    pub(super) vm: Vm,
}

/// Between two answers of the same round one processor may have woken another,
/// and an NMI may have come that was not taken yet; not again and again.
const HALTED_ROUNDS: u32 = 2;

impl RunningMachine {
    /// Lets gdb connect.
    pub(super) fn debug(
        &mut self,
        preparation: Preparation,
        sandbox: Sandbox,
    ) -> Result<(), Error> {
        let Some(threads) = &self.threads else {
            return Ok(());
        };
        let access = Access {
            parking: Arc::clone(&preparation.parking),
            kicker: threads.kicker().clone(),
            memory: self.vm.memory().clone(),
        };
        let ending = self.ending.clone();
        self.debugger = Some(Debugger::start(preparation, access, ending, sandbox)?);
        Ok(())
    }

    /// Readable once the machine has a reason to end: then [`Self::finish`]
    /// it.
    pub(crate) fn ended(&self) -> &EventFd {
        self.ending.event()
    }

    /// Ends the machine if its guest has halted. To be called from time to
    /// time: it goes by what was seen since the calls before.
    pub(crate) fn look_for_halt(&mut self) {
        let halted = self.roll_call.next();
        self.halted_rounds = if halted { self.halted_rounds + 1 } else { 0 };
        if self.halted_rounds >= HALTED_ROUNDS {
            self.ending.set(Ok(Ending::Halted));
        }
        if let Some(threads) = &self.threads {
            threads.kicker().kick();
        }
    }

    /// How long the guest has stood still for its debugger since this was asked
    /// last.
    pub(crate) fn take_pause(&self) -> Duration {
        (self.debugger.as_ref()).map_or(Duration::ZERO, Debugger::take_pause)
    }

    /// Whether the guest stands still for its debugger.
    pub(crate) fn is_paused(&self) -> bool {
        self.debugger.as_ref().is_some_and(Debugger::is_paused)
    }

    /// Asks every processor where it is, with a non-maskable interrupt.
    /// [`Self::look_for_halt`] sees to it that all hear of it.
    pub(crate) fn alarm(&self) {
        self.alarm.ring();
        if let Some(threads) = &self.threads {
            threads.kicker().kick();
        }
    }

    /// Where the processors were that have answered.
    pub(crate) fn alarm_answers(&self) -> Vec<String> {
        self.alarm.answers()
    }

    /// Takes the machine down and says why it ended. On return every vCPU
    /// thread is gone and every device is reset, so that what the guest wrote
    /// has reached the file system. That waits for the file system.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] when KVM failed.
    pub(crate) fn finish(mut self) -> Result<Ending, Error> {
        self.take_down();
        match self.ending.get() {
            Some(Ok(ending)) => Ok(ending.clone()),
            Some(Err(error)) => Err(Error::Run(*error)),
            None => Ok(Ending::Stopped),
        }
    }

    /// vCPUs first, so that no new request arrives.
    fn take_down(&mut self) {
        if let Some(threads) = self.threads.take() {
            threads.stop();
            // It has heard of that, and tells gdb.
            self.debugger = None;
            self.board.reset();
        }
    }
}

impl Drop for RunningMachine {
    fn drop(&mut self) {
        self.take_down();
    }
}
