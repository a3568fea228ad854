//! A request and the room for its answer.

use std::fs::File;
use std::io;

use anyhow::{Context, Result, ensure};
use devices::filesystem::Deferral;
use devices::fuse::Server;
use devices::virtio::buffers::{Readable, Writable};
use devices::virtio::fs::RequestServer;
use vm_memory::{Bytes, MmapRegion, ReadVolatile, VolatileMemory, WriteVolatile};

use super::driver::{self, Request};

const REQUEST: usize = 0;
/// More than the longest request: a WRITE of 1 MiB with its headers.
const REQUEST_SPACE: usize = 2 << 20;
const REPLY: usize = REQUEST + REQUEST_SPACE;
/// More than the longest answer.
const REPLY_SPACE: usize = 8 << 20;

/// The part of a request that is looked at here: all of INIT, and the header and
/// first fields of the others.
const HEAD: usize = 128;

/// The buffers of one request at a time.
#[derive(Debug)]
pub struct Buffers {
    memory: MmapRegion,
}

impl Buffers {
    /// Buffers with nothing in them.
    ///
    /// # Errors
    ///
    /// When there is no memory.
    pub fn new() -> Result<Self> {
        let memory =
            MmapRegion::new(REPLY + REPLY_SPACE).context("cannot map memory for requests")?;
        Ok(Self { memory })
    }

    /// Reads one request from `device`, and adapts it to what virtiofs would
    /// send.
    ///
    /// # Errors
    ///
    /// What `read(2)` says, or that it was no request.
    pub fn receive(&self, device: &File) -> Result<Request, Receive> {
        let mut space = (self.memory)
            .get_slice(REQUEST, REQUEST_SPACE)
            .map_err(anyhow::Error::from)?;
        let len = { device }
            .read_volatile(&mut space)
            .map_err(|error| match error {
                vm_memory::VolatileMemoryError::IOError(error) => Receive::Read(error),
                other => Receive::Wrong(other.into()),
            })?;
        let mut head = [0; HEAD];
        let head = &mut head[..len.min(HEAD)];
        (self.memory.as_volatile_slice().read_slice(head, REQUEST)).map_err(anyhow::Error::from)?;
        let request = Request::read(head, len)?;
        if request.is_init() {
            driver::offer_as_virtiofs(head);
            self.put(head)?;
        }
        Ok(request)
    }

    /// Puts a request that no kernel sent.
    ///
    /// # Errors
    ///
    /// When it is too long.
    pub fn put(&self, request: &[u8]) -> Result<()> {
        ensure!(request.len() <= REQUEST_SPACE, "the request is too long");
        (self.memory.as_volatile_slice()).write_slice(request, REQUEST)?;
        Ok(())
    }

    /// Whether `server` thinks that the request may keep others waiting.
    ///
    /// # Errors
    ///
    /// When it cannot be described.
    pub fn may_block(&self, server: &Server, request: &Request) -> Result<bool> {
        let request = [self.memory.get_slice(REQUEST, request.len)?];
        Ok(server.may_block(&Readable::new(&request)))
    }

    /// Has `server` answer the request, and says how long the answer is.
    ///
    /// # Errors
    ///
    /// When it cannot be described.
    pub fn answer(&self, server: &Server, request: &Request) -> Result<usize> {
        self.serve(request, |reader, writer| {
            server.answer(reader, writer) as usize
        })
    }

    /// The same for who keeps others waiting: nothing when the request shows only
    /// now that it may block.
    ///
    /// # Errors
    ///
    /// When it cannot be described.
    pub fn answer_at_once(&self, server: &Server, request: &Request) -> Result<Option<usize>> {
        self.serve(request, |reader, writer| {
            let len = server.answer_at_once(reader, writer);
            len.map(|len| len as usize)
        })
    }

    /// The same, where a request may be deferred: nothing when it is to be
    /// served again.
    ///
    /// # Errors
    ///
    /// When it cannot be described.
    pub fn answer_or_defer(
        &self,
        server: &Server,
        request: &Request,
        deferral: &Deferral,
    ) -> Result<Option<usize>> {
        self.serve(request, |reader, writer| {
            let len = server.answer_or_defer(reader, writer, deferral);
            len.map(|len| len as usize)
        })
    }

    fn serve<T>(
        &self,
        request: &Request,
        answer: impl FnOnce(Readable<'_>, Writable<'_>) -> T,
    ) -> Result<T> {
        let room = request.room();
        ensure!(
            room <= REPLY_SPACE,
            "request {} wants {room} bytes",
            request.unique
        );
        let reply = [self.memory.get_slice(REPLY, room)?];
        let request = [self.memory.get_slice(REQUEST, request.len)?];
        Ok(answer(Readable::new(&request), Writable::new(&reply)))
    }

    /// Writes the answer, `len` bytes, to `device`.
    ///
    /// # Errors
    ///
    /// What `write(2)` says, or that it took a part.
    pub fn deliver(&self, device: &File, len: usize) -> io::Result<()> {
        let answer = self
            .memory
            .get_slice(REPLY, len)
            .map_err(io::Error::other)?;
        match { device }.write_volatile(&answer) {
            Ok(written) if written == len => Ok(()),
            Ok(written) => Err(io::Error::other(format!(
                "the kernel took {written} of {len} bytes"
            ))),
            Err(vm_memory::VolatileMemoryError::IOError(error)) => Err(error),
            Err(other) => Err(io::Error::other(other)),
        }
    }

    /// The answer, `len` bytes.
    ///
    /// # Errors
    ///
    /// When there is not so much room.
    pub fn reply(&self, len: usize) -> Result<Vec<u8>> {
        ensure!(len <= REPLY_SPACE, "the answer is too long");
        let mut reply = vec![0; len];
        (self.memory.as_volatile_slice()).read_slice(&mut reply, REPLY)?;
        Ok(reply)
    }
}

/// Why no request was received.
#[derive(Debug)]
pub enum Receive {
    /// `read(2)` failed.
    Read(io::Error),
    /// What came is no request.
    Wrong(anyhow::Error),
}

impl From<anyhow::Error> for Receive {
    fn from(error: anyhow::Error) -> Self {
        Self::Wrong(error)
    }
}
