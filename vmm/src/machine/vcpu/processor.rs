//! One processor of the guest: its thread runs the guest until it leaves it
//! for a device, and serves that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use devices::bus::Bus;
use devices::virtio::RegisterPage;
use devices::window::{Window, Windows};
use kvm_ioctls::{VcpuExit, VcpuFd};
use vm_memory::{GuestMemoryMmap, VolatileSlice};

use super::alarm::Alarm;
use super::parking::{DebugExit, Parking};
use super::registers::registers;
use super::roll_call::RollCall;
use crate::machine::counters::{ExitKind, MachineCounters};

/// How often in a row a vCPU touches what is not there before that is the end.
const MOST_FAULTS: u32 = 16;

/// What is wrong then.
const NOT_THERE: &str = "the host has no memory for what was touched: in a window of dax= nothing is \
                         mapped there, or it cannot be read or stored";

/// What a vCPU thread works on.
#[derive(Clone, Debug)]
pub(in crate::machine) struct VcpuContext {
    pub(in crate::machine) ports: Arc<Bus>,
    pub(in crate::machine) mmio: Arc<Bus>,
    pub(in crate::machine) counters: Arc<MachineCounters>,
    /// Set before the thread is kicked: leave the guest for good.
    pub(in crate::machine) stop: Arc<AtomicBool>,
    /// Asks, with a kick, whether the guest halted.
    pub(in crate::machine) roll_call: Arc<RollCall>,
    /// Where files of the host are, which may be shorter than the guest knows.
    pub(in crate::machine) windows: Windows,
    /// Asks, with a kick, where the guest is.
    pub(in crate::machine) alarm: Arc<Alarm>,
    /// Where the processors are when a debugger has them.
    pub(in crate::machine) parking: Option<Arc<Parking>>,
}

/// Why a vCPU does not go on by itself.
#[derive(Debug)]
pub(in crate::machine) enum VcpuEnd {
    /// It was told to stop.
    Stopped,
    /// A triple fault: how a kernel without another way resets the machine,
    /// and what a broken one does.
    TripleFault(String),
    /// The guest did what no processor can go on after.
    Crash(String),
    /// KVM failed.
    Failed(kvm_ioctls::Error),
}

/// What one exit means for the loop.
enum Step {
    Continue,
    /// The host has no memory for what the guest touched.
    Fault(kvm_ioctls::Error),
    /// Somebody wants to know something of the processor.
    Kicked,
    /// The debugger is to know.
    Debug(DebugExit),
    End(VcpuEnd),
    /// An end that the registers have to explain.
    Explain {
        what: String,
        triple_fault: bool,
    },
}

/// A processor before and while it runs.
#[derive(Debug)]
pub(in crate::machine) struct Vcpu {
    pub(super) fd: VcpuFd,
    pub(super) index: u8,
    /// KVM reads and writes guest memory by host address as long as `fd` is
    /// open.
    pub(super) _memory: GuestMemoryMmap,
    pub(super) _windows: Windows,
    pub(super) _pages: Vec<Arc<RegisterPage>>,
}

impl Vcpu {
    pub(in crate::machine) fn index(&self) -> u8 {
        self.index
    }

    /// Runs the guest until it ends or is stopped.
    pub(in crate::machine) fn run(mut self, context: &VcpuContext) -> VcpuEnd {
        let mut faults = 0;
        // A debugger may want to be there from the first instruction on.
        let Some(vcpu) = self.pass(context, None) else {
            return VcpuEnd::Stopped;
        };
        self = vcpu;
        loop {
            // A kick between this check and KVM_RUN is lost; whoever kicks
            // repeats it until the thread is gone.
            if context.stop.load(Ordering::Acquire) {
                return VcpuEnd::Stopped;
            }
            match step(self.fd.run(), context) {
                Step::Continue => faults = 0,
                Step::Fault(error) if context.windows.is_empty() => {
                    return VcpuEnd::Failed(error);
                }
                Step::Fault(_) if context.windows.tear() > 0 => faults = 0,
                // Another processor may have had it mended just now.
                Step::Fault(_) if faults < MOST_FAULTS => faults += 1,
                Step::Fault(_) => return VcpuEnd::Crash(self.explain(NOT_THERE)),
                Step::Kicked => {
                    context.roll_call.answer(self.index, &self.fd);
                    context.alarm.answer(self.index, &self.fd);
                    match self.pass(context, None) {
                        Some(vcpu) => self = vcpu,
                        None => return VcpuEnd::Stopped,
                    }
                }
                Step::Debug(exit) => match self.pass(context, Some(exit)) {
                    Some(vcpu) => self = vcpu,
                    None => return VcpuEnd::Stopped,
                },
                Step::End(end) => return end,
                Step::Explain { what, triple_fault } => {
                    let text = self.explain(&what);
                    return if triple_fault {
                        VcpuEnd::TripleFault(text)
                    } else {
                        VcpuEnd::Crash(text)
                    };
                }
            }
        }
    }

    /// Waits for the debugger where that wants it; `None` when the machine ends.
    fn pass(self, context: &VcpuContext, exit: Option<DebugExit>) -> Option<Self> {
        match &context.parking {
            Some(parking) => parking.pass(self, exit),
            None => Some(self),
        }
    }

    fn explain(&self, what: &str) -> String {
        format!("{what} on vCPU {}: {}", self.index, registers(&self.fd))
    }
}

/// Serves one exit.
fn step(exit: Result<VcpuExit<'_>, kvm_ioctls::Error>, context: &VcpuContext) -> Step {
    let count = |kind| context.counters.count(kind);
    match exit {
        Ok(VcpuExit::IoOut(port, data)) => {
            count(ExitKind::PortWrite);
            context.ports.write(u64::from(port), data);
            Step::Continue
        }
        Ok(VcpuExit::IoIn(port, data)) => {
            count(ExitKind::PortRead);
            context.ports.read(u64::from(port), data);
            Step::Continue
        }
        Ok(VcpuExit::MmioWrite(address, data)) => {
            count(ExitKind::MmioWrite);
            match context.windows.find(address, data.len()) {
                Some((window, at)) => {
                    // The slice is only read, and wants to be a mutable one.
                    let mut data = data.to_vec();
                    let data = VolatileSlice::from(&mut data[..]);
                    emulate(window, || window.copy_from(at, &data))
                }
                None => {
                    context.mmio.write(address, data);
                    Step::Continue
                }
            }
        }
        Ok(VcpuExit::MmioRead(address, data)) => {
            count(ExitKind::MmioRead);
            match context.windows.find(address, data.len()) {
                Some((window, at)) => {
                    let data = VolatileSlice::from(data);
                    emulate(window, || window.copy_to(at, &data))
                }
                None => {
                    context.mmio.read(address, data);
                    Step::Continue
                }
            }
        }
        Ok(VcpuExit::Intr) => {
            count(ExitKind::Interrupted);
            Step::Kicked
        }
        Ok(VcpuExit::Debug(exit)) if context.parking.is_some() => {
            count(ExitKind::Other);
            Step::Debug(DebugExit {
                vector: exit.exception,
                pc: exit.pc,
                dr6: exit.dr6,
            })
        }
        Ok(VcpuExit::Shutdown) => {
            count(ExitKind::Shutdown);
            Step::Explain {
                what: "triple fault".to_owned(),
                triple_fault: true,
            }
        }
        // What comes with EFAULT where KVM knows the address.
        Ok(VcpuExit::MemoryFault { .. }) if !context.windows.is_empty() => {
            Step::Fault(kvm_ioctls::Error::new(libc::EFAULT))
        }
        Ok(exit) => {
            count(ExitKind::Other);
            Step::Explain {
                what: describe(&exit),
                triple_fault: false,
            }
        }
        Err(error) => match error.errno() {
            libc::EINTR => {
                count(ExitKind::Interrupted);
                Step::Kicked
            }
            // A processor that waits for its SIPI got it: run it.
            libc::EAGAIN => Step::Continue,
            libc::EFAULT => Step::Fault(error),
            _ => Step::End(VcpuEnd::Failed(error)),
        },
    }
}

/// Does what an instruction that KVM emulates does to a page of `window`, which
/// KVM takes for a device where it cannot reach the page.
fn emulate<E>(window: &Window, access: impl Fn() -> Result<(), E>) -> Step {
    if access().is_ok() || window.tear() > 0 && access().is_ok() {
        return Step::Continue;
    }
    Step::Explain {
        what: NOT_THERE.to_owned(),
        triple_fault: false,
    }
}

fn describe(exit: &VcpuExit<'_>) -> String {
    match exit {
        VcpuExit::InternalError => "KVM cannot emulate an instruction".to_owned(),
        VcpuExit::FailEntry(reason, cpu) => {
            format!("the CPU refuses to enter the guest (reason {reason:#x}, host CPU {cpu})")
        }
        VcpuExit::MemoryFault { gpa, size, .. } => {
            format!("the host has no memory for {size} bytes at guest address {gpa:#x}")
        }
        other => format!("unexpected exit {other:?}"),
    }
}
