//! What joins the guest to the devices: buses, doorbells, interrupts, memory
//! and the other processors.

use super::*;

#[test]
fn a_second_processor_is_started_by_the_first() {
    let output = SerialOutput::default();
    let mut parts = parts(&output);
    parts.cpus = 2;
    // Enable the local APIC, then INIT and SIPI (page 2) to APIC id 1; spin.
    let code = [
        0xbb, 0x00, 0x00, 0xe0, 0xfe, // mov ebx, 0xfee00000
        0xc7, 0x83, 0xf0, 0, 0, 0, 0xff, 0x01, 0, 0, // [rbx+0xf0] = 0x1ff
        0xc7, 0x83, 0x10, 0x03, 0, 0, 0, 0, 0, 0x01, // [rbx+0x310] = 1 << 24
        0xc7, 0x83, 0, 0x03, 0, 0, 0, 0x45, 0, 0, // [rbx+0x300] = 0x4500
        0xc7, 0x83, 0, 0x03, 0, 0, 0x02, 0x46, 0, 0, // [rbx+0x300] = 0x4602
        0xf3, 0x90, 0xeb, 0xfc, // pause; jmp
    ];
    let machine = Machine::assemble(&kvm(), MachineCounters::new(), parts, |memory, _| {
        // mov dx, 0x3f8; mov al, '2'; out dx, al
        let second = [&[0xba, 0xf8, 0x03, 0xb0, b'2', 0xee], POWER_OFF_16].concat();
        memory.write_slice(&second, GuestAddress(0x2000)).unwrap();
        memory.write_slice(&code, GuestAddress(CODE)).unwrap();
        boot::registers::write_tables(memory)?;
        Ok(boot::registers::start_at(CODE))
    })
    .unwrap();

    assert_eq!(machine.run().unwrap(), Ending::PowerOff);
    assert_eq!(output.text(), "2");
}

#[test]
fn a_notification_rings_the_doorbell_without_an_exit() {
    let output = SerialOutput::default();
    let mut parts = parts(&output);
    parts.devices.push(Box::new(Idle::default()));
    let store_and_load = [
        0xbb, 0xf0, 0x0f, 0x00, 0xd0, // mov ebx, window 0 + QUEUE_NOTIFY
        0xc7, 0x03, 0, 0, 0, 0, // queue 0
        0xc7, 0x03, 0, 0, 0, 0, // queue 0
        0xc7, 0x03, 1, 0, 0, 0, // queue 1
        0xc7, 0x03, 7, 0, 0, 0, // no such queue: an exit
        0x8b, 0x43, 0xb0, // mov eax, [MagicValue]: an exit
        0xba, 0xf8, 0x03, 0x00, 0x00, 0xee, // mov edx, 0x3f8; out dx, al
    ];
    let machine = long_mode_machine(parts, &[&store_and_load, POWER_OFF_64].concat());
    let counters = machine.counters();
    let kicks = machine.board.kicks(0);

    assert_eq!(machine.run().unwrap(), Ending::PowerOff);
    assert_eq!(output.text(), "v");
    assert_eq!(counters.exits(ExitKind::MmioWrite), 1);
    assert_eq!(counters.exits(ExitKind::MmioRead), 1);
    assert_eq!(kicks[0].read().unwrap(), 2);
    assert_eq!(kicks[1].read().unwrap(), 1);
}

/// Runs a machine to its end, which writes to the line of the `index`th device once the
/// guest has said that it is ready.
fn run_with_an_interrupt(machine: Machine, index: usize, output: &SerialOutput) {
    let line = machine.board.line(index);
    let seen = output.clone();
    let thread = std::thread::spawn(move || {
        while seen.text().is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
        line.write(1).unwrap();
    });
    // A guest that is never interrupted must not hang the test.
    let stopper = machine.stopper();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(20));
        stopper.stop();
    });
    assert_eq!(machine.run().unwrap(), Ending::PowerOff);
    thread.join().unwrap();
}

/// Writes to the line of the `index`th device once the guest has said that it
/// is ready, and returns what the guest wrote in all.
fn interrupt_from(index: usize) -> String {
    // Program the 8259 for pin 5 on vector 0x25, say 'r', wait for it.
    let code = [
        0xb0, 0x11, 0xe6, 0x20, 0xb0, 0x20, 0xe6, 0x21, // ICW1, ICW2
        0xb0, 0x04, 0xe6, 0x21, 0xb0, 0x01, 0xe6, 0x21, // ICW3, ICW4
        0xb0, 0xdf, 0xe6, 0x21, // unmask 5
        0xc7, 0x06, 0x94, 0x00, 0x00, 0x11, // vector 0x25: 0000:1100
        0xc7, 0x06, 0x96, 0x00, 0x00, 0x00, //
        0xba, 0xf8, 0x03, 0xb0, b'r', 0xee, // 'r'
        0xfb, 0xf4, 0xeb, 0xfc, // sti; hlt; jmp
    ];
    let handler = [&[0xba, 0xf8, 0x03, 0xb0, b'i', 0xee], POWER_OFF_16].concat();
    let output = SerialOutput::default();
    let mut parts = parts(&output);
    parts.devices = (0..=index)
        .map(|_| Box::new(Idle::default()) as Box<dyn VirtioDevice>)
        .collect();
    let machine = real_mode_machine(parts, &code, &handler);
    run_with_an_interrupt(machine, index, &output);
    output.text()
}

#[test]
fn a_device_s_line_interrupts_the_guest() {
    assert_eq!(interrupt_from(0), "ri");
}

#[test]
fn a_device_past_the_free_pins_interrupts_on_the_pin_it_shares() {
    assert_eq!(interrupt_from(layout::DEVICE_PINS.len()), "ri");
}

#[test]
fn typed_input_reaches_the_guest() {
    // Enable the receive interrupt, which shows that the guest listens; wait
    // for LSR bit 0, echo the byte, switch off.
    let code = [
        &[
            0xba, 0xf9, 0x03, 0xb0, 0x01, 0xee, // mov al, 1; out 0x3f9, al
            0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xfb, // in al, 0x3fd; test; jz
            0xba, 0xf8, 0x03, 0xec, 0xee, // in al, 0x3f8; out
        ],
        POWER_OFF_16,
    ]
    .concat();
    let output = SerialOutput::default();
    let machine = real_mode_machine(parts(&output), &code, &[]);
    assert_eq!(machine.console_input().enqueue(b"x"), 1);
    assert_eq!(machine.run().unwrap(), Ending::PowerOff);
    assert_eq!(output.text(), "x");
}

#[test]
fn memory_above_4_gib_is_the_guest_s() {
    // mov rbx, [0x3000]: an address the page tables below map to 4 GiB.
    let output = SerialOutput::default();
    let mut parts = parts(&output);
    parts.memory = layout::GAP.start + 16 * MIB;
    let code = [
        &[
            0xbb, 0x00, 0x00, 0x00, 0xc0, // mov ebx, 0xc0000000
            0x8a, 0x03, // mov al, [rbx]
            0xba, 0xf8, 0x03, 0x00, 0x00, 0xee, // mov edx, 0x3f8; out dx, al
        ],
        POWER_OFF_64,
    ]
    .concat();
    let machine = Machine::assemble(&kvm(), MachineCounters::new(), parts, |memory, _| {
        memory.write_slice(&code, GuestAddress(CODE)).unwrap();
        memory.write_slice(b"4", GuestAddress(1 << 32)).unwrap();
        boot::registers::write_tables(memory)?;
        // The fourth page directory's first page: 4 GiB instead of 3 GiB.
        let entry = GuestAddress(layout::PAGE_DIRECTORIES + 3 * layout::PAGE);
        memory.write_obj::<u64>((1 << 32) | 0x83, entry).unwrap();
        Ok(boot::registers::start_at(CODE))
    })
    .unwrap();
    assert_eq!(machine.run().unwrap(), Ending::PowerOff);
    assert_eq!(output.text(), "4");
}

#[test]
fn a_device_s_message_reaches_the_local_apic_that_the_guest_chose() {
    // With interrupts off: the message is a bit of IRR (SDM 11.8.4).
    let code = [
        0xbb, 0x00, 0x00, 0xe0, 0xfe, // mov ebx, 0xfee00000
        0xc7, 0x83, 0xf0, 0, 0, 0, 0xff, 0x01, 0, 0, // [rbx+0xf0] = 0x1ff: on
        0xbe, 0x00, 0x10, 0xc0, 0xfe, // mov esi, 0xfec01000
        0xc7, 0x06, 0x13, 0, 0, 0, // register 0x13: pin 1, to APIC 0
        0xc7, 0x46, 0x10, 0, 0, 0, 0, //
        0xc7, 0x06, 0x12, 0, 0, 0, // register 0x12: vector 0x31
        0xc7, 0x46, 0x10, 0x31, 0, 0, 0, //
        0xba, 0xf8, 0x03, 0, 0, 0xb0, b'r', 0xee, // 'r'
        0xf3, 0x90, // pause
        0xf7, 0x83, 0x10, 0x02, 0, 0, 0, 0, 0x02, 0, // test [rbx+0x210], 1 << 17
        0x74, 0xf2, // jz
        0xb0, b'i', 0xee, // 'i'
    ];
    let output = SerialOutput::default();
    let mut parts = parts(&output);
    parts.wiring = Wiring::Messages;
    parts.devices = vec![Box::new(Idle::default()), Box::new(Idle::default())];
    let machine = long_mode_machine(parts, &[&code, POWER_OFF_64].concat());
    run_with_an_interrupt(machine, 1, &output);
    assert_eq!(output.text(), "ri");
}

#[test]
fn only_an_acknowledgement_of_used_buffers_alone_is_no_exit() {
    let output = SerialOutput::default();
    let mut parts = parts(&output);
    parts.devices.push(Box::new(Idle::default()));
    let code = [
        0xbb, 0xa0, 0x0f, 0x00, 0xd0, // mov ebx, window 0
        0xc7, 0x43, 0x64, 1, 0, 0, 0, // InterruptACK: used buffers
        0xc7, 0x43, 0x64, 2, 0, 0, 0, // the configuration: an exit
        0xc7, 0x43, 0x64, 3, 0, 0, 0, // both: an exit
        0xc7, 0x43, 0x70, 1, 0, 0, 0, // Status: an exit
        0x8a, 0x43, 0x70, // mov al, [Status]
        0x04, b'0', // add al, '0'
        0xba, 0xf8, 0x03, 0x00, 0x00, 0xee, // mov edx, 0x3f8; out dx, al
        0xc7, 0x43, 0x70, 0, 0, 0, 0, // Status: a reset
        0x8a, 0x43, 0x70, 0x04, b'0', // mov al, [Status]; add al, '0'
        0xba, 0xf8, 0x03, 0x00, 0x00, 0xee, // mov edx, 0x3f8; out dx, al
    ];
    let machine = long_mode_machine(parts, &[&code, POWER_OFF_64].concat());
    let counters = machine.counters();
    assert_eq!(machine.run().unwrap(), Ending::PowerOff);
    assert_eq!(output.text(), "10");
    assert_eq!(counters.exits(ExitKind::MmioWrite), 4);
    // What is read is there.
    assert_eq!(counters.exits(ExitKind::MmioRead), 0);
}
