//! Requests that are served off their queue's thread.

use super::*;

#[test]
fn a_detached_request_in_parts_is_answered_in_parts() {
    let mut machine = machine();
    machine.server.gate.open();
    let (table, data, far) = (0x1000, 0x2000, 0x100_0000);
    machine
        .memory
        .write_slice(b"wdabcdef", GuestAddress(data))
        .unwrap();
    let queue = &mut machine.request;
    // Nothing may be anywhere.
    let nowhere = 1 << 60;
    // More room than is ever copied: the same twice.
    let large = |flags, next| (0x40_0000, 0x40_0000, WRITE | flags, next);
    let parts = [
        (data, 3, NEXT, 1),
        (nowhere, 0, NEXT, 2),
        (data + 3, 5, NEXT, 3),
        (far, 1, NEXT | WRITE, 4),
        (nowhere, 0, NEXT | WRITE, 5),
        large(NEXT, 6),
        large(0, 0),
    ];
    for (at, part) in (table..).step_by(16).zip(parts) {
        queue.describe_at(GuestAddress(at), part);
    }
    queue.describe(0, (table, 7 * 16, INDIRECT, 0));
    queue.publish(0);
    machine.kick(1);
    assert_eq!(machine.request.wait_used(), (0, 8));
    let room = machine.server.room.load(Ordering::SeqCst);
    assert_eq!(room, 0x40_0000 + 0x1000, "the longest READ and a page");
    assert_eq!(machine.counters.snapshot()[1].detached, 1);
    let mut reply = [0; 8];
    let (first, rest) = reply.split_at_mut(1);
    machine.memory.read_slice(first, GuestAddress(far)).unwrap();
    machine
        .memory
        .read_slice(rest, GuestAddress(0x40_0000))
        .unwrap();
    assert_eq!(&reply, b"WDABCDEF");
}

#[test]
fn of_a_detached_request_no_more_is_copied_than_it_takes_to_refuse_it() {
    let mut machine = machine();
    machine.server.gate.open();
    let (table, data) = (0x1000, 0x2000);
    machine
        .memory
        .write_slice(b"wd", GuestAddress(data))
        .unwrap();
    let queue = &mut machine.request;
    queue.describe_at(GuestAddress(table), (data, 2, NEXT, 1));
    let large = |next| (0x40_0000, 0x20_0000, NEXT, next);
    queue.describe_at(GuestAddress(table + 16), large(2));
    queue.describe_at(GuestAddress(table + 32), large(3));
    queue.describe_at(GuestAddress(table + 48), (data, 2, WRITE, 0));
    queue.describe(0, (table, 64, INDIRECT, 0));
    queue.publish(0);
    machine.kick(1);
    assert_eq!(machine.request.wait_used(), (0, 2));
    let mut reply = [0; 2];
    machine
        .memory
        .read_slice(&mut reply, GuestAddress(data))
        .unwrap();
    assert_eq!(&reply, b"WD");
}

#[test]
fn without_a_thread_for_it_a_request_is_served_in_its_queue() {
    let mut machine = Machine::without_threads(Server::default());
    let blocked = machine.request.submit(DETACHED, 64);
    let next = machine.request.submit(b"next", 64);
    machine.kick(1);
    machine.wait_until_waiting(1);
    assert_eq!(machine.request.used(), None);
    machine.server.gate.open();
    assert_eq!(machine.request.wait_used(), (blocked, 2));
    assert_eq!(machine.request.reply(blocked, 2), b"WD");
    assert_eq!(machine.request.wait_used(), (next, 4));
    assert_eq!(machine.counters.snapshot()[1].detached, 0);
}

#[test]
fn a_request_that_blocks_does_not_stop_its_queue() {
    for (request, reply) in [(DETACHED, b"WD"), (LATE, b"WL")] {
        let mut machine = machine();
        let blocked = machine.request.submit(request, 64);
        machine.kick(1);
        for _ in 0..100 {
            let reply = machine.exchange(b"quick");
            assert_eq!(reply, b"QUICK");
        }
        machine.server.gate.open();
        assert_eq!(machine.request.wait_used(), (blocked, 2));
        assert_eq!(machine.request.reply(blocked, 2), reply);
        let counts = machine.counters.snapshot()[1];
        assert_eq!((counts.requests, counts.detached), (101, 1));
    }
}

#[test]
fn the_interrupt_of_a_detached_request_comes_when_it_is_answered() {
    let mut machine = machine();
    // Interrupt at the first used element.
    machine.request.set_used_event(0);
    machine.request.submit(DETACHED, 64);
    machine.kick(1);
    machine.wait_until_waiting(1);
    assert_eq!(
        read32(&mut machine.transport, reg::VIRTIO_MMIO_INTERRUPT_STATUS),
        0
    );
    machine.server.gate.open();
    machine.request.wait_used();
    assert_eq!(machine.wait_for_interrupts(), 1);
}

#[test]
fn more_requests_can_block_than_there_are_threads() {
    let mut machine = machine();
    let count = SIZE / 2;
    let mut heads: Vec<_> = (0..count)
        .map(|_| machine.request.submit(DETACHED, 64))
        .collect();
    machine.kick(1);
    machine.wait_until_waiting(64);
    // All are taken off the queue nevertheless.
    wait_for("all detached", || {
        (machine.counters.snapshot()[1].detached == u64::from(count)).then_some(())
    });
    let head = machine.hiprio.submit(b"hiprio", 64);
    machine.kick(0);
    assert_eq!(machine.hiprio.wait_used(), (head, 6));

    machine.server.gate.open();
    let mut used: Vec<_> = heads
        .iter()
        .map(|_| machine.request.wait_used().0)
        .collect();
    used.sort_unstable();
    heads.sort_unstable();
    assert_eq!(used, heads);
    assert_eq!(machine.request.used(), None);
}

#[test]
fn a_reply_that_comes_after_a_reset_is_not_in_the_memory_that_its_descriptors_name() {
    let mut machine = machine();
    let head = machine.request.submit(DETACHED, 64);
    machine.kick(1);
    machine.wait_until_waiting(1);
    machine.reset();
    // Nobody has taken the queue over: all is where it was.
    machine.server.gate.open();
    let answered = || machine.server.answered.load(Ordering::SeqCst);
    wait_for("the late answer", || (answered() == 1).then_some(()));
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(machine.request.reply(head, 64), [0; 64]);
    assert_eq!(machine.request.used(), None);
}
