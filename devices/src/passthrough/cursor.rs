//! Where the listing of an open directory is.

use std::ffi::CStr;
use std::fs::File;

use rustix::fs::SeekFrom;

use super::sys;
use crate::filesystem::Result;

/// What is read from the host at once, in bytes; some 200 entries. Held for
/// every directory that is in the middle of being listed.
const BATCH: usize = 8192;

/// Offset of the name in `struct linux_dirent64`: inode number (8 bytes),
/// offset (8), record length (2), type (1).
const NAME_OFFSET: usize = 19;

/// Where a listing is, and what was read ahead of it.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    /// What the guest asks for next if it goes on.
    pub(super) offset: u64,
    pub(super) batch: Vec<u8>,
    /// The part of `batch` that was read and not yet told.
    pub(super) unread: std::ops::Range<usize>,
}

/// One record of a batch.
pub(super) struct Record<'a> {
    pub(super) ino: u64,
    pub(super) next_offset: u64,
    pub(super) kind: u8,
    pub(super) name: &'a CStr,
    pub(super) length: usize,
}

impl<'a> Record<'a> {
    /// The record at the start of `bytes`, as `getdents64(2)` lays it out.
    pub(super) fn first_of(bytes: &'a [u8]) -> Option<Self> {
        let word = |at: usize| -> Option<[u8; 8]> { bytes.get(at..at + 8)?.try_into().ok() };
        let length = u16::from_ne_bytes(bytes.get(16..18)?.try_into().ok()?);
        let name = bytes.get(NAME_OFFSET..length.into())?;
        Some(Self {
            ino: u64::from_ne_bytes(word(0)?),
            next_offset: u64::from_ne_bytes(word(8)?),
            kind: *bytes.get(18)?,
            name: CStr::from_bytes_until_nul(name).ok()?,
            length: length.into(),
        })
    }
}

impl Cursor {
    /// Goes to `offset`; what was read ahead counts only if the guest goes on
    /// where it was.
    pub(super) fn go_to(&mut self, directory: &File, offset: u64) -> Result<()> {
        if offset == self.offset && offset != 0 {
            return Ok(());
        }
        // First: after a seek that fails the listing is where it was.
        rustix::fs::seek(directory, SeekFrom::Start(offset))?;
        self.unread = 0..0;
        self.offset = offset;
        Ok(())
    }

    /// Makes sure that there is something unread; says false at the end.
    pub(super) fn fill(&mut self, directory: &File) -> Result<bool> {
        if !self.unread.is_empty() {
            return Ok(true);
        }
        self.batch.resize(BATCH, 0);
        let length = sys::getdents(directory, &mut self.batch)?;
        self.unread = 0..length;
        if length == 0 {
            self.batch = Vec::new();
        }
        Ok(length > 0)
    }
}
