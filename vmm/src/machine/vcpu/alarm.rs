//! An alarm for processors that seem to hang: each says where it is, and gets a
//! non-maskable interrupt, which reaches a kernel that takes no other.

use std::sync::{Mutex, PoisonError};

use kvm_ioctls::VcpuFd;

use super::processor::registers;

/// Who was alarmed, and the answers.
#[derive(Debug)]
pub(in crate::machine) struct Alarm(Mutex<Vec<State>>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Quiet,
    Alarmed,
    Answered(String),
}

impl Alarm {
    pub(in crate::machine) fn new(cpus: u8) -> Self {
        Self(Mutex::new(vec![State::Quiet; usize::from(cpus)]))
    }

    /// Alarms every processor. To be followed by kicks until all have answered.
    pub(in crate::machine) fn ring(&self) {
        self.with(|states| states.fill(State::Alarmed));
    }

    /// The answers so far.
    pub(in crate::machine) fn answers(&self) -> Vec<String> {
        self.with(|states| {
            let answers = states.iter().map(|state| match state {
                State::Answered(text) => Some(text.clone()),
                State::Quiet | State::Alarmed => None,
            });
            answers.flatten().collect()
        })
    }

    /// A processor that was interrupted answers, once.
    pub(super) fn answer(&self, index: u8, vcpu: &VcpuFd) {
        self.with(|states| {
            if let Some(state) = states.get_mut(usize::from(index))
                && *state == State::Alarmed
            {
                *state = State::Answered(format!("vCPU {index}: {}", registers(vcpu)));
                // Where it fails the guest says nothing, and the registers are
                // all there is.
                let _ = vcpu.nmi();
            }
        });
    }

    fn with<T>(&self, work: impl FnOnce(&mut Vec<State>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
