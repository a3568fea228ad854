//! A request as the guest wrote it: the header, and the bytes that follow.
//!
//! Here the guest's memory is read, once: what is checked is the copy that is
//! used afterwards. Everything a request can be wrong about on this level is
//! found here: a header cut short, a length that is not the chain's, a
//! structure that is not all there, extensions that do not fit.

use std::mem::size_of;

use fuse_backend_rs::abi::fuse_abi::{EntryOut, InHeader};
use rustix::io::Errno;
use vm_memory::ByteValued;

use super::data::RequestPages;
use super::encoding::entry_out;
use super::flags::InitFlags;
use super::limits::MAX_REQUEST;
use super::reply::Reply;
use crate::filesystem::{Entry, FileSystem, NodeId, Request, Result};
use crate::virtio::buffers::Readable;

/// `struct fuse_in_header`, 40 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Length of the whole request in bytes, this header included.
    pub(super) len: u32,
    pub(super) opcode: u32,
    /// Names the request in its reply and in INTERRUPT.
    pub(super) unique: u64,
    /// The node the request is about.
    pub(super) node: NodeId,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) pid: u32,
    /// Length of the extensions at the end of the request, in bytes
    /// (`total_extlen`, which counts in units of 8).
    pub(super) extensions_len: usize,
}

impl From<InHeader> for Header {
    fn from(header: InHeader) -> Self {
        Self {
            len: header.len,
            opcode: header.opcode,
            unique: header.unique,
            node: header.nodeid,
            uid: header.uid,
            gid: header.gid,
            pid: header.pid,
            // Protocol 7.38 split this padding, later than the library's
            // structure: `total_extlen` is its lower half.
            extensions_len: (header.padding & 0xffff) as usize * 8,
        }
    }
}

/// A request that cannot be executed, and what is known of it nevertheless.
#[derive(Debug)]
pub(super) struct Malformed {
    pub(super) opcode: u32,
    /// 0 when the request ended before it.
    pub(super) unique: u64,
}

/// A request with a sound header.
pub(super) struct RawRequest<'a> {
    pub(super) header: Header,
    pub(super) body: Body<'a>,
    /// The extensions, `header.extensions_len` bytes.
    pub(super) extensions: Body<'a>,
}

impl<'a> RawRequest<'a> {
    /// Reads the header and checks every length in it against the chain.
    pub(super) fn decode(mut reader: Readable<'a>) -> std::result::Result<Self, Malformed> {
        let length = reader.remaining();
        let (header, known) = read_header(&mut reader, length);
        let malformed = |_| Malformed {
            opcode: header.opcode,
            unique: header.unique,
        };
        if known < size_of::<InHeader>() || header.len as usize != length || length > MAX_REQUEST {
            return Err(malformed(Errno::INVAL));
        }
        let mut body = Body { reader };
        let extensions = body
            .split_off_end(header.extensions_len)
            .map_err(malformed)?;
        Ok(Self {
            header,
            body,
            extensions,
        })
    }
}

/// The header of the request in `reader`, which stays as it is; `None` when
/// there is not a whole one.
pub(super) fn peek_header(reader: &Readable<'_>) -> Option<Header> {
    let mut reader = *reader;
    let length = reader.remaining();
    let (header, known) = read_header(&mut reader, length);
    (known == size_of::<InHeader>()).then_some(header)
}

/// The node that the body of the request in `reader` begins with; `None` when
/// it is too short.
pub(super) fn peek_other_node(reader: &Readable<'_>) -> Option<NodeId> {
    let mut reader = *reader;
    let mut start = [0; size_of::<InHeader>() + size_of::<NodeId>()];
    reader.read(&mut start).ok()?;
    let node = start.get(size_of::<InHeader>()..)?;
    Some(NodeId::from_ne_bytes(node.try_into().ok()?))
}

/// Reads as much of the header as there is, and says how much that was. A
/// field that is not all there is 0.
fn read_header(reader: &mut Readable<'_>, length: usize) -> (Header, usize) {
    let mut header = InHeader::default();
    let known = length.min(size_of::<InHeader>());
    let bytes = header.as_mut_slice().get_mut(..known).unwrap_or_default();
    let known = reader.read(bytes).map_or(0, |()| known);
    // `opcode` ends at byte 8 and `unique` at byte 16.
    if known < 8 {
        header.opcode = 0;
    }
    if known < 16 {
        header.unique = 0;
    }
    (header.into(), known)
}

/// The bytes of a request that are not yet read.
pub(super) struct Body<'a> {
    reader: Readable<'a>,
}

impl<'a> Body<'a> {
    /// Bytes that are not yet read.
    pub(super) fn remaining(&self) -> usize {
        self.reader.remaining()
    }

    /// Reads one structure; `EINVAL` when the request ends before it does.
    pub(super) fn object<T: ByteValued + Default>(&mut self) -> Result<T> {
        let mut object = T::default();
        self.fill(object.as_mut_slice())?;
        Ok(object)
    }

    /// Reads exactly `bytes.len()` bytes; `EINVAL` when there are fewer.
    pub(super) fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.reader.read(bytes).map_err(|_| Errno::INVAL)
    }

    /// Reads all that is left into `space`; `None` when it does not fit.
    pub(super) fn rest<'s>(&mut self, space: &'s mut [u8]) -> Option<Result<&'s [u8]>> {
        let bytes = space.get_mut(..self.remaining())?;
        Some(self.fill(bytes).map(|()| &*bytes))
    }

    /// Cuts `length` bytes off the end; `EINVAL` when there are fewer.
    fn split_off_end(&mut self, length: usize) -> Result<Body<'a>> {
        let kept = self.remaining().checked_sub(length).ok_or(Errno::INVAL)?;
        let reader = self.reader.split_off(kept).map_err(|_| Errno::INVAL)?;
        Ok(Body { reader })
    }

    /// All that is left, for I/O straight from the guest's pages.
    pub(super) fn data(&mut self) -> RequestPages<'_, 'a> {
        RequestPages::new(&mut self.reader)
    }
}

/// Serves one kind of request. `Ok` means that the reply has the body of the
/// answer.
pub(super) type Operation = fn(&mut Call<'_, '_>) -> Result<()>;

/// A request on its way to the file system.
pub(super) struct Call<'r, 'a> {
    pub(super) fs: &'r dyn FileSystem,
    pub(super) request: Request<'r>,
    /// What is left of the request to decode.
    pub(super) body: Body<'a>,
    pub(super) reply: &'r mut Reply<'a>,
    /// What was agreed on at INIT.
    pub(super) agreed: InitFlags,
}

impl Call<'_, '_> {
    /// Makes sure that an entry fits into the answer. Before the file system
    /// is called: the guest must hear of every reference it is given.
    pub(super) fn ensure_entry(&self) -> Result<()> {
        self.reply.ensure(size_of::<EntryOut>())
    }

    /// Answers with `entry`.
    pub(super) fn put_entry(&mut self, entry: &Entry) -> Result<()> {
        self.reply.put(&entry_out(entry, self.agreed))
    }
}
