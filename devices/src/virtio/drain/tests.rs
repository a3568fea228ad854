//! The drain against good and hostile rings.

use std::time::Instant;

use proptest::prelude::*;
use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::mock::MockSplitQueue;

use super::*;
use crate::virtio::chain::Walk;
use crate::virtio::driver::{DriverQueue, NEXT, WRITE};

/// Indirect tables and buffers of these tests.
const SCRATCH: u64 = 0x8_0000;
const SIZE: u16 = 16;

fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x20_0000)]).unwrap()
}

fn drain_of(memory: &GuestMemoryMmap, driver: &DriverQueue, event_idx: bool) -> Drain {
    let queue = driver.config().build(memory, event_idx).unwrap();
    let interrupt = Arc::new(Interrupt::new().unwrap());
    Drain::new(queue, memory.clone(), interrupt)
}

fn setup(event_idx: bool) -> (DriverQueue, Drain) {
    let memory = memory();
    let driver = DriverQueue::new(&memory, 0x1000, SIZE);
    let drain = drain_of(&memory, &driver, event_idx);
    (driver, drain)
}

fn next(drain: &mut Drain) -> Chain {
    drain.next_request().unwrap().unwrap()
}

#[test]
fn requests_come_in_order_and_go_back_with_their_length() {
    let (mut driver, mut drain) = setup(false);
    let first = driver.submit(b"one", 8);
    let second = driver.submit(b"two", 8);

    let (a, b) = (next(&mut drain), next(&mut drain));
    assert!(drain.next_request().unwrap().is_none());
    assert_eq!((a.head_index(), b.head_index()), (first, second));
    drain.complete(b.head_index(), 5).unwrap();
    drain.complete(a.head_index(), 7).unwrap();
    assert_eq!(driver.used(), Some((second, 5)));
    assert_eq!(driver.used(), Some((first, 7)));
    assert_eq!(driver.used(), None);
}

#[test]
fn the_indices_wrap_around() {
    let (mut driver, mut drain) = setup(true);
    for _ in 0..66_000_u32 {
        let head = driver.submit(b"x", 4);
        let chain = next(&mut drain);
        assert_eq!(chain.head_index(), head);
        drain.complete(head, 1).unwrap();
        assert_eq!(driver.used(), Some((head, 1)));
        assert!(drain.next_request().unwrap().is_none());
    }
}

#[test]
fn a_queue_laid_out_by_another_implementation_is_served() {
    let memory = memory();
    let mock = MockSplitQueue::create(&memory, GuestAddress(0x1000), SIZE);
    let request = RawDescriptor::from(Descriptor::new(SCRATCH, 64, NEXT, 1));
    let reply = RawDescriptor::from(Descriptor::new(SCRATCH + 0x1000, 32, WRITE, 0));
    mock.add_desc_chains(&[request, reply], 0).unwrap();
    let queue: Queue = mock.create_queue().unwrap();
    let interrupt = Arc::new(Interrupt::new().unwrap());
    let mut drain = Drain::new(queue, memory.clone(), Arc::clone(&interrupt));

    let chain = next(&mut drain);
    let mut walk = Walk::new(&memory);
    walk.walk(drain.table(), chain.head_index()).unwrap();
    assert_eq!(walk.readable().remaining(), 64);
    assert_eq!(walk.writable().remaining(), 32);
    drain.complete(chain.head_index(), 32).unwrap();
    assert!(drain.signal().unwrap());
    assert_eq!(mock.used().idx().load(), 1);
    assert_eq!(mock.used().ring().ref_at(0).unwrap().load().len(), 32);
    assert_eq!(interrupt.irq().read().unwrap(), 1);
}

#[test]
fn without_event_idx_every_signal_interrupts() {
    let (mut driver, mut drain) = setup(false);
    for _ in 0..3 {
        let head = driver.submit(b"x", 4);
        next(&mut drain);
        drain.complete(head, 0).unwrap();
        assert!(drain.signal().unwrap());
    }
    assert_eq!(drain.interrupt.irq().read().unwrap(), 3);
}

#[test]
fn a_driver_that_wants_no_interrupts_gets_none() {
    let (mut driver, mut drain) = setup(false);
    let flags = GuestAddress(driver.available());
    drain.memory().write_obj(1_u16, flags).unwrap();
    let head = driver.submit(b"x", 4);
    next(&mut drain);
    drain.complete(head, 0).unwrap();
    assert!(!drain.signal().unwrap());
    assert_eq!(drain.interrupt.status(), 0);
}

#[test]
fn with_event_idx_a_driver_that_is_busy_is_left_alone() {
    let (mut driver, mut drain) = setup(true);
    let mut signals = Vec::new();
    driver.set_used_event(0);
    for _ in 0..4 {
        let head = driver.submit(b"x", 4);
        next(&mut drain);
        drain.complete(head, 0).unwrap();
        signals.push(drain.signal().unwrap());
    }
    // Only the first passes the event the driver waits for.
    assert_eq!(signals, [true, false, false, false]);

    driver.set_used_event(4);
    let head = driver.submit(b"x", 4);
    next(&mut drain);
    drain.complete(head, 0).unwrap();
    assert!(drain.signal().unwrap());
}

#[test]
fn without_an_answer_there_is_no_interrupt() {
    let (_, mut drain) = setup(false);
    assert!(!drain.signal().unwrap());
    assert_eq!(drain.interrupt.status(), 0);
}

#[test]
fn the_driver_is_told_to_notify_only_while_the_queue_is_empty() {
    let (mut driver, mut drain) = setup(false);
    let flags = |drain: &Drain, at: u64| drain.memory().read_obj::<u16>(GuestAddress(at)).unwrap();
    let used = driver.used_ring();
    driver.submit(b"x", 4);
    next(&mut drain);
    assert_eq!(flags(&drain, used), 1);
    assert!(drain.next_request().unwrap().is_none());
    assert_eq!(flags(&drain, used), 0);
}

#[test]
fn an_impossible_available_index_ends_the_queue_at_once() {
    for event_idx in [false, true] {
        for index in [SIZE + 1, 0x7fff, u16::MAX] {
            let (driver, mut drain) = setup(event_idx);
            driver.set_available(index);
            let start = Instant::now();
            let error = drain.next_request().unwrap_err();
            assert!(matches!(error, DrainError::Rings(_)), "{error}");
            assert!(start.elapsed().as_secs() < 1);
        }
    }
}

#[test]
fn an_element_made_available_twice_ends_the_queue() {
    let (mut driver, mut drain) = setup(false);
    driver.describe(0, (SCRATCH, 8, 0, 0));
    for _ in 0..SIZE {
        driver.publish(0);
        next(&mut drain);
    }
    driver.publish(0);
    let error = drain.next_request().unwrap_err();
    assert!(matches!(error, DrainError::Overcommitted), "{error}");
}

#[test]
fn a_ring_that_cannot_be_read_ends_the_queue() {
    // Not what `QueueConfig::build` lets through: the first elements of the
    // available ring are the last of memory.
    let memory = memory();
    let mut queue = Queue::new(SIZE).unwrap();
    let available = 0x20_0000 - 4;
    queue
        .try_set_desc_table_address(GuestAddress(0x1000))
        .unwrap();
    queue
        .try_set_avail_ring_address(GuestAddress(available))
        .unwrap();
    queue
        .try_set_used_ring_address(GuestAddress(0x3000))
        .unwrap();
    queue.set_ready(true);
    memory
        .write_obj(1_u16, GuestAddress(available + 2))
        .unwrap();
    let interrupt = Arc::new(Interrupt::new().unwrap());
    let mut drain = Drain::new(queue, memory, interrupt);
    let error = drain.next_request().unwrap_err();
    assert!(matches!(error, DrainError::Stalled), "{error}");
}

#[test]
fn a_head_outside_the_table_cannot_be_completed() {
    let (mut driver, mut drain) = setup(false);
    driver.publish(SIZE);
    let chain = next(&mut drain);
    let error = drain.complete(chain.head_index(), 0).unwrap_err();
    assert!(matches!(error, DrainError::Rings(_)), "{error}");
}

fn descriptor() -> impl Strategy<Value = (u64, u32, u16, u16)> {
    let address = prop_oneof![
        0..0x20_0000_u64,
        Just(0x1f_fff8),
        Just(SCRATCH),
        any::<u64>()
    ];
    let len = prop_oneof![0..64_u32, Just(16 * 4), Just(16 * 2000), any::<u32>()];
    let flags = prop_oneof![0..8_u16, any::<u16>()];
    let next = prop_oneof![0..SIZE, any::<u16>()];
    (address, len, flags, next)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever the rings hold, there are never more requests than the driver
    /// could have made, and each can be looked at and completed or the queue
    /// ends.
    #[test]
    fn no_ring_makes_the_drain_panic_or_spin(
        table in prop::collection::vec(descriptor(), usize::from(SIZE)),
        indirect in prop::collection::vec(descriptor(), 8),
        heads in prop::collection::vec(prop_oneof![0..SIZE, any::<u16>()], usize::from(SIZE)),
        index in prop_oneof![0..=SIZE, any::<u16>()],
        used_event in any::<u16>(),
        event_idx in any::<bool>(),
    ) {
        let (mut driver, mut drain) = setup(event_idx);
        for (at, descriptor) in (0..).zip(&table) {
            driver.describe(at, *descriptor);
        }
        for (at, descriptor) in (0..).zip(&indirect) {
            driver.describe_at(GuestAddress(SCRATCH + 16 * at), *descriptor);
        }
        for head in heads {
            driver.publish(head);
        }
        driver.set_available(index);
        driver.set_used_event(used_event);

        let mut requests = 0;
        while let Ok(Some(chain)) = drain.next_request() {
            requests += 1;
            prop_assert!(requests <= SIZE);
            let memory = drain.memory();
            let mut walk = Walk::new(&memory);
            match walk.walk(drain.table(), chain.head_index()) {
                Ok(()) => prop_assert!(walk.readable().remaining() <= u32::MAX as usize),
                Err(_) => prop_assert_eq!(walk.writable().remaining(), 0),
            }
            if drain.complete(chain.head_index(), 0).is_err() {
                break;
            }
            let _ = drain.signal();
        }
    }
}
