//! The device, and the driver that sends it requests, in one process.
//!
//! The driver sends, and then waits until the device's threads wait for it again:
//! each request wakes its queue's thread once, as one of a single program in a guest
//! does, and nothing that is counted depends on who was faster.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use devices::fuse::{Opcode, Server};
use devices::passthrough::{Config, Passthrough};
use devices::virtio::fs::{Counters, Fs, QueueCounts, Queues, Tag};
use devices::virtio::mmio::MmioTransport;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::message::{self, REPLY_HEADER, REQUEST_HEADER};
use crate::registers;
use crate::ring::{self, Ring, Segment};

/// Bytes of a page of the guest's.
pub(crate) const PAGE: u32 = 4096;
/// Requests under way at once, at most.
pub(crate) const DEPTH: u16 = 32;
/// Pages of data of a request, at most.
const PAGES: u64 = 256;

const MEMORY: usize = 16 << 20;
const HIPRIO_RINGS: u64 = 0x10_0000;
const REQUEST_RINGS: u64 = HIPRIO_RINGS + ring::SPACE;
/// The messages of a slot: header, body, header of the reply, body of the reply.
const MESSAGES: u64 = 0x20_0000;
const MESSAGE_SPACE: u64 = 0x1000;
const BODY: u64 = 0x400;
const REPLY: u64 = 0x800;
const REPLY_BODY: u64 = 0xc00;
/// The descriptor tables of the slots.
const TABLES: u64 = 0x40_0000;
const TABLE_SPACE: u64 = 0x2000;
/// Pages of data, no two of them neighbours.
const DATA: u64 = 0x80_0000;
const STRIDE: u64 = 2 * PAGE as u64;

const HIPRIO: usize = 0;
const REQUESTS: usize = 1;

/// Longer than any request takes, under valgrind and on a busy host.
const PATIENCE: Duration = Duration::from_secs(60);
const READ: &str = "0"; // the number of read(2), in /proc/TID/syscall

/// A request.
#[derive(Debug)]
pub(crate) struct Message<'m> {
    pub(crate) opcode: Opcode,
    pub(crate) node: u64,
    pub(crate) body: &'m [u8],
    /// Pages of data that the request brings.
    pub(crate) pages_out: u32,
    /// Bytes of the body of the reply, without data.
    pub(crate) reply: u32,
    /// Pages that the reply fills.
    pub(crate) pages_in: u32,
}

impl<'m> Message<'m> {
    /// A request without data whose reply has a body of `reply` bytes.
    pub(crate) fn new(opcode: Opcode, node: u64, body: &'m [u8], reply: usize) -> Self {
        Self {
            opcode,
            node,
            body,
            pages_out: 0,
            #[allow(clippy::cast_possible_truncation)] // a structure of the protocol
            reply: reply as u32,
            pages_in: 0,
        }
    }
}

/// A request on its way.
#[derive(Clone, Copy, Debug)]
struct Sent {
    unique: u64,
    is_answered: bool,
}

/// What came back.
#[derive(Debug, Default)]
struct Reply {
    errno: u32,
    body: Vec<u8>,
    /// Bytes in the pages of data.
    data: usize,
}

impl Reply {
    fn succeeded(&self, message: &Message<'_>) -> Result<()> {
        let Self { errno, .. } = self;
        ensure!(*errno == 0, "{:?} ends with errno {errno}", message.opcode);
        Ok(())
    }
}

/// A driver with its device.
#[derive(Debug)]
pub(crate) struct Driver {
    memory: GuestMemoryMmap,
    transport: MmioTransport,
    counters: Arc<Counters>,
    /// The device's threads, as files that say what they wait in.
    threads: Vec<String>,
    hiprio: Ring,
    requests: Ring,
    /// The server takes READDIRPLUS.
    pub(crate) readdirplus: bool,
    unique: u64,
}

impl Driver {
    /// A device that shares `directory`, with a session begun.
    pub(crate) fn new(directory: &Path) -> Result<Self> {
        let share = Passthrough::new(directory, Config::default())?;
        let server = Arc::new(Server::new(Arc::new(share)));
        let device = Fs::new(Tag::new("bench")?, server, Queues::default())?;
        let counters = device.counters();
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)])?;
        let mut transport = MmioTransport::new(memory.clone(), Box::new(device))?;
        let event_idx = registers::negotiate(&mut transport)?;
        let hiprio = Ring::new(&memory, HIPRIO_RINGS, &mut transport, 0, event_idx);
        let requests = Ring::new(&memory, REQUEST_RINGS, &mut transport, 1, event_idx);
        registers::go_live(&mut transport)?;
        let mut driver = Self {
            threads: other_threads()?,
            memory,
            transport,
            counters,
            hiprio,
            requests,
            unique: 0,
            readdirplus: false,
        };
        ensure!(driver.threads.len() == 2, "the device has other threads");
        driver.wait_until_quiet()?;
        let body = message::init();
        let init = Message::new(Opcode::INIT, 0, body.bytes(), message::AGREED);
        let agreed = driver.exchange(&init)?;
        driver.readdirplus = message::has_readdirplus(&agreed)?;
        Ok(driver)
    }

    /// What the queues did so far, all together.
    pub(crate) fn counts(&self) -> QueueCounts {
        let mut sum = QueueCounts::default();
        for queue in self.counters.snapshot() {
            sum.kicks += queue.kicks;
            sum.wakeups += queue.wakeups;
            sum.requests += queue.requests;
            sum.malformed += queue.malformed;
            sum.detached += queue.detached;
            sum.interrupts += queue.interrupts;
        }
        sum
    }

    /// Sends a request and gives the body of its reply, up to what is not data.
    pub(crate) fn exchange(&mut self, message: &Message<'_>) -> Result<Vec<u8>> {
        let reply = self.ask(message)?;
        reply.succeeded(message)?;
        Ok(reply.body)
    }

    /// Sends a request whose reply is data, and gives how many bytes.
    pub(crate) fn fetch(&mut self, message: &Message<'_>) -> Result<usize> {
        let reply = self.ask(message)?;
        reply.succeeded(message)?;
        Ok(reply.data)
    }

    /// The same for a request that fails with `errno`.
    pub(crate) fn expect(&mut self, message: &Message<'_>, errno: u32) -> Result<()> {
        let found = self.ask(message)?.errno;
        ensure!(
            found == errno,
            "{:?} ends with errno {found}, not {errno}",
            message.opcode
        );
        Ok(())
    }

    fn ask(&mut self, message: &Message<'_>) -> Result<Reply> {
        let sent = self.put(0, message)?;
        self.turn()?;
        self.receive(sent, message)
    }

    /// Sends the same request [`DEPTH`] times before the device is notified once.
    pub(crate) fn exchange_many(&mut self, message: &Message<'_>) -> Result<()> {
        let mut sent = Vec::with_capacity(usize::from(DEPTH));
        for slot in 0..DEPTH {
            sent.push(self.put(slot, message)?);
        }
        self.turn()?;
        for sent in sent {
            self.receive(sent, message)?.succeeded(message)?;
        }
        Ok(())
    }

    /// The bytes that the last reply left in its pages of data.
    pub(crate) fn data(&self, len: usize) -> Result<Vec<u8>> {
        let mut data = vec![0; len];
        for (page, part) in (0..).zip(data.chunks_mut(PAGE as usize)) {
            let at = GuestAddress(DATA + page * STRIDE);
            self.memory.read_slice(part, at)?;
        }
        Ok(data)
    }

    /// Adds a request to its queue.
    fn put(&mut self, slot: u16, message: &Message<'_>) -> Result<Sent> {
        let pages = message.pages_out.max(message.pages_in);
        ensure!(u64::from(pages) <= PAGES, "a request of {pages} pages");
        self.unique += 2;
        let unique = self.unique;
        let is_answered = message.opcode != Opcode::FORGET;
        let at = MESSAGES + u64::from(slot) * MESSAGE_SPACE;
        let rest = message.body.len() + (message.pages_out * PAGE) as usize;
        let header = message::header(message.opcode, unique, message.node, rest)?;
        self.memory.write_slice(&header, GuestAddress(at))?;

        let mut segments = Vec::with_capacity(4 + pages as usize);
        let mut add = |address, len: usize, writable| {
            if len > 0 {
                #[allow(clippy::cast_possible_truncation)] // at most a page
                let len = len as u32;
                segments.push(Segment {
                    address,
                    len,
                    writable,
                });
            }
        };
        let data = |page: u32| DATA + (u64::from(slot) + u64::from(page)) * STRIDE;
        if is_answered {
            self.memory
                .write_slice(message.body, GuestAddress(at + BODY))?;
            add(at, REQUEST_HEADER, false);
            add(at + BODY, message.body.len(), false);
            (0..message.pages_out).for_each(|page| add(data(page), PAGE as usize, false));
            add(at + REPLY, REPLY_HEADER, true);
            add(at + REPLY_BODY, message.reply as usize, true);
            (0..message.pages_in).for_each(|page| add(data(page), PAGE as usize, true));
        } else {
            // `struct virtio_fs_forget_req`: one piece.
            let body = GuestAddress(at + REQUEST_HEADER as u64);
            self.memory.write_slice(message.body, body)?;
            add(at, REQUEST_HEADER + message.body.len(), false);
        }
        let table = TABLES + u64::from(slot) * TABLE_SPACE;
        let ring = if is_answered {
            &mut self.requests
        } else {
            &mut self.hiprio
        };
        ring.add(slot, table, &segments)?;
        Ok(Sent {
            unique,
            is_answered,
        })
    }

    /// Has what was added served, and takes the interrupt.
    fn turn(&mut self) -> Result<()> {
        for (index, ring) in [(HIPRIO, &mut self.hiprio), (REQUESTS, &mut self.requests)] {
            let kick = self.transport.kicks().get(index).context("no such queue")?;
            if ring.publish()? {
                kick.write(1)?;
            }
        }
        self.wait_until_quiet()?;
        if self.transport.irq().read().is_ok() {
            registers::acknowledge(&mut self.transport);
        }
        Ok(())
    }

    /// Takes the next used element, which has to be that of `sent`.
    fn receive(&mut self, sent: Sent, message: &Message<'_>) -> Result<Reply> {
        let ring = if sent.is_answered {
            &mut self.requests
        } else {
            &mut self.hiprio
        };
        let (slot, len) = ring.take()?;
        ring.enable_interrupt()?;
        if !sent.is_answered {
            return Ok(Reply::default());
        }
        let at = MESSAGES + u64::from(slot) * MESSAGE_SPACE;
        let mut header = [0; REPLY_HEADER];
        self.memory
            .read_slice(&mut header, GuestAddress(at + REPLY))?;
        let said = message::word(&header, 0)?;
        ensure!(said == len, "a reply of {said} bytes is {len} in the ring");
        let errno = message::errno(&header, sent.unique)?;
        let there = (len as usize).saturating_sub(REPLY_HEADER);
        let mut body = vec![0; there.min(message.reply as usize)];
        let from = GuestAddress(at + REPLY_BODY);
        self.memory.read_slice(&mut body, from)?;
        Ok(Reply {
            errno,
            data: there - body.len(),
            body,
        })
    }

    /// Waits until everything is used and every thread of the device waits in a
    /// read of its doorbell.
    fn wait_until_quiet(&self) -> Result<()> {
        let start = Instant::now();
        loop {
            if self.requests.is_idle()? && self.hiprio.is_idle()? && self.threads_wait()? {
                return Ok(());
            }
            ensure!(
                start.elapsed() < PATIENCE,
                "the device does not come to rest"
            );
            std::thread::sleep(Duration::from_micros(20));
        }
    }

    fn threads_wait(&self) -> Result<bool> {
        for thread in &self.threads {
            let call = fs::read_to_string(thread)
                .with_context(|| format!("cannot read {thread}: a thread of the device ended"))?;
            let mut words = call.split_whitespace();
            let waits =
                words.next() == Some(READ) && words.next().is_some_and(|fd| self.is_kick(fd));
            if !waits {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn is_kick(&self, fd: &str) -> bool {
        let fd = fd
            .strip_prefix("0x")
            .and_then(|hex| i32::from_str_radix(hex, 16).ok());
        let kicks = self.transport.kicks();
        kicks.iter().any(|kick| Some(kick.as_raw_fd()) == fd)
    }
}

/// What says where each thread but this one waits.
fn other_threads() -> Result<Vec<String>> {
    let own = rustix::thread::gettid().as_raw_nonzero().to_string();
    let mut threads = Vec::new();
    for entry in fs::read_dir("/proc/self/task").context("no /proc")? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if *name != *own {
            threads.push(format!("/proc/self/task/{name}/syscall"));
        }
    }
    Ok(threads)
}
