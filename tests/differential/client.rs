//! A FUSE client: does with requests what Linux would.

mod listing;
mod requests;

use rustix::io::Errno;

use crate::actor::{Actor, NodeId};
use crate::message::{Body, Message, opcode};
use crate::operation::{Caller, Change, LockKind, Op, Time};
use crate::outcome::{self, Attributes, Outcome, When};

/// Every owner of locks that there is.
pub(crate) const OWNERS: [u64; 3] = [1, 2, u64::MAX];

/// What carries requests to a server and its answers back.
pub(crate) trait Transport {
    fn name(&self) -> &'static str;

    /// The answer; nothing for FORGET.
    fn exchange(&mut self, request: &[u8]) -> Vec<u8>;
}

const ROOT_NODE: u64 = 1;

// Flags of INIT.
const POSIX_LOCKS: u64 = 1 << 1;
const FLOCK_LOCKS: u64 = 1 << 10;
const DO_READDIRPLUS: u64 = 1 << 13;
const HANDLE_KILLPRIV_V2: u64 = 1 << 28;
const CREATE_SUPP_GROUP: u64 = 1 << 34;
const OFFERED: u64 = 1 // ASYNC_READ
    | POSIX_LOCKS
    | 1 << 5 // BIG_WRITES
    | FLOCK_LOCKS
    | 1 << 12 // AUTO_INVAL_DATA
    | DO_READDIRPLUS
    | 1 << 15 // ASYNC_DIO
    | 1 << 18 // PARALLEL_DIROPS
    | 1 << 22 // MAX_PAGES
    | HANDLE_KILLPRIV_V2
    | 1 << 30 // INIT_EXT
    | CREATE_SUPP_GROUP;

// Bits of SETATTR.
const MODE: u32 = 1 << 0;
const UID: u32 = 1 << 1;
const GID: u32 = 1 << 2;
const SIZE: u32 = 1 << 3;
const ATIME: u32 = 1 << 4;
const MTIME: u32 = 1 << 5;
const WITH_HANDLE: u32 = 1 << 6;
const ATIME_NOW: u32 = 1 << 7;
const MTIME_NOW: u32 = 1 << 8;
const KILL_SUIDGID: u32 = 1 << 11;

const WRITE_KILL_SUIDGID: u32 = 1 << 2;

struct Node {
    number: u64,
    /// How often it was told.
    lookups: u64,
    mode: u32,
}

struct Open {
    handle: u64,
    node: u64,
    flags: u32,
    flocked: bool,
}

pub(crate) struct Client<T> {
    transport: T,
    agreed: u64,
    nodes: Vec<Option<Node>>,
    files: Vec<Option<Open>>,
    counts_blocks: bool,
    /// Each step is another task's: what one does twice may be one thing to the
    /// server, as what overlayfs copies.
    task: u32,
}

impl<T: Transport> Client<T> {
    /// Begins a session.
    pub(crate) fn new(transport: T, counts_blocks: bool) -> Self {
        let root = Node {
            number: ROOT_NODE,
            lookups: 1,
            mode: libc::S_IFDIR,
        };
        let mut client = Self {
            transport,
            agreed: 0,
            nodes: vec![Some(root)],
            files: Vec::new(),
            counts_blocks,
            task: 1,
        };
        let halves =
            [OFFERED & 0xffff_ffff, OFFERED >> 32].map(|half| u32::try_from(half).unwrap());
        let mut init = Message::new(opcode::INIT, 0, (0, 0));
        init = init
            .u32(7)
            .u32(45)
            .u32(1 << 17)
            .u32(halves[0])
            .u32(halves[1]);
        let body = client.send(init.bytes(&[0; 44])).unwrap();
        client.agreed = u64::from(body.u32(12)) | u64::from(body.u32(32)) << 32;
        client
    }

    fn send(&mut self, message: Message) -> Result<Body, Errno> {
        let message = message.with_task(self.task);
        Body::of(&self.transport.exchange(&message.finish()))
    }

    fn node(&self, node: NodeId) -> &Node {
        self.nodes[node].as_ref().unwrap()
    }

    fn file(&self, file: NodeId) -> &Open {
        self.files[file].as_ref().unwrap()
    }

    fn request(&self, opcode: u32, node: NodeId, caller: &Caller) -> Message {
        Message::new(opcode, self.node(node).number, (caller.uid, caller.gid))
    }

    fn file_request(&self, opcode: u32, file: NodeId, caller: &Caller) -> Message {
        Message::new(opcode, self.file(file).node, (caller.uid, caller.gid))
    }

    /// The caller's other group, where a directory belongs to it
    /// (`get_create_supp_group`).
    fn group(&mut self, dir: NodeId, caller: &Caller) -> Option<u32> {
        let group = caller.group?;
        let request = self.request(opcode::GETATTR, dir, caller);
        let body = self.send(request.u32(0).u32(0).u64(0)).ok()?;
        let of_directory = body.u32(16 + 72);
        let sent = self.agreed & CREATE_SUPP_GROUP != 0 && of_directory == group;
        sent.then_some(group)
    }

    fn attributes(&self, body: &Body, at: usize) -> Attributes {
        let long = |n: usize| body.u64(at + n);
        let word = |n: usize| body.u32(at + n);
        let time = |seconds, nanoseconds| When::of(long(seconds).cast_signed(), word(nanoseconds));
        Attributes {
            size: long(8),
            blocks: self.counts_blocks.then(|| long(16)),
            atime: time(24, 48),
            mtime: time(32, 52),
            ctime: time(40, 56),
            mode: word(60),
            nlink: word(64),
            uid: word(68),
            gid: word(72),
            rdev: word(76),
        }
    }

    fn statx(&self, body: &Body) -> Attributes {
        let at = 32;
        let time = |n: usize| When::of(body.u64(at + n).cast_signed(), body.u32(at + n + 8));
        let (major, minor) = (body.u32(at + 128), body.u32(at + 132));
        Attributes {
            nlink: body.u32(at + 16),
            uid: body.u32(at + 20),
            gid: body.u32(at + 24),
            mode: body.u32(at + 28) & 0xffff,
            size: body.u64(at + 40),
            blocks: self.counts_blocks.then(|| body.u64(at + 48)),
            atime: time(64),
            ctime: time(96),
            mtime: time(112),
            rdev: (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12),
        }
    }

    /// Takes the node of an entry into the list, unless it is there.
    fn found(&mut self, body: &Body) -> Result<Outcome, Errno> {
        let number = body.u64(0);
        if number == 0 {
            return Err(Errno::NOENT);
        }
        let attributes = self.attributes(body, 40);
        let is = |node: &Option<Node>| node.as_ref().is_some_and(|node| node.number == number);
        let known = self.nodes.iter().position(is);
        match known {
            Some(at) => self.nodes[at].as_mut().unwrap().lookups += 1,
            None => self.nodes.push(Some(Node {
                number,
                lookups: 1,
                mode: attributes.mode,
            })),
        }
        Ok(Outcome::Node(attributes, known))
    }

    fn entry(&mut self, request: Message) -> Result<Outcome, Errno> {
        let body = self.send(request)?;
        self.found(&body)
    }

    fn done(&mut self, request: Message) -> Result<Outcome, Errno> {
        self.send(request).map(|_| Outcome::Done)
    }

    fn forget(&mut self, number: u64, lookups: u64) {
        let request = Message::new(opcode::FORGET, number, (0, 0)).u64(lookups);
        let answer = self.transport.exchange(&request.finish());
        assert!(answer.is_empty(), "an answer to FORGET");
    }

    fn opened(&mut self, node: u64, body: &Body, at: usize, flags: i32) {
        self.files.push(Some(Open {
            handle: body.u64(at),
            node,
            flags: flags.cast_unsigned(),
            flocked: false,
        }));
    }

    /// CREATE and TMPFILE.
    fn make_open(&mut self, request: Message, flags: i32) -> Result<Outcome, Errno> {
        let body = self.send(request)?;
        let outcome = self.found(&body)?;
        self.opened(body.u64(0), &body, 128, flags);
        Ok(outcome)
    }

    fn setattr(
        &mut self,
        caller: &Caller,
        node: NodeId,
        file: Option<NodeId>,
        change: &Change,
    ) -> Result<Outcome, Errno> {
        let mut valid = 0;
        let mut set = |bit, is| valid |= if is { bit } else { 0 };
        set(MODE, change.mode.is_some());
        set(UID, change.uid.is_some());
        set(GID, change.gid.is_some());
        set(SIZE, change.size.is_some());
        set(WITH_HANDLE, file.is_some());
        let (atime, mtime) = change.times.unwrap_or((Time::Omit, Time::Omit));
        set(ATIME, atime != Time::Omit);
        set(ATIME_NOW, atime == Time::Now);
        set(MTIME, mtime != Time::Omit);
        set(MTIME_NOW, mtime == Time::Now);
        // `fuse_do_setattr`.
        let mode = self.node(node).mode;
        let owner = change.uid.is_some() || change.gid.is_some();
        let not_directory = mode & libc::S_IFMT != libc::S_IFDIR;
        let by_user = change.size.is_some() && caller.uid != 0;
        set(KILL_SUIDGID, owner && not_directory || by_user);
        let parts = |time| match time {
            Time::At(seconds, nanoseconds) => (i64::cast_unsigned(seconds), nanoseconds),
            Time::Omit | Time::Now => (0, 0),
        };
        let (atime, mtime) = (parts(atime), parts(mtime));
        let handle = file.map_or(0, |file| self.file(file).handle);
        let request = self
            .request(opcode::SETATTR, node, caller)
            .u32(valid)
            .u32(0)
            .u64(handle)
            .u64(change.size.unwrap_or(0))
            .u64(0)
            .u64(atime.0)
            .u64(mtime.0)
            .u64(0)
            .u32(atime.1)
            .u32(mtime.1)
            .u32(0)
            .u32(mode & libc::S_IFMT | change.mode.unwrap_or(0))
            .u32(0)
            .u32(change.uid.unwrap_or(0))
            .u32(change.gid.unwrap_or(0))
            .u32(0);
        let body = self.send(request)?;
        Ok(Outcome::Attributes(self.attributes(&body, 16)))
    }

    fn write(
        &mut self,
        caller: &Caller,
        file: NodeId,
        at: u64,
        data: &[u8],
    ) -> Result<Outcome, Errno> {
        let open = self.file(file);
        let (handle, flags) = (open.handle, open.flags);
        let kill = if caller.uid == 0 {
            0
        } else {
            WRITE_KILL_SUIDGID
        };
        let request = self
            .file_request(opcode::WRITE, file, caller)
            .u64(handle)
            .u64(at)
            .u32(u32::try_from(data.len()).unwrap())
            .u32(kill)
            .u64(0)
            .u32(flags)
            .u32(0);
        let body = self.send(request.bytes(data))?;
        Ok(Outcome::Number(body.u32(0).into()))
    }

    fn setlk(
        &mut self,
        caller: &Caller,
        file: NodeId,
        (opcode, owner): (u32, u64),
        kind: LockKind,
        (start, end, flags): (u64, u64, u32),
    ) -> Result<Body, Errno> {
        let kind = match kind {
            LockKind::Read => 0,
            LockKind::Write => 1,
            LockKind::Unlock => 2,
        };
        let handle = self.file(file).handle;
        let request = self.file_request(opcode, file, caller);
        let request = request.u64(handle).u64(owner).u64(start).u64(end);
        self.send(request.u32(kind).u32(caller.uid + 1).u32(flags).u32(0))
    }

    fn flush(&mut self, caller: &Caller, file: NodeId, owner: u64) -> Result<Outcome, Errno> {
        let handle = self.file(file).handle;
        let request = self.file_request(opcode::FLUSH, file, caller);
        self.done(request.u64(handle).u32(0).u32(0).u64(owner))
    }

    fn release(&mut self, caller: &Caller, file: NodeId) -> Result<Outcome, Errno> {
        // Each that has it open closes it.
        for owner in OWNERS {
            self.flush(caller, file, owner)?;
        }
        let open = self.file(file);
        let (handle, flags) = (open.handle, open.flags);
        let unlock = if open.flocked { 2 } else { 0 };
        let request = self.file_request(opcode::RELEASE, file, caller);
        let owner = flock_owner(file);
        let outcome = self.done(request.u64(handle).u32(flags).u32(unlock).u64(owner));
        self.files[file] = None;
        outcome
    }
}

/// With `flock(2)` it is the open file that has the lock.
fn flock_owner(file: NodeId) -> u64 {
    1000 + file as u64
}

impl<T: Transport> Actor for Client<T> {
    fn name(&self) -> &'static str {
        self.transport.name()
    }

    fn perform(&mut self, caller: &Caller, op: &Op) -> Outcome {
        self.task += 1;
        outcome::of(self.act(caller, op))
    }
}
