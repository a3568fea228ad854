//! Whether the guest halted for good: `halt` stops every processor with its
//! interrupts off, and nothing tells the host. HLT does not leave the guest, so
//! the processors are asked, from time to time.

use std::sync::atomic::{AtomicU32, Ordering};

use kvm_bindings::{
    KVM_MP_STATE_HALTED, KVM_MP_STATE_INIT_RECEIVED, KVM_MP_STATE_UNINITIALIZED,
    KVM_STATE_NESTED_GUEST_MODE,
};
use kvm_ioctls::{KvmNestedStateBuffer, VcpuFd};

/// The interrupt flag.
const RFLAGS_IF: u64 = 1 << 9;

/// Rounds of asking all processors, and what they answered.
#[derive(Debug)]
pub(in crate::machine) struct RollCall {
    round: AtomicU32,
    /// The last round in which each was found to wait for good; 0 for none.
    waits: Vec<AtomicU32>,
}

impl RollCall {
    pub(in crate::machine) fn new(cpus: u8) -> Self {
        Self {
            round: AtomicU32::new(0),
            waits: (0..cpus).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    /// Begins a round; says whether in the last one every processor waited for
    /// good. One that has not answered runs.
    pub(in crate::machine) fn next(&self) -> bool {
        let last = self.round.fetch_add(1, Ordering::AcqRel);
        let mut waits = self.waits.iter();
        last != 0 && waits.all(|round| round.load(Ordering::Acquire) == last)
    }

    /// A processor that was interrupted answers, once in a round.
    pub(super) fn answer(&self, index: u8, vcpu: &VcpuFd) {
        let round = self.round.load(Ordering::Acquire);
        let Some(waits) = self.waits.get(usize::from(index)) else {
            return;
        };
        if round != waits.load(Ordering::Relaxed) && waits_for_good(vcpu) {
            waits.store(round, Ordering::Release);
        }
    }
}

/// Whether no interrupt wakes the processor, but only another one of them.
/// What cannot be asked is taken to run.
fn waits_for_good(vcpu: &VcpuFd) -> bool {
    match vcpu.get_mp_state().map(|state| state.mp_state) {
        Ok(KVM_MP_STATE_HALTED) => {
            let interruptible = vcpu
                .get_regs()
                .map_or(true, |regs| regs.rflags & RFLAGS_IF != 0);
            !interruptible && !runs_a_guest(vcpu)
        }
        // Never started, or offline.
        Ok(KVM_MP_STATE_UNINITIALIZED | KVM_MP_STATE_INIT_RECEIVED) => true,
        _ => false,
    }
}

/// Whether the processor is in a guest of its own: that one's flags say nothing
/// of the interrupts of this one.
fn runs_a_guest(vcpu: &VcpuFd) -> bool {
    let mut state = KvmNestedStateBuffer::empty();
    // It fails where KVM has no nested guests.
    vcpu.nested_state(&mut state).is_ok()
        && u32::from(state.flags) & KVM_STATE_NESTED_GUEST_MODE != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_have_to_answer_in_the_same_round() {
        let calls = RollCall::new(2);
        let answer = |index: usize, round| {
            if let Some(waits) = calls.waits.get(index) {
                waits.store(round, Ordering::Release);
            }
        };
        assert!(!calls.next());
        answer(0, 1);
        assert!(!calls.next());
        answer(1, 2);
        assert!(!calls.next());
        answer(0, 3);
        answer(1, 3);
        assert!(calls.next());
        assert!(!calls.next());
    }
}
