//! Directory listings: OPENDIR, READDIR, READDIRPLUS, RELEASEDIR.
//!
//! The offsets told to the guest are the host's own, so a listing can be
//! taken up anywhere at any time, also after the directory changed.

use std::ffi::CStr;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{OFlags, SeekFrom};
use rustix::io::Errno;

use super::Passthrough;
use super::handle::{Node, OpenDirectory};
use super::inode::Inode;
use super::sys;
use crate::filesystem::{DirectoryEntry, Handle, Listing, NodeId, Opened, ROOT, Result};

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
    offset: u64,
    batch: Vec<u8>,
    /// The part of `batch` that was read and not yet told.
    unread: std::ops::Range<usize>,
}

/// One record of a batch.
struct Record<'a> {
    ino: u64,
    next_offset: u64,
    kind: u8,
    name: &'a CStr,
    length: usize,
}

impl<'a> Record<'a> {
    /// The record at the start of `bytes`, as `getdents64(2)` lays it out.
    fn first_of(bytes: &'a [u8]) -> Option<Self> {
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
    fn go_to(&mut self, directory: &File, offset: u64) -> Result<()> {
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
    fn fill(&mut self, directory: &File) -> Result<bool> {
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

impl Passthrough {
    pub(super) fn do_opendir(&self, number: NodeId) -> Result<Opened> {
        let (inode, descriptor) = self.directory(number)?;
        self.may_open()?;
        let mut flags = OFlags::RDONLY | OFlags::DIRECTORY;
        if self.config.read_only {
            flags |= OFlags::NOATIME;
        }
        let fd = self.reopen(&*descriptor, flags)?;
        let node = Node::Directory(OpenDirectory {
            file: File::from(fd),
            cursor: Mutex::default(),
        });
        Ok(Opened {
            handle: self.handles.insert(inode, node),
            behaviour: self.config.cache.directory_behaviour(),
        })
    }

    pub(super) fn do_readdir(
        &self,
        number: NodeId,
        handle: Handle,
        offset: u64,
        listing: &mut dyn Listing,
    ) -> Result<()> {
        let open = self.handles.get(number, handle)?;
        let directory = open.directory()?;
        self.confine(&open.inode, &directory.file)?;
        let mut guard = directory
            .cursor
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let cursor = &mut *guard;
        cursor.go_to(&directory.file, offset)?;
        let mut told = false;
        loop {
            match cursor.fill(&directory.file) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                // What was told must reach the guest; it meets the error when
                // it goes on.
                Err(_) if told => return Ok(()),
                Err(error) => return Err(error),
            }
            let unread = cursor.batch.get(cursor.unread.clone());
            let record = unread.and_then(Record::first_of).ok_or(Errno::IO)?;
            if !self.tell(&open.inode, &directory.file, &record, listing) {
                // Nothing fits at all: an empty reply would mean the end.
                return if told { Ok(()) } else { Err(Errno::INVAL) };
            }
            told = true;
            cursor.offset = record.next_offset;
            cursor.unread.start += record.length;
        }
    }

    /// Adds one record to the listing; false when it does not fit.
    fn tell(
        &self,
        directory: &Arc<Inode>,
        file: &File,
        record: &Record<'_>,
        listing: &mut dyn Listing,
    ) -> bool {
        let name = record.name.to_bytes();
        if !listing.fits(name.len()) {
            return false;
        }
        let dots = name == b"." || name == b"..";
        // What is above the share is nobody's business.
        let ino = if directory.number == ROOT && dots {
            directory.identity.ino
        } else {
            record.ino
        };
        let entry = DirectoryEntry {
            ino: self.mounts.told_ino(directory.identity.device, ino),
            next_offset: record.next_offset,
            kind: record.kind.into(),
            name,
        };
        if dots || !listing.wants_entries() {
            return listing.push(entry, None);
        }
        // A name that cannot be looked up now (gone, or the host is short of
        // something) is still told: leaving it out would make files vanish.
        match self.child(directory, file, record.name) {
            Ok((inode, status)) => {
                let node = self.entry(&inode, &status);
                let fitted = listing.push(entry, Some(&node));
                if !fitted {
                    self.inodes.forget(inode.number, 1);
                }
                fitted
            }
            Err(_) => listing.push(entry, None),
        }
    }
}
