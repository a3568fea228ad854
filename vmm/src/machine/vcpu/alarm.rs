//! An alarm for processors that seem to hang: each says where it is, and gets a
//! non-maskable interrupt, which reaches a kernel that takes no other.

use std::sync::{Mutex, PoisonError};

use kvm_ioctls::VcpuFd;

use super::registers::registers;

/// Who was alarmed, and the answers.
#[derive(Debug)]
pub(in crate::machine) struct Alarm(Mutex<Vec<Answer>>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Quiet,
    Alarmed,
    Answered(String),
}

impl Alarm {
    pub(in crate::machine) fn new(cpus: u8) -> Self {
        Self(Mutex::new(vec![Answer::Quiet; usize::from(cpus)]))
    }

    /// Alarms every processor. To be followed by kicks until all have answered.
    pub(in crate::machine) fn ring(&self) {
        self.with(|states| states.fill(Answer::Alarmed));
    }

    /// The answers so far.
    pub(in crate::machine) fn answers(&self) -> Vec<String> {
        self.with(|states| {
            let answers = states.iter().map(|state| match state {
                Answer::Answered(text) => Some(text.clone()),
                Answer::Quiet | Answer::Alarmed => None,
            });
            answers.flatten().collect()
        })
    }

    /// A processor that was interrupted answers, once.
    pub(super) fn answer(&self, index: u8, vcpu: &VcpuFd) {
        self.with(|states| {
            if let Some(state) = states.get_mut(usize::from(index))
                && *state == Answer::Alarmed
            {
                *state = Answer::Answered(format!("vCPU {index}: {}", registers(vcpu)));
                // Where it fails the guest says nothing, and the registers are
                // all there is.
                let _ = vcpu.nmi();
            }
        });
    }

    fn with<T>(&self, work: impl FnOnce(&mut Vec<Answer>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
