//! The machine: a kernel, memory, processors and devices on KVM, from
//! [`Machine::new`] to its [`Ending`].
//!
//! | file | what it knows |
//! | --- | --- |
//! | `layout` | every address, port and pin |
//! | `host` | what this host's KVM can do |
//! | `memory` | guest RAM |
//! | `windows` | where files of the host are mapped in the guest |
//! | `lost_pages` | zeros for what the host has cut off of them |
//! | `limits` | numbers within limits, memory filled: what needs no KVM |
//! | `vm` | KVM's virtual machine: slots, interrupt controllers, eventfds |
//! | `wiring` | which interrupt a device has |
//! | `routes` | where KVM sends it |
//! | `boot` | a kernel in memory and what it expects there |
//! | `acpi` | the tables that describe the machine |
//! | `cpuid` | what a processor says it is |
//! | `vcpu` | a processor and its thread's loop |
//! | `board` | the devices on the two buses |
//! | `running` | a machine whose guest runs |
//! | `counters` | what is counted |
//! | `debugger` | gdb, and what it can do with the guest |
//!
//! Threads: one per vCPU, and the devices' own. The first event that ends the
//! machine (the guest's power switch, a halt, a crash, a [`Stopper`]) makes
//! [`RunningMachine::ended`] readable; [`RunningMachine::finish`] then takes
//! everything down: vCPUs first, so that no new request arrives, then the
//! devices, so that every request under way is finished and its data is where
//! the guest was told it is.

mod acpi;
mod board;
pub(crate) mod boot;
mod console_input;
mod counters;
mod cpuid;
pub(crate) mod debugger;
mod ending;
pub(crate) mod host;
mod layout;
pub(crate) mod limits;
mod lost_pages;
mod memory;
mod routes;
mod running;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod vcpu;
mod vm;
pub(crate) mod windows;
mod wiring;

use std::fmt;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use devices::virtio::VirtioDevice;
use devices::window::{Window, Windows};
use kvm_ioctls::Kvm;
use vm_memory::GuestMemoryMmap;
use vmm_sandbox::Sandbox;

use board::Board;
use boot::registers::Start;
pub(crate) use console_input::ConsoleInput;
pub(crate) use counters::{ExitKind, MachineCounters};
use debugger::{Listener, Preparation};
use ending::FirstEnding;
pub(crate) use ending::{Ending, Stopper};
use lost_pages::LostPages;
pub(crate) use running::RunningMachine;
use vcpu::{Alarm, RollCall, Vcpu, VcpuContext, VcpuLaunch};
use vm::Vm;
use vmm_kernel::Kernel;
use wiring::Wiring;

/// What a machine is made of.
pub(crate) struct MachineConfig {
    pub kernel: Kernel,
    /// An initramfs for it: a cpio archive, compressed or not.
    pub initramfs: Option<Vec<u8>>,
    /// The user's part of the command line; what the boot needs comes before
    /// it, see [`boot::command_line::compose`].
    pub cmdline: String,
    /// How many processors, 1 to 255.
    pub cpus: u8,
    /// Guest memory in bytes, a multiple of 4 KiB.
    pub memory: u64,
    /// Where files are mapped in the guest: placed by [`windows::place`].
    pub windows: Windows,
    /// The virtio devices, in the order in which the guest finds them.
    pub devices: Vec<Box<dyn VirtioDevice>>,
    /// Where the guest's serial console goes. It is written byte by byte from
    /// a vCPU, which waits for it: it must not block for long.
    pub console: Box<dyn Write + Send>,
    /// Where gdb connects; the guest waits for it.
    pub debugger: Option<Listener>,
    /// What confines its threads.
    pub sandbox: Sandbox,
}

impl fmt::Debug for MachineConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MachineConfig")
            .field("kernel", &self.kernel)
            .field("initramfs", &self.initramfs.as_ref().map(Vec::len))
            .field("cmdline", &self.cmdline)
            .field("cpus", &self.cpus)
            .field("memory", &self.memory)
            .field("devices", &self.devices.len())
            .finish_non_exhaustive()
    }
}

/// Why there is no machine, or why it could not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Host(#[from] host::Error),
    #[error(transparent)]
    Limits(#[from] limits::Error),
    #[error(transparent)]
    Cpuid(#[from] cpuid::Error),
    #[error(transparent)]
    Vm(#[from] vm::Error),
    #[error(transparent)]
    Vcpu(#[from] vcpu::SetupError),
    #[error(transparent)]
    Board(#[from] board::Error),
    #[error(transparent)]
    Thread(#[from] vcpu::ThreadError),
    #[error(transparent)]
    LostPages(#[from] lost_pages::Error),
    #[error(transparent)]
    Debugger(#[from] debugger::Error),
    #[error("KVM failed while the guest ran")]
    Run(#[source] kvm_ioctls::Error),
}

/// A machine that is ready to run.
#[derive(Debug)]
pub(crate) struct Machine {
    vcpus: Vec<Vcpu>,
    board: Board,
    context: VcpuContext,
    ending: FirstEnding,
    /// `reboot=t`: the kernel resets by a triple fault.
    triple_fault_resets: bool,
    debugger: Option<Preparation>,
    sandbox: Sandbox,
    /// Closed last: it is what the others belong to.
    vm: Vm,
}

impl Machine {
    /// Builds the machine and loads the kernel; nothing runs yet.
    ///
    /// # Errors
    ///
    /// When this host cannot run it, or a part does not fit, see [`Error`].
    pub(crate) fn new(config: MachineConfig) -> Result<Self, Error> {
        let counters = MachineCounters::new();
        let kvm = host::open()?;
        host::check_hardware()?;
        let triple_fault_resets = resets_by_triple_fault(&config.cmdline);
        let hardware = Parts {
            cpus: config.cpus,
            memory: config.memory,
            windows: config.windows,
            wiring: boot::command_line::wiring(config.kernel.discovery(), &config.cmdline),
            devices: config.devices,
            console: config.console,
            debugger: config.debugger,
            sandbox: config.sandbox,
        };
        let (kernel, initramfs, text) = (config.kernel, config.initramfs, config.cmdline);
        let mut loaded_from = None;
        let mut machine = Self::assemble(&kvm, counters, hardware, |memory, hardware| {
            let initramfs = initramfs.as_deref();
            let (start, origin) = boot::load(memory, &kernel, initramfs, &text, hardware)?;
            loaded_from = Some(origin);
            Ok(start)
        })?;
        if let Some(origin) = loaded_from {
            machine.context.counters.mark_kernel_origin(origin);
        }
        machine.triple_fault_resets = triple_fault_resets;
        Ok(machine)
    }

    /// Puts the parts together; `load` fills the memory and says where the
    /// boot processor starts.
    fn assemble(
        kvm: &Kvm,
        counters: MachineCounters,
        parts: Parts,
        load: impl FnOnce(&GuestMemoryMmap, boot::Hardware) -> Result<Start, boot::Error>,
    ) -> Result<Self, Error> {
        let cpuid = cpuid::supported(kvm)?;
        let limits = limits::Limits::of(kvm, &cpuid);
        let hardware = boot::Hardware {
            cpus: parts.cpus,
            devices: parts.devices.len(),
            five_levels: cpuid::five_levels(&cpuid),
        };
        let sizes: Vec<u64> = parts.windows.iter().map(Window::len).collect();
        let memory = (parts.memory, &*sizes);
        let (memory, start) = limits::fill_memory(limits, hardware, memory, load)?;
        counters.mark_kernel_loaded();

        let mut vm = Vm::new(kvm, memory, parts.windows.clone())?;
        let ending = FirstEnding::new().map_err(board::Error::EventFd)?;
        let debugger = (parts.debugger)
            .map(|listener| Preparation::new(vm.fd(), parts.cpus, listener))
            .transpose()?;
        let power = power_handler(&ending);
        let board = Board::new(&mut vm, parts.wiring, parts.devices, parts.console, power)?;
        let vcpus = (0..parts.cpus)
            .map(|index| {
                let cpuid = cpuid::for_vcpu(&cpuid, index, parts.cpus);
                Vcpu::new(&vm, index, &cpuid, (index == 0).then_some(&start))
            })
            .collect::<Result<_, _>>()?;
        let context = VcpuContext {
            ports: board.ports(),
            mmio: board.mmio(),
            counters: Arc::new(counters),
            stop: Arc::new(AtomicBool::new(false)),
            roll_call: Arc::new(RollCall::new(parts.cpus)),
            windows: parts.windows,
            alarm: Arc::new(Alarm::new(parts.cpus)),
            parking: (debugger.as_ref()).map(|debugger| Arc::clone(&debugger.parking)),
        };
        Ok(Self {
            vcpus,
            board,
            context,
            ending,
            triple_fault_resets: false,
            debugger,
            sandbox: parts.sandbox,
            vm,
        })
    }

    /// The guest's serial console, to type on.
    #[must_use]
    pub(crate) fn console_input(&self) -> ConsoleInput {
        ConsoleInput::new(self.board.serial())
    }

    /// What ends the machine from elsewhere.
    #[must_use]
    pub(crate) fn stopper(&self) -> Stopper {
        Stopper(self.ending.clone())
    }

    /// What is counted, during the run and after it.
    #[must_use]
    pub(crate) fn counters(&self) -> Arc<MachineCounters> {
        Arc::clone(&self.context.counters)
    }

    /// Lets the guest run.
    ///
    /// # Errors
    ///
    /// [`Error::Thread`] when a vCPU cannot be started.
    pub(crate) fn start(self) -> Result<RunningMachine, Error> {
        let roll_call = Arc::clone(&self.context.roll_call);
        let alarm = Arc::clone(&self.context.alarm);
        let lost_pages = LostPages::look_for(&self.context.windows, &self.sandbox)?;
        let launch = VcpuLaunch {
            resets: self.triple_fault_resets,
            context: self.context,
            ending: self.ending.clone(),
            sandbox: self.sandbox.clone(),
        };
        let threads = launch.start(self.vcpus);
        if threads.is_err() {
            self.board.reset();
        }
        let mut running = RunningMachine {
            threads: Some(threads?),
            board: self.board,
            ending: self.ending,
            roll_call,
            alarm,
            debugger: None,
            _lost_pages: lost_pages,
            halted_rounds: 0,
            vm: self.vm,
        };
        if let Some(preparation) = self.debugger {
            running.debug(preparation, self.sandbox)?;
        }
        Ok(running)
    }

    /// Runs the guest until the machine ends.
    #[cfg(test)]
    fn run(self) -> Result<Ending, Error> {
        let running = self.start()?;
        running.ended().read().map_err(board::Error::EventFd)?;
        running.finish()
    }
}

/// What is put on the board and beside it.
struct Parts {
    cpus: u8,
    memory: u64,
    windows: Windows,
    wiring: Wiring,
    devices: Vec<Box<dyn VirtioDevice>>,
    console: Box<dyn Write + Send>,
    debugger: Option<Listener>,
    sandbox: Sandbox,
}

fn power_handler(ending: &FirstEnding) -> devices::power::PowerHandler {
    use devices::power::PowerEvent;
    let ending = ending.clone();
    Arc::new(move |event| {
        ending.set(Ok(match event {
            PowerEvent::PowerOff => Ending::PowerOff,
            PowerEvent::Reset => Ending::Reset,
        }));
    })
}

/// Whether the last `reboot=` names the triple fault
/// (`Documentation/admin-guide/kernel-parameters.txt`).
fn resets_by_triple_fault(command_line: &str) -> bool {
    command_line
        .split_whitespace()
        .take_while(|&word| word != "--")
        .filter_map(|word| word.strip_prefix("reboot="))
        .last()
        .is_some_and(|modes| modes.split(',').any(|mode| mode.starts_with('t')))
}
