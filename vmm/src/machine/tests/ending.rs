//! How a machine ends, and that it does.

use super::*;

#[test]
fn a_guest_writes_to_its_console_and_switches_off() {
    let output = SerialOutput::default();
    // mov dx, 0x3f8; mov al, 'h'; out dx, al; mov al, 'i'; out dx, al
    let hello = [0xba, 0xf8, 0x03, 0xb0, b'h', 0xee, 0xb0, b'i', 0xee];
    let code = [&hello, POWER_OFF_16].concat();
    let machine = real_mode_machine(parts(&output), &code, &[]);
    let counters = machine.counters();

    assert_eq!(machine.run().unwrap(), Ending::PowerOff);
    assert_eq!(output.text(), "hi");
    assert_eq!(counters.exits(ExitKind::PortWrite), 3);
    assert_eq!(counters.exits(ExitKind::MmioWrite), 0);
    assert!(counters.kernel_loaded() <= counters.first_run());
}

#[test]
fn the_keyboard_controller_resets_the_machine() {
    // mov al, 0xfe; out 0x64, al; hlt
    let code = [0xb0, 0xfe, 0xe6, 0x64, 0xf4];
    let machine = real_mode_machine(parts(&SerialOutput::default()), &code, &[]);
    assert_eq!(machine.run().unwrap(), Ending::Reset);
}

#[test]
fn the_acpi_reset_register_resets_the_machine() {
    // mov dx, 0x602; mov al, 1; out dx, al; hlt
    let code = [0xba, 0x02, 0x06, 0xb0, 0x01, 0xee, 0xf4];
    let machine = real_mode_machine(parts(&SerialOutput::default()), &code, &[]);
    assert_eq!(machine.run().unwrap(), Ending::Reset);
}

/// `ud2` with an empty interrupt descriptor table.
const UD2: &[u8] = &[0x0f, 0x0b];

#[test]
fn a_triple_fault_is_a_crash_that_names_the_processor() {
    let machine = long_mode_machine(parts(&SerialOutput::default()), UD2);
    let Ending::Crash(text) = machine.run().unwrap() else {
        panic!("no crash");
    };
    assert!(text.starts_with("triple fault on vCPU 0: rip="), "{text}");
}

#[test]
fn a_triple_fault_is_a_reset_where_the_kernel_was_told_to_use_it() {
    let mut machine = long_mode_machine(parts(&SerialOutput::default()), UD2);
    machine.triple_fault_resets = resets_by_triple_fault("reboot=k reboot=w,triple -- reboot=k");
    assert_eq!(machine.run().unwrap(), Ending::Reset);
}

#[test]
fn only_the_last_reboot_parameter_counts() {
    assert!(!resets_by_triple_fault("reboot=t reboot=k"));
    assert!(!resets_by_triple_fault("noreboot=t"));
}

/// `jmp $`, `cli; hlt`.
const SPIN: &[u8] = &[0xeb, 0xfe];
const HALT: &[u8] = &[0xfa, 0xf4];

fn stop_from_another_thread(machine: Machine) -> Duration {
    let stopper = machine.stopper();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        stopper.stop();
        Instant::now()
    });
    assert_eq!(machine.run().unwrap(), Ending::Stopped);
    thread.join().unwrap().elapsed()
}

#[test]
fn a_spinning_guest_is_stopped() {
    let machine = real_mode_machine(parts(&SerialOutput::default()), SPIN, &[]);
    assert!(stop_from_another_thread(machine) < Duration::from_secs(5));
}

/// Whether the machine is found to have halted, within `looks`.
fn halts(machine: Machine, looks: u32) -> bool {
    let mut running = machine.start().unwrap();
    for _ in 0..looks {
        running.look_for_halt();
        std::thread::sleep(Duration::from_millis(10));
        if running.ending.get().is_some() {
            assert_eq!(running.finish().unwrap(), Ending::Halted);
            return true;
        }
    }
    false
}

#[test]
fn a_guest_that_halted_with_interrupts_off_has_ended() {
    for cpus in [1, 3] {
        let parts = Parts {
            cpus,
            ..parts(&SerialOutput::default())
        };
        assert!(halts(real_mode_machine(parts, HALT, &[]), 1000));
    }
}

#[test]
fn a_guest_that_an_interrupt_would_wake_or_that_runs_has_not_ended() {
    // sti; hlt
    let idle = [0xfb, 0xf4];
    // cli; jmp $
    let spin = [0xfa, 0xeb, 0xfe];
    for code in [&idle[..], &spin] {
        assert!(!halts(
            real_mode_machine(parts(&SerialOutput::default()), code, &[]),
            20
        ));
    }
}

#[test]
fn a_halted_guest_is_stopped() {
    let machine = real_mode_machine(parts(&SerialOutput::default()), HALT, &[]);
    assert!(stop_from_another_thread(machine) < Duration::from_secs(5));
}

#[test]
fn a_machine_stopped_before_it_runs_ends_at_once() {
    let machine = real_mode_machine(parts(&SerialOutput::default()), SPIN, &[]);
    machine.stopper().stop();
    assert_eq!(machine.run().unwrap(), Ending::Stopped);
}

#[test]
fn processors_that_wait_for_their_start_are_stopped_too() {
    let mut parts = parts(&SerialOutput::default());
    parts.cpus = 4;
    let machine = real_mode_machine(parts, SPIN, &[]);
    assert!(stop_from_another_thread(machine) < Duration::from_secs(5));
}

#[test]
fn every_device_is_reset_before_the_run_returns() {
    let device = Idle::default();
    let mut parts = parts(&SerialOutput::default());
    parts.devices.push(Box::new(device.clone()));
    let machine = real_mode_machine(parts, POWER_OFF_16, &[]);
    machine.run().unwrap();
    assert_eq!(*device.resets.lock().unwrap(), 1);
}

#[test]
fn a_number_of_processors_that_cannot_be_is_refused() {
    let mut parts = parts(&SerialOutput::default());
    parts.cpus = 0;
    let error = Machine::assemble(&kvm(), MachineCounters::new(), parts, |_, _| unreachable!())
        .unwrap_err();
    assert!(error.to_string().contains("--cpus from 1 to"), "{error}");
}

/// A console whose writer panics.
struct Broken;

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        panic!("the console is broken");
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_panic_on_a_vcpu_ends_the_run() {
    let mut parts = parts(&SerialOutput::default());
    parts.console = Box::new(Broken);
    parts.cpus = 2;
    // mov dx, 0x3f8; out dx, al; jmp $
    let code = [0xba, 0xf8, 0x03, 0xee, 0xeb, 0xfe];
    let machine = real_mode_machine(parts, &code, &[]);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| machine.run()));
    assert!(result.is_err());
}

#[test]
fn a_vcpu_is_stopped_though_its_creator_blocks_every_signal() {
    let machine = real_mode_machine(parts(&SerialOutput::default()), SPIN, &[]);
    let took = std::thread::spawn(|| {
        vmm_sys_util::signal::block_signal(super::super::vcpu::KICK).unwrap();
        stop_from_another_thread(machine)
    });
    assert!(took.join().unwrap() < Duration::from_secs(5));
}
