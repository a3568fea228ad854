use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use rustix::io::Errno;
use vm_memory::{GuestAddress, GuestMemoryMmap};

use super::*;
use crate::filesystem::{Caller, Deferral, Request, WOULD_WAIT, Waiters};
use crate::virtio::buffers::{Readable, Writable};
use crate::virtio::driver::{DriverQueue, go_live, negotiate, wait_for, write32};
use crate::virtio::fs::detached::Finished;
use crate::virtio::fs::{FEATURES, Fs, Queues, Tag};
use crate::virtio::mmio::MmioTransport;

/// A door that requests beginning with `d` go through one by one when it is
/// open, and wait at without a thread when it is not. Others are answered.
#[derive(Default)]
struct Door {
    waiters: Waiters,
    open: AtomicBool,
    unique: AtomicU64,
    /// Who waits or did.
    deferred: Mutex<BTreeSet<u8>>,
}

impl Door {
    fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
    }

    fn changed(&self) {
        Request::new(0, 1, Caller::default(), &self.waiters).changed();
    }
}

fn answer(mut reply: Writable<'_>, bytes: &[u8]) -> u32 {
    reply.write(bytes).unwrap();
    u32::try_from(bytes.len()).unwrap()
}

impl RequestServer for Door {
    fn longest_request(&self) -> usize {
        16
    }

    fn longest_reply(&self) -> usize {
        16
    }

    fn may_block(&self, _: &Readable<'_>) -> bool {
        false
    }

    fn answer(&self, _: Readable<'_>, reply: Writable<'_>) -> u32 {
        answer(reply, b"last")
    }

    fn answer_at_once(&self, mut request: Readable<'_>, reply: Writable<'_>) -> Option<u32> {
        let mut head = [0];
        request.read(&mut head).unwrap();
        (head != *b"d").then(|| answer(reply, b"quick"))
    }

    fn answer_or_defer(
        &self,
        mut request: Readable<'_>,
        reply: Writable<'_>,
        deferral: &Deferral,
    ) -> Option<u32> {
        let mut head = [0; 2];
        request.read(&mut head).unwrap();
        // The second byte is the number of the request.
        let request = Request::new(head[1].into(), 1, Caller::default(), &self.waiters);
        let request = request.deferrable(deferral);
        if request.go_on().is_err() {
            return Some(answer(reply, b"interrupted"));
        }
        if self.open.load(Ordering::SeqCst) {
            let turn = self.unique.fetch_add(1, Ordering::SeqCst);
            return Some(answer(reply, &[b't', u8::try_from(turn).unwrap()]));
        }
        match request.defer(Box::new(())) {
            WOULD_WAIT => {
                self.deferred.lock().unwrap().insert(head[1]);
                None
            }
            Errno::AGAIN => Some(answer(reply, b"full")),
            _ => Some(answer(reply, b"over")),
        }
    }

    fn limit_deferred(&self, most: usize) {
        self.waiters.limit_deferred(most);
    }

    fn change(&self) -> Change {
        self.waiters.change()
    }

    fn wait_for_change(&self, seen: Change, patience: Duration) -> Change {
        self.waiters.wait_for_change(seen, patience)
    }

    fn wake(&self) {
        self.waiters.wake();
    }

    fn reset(&self) {
        self.waiters.interrupt_all();
        self.deferred.lock().unwrap().clear();
    }
}

struct Machine {
    memory: GuestMemoryMmap,
    transport: MmioTransport,
    queue: DriverQueue,
    door: Arc<Door>,
}

impl Machine {
    fn new(size: u16) -> Self {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x80_0000)]).unwrap();
        let door = Arc::<Door>::default();
        let behind: Arc<dyn RequestServer> = Arc::clone(&door) as _;
        let device = Fs::new(Tag::new("tag").unwrap(), behind, Queues::default()).unwrap();
        let transport = MmioTransport::new(memory.clone(), Box::new(device)).unwrap();
        let queue = DriverQueue::new(&memory, 0x20_0000, size);
        let mut machine = Self {
            memory,
            transport,
            queue,
            door,
        };
        machine.bind(size);
        machine
    }

    fn bind(&mut self, size: u16) {
        negotiate(&mut self.transport, FEATURES);
        DriverQueue::new(&self.memory, 0x10_0000, 16).set_up(&mut self.transport, 0);
        self.queue = DriverQueue::new(&self.memory, 0x20_0000, size);
        self.queue.set_up(&mut self.transport, 1);
        go_live(&mut self.transport);
    }

    fn submit(&mut self, request: &[u8]) -> u16 {
        let head = self.queue.submit(request, 16);
        self.transport.kicks()[1].write(1).unwrap();
        head
    }

    /// The next that is used, and its reply.
    fn wait_used(&mut self) -> (u16, Vec<u8>) {
        let (head, len) = self.queue.wait_used();
        let reply = self.queue.reply(head, usize::try_from(len).unwrap());
        (head, reply)
    }

    /// Submits what waits at the door, and waits until it does.
    fn wait_at_door(&mut self, number: u8) -> u16 {
        let head = self.submit(&[b'd', number]);
        wait_for("a wait", || {
            let deferred = self.door.deferred.lock().unwrap();
            deferred.contains(&number).then_some(())
        });
        head
    }
}

#[test]
fn any_number_waits_and_the_queue_goes_on() {
    let mut machine = Machine::new(512);
    // More than there are threads for requests that may block.
    let waiting: Vec<u16> = (0..100)
        .map(|number| machine.wait_at_door(number))
        .collect();
    let quick = machine.submit(b"q");
    assert_eq!(machine.wait_used(), (quick, b"quick".to_vec()));
    machine.door.open();
    machine.door.changed();
    let mut back: Vec<u16> = (0..100).map(|_| machine.wait_used().0).collect();
    back.sort_unstable();
    let mut expected = waiting;
    expected.sort_unstable();
    assert_eq!(back, expected);
}

/// Requests that wait, without the device's own threads: `spawn` is what
/// starts one.
struct Bench {
    machine: Machine,
    drain: crate::virtio::drain::Drain,
    all: Arc<DeferredRequests>,
    finished: std::sync::mpsc::Sender<Finished>,
}

impl Bench {
    fn new(spawn: SpawnKeeper) -> (Self, std::sync::mpsc::Receiver<Finished>) {
        let machine = Machine::new(512);
        let queue = (machine.queue.config())
            .build(&machine.memory, false)
            .unwrap();
        let interrupt = Arc::new(crate::virtio::Interrupt::new().unwrap());
        let drain = crate::virtio::drain::Drain::new(queue, machine.memory.clone(), interrupt);
        let all = Arc::new(DeferredRequests {
            name: "none".into(),
            state: Mutex::default(),
            complaints: Arc::default(),
            threads: Arc::new(crate::virtio::fs::Unconfined),
            spawn,
            hands: None,
        });
        let (finished, back) = std::sync::mpsc::channel();
        let bench = Self {
            machine,
            drain,
            all,
            finished,
        };
        (bench, back)
    }

    /// One that was served once, and is to wait.
    fn deferred(&mut self, number: u8) -> (u16, Detached) {
        let head = self.machine.queue.submit(&[b'd', number], 16);
        let request = Detached {
            chain: self.drain.next_request().unwrap().unwrap(),
            server: self.machine.door.clone(),
            lease: Arc::default(),
            finished: self.finished.clone(),
            kick: Arc::new(vmm_sys_util::eventfd::EventFd::new(0).unwrap()),
            windows: crate::window::Windows::default(),
            arrived: Instant::now(),
            begun: None,
        };
        let Served::Deferred(request) = request.serve() else {
            panic!("not deferred");
        };
        (head, request)
    }
}

#[test]
fn who_came_first_goes_first() {
    let (mut bench, _back) = Bench::new(|_, _| Ok(()));
    let waiting: Vec<_> = (0..20).map(|number| bench.deferred(number)).collect();
    let heads: Vec<u16> = waiting.iter().map(|(head, _)| *head).collect();
    // As they come back from another try.
    let (even, odd): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(head, _)| head % 2 == 0);
    for (_, request) in odd.into_iter().chain(even.into_iter().rev()) {
        bench.all.put(request);
    }
    bench.machine.door.changed();
    let due = (bench.all).take_due(bench.machine.door.waiters.change(), true);
    let due = due.unwrap().into_iter();
    assert_eq!(
        due.map(|request| request.chain.head_index())
            .collect::<Vec<_>>(),
        heads
    );
}

#[test]
fn what_nobody_tells_of_is_noticed_all_the_same() {
    let mut machine = Machine::new(512);
    let head = machine.wait_at_door(1);
    machine.door.open();
    assert_eq!(machine.wait_used(), (head, vec![b't', 0]));
}

#[test]
fn some_of_the_queue_is_left_for_what_ends_the_wait() {
    for size in [16_u16, 64] {
        let mut machine = Machine::new(size);
        let most = u8::try_from(size / 4).unwrap();
        for number in 0..most {
            machine.wait_at_door(number);
        }
        let refused = machine.submit(&[b'd', most]);
        assert_eq!(machine.wait_used(), (refused, b"full".to_vec()));
        let quick = machine.submit(b"q");
        assert_eq!(machine.wait_used(), (quick, b"quick".to_vec()));
        machine.door.open();
        machine.door.changed();
        for _ in 0..most {
            assert_eq!(machine.wait_used().1.first(), Some(&b't'));
        }
    }
}

#[test]
fn an_interrupt_ends_one_wait_at_once() {
    let mut machine = Machine::new(512);
    machine.wait_at_door(1);
    let head = machine.wait_at_door(2);
    assert!(machine.door.waiters.interrupt(2));
    assert!(!machine.door.waiters.interrupt(3));
    assert_eq!(machine.wait_used(), (head, b"interrupted".to_vec()));
    assert_eq!(machine.queue.used(), None);
    assert!(!machine.door.waiters.interrupt(2));
}

#[test]
fn a_reset_ends_all_and_answers_none() {
    let mut machine = Machine::new(16);
    let mut heads = Vec::new();
    for number in 0..4 {
        heads.push(machine.wait_at_door(number));
    }
    write32(
        &mut machine.transport,
        virtio_bindings::virtio_mmio::VIRTIO_MMIO_STATUS,
        0,
    );
    for head in heads {
        assert_eq!(machine.queue.reply(head, 4), [0; 4]);
    }
    // Their places are free again.
    wait_for("their end", || {
        let number = (0..4).any(|number| machine.door.waiters.interrupt(number));
        (!number).then_some(())
    });
    machine.bind(16);
    for number in 0..4 {
        machine.wait_at_door(number);
    }
    assert_eq!(machine.queue.used(), None);
}

#[test]
fn long_waits_cost_little() {
    assert_eq!(next(Duration::ZERO), SOONEST);
    assert_eq!(next(Duration::from_millis(80)), Duration::from_millis(10));
    assert_eq!(next(Duration::from_secs(3600)), LATEST);
    let mut waited = Duration::ZERO;
    let mut tries = 0;
    while waited < Duration::from_secs(10) {
        waited += next(waited);
        tries += 1;
    }
    assert!(tries < 250, "{tries}");
}

#[test]
fn without_a_thread_the_wait_is_over() {
    let (mut bench, back) = Bench::new(|_, _| Err(io::ErrorKind::WouldBlock.into()));
    let (head, request) = bench.deferred(1);
    bench.all.put(request);
    assert_eq!(back.recv().unwrap().head, head);
    assert_eq!(bench.machine.queue.reply(head, 4), b"last");
}
