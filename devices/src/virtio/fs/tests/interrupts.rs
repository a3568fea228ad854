//! When the driver is interrupted.

use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;

use super::*;

impl Machine {
    fn interrupts_so_far(&mut self) -> u32 {
        read32(&mut self.transport, reg::VIRTIO_MMIO_INTERRUPT_STATUS)
    }
}

#[test]
fn an_answer_is_not_held_back_behind_the_next_request() {
    let mut machine = machine();
    machine.request.set_used_event(0);
    let quick = machine.request.submit(b"quick", 64);
    let slow = machine.request.submit(IN_PLACE, 64);
    machine.kick(1);
    machine.wait_until_waiting(1);
    assert_eq!(machine.wait_for_interrupts(), 1);
    assert_eq!(machine.request.used(), Some((quick, 5)));
    assert_eq!(machine.request.used(), None);
    machine.server.gate.open();
    assert_eq!(machine.request.wait_used(), (slow, 2));
}

#[test]
fn hiprio_requests_share_an_interrupt_up_to_a_batch() {
    for (quick, interrupted) in [(1, false), (63, false), (64, true), (100, true)] {
        let mut machine = machine();
        machine.hiprio.set_used_event(0);
        // At once: a thread that finds the queue empty in between interrupts.
        let mut requests = vec![(&b"forget"[..], 0); quick];
        requests.push((IN_PLACE, 64));
        machine.hiprio.submit_together(&requests);
        machine.kick(0);
        machine.wait_until_waiting(1);
        // All in front of it are used, and the driver sees them if it looks.
        for _ in 0..quick {
            assert!(machine.hiprio.used().is_some());
        }
        assert_eq!(machine.interrupts_so_far() == 1, interrupted, "{quick}");
        machine.server.gate.open();
        machine.hiprio.wait_used();
        assert_eq!(machine.wait_for_interrupts(), 1);
        machine.reset();
        assert_eq!(machine.counters.snapshot()[0].interrupts, 1, "{quick}");
    }
}

#[test]
fn what_comes_on_hiprio_soon_after_something_else_shares_its_notification_and_interrupt() {
    const PAIRS: u64 = 100;
    let mut machine = machine();
    machine.reset();
    // With it, a driver may not want an interrupt for each.
    machine.bind_with(FEATURES & !(1 << VIRTIO_RING_F_EVENT_IDX));
    let mut gathered = 0;
    for _ in 0..PAIRS {
        machine.hiprio.submit(b"forget", 0);
        machine.kick(0);
        machine.hiprio.wait_used();
        machine.hiprio.submit(b"another", 0);
        let until = Instant::now() + Duration::from_millis(20);
        let mut used = None;
        while used.is_none() && Instant::now() < until {
            used = machine.hiprio.used();
        }
        // Now and then this thread is too late.
        if used.is_some() {
            gathered += 1;
        } else {
            machine.kick(0);
            machine.hiprio.wait_used();
        }
        wait_for("end of the lull", || {
            (!machine.hiprio.is_unnotified()).then_some(())
        });
    }
    assert!(gathered > 0);
    machine.reset();
    let counters = machine.counters.snapshot()[0];
    assert_eq!(counters.requests, 2 * PAIRS);
    assert!(counters.interrupts <= 2 * PAIRS - gathered);
}

#[test]
fn a_detached_answer_is_not_held_back_behind_the_next_request_either() {
    let mut machine = machine();
    let detached = machine.request.submit(DETACHED, 64);
    machine.kick(1);
    machine.wait_until_waiting(1);
    machine.request.set_used_event(0);
    machine.server.gate.open();
    assert_eq!(machine.request.wait_used(), (detached, 2));
    assert_eq!(machine.wait_for_interrupts(), 1);
}
