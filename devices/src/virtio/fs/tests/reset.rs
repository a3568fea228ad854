//! What ends a driver's use of the device, well or badly.

use super::*;

#[test]
fn a_driver_that_scribbles_over_its_queues_harms_nobody() {
    let mut machine = machine();
    machine.server.gate.open();
    // A fixed sequence (xorshift), so that a failure can be repeated as far as
    // threads allow it.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |bound: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % bound
    };
    for _ in 0..60 {
        let (mut made, start) = (0, Instant::now());
        while made == 0 || start.elapsed() < Duration::from_millis(5) {
            let index = u16::try_from(random(u64::from(SIZE))).unwrap();
            let address = [0x1000, REQUEST_BASE, random(0x120_0000), random(u64::MAX)];
            let flags = u16::try_from(random(8)).unwrap();
            let next = u16::try_from(random(u64::from(SIZE) + 2)).unwrap();
            let len = u32::try_from(random(0x2000)).unwrap();
            let descriptor = (address[usize::from(index % 4)], len, flags, next);
            machine.request.describe(index, descriptor);
            let text: &[u8] = if index % 2 == 0 { DETACHED } else { b"text" };
            machine
                .memory
                .write_slice(text, GuestAddress(0x1000))
                .unwrap();
            if random(4) == 0 {
                machine.request.publish(index);
                made += 1;
            }
            machine.kick(1);
        }
        assert!(made > 0);
        machine.reset();
        machine.bind();
        assert_eq!(machine.exchange(b"good"), b"GOOD");
    }
}

#[test]
fn a_hostile_ring_costs_the_device_until_the_next_reset_and_no_time() {
    let mut machine = machine();
    machine.request.set_available(SIZE + 1);
    machine.kick(1);
    wait_for("NEEDS_RESET", || (machine.status() == 0x4f).then_some(()));
    assert_eq!(
        read32(&mut machine.transport, reg::VIRTIO_MMIO_INTERRUPT_STATUS),
        2
    );

    // The other queue is not affected, and a reset mends it all.
    let head = machine.hiprio.submit(b"still", 64);
    machine.kick(0);
    assert_eq!(machine.hiprio.wait_used(), (head, 5));
    machine.reset();
    machine.bind();
    assert_eq!(machine.exchange(b"again"), b"AGAIN");
}

#[test]
fn drivers_can_bind_one_after_the_other() {
    let mut machine = machine();
    for _ in 0..20 {
        assert_eq!(machine.exchange(b"hello"), b"HELLO");
        machine.reset();
        machine.bind();
    }
    assert_eq!(machine.server.resets.load(Ordering::SeqCst), 20);
}

#[test]
fn nothing_is_served_after_a_reset() {
    let mut machine = machine();
    machine.exchange(b"hello");
    machine.reset();
    machine.request.submit(b"late", 64);
    machine.kick(1);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(machine.request.used(), None);
    // The kick is not lost on the next driver, nor does it harm it.
    machine.bind();
    assert_eq!(machine.exchange(b"hello"), b"HELLO");
}

#[test]
fn a_reset_does_not_wait_for_a_detached_request_whose_reply_then_goes_nowhere() {
    let mut machine = machine();
    let head = machine.request.submit(DETACHED, 64);
    machine.kick(1);
    machine.wait_until_waiting(1);
    let start = Instant::now();
    machine.reset();
    assert!(start.elapsed() < PATIENCE / 2);

    // The memory now belongs to somebody else, and so does the queue.
    let pattern = [0xa5; 0x4000];
    let buffer = GuestAddress(machine.request.buffer(head));
    machine
        .memory
        .write_slice(&pattern[..0x2000], buffer)
        .unwrap();
    machine.bind();
    let before = machine.server.answered.load(Ordering::SeqCst);
    machine.server.gate.open();
    let answered = || machine.server.answered.load(Ordering::SeqCst) - before;
    wait_for("the late answer", || (answered() == 1).then_some(()));
    let mut now = [0; 0x2000];
    machine.memory.read_slice(&mut now, buffer).unwrap();
    assert_eq!(now, pattern[..0x2000]);
    assert_eq!(machine.request.used(), None);
    assert_eq!(machine.exchange(b"next"), b"NEXT");
}

#[test]
fn a_reset_drops_detached_requests_that_did_not_begin() {
    let mut machine = machine();
    for _ in 0..100 {
        machine.request.submit(DETACHED, 64);
    }
    machine.kick(1);
    machine.wait_until_waiting(64);
    machine.reset();
    machine.server.gate.open();
    machine.wait_until_waiting(0);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(machine.server.answered.load(Ordering::SeqCst), 64);
}

#[test]
fn what_waits_for_a_thread_goes_with_the_driver() {
    let mut machine = machine();
    for _ in 0..64 {
        machine.request.submit(DETACHED, 64);
    }
    machine.kick(1);
    machine.wait_until_waiting(64);
    for _ in 0..2000 {
        machine.reset();
        assert_eq!(machine.pool.waiting(), 0);
        machine.bind();
        let before = machine.counters.snapshot()[1].detached;
        for _ in 0..10 {
            machine.request.submit(DETACHED, 64);
        }
        machine.kick(1);
        let detached = || machine.counters.snapshot()[1].detached - before;
        wait_for("all detached", || (detached() == 10).then_some(()));
        assert_eq!(machine.pool.waiting(), 10);
    }
    // A single queue that ends drops what is its own.
    write32(&mut machine.transport, reg::VIRTIO_MMIO_QUEUE_SEL, 1);
    write32(&mut machine.transport, reg::VIRTIO_MMIO_QUEUE_READY, 0);
    assert_eq!(machine.pool.waiting(), 0);
    machine.server.gate.open();
}

#[test]
fn a_kick_holds_nothing_after_a_reset_also_of_a_queue_that_failed() {
    let mut machine = machine();
    for round in 0..20 {
        if round % 2 == 0 {
            machine.request.set_available(SIZE + 1);
            machine.kick(1);
            wait_for("NEEDS_RESET", || (machine.status() == 0x4f).then_some(()));
        }
        machine.kick(1);
        machine.reset();
        let kick = &machine.transport.kicks()[1];
        kick.write(1).unwrap();
        assert_eq!(kick.read().unwrap(), 1, "round {round}");
        machine.bind();
    }
    assert_eq!(machine.exchange(b"again"), b"AGAIN");
}

#[test]
fn a_reset_wakes_a_request_that_its_queue_waits_for() {
    let mut machine = Machine::new(Server {
        interruptible: true,
        ..Server::default()
    });
    machine.request.submit(IN_PLACE, 64);
    machine.kick(1);
    machine.wait_until_waiting(1);
    machine.reset();
    assert_eq!(machine.server.answered.load(Ordering::SeqCst), 1);
    // Once to wake it, once to forget what it did.
    assert_eq!(machine.server.resets.load(Ordering::SeqCst), 2);
}

#[test]
fn a_device_with_a_blocked_detached_request_can_be_dropped() {
    let mut machine = machine();
    machine.request.submit(DETACHED, 64);
    machine.kick(1);
    machine.wait_until_waiting(1);
    let server = Arc::clone(&machine.server);
    drop(machine);
    server.gate.open();
}

#[test]
fn a_stopped_queue_is_not_served_while_the_others_are() {
    let mut machine = machine();
    machine.exchange(b"hello");
    write32(&mut machine.transport, reg::VIRTIO_MMIO_QUEUE_SEL, 1);
    write32(&mut machine.transport, reg::VIRTIO_MMIO_QUEUE_READY, 0);
    assert_eq!(
        read32(&mut machine.transport, reg::VIRTIO_MMIO_QUEUE_READY),
        0
    );
    machine.request.submit(b"late", 64);
    machine.kick(1);
    let head = machine.hiprio.submit(b"hiprio", 64);
    machine.kick(0);
    assert_eq!(machine.hiprio.wait_used(), (head, 6));
    assert_eq!(machine.request.used(), None);
    machine.reset();
    assert_eq!(machine.server.resets.load(Ordering::SeqCst), 1);
}
