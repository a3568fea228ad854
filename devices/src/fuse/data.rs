//! File data, moved straight between a file and the guest's pages.
//!
//! [`ReplyPages`] and [`RequestPages`] are what a file system sees of a READ
//! and a WRITE. Each transfer is one vectored system call on the pages
//! themselves; nothing is copied on the way.

use std::fs::File;
use std::io;

use rustix::io::Errno;

use crate::filesystem::{Position, ReplyData, RequestData, Result};
use crate::virtio::buffers::{Readable, Writable};

/// The pages that take the data of a READ.
pub(super) struct ReplyPages<'w, 'a> {
    writer: &'w mut Writable<'a>,
    space: usize,
    filled: usize,
}

impl<'w, 'a> ReplyPages<'w, 'a> {
    /// The next `space` bytes of `writer`, which must have as many.
    pub(super) fn new(writer: &'w mut Writable<'a>, space: usize) -> Self {
        Self {
            writer,
            space,
            filled: 0,
        }
    }

    /// Bytes put so far.
    pub(super) fn filled(&self) -> usize {
        self.filled
    }

    fn advance(&mut self, count: usize) {
        self.space = self.space.saturating_sub(count);
        self.filled += count;
    }
}

impl ReplyData for ReplyPages<'_, '_> {
    fn space(&self) -> usize {
        self.space
    }

    fn fill_from(&mut self, file: &File, count: usize, position: Position) -> Result<usize> {
        let count = count.min(self.space);
        let count = match position {
            Position::At(offset) => self.writer.read_from_at(file, count, offset),
            Position::Current => self.writer.read_from(file, count),
            Position::End => return Err(Errno::INVAL),
        }
        .map_err(|error| errno(&error))?;
        self.advance(count);
        Ok(count)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.len() > self.space {
            return Err(Errno::IO);
        }
        self.writer.write(bytes).map_err(|_| Errno::IO)?;
        self.advance(bytes.len());
        Ok(())
    }
}

/// The pages that hold the data of a WRITE.
pub(super) struct RequestPages<'b, 'a> {
    reader: &'b mut Readable<'a>,
}

impl<'b, 'a> RequestPages<'b, 'a> {
    /// What is left of `reader`.
    pub(super) fn new(reader: &'b mut Readable<'a>) -> Self {
        Self { reader }
    }
}

impl RequestData for RequestPages<'_, '_> {
    fn remaining(&self) -> usize {
        self.reader.remaining()
    }

    fn drain_to(&mut self, file: &File, count: usize, position: Position) -> Result<usize> {
        match position {
            Position::At(offset) => self.reader.write_to_at(file, count, offset),
            Position::Current => self.reader.write_to(file, count),
            Position::End => self.reader.append_to(file, count),
        }
        .map_err(|error| errno(&error))
    }

    fn take(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.reader.read(bytes).map_err(|_| Errno::IO)
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
