//! A processor's registers, as KVM and as gdb have them.

use gdbstub_arch::x86::reg::X86_64CoreRegs;
use kvm_bindings::{kvm_fpu, kvm_regs};
use kvm_ioctls::{Error, VcpuFd};

/// Reads them.
pub(super) fn read(fd: &VcpuFd) -> Result<X86_64CoreRegs, Error> {
    let (regs, sregs, fpu) = (fd.get_regs()?, fd.get_sregs()?, fd.get_fpu()?);
    let mut core = X86_64CoreRegs {
        regs: general(&regs),
        rip: regs.rip,
        // The upper half is reserved.
        eflags: low(regs.rflags),
        mxcsr: fpu.mxcsr,
        ..X86_64CoreRegs::default()
    };
    core.segments.cs = u32::from(sregs.cs.selector);
    core.segments.ss = u32::from(sregs.ss.selector);
    core.segments.ds = u32::from(sregs.ds.selector);
    core.segments.es = u32::from(sregs.es.selector);
    core.segments.fs = u32::from(sregs.fs.selector);
    core.segments.gs = u32::from(sregs.gs.selector);
    for (value, register) in core.st.iter_mut().zip(&fpu.fpr) {
        for (to, from) in value.iter_mut().zip(register) {
            *to = *from;
        }
    }
    core.fpu.fctrl = u32::from(fpu.fcw);
    core.fpu.fstat = u32::from(fpu.fsw);
    core.fpu.ftag = full_tags(fpu.ftwx);
    core.fpu.fiseg = low(fpu.last_ip >> 32);
    core.fpu.fioff = low(fpu.last_ip);
    core.fpu.foseg = low(fpu.last_dp >> 32);
    core.fpu.fooff = low(fpu.last_dp);
    core.fpu.fop = u32::from(fpu.last_opcode);
    for (value, register) in core.xmm.iter_mut().zip(&fpu.xmm) {
        *value = u128::from_le_bytes(*register);
    }
    Ok(core)
}

/// Writes them, but for the segments: a selector without its descriptor would
/// mean nothing. Says whether that was all that was to be written.
pub(super) fn write(fd: &VcpuFd, core: &X86_64CoreRegs) -> Result<bool, Error> {
    let before = read(fd)?;
    let mut regs = fd.get_regs()?;
    set_general(&mut regs, &core.regs);
    regs.rip = core.rip;
    regs.rflags = u64::from(core.eflags);
    fd.set_regs(&regs)?;
    if (&before.st, &before.fpu, &before.xmm, before.mxcsr)
        != (&core.st, &core.fpu, &core.xmm, core.mxcsr)
    {
        fd.set_fpu(&floating(core, fd.get_fpu()?))?;
    }
    Ok(before.segments == core.segments)
}

fn floating(core: &X86_64CoreRegs, mut fpu: kvm_fpu) -> kvm_fpu {
    let wide = |segment: u32, offset: u32| u64::from(segment) << 32 | u64::from(offset);
    for (register, value) in fpu.fpr.iter_mut().zip(&core.st) {
        for (to, from) in register.iter_mut().zip(value) {
            *to = *from;
        }
    }
    fpu.fcw = lower(core.fpu.fctrl);
    fpu.fsw = lower(core.fpu.fstat);
    fpu.ftwx = short_tags(core.fpu.ftag);
    fpu.last_ip = wide(core.fpu.fiseg, core.fpu.fioff);
    fpu.last_dp = wide(core.fpu.foseg, core.fpu.fooff);
    fpu.last_opcode = lower(core.fpu.fop);
    for (register, value) in fpu.xmm.iter_mut().zip(&core.xmm) {
        *register = value.to_le_bytes();
    }
    fpu.mxcsr = core.mxcsr;
    fpu
}

/// In gdb's order.
fn general(regs: &kvm_regs) -> [u64; 16] {
    [
        regs.rax, regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rbp, regs.rsp, regs.r8,
        regs.r9, regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
    ]
}

fn set_general(regs: &mut kvm_regs, values: &[u64; 16]) {
    [
        regs.rax, regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rbp, regs.rsp, regs.r8,
        regs.r9, regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
    ] = *values;
}

/// The x87 tag word with two bits a register, of which only "empty" is known,
/// from the one of FXSAVE with one bit.
fn full_tags(short: u8) -> u32 {
    (0..8).fold(0, |tags, index| {
        let empty = short & (1 << index) == 0;
        tags | if empty { 3 << (2 * index) } else { 0 }
    })
}

fn short_tags(full: u32) -> u8 {
    (0..8).fold(0, |tags, index| {
        let empty = (full >> (2 * index)) & 3 == 3;
        tags | if empty { 0 } else { 1 << index }
    })
}

/// The lower half.
fn low(value: u64) -> u32 {
    u32::try_from(value & u64::from(u32::MAX)).unwrap_or(0)
}

fn lower(value: u32) -> u16 {
    u16::try_from(value & u32::from(u16::MAX)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_survive_both_ways() {
        assert_eq!(full_tags(0), 0xffff);
        assert_eq!(full_tags(0x81), 0x3ffc);
        for short in 0..=u8::MAX {
            assert_eq!(short_tags(full_tags(short)), short);
        }
        // Zero and special values are not empty.
        assert_eq!(short_tags(0x5555), 0xff);
    }

    #[test]
    fn every_general_register_has_its_place() {
        let values = std::array::from_fn(|index| index as u64);
        let mut regs = kvm_regs::default();
        set_general(&mut regs, &values);
        assert_eq!((regs.rbx, regs.rsp, regs.r15), (1, 7, 15));
        assert_eq!(general(&regs), values);
    }

    #[test]
    fn floating_point_state_is_taken_whole() {
        let mut core = X86_64CoreRegs::default();
        core.st[3] = [7; 10];
        core.xmm[15] = 5;
        core.fpu.fioff = 9;
        core.fpu.fiseg = 1;
        core.mxcsr = 0x1f80;
        let fpu = floating(&core, kvm_fpu::default());
        assert_eq!(fpu.fpr[3][..10], [7; 10]);
        assert_eq!((fpu.xmm[15][0], fpu.mxcsr), (5, 0x1f80));
        assert_eq!(fpu.last_ip, 0x1_0000_0009);
    }
}
