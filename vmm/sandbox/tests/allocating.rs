//! Threads that allocate memory make no call that is refused. A program of its own, as what
//! was refused is on record for the process.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Barrier};

use devices::virtio::fs::Threads;
use vmm_sandbox::{Keeper, Mode, Sandbox};

#[test]
fn any_number_of_threads_may_allocate() {
    // More than the allocator has arenas before it asks how many processors there are.
    const THREADS: usize = 32;
    let sandbox = Sandbox::plan(Mode::On).unwrap();
    sandbox.begin().unwrap();
    let keeper = Keeper::new(&sandbox, "test", None);
    keeper.start().unwrap();
    let together = Arc::new(Barrier::new(THREADS));
    let start = |_| {
        let together = Arc::clone(&together);
        let work = move || {
            let memory = std::hint::black_box(vec![1_u8; 100]);
            together.wait();
            drop(memory);
        };
        Threads::start(&keeper, "worker".into(), Box::new(work)).unwrap()
    };
    let threads: Vec<_> = (0..THREADS).map(start).collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert!(sandbox.holds().record().refused().is_empty());
}
