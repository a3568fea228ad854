//! The device with its threads, from the driver's side of the registers.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use virtio_bindings::virtio_mmio as reg;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::*;
use crate::bus::BusDevice;
use crate::virtio::buffers::{Readable, Writable};
use crate::virtio::driver::{
    DriverQueue, INDIRECT, NEXT, PATIENCE, WRITE, go_live, negotiate, read32, wait_for, write32,
};
use crate::virtio::mmio::MmioTransport;
use crate::window::Windows;

mod bounds;
mod detached;
mod interrupts;
mod queues;
mod reset;
mod session;
mod specification;
mod threads;
mod windows;

/// Answers with the request's bytes in capitals. A request that begins with
/// `w` waits for the gate; whether it says so beforehand is its second byte.
#[derive(Default)]
struct Server {
    gate: Gate,
    /// A reset opens the gate, as an interruptible server would.
    interruptible: bool,
    resets: AtomicU32,
    answered: AtomicU32,
    waiting: AtomicU32,
    /// Bytes there were for the last answer.
    room: AtomicUsize,
}

#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let open = self.open.lock().unwrap();
        let (_open, timeout) = self
            .opened
            .wait_timeout_while(open, 3 * PATIENCE, |open| !*open)
            .unwrap();
        assert!(!timeout.timed_out(), "nobody opened the gate");
    }
}

/// Waits, and says so.
const DETACHED: &[u8] = b"wd";
/// Waits, and says so only when it would.
const LATE: &[u8] = b"wl";
/// Waits on its queue's own thread.
const IN_PLACE: &[u8] = b"wi";

impl RequestServer for Server {
    fn longest_request(&self) -> usize {
        0x10_1000
    }

    fn longest_reply(&self) -> usize {
        0x40_0000 + 0x1000
    }

    fn may_block(&self, request: &Readable<'_>) -> bool {
        let mut head = [0; 2];
        { *request }.read(&mut head).is_ok() && head == DETACHED
    }

    fn answer_at_once(&self, request: Readable<'_>, reply: Writable<'_>) -> Option<u32> {
        let mut head = [0; 2];
        let late = { request }.read(&mut head).is_ok() && head == LATE;
        (!late).then(|| self.answer(request, reply))
    }

    fn answer(&self, request: Readable<'_>, mut reply: Writable<'_>) -> u32 {
        self.room.store(reply.remaining(), Ordering::SeqCst);
        let mut bytes = vec![0; request.remaining().min(0x1000)];
        { request }.read(&mut bytes).unwrap();
        if bytes.first() == Some(&b'w') {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            self.gate.pass();
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        bytes.make_ascii_uppercase();
        bytes.truncate(reply.remaining());
        if !bytes.is_empty() {
            reply.write(&bytes).unwrap();
        }
        self.answered.fetch_add(1, Ordering::SeqCst);
        u32::try_from(bytes.len()).unwrap()
    }

    fn answer_fault(&self, _: Readable<'_>, mut reply: Writable<'_>) -> u32 {
        reply.write(b"fault").map_or(0, |()| 5)
    }

    fn reset(&self) {
        self.resets.fetch_add(1, Ordering::SeqCst);
        if self.interruptible {
            self.gate.open();
        }
    }
}

struct Machine {
    memory: GuestMemoryMmap,
    transport: MmioTransport,
    server: Arc<Server>,
    counters: Arc<Counters>,
    pool: Arc<Pool>,
    hiprio: DriverQueue,
    request: DriverQueue,
}

const HIPRIO_BASE: u64 = 0x10_0000;
const REQUEST_BASE: u64 = 0x20_0000;
const SIZE: u16 = 256;

impl Machine {
    fn new(server: Server) -> Self {
        let server = Arc::new(server);
        let behind: Arc<dyn RequestServer> = Arc::clone(&server) as _;
        let device = Fs::new(Tag::new("tag").unwrap(), behind, Queues::default()).unwrap();
        Self::of(server, device)
    }

    /// One whose device gets no thread for requests that may block.
    fn without_threads(server: Server) -> Self {
        let server = Arc::new(server);
        let behind: Arc<dyn RequestServer> = Arc::clone(&server) as _;
        let mut device = Fs::new(Tag::new("tag").unwrap(), behind, Queues::default()).unwrap();
        device.pool = Arc::new(Pool::without_threads());
        Self::of(server, device)
    }

    fn of(server: Arc<Server>, device: Fs) -> Self {
        Self::beside(Windows::default(), server, device)
    }

    /// One in which the guest has windows.
    fn beside(windows: Windows, server: Arc<Server>, device: Fs) -> Self {
        let counters = device.counters();
        let pool = Arc::clone(&device.pool);
        // Two regions with a hole between them.
        let memory = GuestMemoryMmap::from_ranges(&[
            (GuestAddress(0), 0x80_0000),
            (GuestAddress(0x100_0000), 0x10_0000),
        ])
        .unwrap();
        let transport = MmioTransport::new(memory.clone(), Box::new(device)).unwrap();
        let transport = transport.with_windows(windows);
        let mut machine = Self {
            hiprio: DriverQueue::new(&memory, HIPRIO_BASE, SIZE),
            request: DriverQueue::new(&memory, REQUEST_BASE, SIZE),
            memory,
            transport,
            server,
            counters,
            pool,
        };
        machine.bind();
        machine
    }

    /// A driver takes over, from a reset on.
    fn bind(&mut self) {
        self.bind_with(FEATURES);
    }

    fn bind_with(&mut self, features: u64) {
        negotiate(&mut self.transport, features);
        self.hiprio = DriverQueue::new(&self.memory, HIPRIO_BASE, SIZE);
        self.request = DriverQueue::new(&self.memory, REQUEST_BASE, SIZE);
        self.hiprio.set_up(&mut self.transport, 0);
        self.request.set_up(&mut self.transport, 1);
        go_live(&mut self.transport);
        assert_eq!(read32(&mut self.transport, reg::VIRTIO_MMIO_STATUS), 0xf);
    }

    fn kick(&self, index: usize) {
        self.transport.kicks()[index].write(1).unwrap();
    }

    /// Sends a request and waits for its reply, which must be the next.
    fn exchange(&mut self, request: &[u8]) -> Vec<u8> {
        let head = self.request.submit(request, 64);
        self.kick(1);
        let (used, len) = self.request.wait_used();
        assert_eq!(used, head);
        self.request.reply(head, usize::try_from(len).unwrap())
    }

    /// Waits for the edge, which comes after the used element, and says how
    /// many there were.
    fn wait_for_interrupts(&mut self) -> u64 {
        let irq = self.transport.irq();
        let edges = wait_for("interrupt", || irq.read().ok());
        let cause = read32(&mut self.transport, reg::VIRTIO_MMIO_INTERRUPT_STATUS);
        assert_eq!(cause, 1);
        edges
    }

    fn status(&mut self) -> u32 {
        read32(&mut self.transport, reg::VIRTIO_MMIO_STATUS)
    }

    fn reset(&mut self) {
        write32(&mut self.transport, reg::VIRTIO_MMIO_STATUS, 0);
        assert_eq!(self.status(), 0);
    }

    fn wait_until_waiting(&self, count: u32) {
        let waiting = || self.server.waiting.load(Ordering::SeqCst);
        wait_for("waiting requests", || (waiting() == count).then_some(()));
    }
}

fn three() -> Queues {
    Queues {
        requests: 3,
        ..Queues::default()
    }
}

fn machine() -> Machine {
    Machine::new(Server::default())
}

#[test]
fn the_configuration_space_holds_the_tag_and_the_number_of_queues() {
    let tag = Tag::new(&"t".repeat(36)).unwrap();
    let device = Fs::new(tag, Arc::new(Server::default()), three()).unwrap();
    let (tag, queues) = device.config().split_at(36);
    assert_eq!(tag, [b't'; 36]);
    assert_eq!(queues, [3, 0, 0, 0]);
    assert_eq!(device.queue_sizes(), [1024; 4]);

    let machine = machine();
    let mut tag = [0xee; 8];
    let mut transport = machine.transport;
    transport.read(0x100, &mut tag);
    assert_eq!(&tag, b"tag\0\0\0\0\0");
}

#[test]
fn a_driver_uses_the_dma_api_where_it_is_offered() {
    const ACCESS_PLATFORM: u64 = 1 << VIRTIO_F_ACCESS_PLATFORM;
    let server = Arc::new(Server::default());
    let device = Fs::new(Tag::new("tag").unwrap(), server.clone(), Queues::default()).unwrap();
    assert_eq!(device.features() & ACCESS_PLATFORM, 0);
    let device = device.with_access_platform();
    assert_eq!(device.features(), FEATURES | ACCESS_PLATFORM);

    let mut machine = Machine::of(server, device);
    machine.bind_with(FEATURES | ACCESS_PLATFORM);
    assert_eq!(machine.exchange(b"mapped"), b"MAPPED");
    // A driver that does not know it is served as well.
    machine.bind();
    assert_eq!(machine.exchange(b"plain"), b"PLAIN");
}

#[test]
fn the_number_of_queues_is_bounded() {
    for count in [0, 65, u16::MAX] {
        let server = Arc::new(Server::default());
        let queues = Queues {
            requests: count,
            ..Queues::default()
        };
        let error = Fs::new(Tag::new("t").unwrap(), server, queues).unwrap_err();
        assert_eq!(error, FsError::RequestQueues(count));
    }
}

#[test]
fn the_size_of_the_queues_is_a_power_of_two_within_bounds() {
    let with = |size| {
        let queues = Queues {
            size,
            ..Queues::default()
        };
        Fs::new(Tag::new("t").unwrap(), Arc::new(Server::default()), queues)
    };
    for size in [16, 64, 1024] {
        assert_eq!(with(size).unwrap().queue_sizes(), [size; 2]);
    }
    for size in [0, 8, 100, 2048, u16::MAX] {
        assert_eq!(with(size).unwrap_err(), FsError::QueueSize(size));
    }
}

#[test]
fn a_request_is_answered_and_the_driver_interrupted() {
    let mut machine = machine();
    assert_eq!(machine.exchange(b"hello"), b"HELLO");
    assert_eq!(machine.wait_for_interrupts(), 1);
}

#[test]
fn a_notification_by_register_is_as_good() {
    let mut machine = machine();
    machine.request.submit(b"hello", 64);
    write32(&mut machine.transport, reg::VIRTIO_MMIO_QUEUE_NOTIFY, 1);
    assert_eq!(machine.request.wait_used().1, 5);
}

#[test]
fn a_request_without_room_for_a_reply_is_completed_with_nothing() {
    let mut machine = machine();
    let head = machine.hiprio.submit(b"forget", 0);
    machine.kick(0);
    assert_eq!(machine.hiprio.wait_used(), (head, 0));
    let head = machine.request.submit(b"forget", 0);
    machine.kick(1);
    assert_eq!(machine.request.wait_used(), (head, 0));
}

#[test]
fn an_indirect_request_is_answered() {
    let mut machine = machine();
    let (table, data) = (0x1000, 0x2000);
    machine
        .memory
        .write_slice(b"abcd", GuestAddress(data))
        .unwrap();
    let queue = &mut machine.request;
    // Two parts each way, one of them empty and one in the other region.
    queue.describe_at(GuestAddress(table), (data, 2, NEXT, 1));
    queue.describe_at(GuestAddress(table + 16), (data + 2, 2, NEXT, 2));
    queue.describe_at(GuestAddress(table + 32), (data, 0, NEXT | WRITE, 3));
    queue.describe_at(GuestAddress(table + 48), (0x100_0000, 8, WRITE, 0));
    queue.describe(0, (table, 64, INDIRECT, 0));
    queue.publish(0);
    machine.kick(1);
    assert_eq!(machine.request.wait_used(), (0, 4));
    let mut reply = [0; 4];
    machine
        .memory
        .read_slice(&mut reply, GuestAddress(0x100_0000))
        .unwrap();
    assert_eq!(&reply, b"ABCD");
}

#[test]
fn bad_requests_are_completed_with_nothing_and_the_queue_goes_on() {
    let mut machine = machine();
    let bad = [
        (0x90_0000, 8, 0, 0),           // where no memory is
        (0x7f_fffc, 8, 0, 0),           // past the end of a region
        (u64::MAX - 3, 8, 0, 0),        // past the end of the address space
        (0x1000, 8, NEXT, 250),         // without an end
        (0x1000, 24, INDIRECT, 0),      // half a descriptor
        (0x1000, 8, WRITE | NEXT, 251), // writable before readable
        (0xff_ffff, 16, WRITE, 0),      // begins before a region
    ];
    machine.request.describe(250, (0x1000, 8, NEXT, 250));
    machine.request.describe(251, (0x1000, 8, 0, 0));
    for (index, descriptor) in (0..).zip(bad) {
        machine.request.describe(index, descriptor);
        machine.request.publish(index);
        machine.kick(1);
        assert_eq!(machine.request.wait_used(), (index, 0), "{descriptor:x?}");
    }
    assert_eq!(machine.exchange(b"good"), b"GOOD");
    assert_eq!(machine.counters.snapshot()[1].malformed, 7);
    assert_eq!(machine.status(), 0xf);
}

#[test]
fn queues_above_4_gib_are_served_there() {
    const HIGH: u64 = 0x1_4000_0000;
    let server = Arc::new(Server::default());
    let device = Fs::new(Tag::new("tag").unwrap(), server, Queues::default()).unwrap();
    // What is at the same address without its upper half is another memory.
    let low = HIGH & 0xffff_ffff;
    let memory = GuestMemoryMmap::from_ranges(&[
        (GuestAddress(low), 0x80_0000),
        (GuestAddress(HIGH), 0x80_0000),
    ])
    .unwrap();
    let mut transport = MmioTransport::new(memory.clone(), Box::new(device)).unwrap();
    negotiate(&mut transport, FEATURES);
    let mut queue = DriverQueue::new(&memory, HIGH, 64);
    queue.set_up(&mut transport, 1);
    go_live(&mut transport);
    let head = queue.submit(b"high", 64);
    write32(&mut transport, reg::VIRTIO_MMIO_QUEUE_NOTIFY, 1);
    assert_eq!(queue.wait_used(), (head, 4));
    assert_eq!(queue.reply(head, 4), b"HIGH");
    let mut below = [0; 0x1_0000];
    memory.read_slice(&mut below, GuestAddress(low)).unwrap();
    assert!(below.iter().all(|byte| *byte == 0));
}

#[test]
fn queues_are_served_side_by_side() {
    let server = Arc::new(Server::default());
    let behind: Arc<dyn RequestServer> = Arc::clone(&server) as _;
    let device = Fs::new(Tag::new("tag").unwrap(), behind, three()).unwrap();
    let counters = device.counters();
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x80_0000)]).unwrap();
    let mut transport = MmioTransport::new(memory.clone(), Box::new(device)).unwrap();
    negotiate(&mut transport, FEATURES);
    let mut first = DriverQueue::new(&memory, HIPRIO_BASE, 64);
    let mut last = DriverQueue::new(&memory, REQUEST_BASE, 64);
    first.set_up(&mut transport, 1);
    last.set_up(&mut transport, 3);
    go_live(&mut transport);

    let blocked = first.submit(IN_PLACE, 64);
    write32(&mut transport, reg::VIRTIO_MMIO_QUEUE_NOTIFY, 1);
    let head = last.submit(b"other", 64);
    write32(&mut transport, reg::VIRTIO_MMIO_QUEUE_NOTIFY, 3);
    assert_eq!(last.wait_used(), (head, 5));
    assert_eq!(first.used(), None);
    server.gate.open();
    assert_eq!(first.wait_used(), (blocked, 2));
    let requests: Vec<_> = (counters.snapshot().iter()).map(|q| q.requests).collect();
    assert_eq!(requests, [0, 1, 0, 1]);
}

#[test]
fn a_request_of_nothing_readable_is_the_servers_to_answer() {
    let mut machine = machine();
    machine.request.describe(0, (0x1000, 64, WRITE, 0));
    machine.request.publish(0);
    machine.kick(1);
    assert_eq!(machine.request.wait_used(), (0, 0));
    assert_eq!(machine.server.answered.load(Ordering::SeqCst), 1);
    assert_eq!(machine.counters.snapshot()[1].malformed, 0);
}

#[test]
fn the_counts_are_those_of_the_driver() {
    let mut machine = machine();
    let hiprio = machine.hiprio.submit(b"forget", 0);
    machine.kick(0);
    assert_eq!(machine.hiprio.wait_used(), (hiprio, 0));
    for _ in 0..10 {
        machine.exchange(b"hello");
    }
    machine.request.submit(DETACHED, 64);
    machine.kick(1);
    machine.wait_until_waiting(1);
    machine.server.gate.open();
    machine.request.wait_used();
    machine.reset();
    let [hiprio, request] = machine.counters.snapshot()[..] else {
        panic!("{:?}", machine.counters)
    };
    // A reset is no kick, also not for the next driver.
    machine.bind();
    machine.exchange(b"hello");
    machine.reset();
    assert_eq!(machine.counters.snapshot()[1].kicks, request.kicks + 1);
    assert_eq!((hiprio.kicks, hiprio.requests, hiprio.detached), (1, 1, 0));
    assert_eq!(
        (request.kicks, request.requests, request.detached),
        (11, 11, 1)
    );
    // The driver never moved its event on from 0: one interrupt.
    assert_eq!(request.interrupts, 1);
    assert!(request.wakeups >= 2 && request.wakeups <= 13, "{request:?}");
}

#[test]
fn a_long_run_of_requests_is_answered_each_exactly_once() {
    let mut machine = machine();
    let mut expected = 0_u32;
    for round in 0..200_u32 {
        let burst = 1 + round % 32;
        let heads: Vec<_> = (0..burst)
            .map(|_| {
                let text = format!("request {expected}");
                expected += 1;
                machine.request.submit(text.as_bytes(), 64)
            })
            .collect();
        machine.kick(1);
        let first = expected - burst;
        for (number, head) in (first..).zip(heads) {
            let (used, len) = machine.request.wait_used();
            assert_eq!(used, head);
            let reply = machine.request.reply(head, usize::try_from(len).unwrap());
            assert_eq!(reply, format!("REQUEST {number}").as_bytes());
        }
    }
    assert_eq!(machine.request.used(), None);
    assert_eq!(machine.server.answered.load(Ordering::SeqCst), expected);
}

#[test]
fn thread_names_keep_the_role_whatever_the_tag() {
    let name = |tag, role| worker::thread_name(&Tag::new(tag).unwrap(), role);
    assert_eq!(name("src", "hiprio"), "fs-src-hiprio");
    assert_eq!(name("linux-kernel-tree", "hiprio"), "fs-linux-hiprio");
    assert_eq!(name("linux-kernel-tree", "63"), "fs-linux-ker-63");
    assert_eq!(name("äöüäöü", "hiprio"), "fs-äö-hiprio");
    assert!(name("äöüäöü", "pool").len() <= 15);
}
