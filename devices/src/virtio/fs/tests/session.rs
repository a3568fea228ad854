//! A device with the FUSE server behind it, and a file system that takes its
//! time: what queues are good for shows only with real requests.

use std::collections::HashSet;
use std::thread::ThreadId;

use super::*;
use crate::filesystem::{
    AttributeOperations, CreateOperations, DirectoryOperations, FileOperations, FileSystem, Handle,
    IoctlOperations, LockOperations, LookupOperations, MappingOperations, NodeId, ReadArgs,
    RemoveOperations, ReplyData, Request, Result as FsResult, XattrOperations,
};
use crate::fuse::{Opcode, Server as FuseServer};
use crate::window::Window;

/// READ of this node waits at the gate, on its queue's own thread.
pub(super) const SLOW_NODE: NodeId = 9;

/// FSYNC waits at the gate, and READ is answered with one byte.
#[derive(Default)]
pub(super) struct Slow {
    pub(super) gate: Gate,
    pub(super) sessions: AtomicU32,
    /// FSYNCs that were begun, and those that are done.
    pub(super) syncing: AtomicU32,
    pub(super) synced: AtomicU32,
    pub(super) forgotten: AtomicU32,
    /// READs of the slow node that were begun.
    pub(super) slow_reads: AtomicU32,
    /// Those who served the others.
    pub(super) readers: Mutex<HashSet<ThreadId>>,
}

impl FileOperations for Slow {
    fn read(
        &self,
        request: &Request<'_>,
        _: &ReadArgs,
        data: &mut dyn ReplyData,
    ) -> FsResult<usize> {
        if request.node == SLOW_NODE {
            self.slow_reads.fetch_add(1, Ordering::SeqCst);
            self.gate.pass();
        } else {
            let reader = std::thread::current().id();
            self.readers.lock().unwrap().insert(reader);
        }
        data.put(b"x").map(|()| 1)
    }

    fn fsync(&self, _: &Request<'_>, _: Handle, _: bool) -> FsResult<()> {
        self.syncing.fetch_add(1, Ordering::SeqCst);
        self.gate.pass();
        self.synced.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

impl LookupOperations for Slow {
    fn forget(&self, _: NodeId, _: u64) {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
    }
}

impl FileSystem for Slow {
    fn init(&self, _: crate::filesystem::Agreement) {
        self.sessions.fetch_add(1, Ordering::SeqCst);
    }
}

impl AttributeOperations for Slow {}
impl CreateOperations for Slow {}
impl DirectoryOperations for Slow {}
impl IoctlOperations for Slow {}
impl MappingOperations for Slow {}
impl LockOperations for Slow {}
impl RemoveOperations for Slow {}
impl XattrOperations for Slow {}

/// Where the queues are, and how far apart.
const BASE: u64 = 0x10_0000;
const STRIDE: u64 = 0x30_0000;

/// Requests that a queue has room for.
pub(super) const FULL: u32 = SIZE as u32 / 2;

pub(super) struct Session<F = Slow> {
    pub(super) fs: Arc<F>,
    pub(super) server: Arc<FuseServer>,
    pub(super) transport: MmioTransport,
    pub(super) counters: Arc<Counters>,
    pub(super) pool: Arc<Pool>,
    /// The hiprio queue, and those of requests.
    pub(super) queues: Vec<DriverQueue>,
}

/// A request: the header, then the words of the body.
pub(super) fn request(opcode: Opcode, node: NodeId, body: &[u32]) -> Vec<u8> {
    let len = 40 + 4 * u32::try_from(body.len()).unwrap();
    let node = u32::try_from(node).unwrap();
    let header = [len, opcode.0, 77, 0, node, 0, 0, 0, 1, 0];
    let words = header.iter().chain(body);
    words.flat_map(|word| word.to_le_bytes()).collect()
}

pub(super) fn init() -> Vec<u8> {
    request(Opcode::INIT, 0, &[7, 38, 0, 0])
}

pub(super) fn read(node: NodeId) -> Vec<u8> {
    request(Opcode::READ, node, &[1, 0, 0, 0, 64, 0, 0, 0, 0, 0])
}

pub(super) fn fsync() -> Vec<u8> {
    request(Opcode::FSYNC, 2, &[1, 0, 0, 0])
}

pub(super) fn forget() -> Vec<u8> {
    request(Opcode::FORGET, 2, &[1, 0])
}

impl<F: FileSystem + 'static> Session<F> {
    /// A device for `fs` with so many request queues, and a driver that set them
    /// up and has not sent INIT.
    pub(super) fn of(fs: F, requests: u16, window: Option<Arc<Window>>) -> Self {
        let fs = Arc::new(fs);
        let server = Arc::new(FuseServer::new(Arc::clone(&fs) as Arc<dyn FileSystem>));
        let queues = Queues {
            requests,
            ..Queues::default()
        };
        let device = Fs::new(Tag::new("tag").unwrap(), Arc::clone(&server) as _, queues).unwrap();
        let device = device.with_window(window);
        let (counters, pool) = (device.counters(), Arc::clone(&device.pool));
        let count = u64::from(requests) + 1;
        let end = usize::try_from(BASE + count * STRIDE).unwrap();
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), end)]).unwrap();
        let mut transport = MmioTransport::new(memory.clone(), Box::new(device)).unwrap();
        negotiate(&mut transport, FEATURES);
        let queue = |index| DriverQueue::new(&memory, BASE + index * STRIDE, SIZE);
        let queues: Vec<_> = (0..count).map(queue).collect();
        for (index, queue) in (0..).zip(&queues) {
            queue.set_up(&mut transport, index);
        }
        go_live(&mut transport);
        Self {
            fs,
            server,
            transport,
            counters,
            pool,
            queues,
        }
    }

    pub(super) fn submit(&mut self, queue: usize, request: &[u8], room: u32) -> u16 {
        let head = self.queues[queue].submit(request, room);
        self.transport.kicks()[queue].write(1).unwrap();
        head
    }

    /// The shortest and the longest that an operation took, as bits of its
    /// microseconds.
    pub(super) fn latency(&self, opcode: Opcode) -> (usize, usize) {
        let metrics = self.server.metrics();
        let latency = metrics.operation(opcode).expect("never asked for").latency;
        let is_used = |count: &u64| *count > 0;
        let (first, last) = (
            latency.iter().position(is_used),
            latency.iter().rposition(is_used),
        );
        (first.unwrap(), last.unwrap())
    }

    /// Sends a request and waits for its answer, which must be the next: the
    /// errno, and what follows the header.
    pub(super) fn exchange(&mut self, queue: usize, request: &[u8]) -> (i32, Vec<u8>) {
        let head = self.submit(queue, request, 256);
        let (used, len) = self.queues[queue].wait_used();
        assert_eq!(used, head, "the answer to another request");
        let reply = self.queues[queue].reply(head, usize::try_from(len).unwrap());
        let word = |at: usize| u32::from_le_bytes(reply[at..at + 4].try_into().unwrap());
        assert_eq!((word(0), word(8)), (len, 77));
        (-word(4).cast_signed(), reply[16..].to_vec())
    }
}

impl Session {
    /// That of a file system which takes its time, before INIT.
    pub(super) fn without_init(requests: u16) -> Self {
        Self::of(Slow::default(), requests, None)
    }

    /// The same, in a session.
    pub(super) fn new(requests: u16) -> Self {
        let mut session = Self::without_init(requests);
        assert_eq!(session.exchange(1, &init()).0, 0);
        session
    }

    pub(super) fn wait_until(&self, what: &str, is: impl Fn(&Slow) -> bool) {
        wait_for(what, || is(&self.fs).then_some(()));
    }
}
