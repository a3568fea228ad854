//! What gdb can ask for, in the terms of `gdbstub`.

use gdbstub::common::{Signal, Tid};
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::multithread::{
    MultiThreadBase, MultiThreadResume, MultiThreadResumeOps, MultiThreadSchedulerLocking,
    MultiThreadSchedulerLockingOps, MultiThreadSingleStep, MultiThreadSingleStepOps,
};
use gdbstub::target::ext::breakpoints::{
    Breakpoints, BreakpointsOps, HwBreakpoint, HwBreakpointOps, HwWatchpoint, HwWatchpointOps,
    SwBreakpoint, SwBreakpointOps, WatchKind,
};
use gdbstub::target::ext::monitor_cmd::{ConsoleOutput, MonitorCmd, MonitorCmdOps, outputln};
use gdbstub::target::ext::thread_extra_info::{ThreadExtraInfo, ThreadExtraInfoOps};
use gdbstub::target::{Target, TargetError, TargetResult};
use gdbstub_arch::x86::X86_64_SSE;
use gdbstub_arch::x86::reg::X86_64CoreRegs;

use super::breakpoints::{Slot, Watched};
use super::guest::{Action, Error, Guest, index, tid};
use super::{memory, registers};

/// `EFAULT` in the numbers of gdb's protocol.
const EFAULT: u8 = 14;

impl Target for Guest {
    type Arch = X86_64_SSE;
    type Error = Error;

    fn base_ops(&mut self) -> BaseOps<'_, Self::Arch, Self::Error> {
        BaseOps::MultiThread(self)
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }

    fn support_monitor_cmd(&mut self) -> Option<MonitorCmdOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadBase for Guest {
    fn read_registers(&mut self, regs: &mut X86_64CoreRegs, tid: Tid) -> TargetResult<(), Self> {
        let read = self.access.parking.with(index(tid), registers::read);
        match read {
            Some(Ok(read)) => {
                *regs = read;
                Ok(())
            }
            _ => Err(TargetError::NonFatal),
        }
    }

    fn write_registers(&mut self, regs: &X86_64CoreRegs, tid: Tid) -> TargetResult<(), Self> {
        let write = |fd: &_| registers::write(fd, regs);
        match self.access.parking.with(index(tid), write) {
            Some(Ok(true)) => Ok(()),
            _ => Err(TargetError::NonFatal),
        }
    }

    fn read_addrs(&mut self, start: u64, data: &mut [u8], tid: Tid) -> TargetResult<usize, Self> {
        let guest_memory = &self.access.memory;
        let read = |fd: &_| memory::read(fd, guest_memory, start, data);
        match self.access.parking.with(index(tid), read) {
            Some(length) if length > 0 => Ok(length),
            _ => Err(TargetError::Errno(EFAULT)),
        }
    }

    fn write_addrs(&mut self, start: u64, data: &[u8], tid: Tid) -> TargetResult<(), Self> {
        let guest_memory = &self.access.memory;
        let write = |fd: &_| memory::write(fd, guest_memory, start, data);
        match self.access.parking.with(index(tid), write) {
            Some(true) => Ok(()),
            _ => Err(TargetError::Errno(EFAULT)),
        }
    }

    fn list_active_threads(&mut self, each: &mut dyn FnMut(Tid)) -> Result<(), Error> {
        (0..self.cpus()).map(tid).for_each(each);
        Ok(())
    }

    fn support_resume(&mut self) -> Option<MultiThreadResumeOps<'_, Self>> {
        Some(self)
    }

    fn support_thread_extra_info(&mut self) -> Option<ThreadExtraInfoOps<'_, Self>> {
        Some(self)
    }
}

impl ThreadExtraInfo for Guest {
    fn thread_extra_info(&self, tid: Tid, buffer: &mut [u8]) -> Result<usize, Error> {
        let name = format!("vCPU {}", index(tid));
        let length = name.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(name.bytes()) {
            *to = from;
        }
        Ok(length)
    }
}

impl Guest {
    fn set_action(&mut self, tid: Tid, action: Action) {
        if let Some(slot) = self.actions.get_mut(index(tid)) {
            *slot = action;
        }
    }
}

/// The guest gets no signal that gdb may name: it has none.
impl MultiThreadResume for Guest {
    fn resume(&mut self) -> Result<(), Error> {
        Guest::resume(self)
    }

    fn clear_resume_actions(&mut self) -> Result<(), Error> {
        self.actions.fill(Action::Continue);
        self.named.fill(false);
        Ok(())
    }

    fn set_resume_action_continue(&mut self, tid: Tid, _: Option<Signal>) -> Result<(), Error> {
        self.set_action(tid, Action::Continue);
        self.name(tid);
        Ok(())
    }

    fn support_single_step(&mut self) -> Option<MultiThreadSingleStepOps<'_, Self>> {
        Some(self)
    }

    fn support_scheduler_locking(&mut self) -> Option<MultiThreadSchedulerLockingOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadSingleStep for Guest {
    fn set_resume_action_step(&mut self, tid: Tid, _: Option<Signal>) -> Result<(), Error> {
        self.set_action(tid, Action::Step);
        self.name(tid);
        Ok(())
    }
}

impl MultiThreadSchedulerLocking for Guest {
    fn set_resume_action_scheduler_lock(&mut self) -> Result<(), Error> {
        for (action, named) in self.actions.iter_mut().zip(&self.named) {
            if !named {
                *action = Action::Stay;
            }
        }
        Ok(())
    }
}

impl Breakpoints for Guest {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_breakpoint(&mut self) -> Option<HwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_watchpoint(&mut self) -> Option<HwWatchpointOps<'_, Self>> {
        Some(self)
    }
}

impl SwBreakpoint for Guest {
    /// Before the kernel has set up its page tables, and while its image is still
    /// packed, there is no byte to put a breakpoint at: a debug register does it.
    fn add_sw_breakpoint(&mut self, address: u64, _kind: usize) -> TargetResult<bool, Self> {
        if let Some(physical) = self.find(address) {
            let inserted = (self.breakpoints).insert(&self.access.memory, address, physical);
            return Ok(inserted);
        }
        Ok(self.breakpoints.watch(Slot {
            address,
            watched: Watched::Execution { in_memory: true },
        }))
    }

    fn remove_sw_breakpoint(&mut self, address: u64, _kind: usize) -> TargetResult<bool, Self> {
        let in_register = self.breakpoints.unwatch(Slot {
            address,
            watched: Watched::Execution { in_memory: true },
        });
        let removed = self.breakpoints.remove(&self.access.memory, address);
        Ok(in_register || removed)
    }
}

impl HwBreakpoint for Guest {
    fn add_hw_breakpoint(&mut self, address: u64, _kind: usize) -> TargetResult<bool, Self> {
        Ok(self.breakpoints.watch(execution(address)))
    }

    fn remove_hw_breakpoint(&mut self, address: u64, _kind: usize) -> TargetResult<bool, Self> {
        Ok(self.breakpoints.unwatch(execution(address)))
    }
}

impl HwWatchpoint for Guest {
    fn add_hw_watchpoint(
        &mut self,
        address: u64,
        length: u64,
        kind: WatchKind,
    ) -> TargetResult<bool, Self> {
        Ok(self.breakpoints.watch(access(address, length, kind)))
    }

    fn remove_hw_watchpoint(
        &mut self,
        address: u64,
        length: u64,
        kind: WatchKind,
    ) -> TargetResult<bool, Self> {
        Ok(self.breakpoints.unwatch(access(address, length, kind)))
    }
}

fn execution(address: u64) -> Slot {
    Slot {
        address,
        watched: Watched::Execution { in_memory: false },
    }
}

fn access(address: u64, length: u64, kind: WatchKind) -> Slot {
    Slot {
        address,
        watched: Watched::Access(kind, length),
    }
}

impl MonitorCmd for Guest {
    /// The kernel's scripts for gdb take whoever answers `info version` for a
    /// machine whose threads are its processors.
    fn handle_monitor_cmd(
        &mut self,
        command: &[u8],
        mut out: ConsoleOutput<'_>,
    ) -> Result<(), Error> {
        match command {
            b"info version" => outputln!(out, "vmm {}", env!("CARGO_PKG_VERSION")),
            _ => outputln!(out, "there is one command: monitor info version"),
        }
        Ok(())
    }
}
