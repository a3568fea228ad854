//! A host that has no thread for a queue. The limit belongs to a user, so the
//! test runs itself again in a process of its own, as a user without others.

use std::process::Command;

use rustix::process::{Resource, Rlimit, Uid, getrlimit, setrlimit};
use rustix::thread::set_thread_res_uid;

use super::*;

const INSIDE: &str = "VIRTIO_TEST_INSIDE";

/// Whether the test runs in the process of its own.
fn alone(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let run = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg(format!("virtio::fs::tests::threads::{test}"))
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{said}");
    false
}

/// Lets the calling thread's user have this many threads, or as many as may be.
fn limit(threads: Option<u64>) {
    let maximum = getrlimit(Resource::Nproc).maximum;
    let current = threads.or(maximum);
    setrlimit(Resource::Nproc, Rlimit { current, maximum }).unwrap();
}

#[test]
fn a_device_that_gets_no_thread_for_a_queue_needs_a_reset_and_then_works() {
    if !alone("a_device_that_gets_no_thread_for_a_queue_needs_a_reset_and_then_works") {
        return;
    }
    let mut machine = machine();
    machine.exchange(b"hello");
    machine.reset();
    assert_eq!(machine.server.resets.load(Ordering::SeqCst), 1);
    negotiate(&mut machine.transport, FEATURES);
    machine.hiprio = DriverQueue::new(&machine.memory, HIPRIO_BASE, SIZE);
    machine.request = DriverQueue::new(&machine.memory, REQUEST_BASE, SIZE);
    machine.hiprio.set_up(&mut machine.transport, 0);
    machine.request.set_up(&mut machine.transport, 1);
    let own = rustix::process::getuid();
    let one_at_most = if own.is_root() {
        // Nobody has this number, so one thread more is one for one queue.
        let nobody = Uid::from_raw(0x7fff_fff0);
        set_thread_res_uid(nobody, nobody, own).unwrap();
        2
    } else {
        1
    };
    limit(Some(one_at_most));

    go_live(&mut machine.transport);

    assert_eq!(machine.status(), 0x4f, "DEVICE_NEEDS_RESET");
    // The queue that got a thread has none any more.
    machine.hiprio.submit(b"hiprio", 64);
    machine.kick(0);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(machine.hiprio.used(), None);
    assert_eq!(machine.server.resets.load(Ordering::SeqCst), 2);

    if own.is_root() {
        set_thread_res_uid(own, own, own).unwrap();
    }
    limit(None);
    machine.reset();
    machine.bind();
    assert_eq!(machine.exchange(b"again"), b"AGAIN");
}
