//! The reply of READDIR and READDIRPLUS while it fills up: records of
//! variable length (`struct fuse_dirent`, `struct fuse_direntplus`), each on
//! a multiple of 8 bytes.

use std::mem::size_of;

use fuse_backend_rs::abi::fuse_abi::{Dirent, EntryOut};
use vm_memory::ByteValued;

use super::encoding::entry_out;
use super::flags::InitFlags;
use crate::filesystem::{DirectoryEntry, Entry, Listing};

/// Entries packed as the guest wants them.
///
/// They gather on the heap and are copied to the guest's pages in one go:
/// an entry is three small pieces, and placing each by itself costs more.
pub(super) struct PackedEntries {
    bytes: Vec<u8>,
    /// The most the guest accepts, in bytes.
    limit: usize,
    /// READDIRPLUS.
    plus: bool,
    agreed: InitFlags,
}

impl PackedEntries {
    /// For at most `limit` bytes.
    pub(super) fn new(limit: usize, plus: bool, agreed: InitFlags) -> Self {
        Self {
            // What Linux asks for with one page; more comes as it is needed.
            bytes: Vec::with_capacity(limit.min(4096)),
            limit,
            plus,
            agreed,
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Length of a record in bytes, with its padding (`FUSE_DIRENT_SIZE`,
    /// `FUSE_DIRENTPLUS_SIZE`).
    fn record_len(&self, name_len: usize) -> usize {
        let entry = if self.plus { size_of::<EntryOut>() } else { 0 };
        (entry + size_of::<Dirent>())
            .saturating_add(name_len)
            .checked_next_multiple_of(8)
            .unwrap_or(usize::MAX)
    }
}

impl Listing for PackedEntries {
    fn wants_entries(&self) -> bool {
        self.plus
    }

    fn fits(&self, name_len: usize) -> bool {
        self.record_len(name_len) <= self.limit.saturating_sub(self.bytes.len())
    }

    fn push(&mut self, entry: DirectoryEntry<'_>, node: Option<&Entry>) -> bool {
        let Ok(namelen) = u32::try_from(entry.name.len()) else {
            return false;
        };
        if !self.fits(entry.name.len()) {
            return false;
        }
        let end = self.bytes.len() + self.record_len(entry.name.len());
        if self.plus {
            // All zero, it says "no attributes": Linux takes the name and
            // looks it up when it is needed (fs/fuse/readdir.c).
            let node = node.map_or_else(EntryOut::default, |node| entry_out(node, self.agreed));
            self.bytes.extend_from_slice(node.as_slice());
        }
        let dirent = Dirent {
            ino: entry.ino,
            off: entry.next_offset,
            namelen,
            type_: entry.kind,
        };
        self.bytes.extend_from_slice(dirent.as_slice());
        self.bytes.extend_from_slice(entry.name);
        self.bytes.resize(end, 0);
        true
    }
}
