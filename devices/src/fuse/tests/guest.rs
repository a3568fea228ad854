//! A guest: memory, and messages laid out byte by byte, so that the
//! server's view of the protocol is held against another one.

use vm_memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryMmap, VolatileSlice};

use crate::filesystem::Deferral;
use crate::fuse::{Opcode, Server};
use crate::virtio::buffers::{Readable, Writable};
use crate::virtio::fs::RequestServer;

/// `unique` of every message here.
pub(super) const UNIQUE: u64 = 0x1122_3344_5566_7788;

/// What reply memory holds before the server writes to it.
pub(super) const UNTOUCHED: u8 = 0xa5;

const MEMORY: usize = 16 << 20;
const REQUEST: u64 = 1 << 20;
const REPLY: u64 = 6 << 20;

/// A request under construction: `struct fuse_in_header`, then what is added.
#[derive(Clone, Debug)]
pub(super) struct Message(pub(super) Vec<u8>);

impl Message {
    pub(super) fn new(opcode: Opcode, inode: u64) -> Self {
        Self(Vec::new())
            .u32(0)
            .u32(opcode.0)
            .u64(UNIQUE)
            .u64(inode)
            .u32(1000)
            .u32(100)
            .u32(4242)
            .u32(0)
    }

    pub(super) fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(super) fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(super) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Sets `total_extlen`, in units of 8 bytes.
    pub(super) fn extensions(mut self, units: u16) -> Self {
        self.0[36..38].copy_from_slice(&units.to_le_bytes());
        self
    }

    /// The bytes, with `len` in the header set to their number.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let len = u32::try_from(self.0.len()).unwrap();
        self.0[..4].copy_from_slice(&len.to_le_bytes());
        self.0
    }

    /// The first `len` bytes, as a request of its own where there is a whole
    /// header.
    pub(super) fn cut(self, len: usize) -> Vec<u8> {
        let mut bytes = self.0;
        bytes.truncate(len);
        if let Some(field) = bytes.first_chunk_mut::<4>() {
            *field = u32::try_from(len).unwrap().to_le_bytes();
        }
        bytes
    }
}

/// What came back in a chain.
#[derive(Debug)]
pub(super) struct Answer {
    /// What the device reports as used.
    pub(super) used: usize,
    /// All of the reply memory.
    pub(super) memory: Vec<u8>,
}

impl Answer {
    pub(super) fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.memory[at..at + 4].try_into().unwrap())
    }

    pub(super) fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.memory[at..at + 8].try_into().unwrap())
    }

    /// `fuse_out_header.error` as a positive errno, 0 for success.
    pub(super) fn errno(&self) -> i32 {
        -self.u32(4).cast_signed()
    }

    /// What follows the header.
    pub(super) fn body(&self) -> &[u8] {
        &self.memory[16..self.used]
    }

    /// Asserts that this is one whole reply, to the message sent.
    #[track_caller]
    pub(super) fn assert_well_formed(&self) {
        assert!(self.used >= 16, "no reply");
        assert_eq!(self.u32(0) as usize, self.used, "len is not what is used");
        assert!((0..=511).contains(&self.errno()), "errno out of range");
        if self.errno() != 0 {
            assert_eq!(self.used, 16, "an error with a body");
        }
        assert!(self.used <= self.memory.len(), "more used than there is");
    }

    #[track_caller]
    pub(super) fn assert_errno(&self, errno: rustix::io::Errno) {
        self.assert_well_formed();
        assert_eq!(self.u64(8), UNIQUE);
        assert_eq!(self.errno(), errno.raw_os_error());
    }

    /// Asserts success with a body of `len` bytes.
    #[track_caller]
    pub(super) fn assert_success(&self, len: usize) {
        self.assert_well_formed();
        assert_eq!(self.u64(8), UNIQUE);
        assert_eq!(self.errno(), 0, "an errno");
        assert_eq!(self.used, 16 + len, "another length");
    }

    /// Asserts that the server wrote nothing at all.
    #[track_caller]
    pub(super) fn assert_nothing(&self) {
        assert_eq!(self.used, 0);
        assert!(self.memory.iter().all(|byte| *byte == UNTOUCHED));
    }
}

/// Sends `request` in one descriptor, with `room` bytes for the reply.
pub(super) fn exchange(server: &Server, request: &[u8], room: usize) -> Answer {
    exchange_scattered(server, &[request], &[room])
}

/// Sends a request in pieces, with room for the reply in pieces. The pieces do not touch, and what lies between must stay
/// as it is.
pub(super) fn exchange_scattered(server: &Server, request: &[&[u8]], rooms: &[usize]) -> Answer {
    const GAP: usize = 32;
    let memory: GuestMemoryMmap =
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap();
    let mut readable = Vec::new();
    let mut writable = Vec::new();

    let mut at = REQUEST;
    for piece in request {
        memory.write_slice(piece, GuestAddress(at)).unwrap();
        readable.push(slice(&memory, at, piece.len()));
        at += (piece.len() + GAP) as u64;
    }
    assert!(at < REPLY, "request too long for this guest");
    let mut at = REPLY;
    for room in rooms {
        writable.push(slice(&memory, at, *room));
        at += (room + GAP) as u64;
    }
    let extent = usize::try_from(at - REPLY).unwrap();
    let pattern = vec![UNTOUCHED; extent];
    memory.write_slice(&pattern, GuestAddress(REPLY)).unwrap();

    let used = server.answer(Readable::new(&readable), Writable::new(&writable)) as usize;

    let mut all = vec![0; extent];
    memory.read_slice(&mut all, GuestAddress(REPLY)).unwrap();
    let mut reply = Vec::new();
    let mut rest = all.as_slice();
    for room in rooms {
        reply.extend_from_slice(&rest[..*room]);
        let gap = &rest[*room..room + GAP];
        assert!(gap.iter().all(|byte| *byte == UNTOUCHED), "wrote past it");
        rest = &rest[room + GAP..];
    }
    Answer {
        used,
        memory: reply,
    }
}

/// Asks the server whether `request` may block.
pub(super) fn may_block(server: &Server, request: &[u8]) -> bool {
    let memory: GuestMemoryMmap =
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap();
    memory.write_slice(request, GuestAddress(REQUEST)).unwrap();
    let parts = [slice(&memory, REQUEST, request.len())];
    server.may_block(&Readable::new(&parts))
}

/// The errno that `request` is answered with, which has room for a header;
/// nothing when it is deferred.
pub(super) fn answered_or_deferred(
    server: &Server,
    request: &[u8],
    deferral: &Deferral,
) -> Option<i32> {
    let memory: GuestMemoryMmap =
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap();
    memory.write_slice(request, GuestAddress(REQUEST)).unwrap();
    let readable = [slice(&memory, REQUEST, request.len())];
    let writable = [slice(&memory, REPLY, 16)];
    let (request, reply) = (Readable::new(&readable), Writable::new(&writable));
    let used = server.answer_or_defer(request, reply, deferral)?;
    assert_eq!(used, 16);
    let error: i32 = memory.read_obj(GuestAddress(REPLY + 4)).unwrap();
    Some(-error)
}

fn slice(memory: &GuestMemoryMmap, at: u64, len: usize) -> VolatileSlice<'_> {
    memory.get_slice(GuestAddress(at), len).unwrap()
}
