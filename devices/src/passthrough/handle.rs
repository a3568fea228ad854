//! The files and directories that the guest has open.
//!
//! A handle is held by `Arc`: a request that uses one goes on with it while
//! another closes it. No lock is held while anything is read or written.

use std::fs::File;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::budget::Descriptor;
use super::cursor::Cursor;
use super::hashing::NumberMap;
use super::inode::Inode;
use super::mount::Mount;
use crate::filesystem::{Handle, NodeId, Result};

const SHARDS: usize = 16;

/// An open regular file.
#[derive(Debug)]
pub(super) struct OpenFile {
    /// The host's file.
    pub(super) file: Descriptor<File>,
    /// `open(2)` flags it was opened with on the host.
    pub(super) flags: OFlags,
}

/// An open directory.
#[derive(Debug)]
pub(super) struct OpenDirectory {
    /// The host's directory.
    pub(super) file: Descriptor<File>,
    /// Where a listing is. Its lock is held while entries are read, because
    /// the position of the descriptor is part of it; two listings through one
    /// handle make no sense at the same time.
    pub(super) cursor: Mutex<Cursor>,
}

/// What is open.
#[derive(Debug)]
pub(super) enum OpenNode {
    File(OpenFile),
    Directory(OpenDirectory),
}

impl OpenNode {
    /// Whether it is a file opened for writing.
    pub(super) fn may_write(&self) -> bool {
        match self {
            Self::File(file) => file.flags.intersects(OFlags::WRONLY.union(OFlags::RDWR)),
            Self::Directory(_) => false,
        }
    }

    /// Whether it is a file opened for reading, and if it is to be `writable`
    /// for writing as well.
    fn allows(&self, writable: bool) -> bool {
        match self {
            Self::File(file) if writable => file.flags.contains(OFlags::RDWR),
            Self::File(file) => !file.flags.contains(OFlags::WRONLY),
            Self::Directory(_) => false,
        }
    }
}

/// Counts one handle for as long as it lives.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One open file or directory.
#[derive(Debug)]
pub(super) struct Open {
    /// Kept alive with the handle, and what a request must name with it.
    pub(super) inode: Arc<Inode>,
    pub(super) node: OpenNode,
    _counted: Counted,
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.node.may_write() {
            self.inode.writers.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Open {
    /// The open regular file; `EISDIR` for a directory.
    pub(super) fn file(&self) -> Result<&OpenFile> {
        match &self.node {
            OpenNode::File(file) => Ok(file),
            OpenNode::Directory(_) => Err(Errno::ISDIR),
        }
    }

    /// The open directory; `ENOTDIR` for a file.
    pub(super) fn directory(&self) -> Result<&OpenDirectory> {
        match &self.node {
            OpenNode::Directory(directory) => Ok(directory),
            OpenNode::File(_) => Err(Errno::NOTDIR),
        }
    }

    /// The host's file, whichever it is.
    pub(super) fn host(&self) -> &File {
        match &self.node {
            OpenNode::File(file) => &file.file,
            OpenNode::Directory(directory) => &directory.file,
        }
    }
}

type HandleShard = RwLock<NumberMap<Handle, Arc<Open>>>;

/// All handles of one share.
#[derive(Debug, Default)]
pub(super) struct Handles {
    shards: [HandleShard; SHARDS],
    next: AtomicU64,
    open: Arc<AtomicUsize>,
}

impl Handles {
    fn shard(&self, handle: Handle) -> &HandleShard {
        // The remainder makes the cast exact.
        #[allow(clippy::cast_possible_truncation)]
        let index = (handle % SHARDS as u64) as usize;
        &self.shards[index]
    }

    /// How many are open, those being closed included.
    #[cfg(test)]
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// What is open and has no handle.
    pub(super) fn unlisted(&self, inode: Arc<Inode>, node: OpenNode) -> Open {
        self.open.fetch_add(1, Ordering::Relaxed);
        if node.may_write() {
            inode.writers.fetch_add(1, Ordering::Relaxed);
        }
        Open {
            inode,
            node,
            _counted: Counted(Arc::clone(&self.open)),
        }
    }

    /// Makes a handle.
    pub(super) fn insert(&self, inode: Arc<Inode>, node: OpenNode) -> Handle {
        // From 1: guests tend to show 0 where they mean "none".
        let handle = self.next.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let open = Arc::new(self.unlisted(inode, node));
        self.shard(handle)
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(handle, open);
        handle
    }

    /// The handle of this inode; `EBADF` when there is none or it belongs to
    /// another.
    pub(super) fn get(&self, inode: NodeId, handle: Handle) -> Result<Arc<Open>> {
        self.shard(handle)
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&handle)
            .filter(|open| open.inode.number == inode)
            .cloned()
            .ok_or(Errno::BADF)
    }

    /// Any handle of a node on this mount.
    pub(super) fn on(&self, mount: &Arc<Mount>) -> Option<Arc<Open>> {
        self.any(|open| Arc::ptr_eq(&open.inode.mount, mount))
    }

    /// Any handle of this inode. Looks at all there are, so it is for those
    /// that have nothing else to find the inode by.
    pub(super) fn of(&self, inode: NodeId) -> Option<Arc<Open>> {
        self.any(|open| open.inode.number == inode)
    }

    /// Any handle of this file that was opened for reading, and for writing
    /// where it has to be `writable`. As expensive as [`of`](Self::of).
    pub(super) fn of_file(&self, inode: NodeId, writable: bool) -> Option<Arc<Open>> {
        self.any(|open| open.inode.number == inode && open.node.allows(writable))
    }

    fn any(&self, which: impl Fn(&Open) -> bool) -> Option<Arc<Open>> {
        self.shards.iter().find_map(|shard| {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            let mut open = shard.values();
            open.find(|open| which(open)).cloned()
        })
    }

    /// Takes a handle out of the table. Requests that use it at the moment
    /// finish with it.
    pub(super) fn remove(&self, inode: NodeId, handle: Handle) -> Result<Arc<Open>> {
        let mut shard = self
            .shard(handle)
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        match shard.remove(&handle) {
            Some(open) if open.inode.number == inode => Ok(open),
            Some(other) => {
                shard.insert(handle, other);
                Err(Errno::BADF)
            }
            None => Err(Errno::BADF),
        }
    }

    /// Closes everything.
    pub(super) fn clear(&self) {
        for shard in &self.shards {
            let emptied =
                std::mem::take(&mut *shard.write().unwrap_or_else(PoisonError::into_inner));
            drop(emptied);
        }
    }
}
