//! What waits holds up nothing else: not what comes after it in its queue, not
//! the hiprio queue, not the other queues.

use super::session::{FULL, SLOW_NODE, Session, forget, fsync, read, request};
use super::*;
use crate::fuse::Opcode;

/// Threads of the pool, at most.
const THREADS: u32 = 64;

fn count(of: &AtomicU32) -> u32 {
    of.load(Ordering::SeqCst)
}

#[test]
fn small_reads_are_answered_while_more_fsyncs_wait_than_there_are_threads() {
    const FSYNCS: u32 = 100;
    const READS: usize = 20;
    let mut session = Session::new(1);
    let mut waiting: Vec<u16> = (0..FSYNCS)
        .map(|_| session.submit(1, &fsync(), 16))
        .collect();
    session.wait_until("fsyncs on all threads", |fs| count(&fs.syncing) == THREADS);
    let pool = Arc::clone(&session.pool);
    let left = usize::try_from(FSYNCS - THREADS).unwrap();
    wait_for("fsyncs without a thread", || {
        (pool.waiting() == left).then_some(())
    });

    let begun = Instant::now();
    for _ in 0..READS {
        assert_eq!(session.exchange(1, &read(2)), (0, b"x".to_vec()));
    }
    let reads = begun.elapsed();
    assert_eq!(count(&session.fs.synced), 0);
    assert_eq!(session.queues[1].used(), None);

    // Long beside all the reads together.
    std::thread::sleep(3 * reads + Duration::from_millis(50));
    session.fs.gate.open();
    while !waiting.is_empty() {
        let (head, len) = session.queues[1].wait_used();
        assert_eq!(len, 16);
        let at = waiting.iter().position(|waiting| *waiting == head);
        waiting.swap_remove(at.expect("an answer that nobody waits for"));
    }
    assert_eq!(count(&session.fs.synced), FSYNCS);
    let counts = session.counters.snapshot()[1];
    assert_eq!(counts.detached, u64::from(FSYNCS));
    assert_eq!(counts.requests, u64::from(FSYNCS) + READS as u64 + 1);
    // From when each was taken from the queue, those without a thread included.
    let (longest_read, shortest_fsync) = (
        session.latency(Opcode::READ).1,
        session.latency(Opcode::FSYNC).0,
    );
    assert!(
        longest_read < shortest_fsync,
        "{longest_read} {shortest_fsync}"
    );
}

#[test]
fn the_hiprio_queue_goes_on_while_request_queues_are_full() {
    const FORGETS: u32 = 1000;
    let mut session = Session::new(1);
    for _ in 0..FULL {
        session.submit(1, &fsync(), 16);
    }
    session.wait_until("fsyncs on all threads", |fs| count(&fs.syncing) == THREADS);

    let begun = Instant::now();
    for _ in 0..FORGETS {
        let head = session.submit(0, &forget(), 0);
        assert_eq!(session.queues[0].wait_used(), (head, 0));
    }
    let interrupt = request(Opcode::INTERRUPT, 0, &[5, 0]);
    assert_eq!(session.exchange(0, &interrupt).0, libc::EAGAIN);
    assert_eq!(count(&session.fs.forgotten), FORGETS);
    assert_eq!(count(&session.fs.synced), 0);
    assert_eq!(session.queues[1].used(), None);
    let held = begun.elapsed();
    std::thread::sleep(3 * held + Duration::from_millis(50));
    session.fs.gate.open();
    wait_for("the fsyncs", || {
        (count(&session.fs.synced) == FULL).then_some(())
    });
    let counts = session.counters.snapshot();
    assert_eq!(counts[0].requests, u64::from(FORGETS) + 1);
    let (longest_forget, shortest_fsync) = (
        session.latency(Opcode::FORGET).1,
        session.latency(Opcode::FSYNC).0,
    );
    assert!(
        longest_forget < shortest_fsync,
        "{longest_forget} {shortest_fsync}"
    );
}

#[test]
fn each_queue_has_a_thread_and_a_request_that_takes_its_time_keeps_only_its_own() {
    const QUEUES: u16 = 4;
    const READS: u64 = 25;
    let mut session = Session::new(QUEUES);
    for _ in 0..READS {
        for queue in 1..=usize::from(QUEUES) {
            assert_eq!(session.exchange(queue, &read(2)).0, 0);
        }
    }
    assert_eq!(
        session.fs.readers.lock().unwrap().len(),
        usize::from(QUEUES)
    );

    let slow = session.submit(1, &read(SLOW_NODE), 256);
    session.wait_until("a slow read", |fs| count(&fs.slow_reads) == 1);
    for queue in 2..=usize::from(QUEUES) {
        assert_eq!(session.exchange(queue, &read(2)).0, 0);
    }
    assert_eq!(session.queues[1].used(), None);
    session.fs.gate.open();
    assert_eq!(session.queues[1].wait_used(), (slow, 17));
    let counts = session.counters.snapshot();
    let requests: Vec<_> = counts.iter().map(|queue| queue.requests).collect();
    // The first queue also had INIT, and the slow one.
    assert_eq!(requests, [0, READS + 2, READS + 1, READS + 1, READS + 1]);
    assert!(counts.iter().all(|queue| queue.detached == 0));
}
