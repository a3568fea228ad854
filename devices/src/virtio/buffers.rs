//! The memory of one request, as the device sees it: the part that it reads
//! and the part that it writes (virtio 1.2, 2.7.4.2).
//!
//! Each is a list of slices, in the order of the chain, and is used up from its
//! beginning. The guest may change what is in them at any time, so what is
//! copied out is copied once, and file data goes straight to or from the host's
//! kernel.

mod parts;
mod transfer;

use std::fs::File;
use std::io;

use thiserror::Error;
use vm_memory::VolatileSlice;

use self::parts::Parts;

/// A request or its reply has fewer bytes left than are asked for.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("there are fewer bytes left")]
pub struct Short;

/// The part of a request that the device reads.
#[derive(Clone, Copy, Debug)]
pub struct Readable<'a>(Parts<'a>);

impl<'a> Readable<'a> {
    /// What is in `parts`.
    #[must_use]
    pub fn new(parts: &'a [VolatileSlice<'a>]) -> Self {
        Self(Parts::new(parts))
    }

    /// Bytes that are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.0.remaining()
    }

    /// Takes as many bytes as `bytes` has.
    ///
    /// # Errors
    ///
    /// There are fewer; none is taken then.
    pub fn read(&mut self, bytes: &mut [u8]) -> Result<(), Short> {
        self.0.transfer(bytes.len(), |part, done| {
            part.copy_to(bytes.get_mut(done..).unwrap_or_default());
        })
    }

    /// Leaves `count` bytes, and gives those behind them.
    ///
    /// # Errors
    ///
    /// There are fewer.
    pub fn split_off(&mut self, count: usize) -> Result<Self, Short> {
        self.0.split_off(count).map(Self)
    }

    /// Writes up to `count` bytes to `file`, from byte `offset` of it on, with
    /// one system call, and takes as many as that took.
    ///
    /// # Errors
    ///
    /// What `pwritev(2)` says.
    pub fn write_to_at(&mut self, file: &File, count: usize, offset: u64) -> io::Result<usize> {
        let count = transfer::write_at(&self.0, count, file, offset)?;
        self.0.advance(count);
        Ok(count)
    }

    /// Writes up to `count` bytes to `file`, wherever that is, with one system
    /// call, and takes as many as that took.
    ///
    /// # Errors
    ///
    /// What `writev(2)` says.
    pub fn write_to(&mut self, file: &File, count: usize) -> io::Result<usize> {
        let count = transfer::write(&self.0, count, file)?;
        self.0.advance(count);
        Ok(count)
    }

    /// Writes up to `count` bytes to the end of `file`, as with `O_APPEND`,
    /// with one system call, and takes as many as that took.
    ///
    /// # Errors
    ///
    /// What `pwritev2(2)` says.
    pub fn append_to(&mut self, file: &File, count: usize) -> io::Result<usize> {
        let count = transfer::append(&self.0, count, file)?;
        self.0.advance(count);
        Ok(count)
    }
}

/// The part of a request that the device writes: the room for its reply.
#[derive(Debug)]
pub struct Writable<'a>(Parts<'a>);

impl<'a> Writable<'a> {
    /// What is in `parts`.
    #[must_use]
    pub fn new(parts: &'a [VolatileSlice<'a>]) -> Self {
        Self(Parts::new(parts))
    }

    /// Bytes that are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.0.remaining()
    }

    /// Puts `bytes`.
    ///
    /// # Errors
    ///
    /// There is less room; nothing is put then.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Short> {
        self.0.transfer(bytes.len(), |part, done| {
            part.copy_from(bytes.get(done..).unwrap_or_default());
        })
    }

    /// Leaves `count` bytes, and gives those behind them.
    ///
    /// # Errors
    ///
    /// There are fewer.
    pub fn split_off(&mut self, count: usize) -> Result<Self, Short> {
        self.0.split_off(count).map(Self)
    }

    /// Reads up to `count` bytes of `file`, from byte `offset` of it on, with
    /// one system call, and says how many there were.
    ///
    /// # Errors
    ///
    /// What `preadv(2)` says.
    pub fn read_from_at(&mut self, file: &File, count: usize, offset: u64) -> io::Result<usize> {
        let count = transfer::read_at(&self.0, count, file, offset)?;
        self.0.advance(count);
        Ok(count)
    }

    /// Reads up to `count` bytes of `file`, wherever that is, with one system
    /// call, and says how many there were.
    ///
    /// # Errors
    ///
    /// What `readv(2)` says.
    pub fn read_from(&mut self, file: &File, count: usize) -> io::Result<usize> {
        let count = transfer::read(&self.0, count, file)?;
        self.0.advance(count);
        Ok(count)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
