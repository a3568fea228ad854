//! Small guests of a few instructions on the KVM of this host. They need no
//! hardware virtualization, but they do need `/dev/kvm`: without it they fail,
//! because a test that did not run has shown nothing.

mod debugger;
mod ending;
mod windows;
mod wiring;

use std::io;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use devices::virtio::{ActivateError, Activation};
use kvm_bindings::{kvm_regs, kvm_sregs};
use vm_memory::{Bytes, GuestAddress};
use vmm_sandbox::{Mode, Sandbox};

use super::*;

const MIB: u64 = 1 << 20;
/// Where the guests' code lies, and what it may use below.
const CODE: u64 = 0x1000;
const HANDLER: u64 = 0x1100;

/// `out` of SLP_TYP S5 with SLP_EN to the sleep control port, in real mode:
/// `mov dx, 0x600; mov al, 0x34; out dx, al; hlt`.
const POWER_OFF_16: &[u8] = &[0xba, 0x00, 0x06, 0xb0, 0x34, 0xee, 0xf4];
/// The same in long mode.
const POWER_OFF_64: &[u8] = &[0xba, 0x00, 0x06, 0x00, 0x00, 0xb0, 0x34, 0xee, 0xf4];

/// What a guest wrote to its serial port; a hook sees every byte.
#[derive(Clone, Default)]
pub(super) struct SerialOutput(Arc<Mutex<Vec<u8>>>);

impl SerialOutput {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for SerialOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A device that is only there: it counts what is asked of it.
#[derive(Clone, Default)]
struct Idle {
    resets: Arc<Mutex<u32>>,
}

impl VirtioDevice for Idle {
    fn id(&self) -> u32 {
        4
    }

    fn features(&self) -> u64 {
        1 << 32
    }

    fn queue_sizes(&self) -> &[u16] {
        &[16, 16]
    }

    fn config(&self) -> &[u8] {
        &[]
    }

    fn activate(&mut self, _: Activation) -> Result<(), ActivateError> {
        Ok(())
    }

    fn stop_queue(&mut self, _: u16) {}

    fn reset(&mut self) {
        *self.resets.lock().unwrap() += 1;
    }
}

pub(super) fn kvm() -> Kvm {
    host::open().expect("these tests need /dev/kvm: it must exist and be readable and writable")
}

pub(super) fn parts(output: &SerialOutput) -> Parts {
    Parts {
        cpus: 1,
        memory: 32 * MIB,
        windows: Windows::default(),
        wiring: Wiring::Pins,
        devices: Vec::new(),
        console: Box::new(output.clone()),
        debugger: None,
        sandbox: confined(),
    }
}

/// The sandbox of a run, for the threads of the machine; none by `TEST_SANDBOX=off`.
fn confined() -> Sandbox {
    let off = std::env::var_os("TEST_SANDBOX").is_some_and(|mode| mode == "off");
    let mode = if off { Mode::Off } else { Mode::Best };
    let sandbox = Sandbox::plan(mode).unwrap();
    sandbox.begin().unwrap();
    sandbox
}

fn real_mode(sregs: &mut kvm_sregs) {
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
}

/// A machine whose boot processor starts at [`CODE`] in real mode, with
/// `handler` at [`HANDLER`].
fn real_mode_machine(parts: Parts, code: &[u8], handler: &[u8]) -> Machine {
    Machine::assemble(&kvm(), MachineCounters::new(), parts, |memory, _| {
        memory.write_slice(code, GuestAddress(CODE)).unwrap();
        memory.write_slice(handler, GuestAddress(HANDLER)).unwrap();
        Ok(Start {
            regs: kvm_regs {
                rip: CODE,
                rsp: CODE,
                rflags: 2,
                ..Default::default()
            },
            mode: real_mode,
        })
    })
    .unwrap()
}

/// A machine whose boot processor starts at [`CODE`] as the boot protocol
/// has it: in long mode, 4 GiB mapped.
fn long_mode_machine(parts: Parts, code: &[u8]) -> Machine {
    Machine::assemble(&kvm(), MachineCounters::new(), parts, |memory, _| {
        memory.write_slice(code, GuestAddress(CODE)).unwrap();
        boot::registers::write_tables(memory)?;
        Ok(boot::registers::start_at(CODE))
    })
    .unwrap()
}
