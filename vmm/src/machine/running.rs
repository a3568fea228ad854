//! A machine whose guest runs, to its end.

use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

use super::Error;
use super::board::Board;
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
    pub(super) _lost_pages: Option<LostPages>,
    /// Rounds in a row in which every processor had halted.
    pub(super) halted_rounds: u32,
    /// Closed last: it is what the others belong to.
    pub(super) _vm: Vm,
}

/// Between two answers of the same round one processor may have woken another,
/// and an NMI may have come that was not taken yet; not again and again.
const HALTED_ROUNDS: u32 = 2;

impl RunningMachine {
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
            threads.kick();
        }
    }

    /// Asks every processor where it is, with a non-maskable interrupt.
    /// [`Self::look_for_halt`] sees to it that all hear of it.
    pub(crate) fn alarm(&self) {
        self.alarm.ring();
        if let Some(threads) = &self.threads {
            threads.kick();
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
            self.board.reset();
        }
    }
}

impl Drop for RunningMachine {
    fn drop(&mut self) {
        self.take_down();
    }
}
