//! What a processor looks like before its first instruction.

use kvm_bindings::{CpuId, Msrs, kvm_fpu, kvm_lapic_state, kvm_msr_entry};

use super::processor::Vcpu;
use crate::machine::boot::registers::Start;
use crate::machine::vm::Vm;

/// x87 control word after FINIT: all exceptions masked.
const FPU_CONTROL: u16 = 0x37f;
/// SSE control and status: all exceptions masked.
const MXCSR: u32 = 0x1f80;

const MSR_MISC_ENABLE: u32 = 0x1a0;
/// REP MOVS and STOS are fast.
const MISC_ENABLE_FAST_STRING: u64 = 1 << 0;
const MSR_MTRR_DEF_TYPE: u32 = 0x2ff;
/// MTRRs are enabled and everything is write-back.
const MTRR_ENABLE_WRITE_BACK: u64 = (1 << 11) | 6;

/// Registers of the local APIC (Intel SDM vol. 3, 11.4.1).
const LVT_LINT0: usize = 0x350;
const LVT_LINT1: usize = 0x360;
/// Delivery modes: the 8259's interrupts on LINT0, NMI on LINT1.
const DELIVER_NMI: u32 = 4 << 8;
const DELIVER_EXT_INT: u32 = 7 << 8;
const DELIVERY_MODE: u32 = 7 << 8;
/// Bit 16 of a local vector.
const MASKED: u32 = 1 << 16;

#[derive(Debug, thiserror::Error)]
#[error("KVM does not set up vCPU {index}: {what}")]
pub(crate) struct Error {
    pub index: u8,
    pub what: &'static str,
    pub source: kvm_ioctls::Error,
}

impl Vcpu {
    /// Creates processor `index`. Only the boot processor has a `start`; the
    /// others wait for a SIPI.
    pub(in crate::machine) fn new(
        vm: &Vm,
        index: u8,
        cpuid: &CpuId,
        start: Option<&Start>,
    ) -> Result<Self, Error> {
        let failed = |what| {
            move |source| Error {
                index,
                what,
                source,
            }
        };
        let fd = vm
            .fd()
            .create_vcpu(u64::from(index))
            .map_err(failed("create"))?;
        let vcpu = Self {
            fd,
            index,
            _memory: vm.memory().clone(),
            _windows: vm.windows().clone(),
            _pages: vm.pages().to_vec(),
        };
        vcpu.fd.set_cpuid2(cpuid).map_err(failed("CPUID"))?;
        vcpu.set_msrs().map_err(failed("MSRs"))?;
        vcpu.set_local_interrupts().map_err(failed("local APIC"))?;
        let fpu = kvm_fpu {
            fcw: FPU_CONTROL,
            mxcsr: MXCSR,
            ..Default::default()
        };
        vcpu.fd.set_fpu(&fpu).map_err(failed("FPU"))?;
        if let Some(start) = start {
            vcpu.set_start(start).map_err(failed("registers"))?;
        }
        Ok(vcpu)
    }

    fn set_start(&self, start: &Start) -> Result<(), kvm_ioctls::Error> {
        let mut sregs = self.fd.get_sregs()?;
        (start.mode)(&mut sregs);
        self.fd.set_sregs(&sregs)?;
        self.fd.set_regs(&start.regs)
    }

    fn set_msrs(&self) -> Result<(), kvm_ioctls::Error> {
        let entry = |index, data| kvm_msr_entry {
            index,
            data,
            ..Default::default()
        };
        let entries = [
            entry(MSR_MISC_ENABLE, MISC_ENABLE_FAST_STRING),
            entry(MSR_MTRR_DEF_TYPE, MTRR_ENABLE_WRITE_BACK),
        ];
        let msrs =
            Msrs::from_entries(&entries).map_err(|_| kvm_ioctls::Error::new(libc::ENOMEM))?;
        let written = self.fd.set_msrs(&msrs)?;
        if written < entries.len() {
            return Err(kvm_ioctls::Error::new(libc::EINVAL));
        }
        Ok(())
    }

    fn set_local_interrupts(&self) -> Result<(), kvm_ioctls::Error> {
        let mut lapic = self.fd.get_lapic()?;
        set_delivery(&mut lapic, LVT_LINT0, DELIVER_EXT_INT);
        set_delivery(&mut lapic, LVT_LINT1, DELIVER_NMI);
        self.fd.set_lapic(&lapic)
    }
}

/// Unmasks a local vector with the delivery mode given.
fn set_delivery(lapic: &mut kvm_lapic_state, register: usize, mode: u32) {
    let mut bytes = [0; 4];
    for (byte, reg) in bytes.iter_mut().zip(lapic.regs.iter().skip(register)) {
        *byte = reg.to_ne_bytes()[0];
    }
    let value = (u32::from_le_bytes(bytes) & !(DELIVERY_MODE | MASKED)) | mode;
    for (reg, byte) in lapic
        .regs
        .iter_mut()
        .skip(register)
        .zip(value.to_le_bytes())
    {
        *reg = std::ffi::c_char::from_ne_bytes([byte]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_vector_gets_its_mode_and_keeps_its_vector() {
        let mut lapic = kvm_lapic_state::default();
        lapic.regs[LVT_LINT1] = 0x12;
        lapic.regs[LVT_LINT1 + 2] = 1;
        set_delivery(&mut lapic, LVT_LINT1, DELIVER_NMI);
        assert_eq!(lapic.regs[LVT_LINT1..LVT_LINT1 + 4], [0x12, 4, 0, 0]);
    }
}
