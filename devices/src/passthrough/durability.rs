//! What has to be on the host's disk before a request is answered. Every sync
//! of a share is made here.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::OFlags;
use rustix::io::retry_on_intr;

use super::Passthrough;
use super::budget::Purpose;
use super::inode::Inode;
use super::stat::Kind;
use crate::filesystem::{NodeId, Result};

/// What is put on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    /// The data, and what is needed to read it back (`O_DSYNC`).
    Data,
    /// Every attribute as well (`O_SYNC`).
    All,
    /// All of the file system that the file is on.
    FileSystem,
}

impl Durability {
    /// What the flags of a write ask for beyond what the host's file, opened
    /// with `opened`, does by itself.
    ///
    /// They are the only place where Linux says so of a direct write that is
    /// synchronous for another reason than the flags of the open file:
    /// `RWF_DSYNC` and `RWF_SYNC`, or a file system mounted with `sync`
    /// (`fuse_write_flags` in fs/fuse/file.c). It sends no FSYNC after it.
    pub(super) fn lacking(asked: u32, opened: OFlags) -> Option<Self> {
        // Not `OFlags::DSYNC`, which is all of `O_SYNC` in rustix.
        const DATA: u32 = libc::O_DSYNC.cast_unsigned();
        const ALL: u32 = libc::O_SYNC.cast_unsigned();
        let lacks = |bits| asked & bits == bits && opened.bits() & bits != bits;
        if lacks(ALL) {
            Some(Self::All)
        } else if lacks(DATA) {
            Some(Self::Data)
        } else {
            None
        }
    }

    /// Puts it there, and tells of writes that failed since the file was
    /// opened or last asked.
    pub(super) fn sync(self, file: impl AsFd) -> Result<()> {
        #[cfg(test)]
        recorded::sync(self)?;
        retry_on_intr(|| match self {
            Self::Data => rustix::fs::fdatasync(&file),
            Self::All => rustix::fs::fsync(&file),
            Self::FileSystem => rustix::fs::syncfs(&file),
        })
    }
}

impl Passthrough {
    /// SYNCFS: the file system of a node. To a guest without submounts a share
    /// is one file system; then every one is synced of which it knows a node.
    /// All are tried, and the first error is the answer.
    pub(super) fn sync_file_systems(&self, number: NodeId) -> Result<()> {
        let (inode, _) = self.node(number)?;
        // The guest has written nothing. What the host has written may take long
        // to sync, and every run ends with a sync(2).
        if !self.changed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut outcome = self.sync_file_system(&inode);
        if !self.agreement().submounts {
            for other in self.on_other_mounts(&inode) {
                outcome = outcome.and(self.sync_file_system(&other));
            }
        }
        outcome
    }

    /// A node of each mount but that of `inode`; a directory if there is one,
    /// which can be opened more often than a file.
    fn on_other_mounts(&self, inode: &Arc<Inode>) -> Vec<Arc<Inode>> {
        let mut found = vec![self.inodes.root()];
        let directory = |inode: &Inode| inode.kind == Kind::Directory;
        if self.mounts.has_others() {
            self.inodes.for_each(|node| {
                let as_good = |one: &Arc<Inode>| directory(one) || !directory(node);
                let same = |one: &Arc<Inode>| Arc::ptr_eq(&one.mount, &node.mount);
                if !found.iter().any(|one| same(one) && as_good(one)) {
                    found.push(Arc::clone(node));
                }
            });
        }
        found.sort_by_key(|node| !directory(node));
        let mut one_of_each = vec![Arc::clone(inode)];
        for node in found {
            let same = |one: &Arc<Inode>| Arc::ptr_eq(&one.mount, &node.mount);
            if !one_of_each.iter().any(same) {
                one_of_each.push(node);
            }
        }
        one_of_each.split_off(1)
    }

    /// By what is open on the mount, if anything: the host tells of failed
    /// writes whoever had a file open when they failed.
    fn sync_file_system(&self, inode: &Arc<Inode>) -> Result<()> {
        let durability = Durability::FileSystem;
        if let Some(directory) = inode.mount.handles() {
            return durability.sync(directory);
        }
        if let Some(open) = self.handles.on(&inode.mount) {
            return durability.sync(open.host());
        }
        let flags = match inode.kind {
            Kind::Directory => OFlags::RDONLY | OFlags::DIRECTORY,
            // To open what the host makes up may do anything.
            Kind::Regular if inode.mount.host_fs.synthetic => return Ok(()),
            Kind::Regular => OFlags::RDONLY | OFlags::NONBLOCK,
            // Mounted alone, and never written to.
            Kind::Symlink | Kind::Special => return Ok(()),
        };
        let descriptor = self.descriptor(inode)?;
        let open = || self.root.reopen(&*descriptor, flags);
        durability.sync(&self.hold(Purpose::Work, open)?)
    }
}

/// For tests: what the calling thread synced, and an error in place of it.
#[cfg(test)]
pub(super) mod recorded {
    use std::cell::{Cell, RefCell};

    use rustix::io::Errno;

    use super::Durability;
    use crate::filesystem::Result;

    thread_local! {
        static SYNCS: RefCell<Vec<Durability>> = const { RefCell::new(Vec::new()) };
        static FAILURE: Cell<Option<Errno>> = const { Cell::new(None) };
    }

    pub(super) fn sync(durability: Durability) -> Result<()> {
        SYNCS.with_borrow_mut(|syncs| syncs.push(durability));
        FAILURE.take().map_or(Ok(()), Err)
    }

    /// What was synced since this was called last.
    pub(in crate::passthrough) fn syncs() -> Vec<Durability> {
        SYNCS.take()
    }

    /// Lets the next sync fail.
    pub(in crate::passthrough) fn fail(error: Errno) {
        FAILURE.set(Some(error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_made_durable_as_it_asks_unless_the_file_does_so_by_itself() {
        let plain = libc::O_RDWR;
        let (dsync, sync) = (plain | libc::O_DSYNC, plain | libc::O_SYNC);
        for (asked, opened, expected) in [
            (plain, plain, None),
            (dsync, plain, Some(Durability::Data)),
            (sync, plain, Some(Durability::All)),
            (dsync, dsync, None),
            (sync, dsync, Some(Durability::All)),
            (dsync, sync, None),
            (sync, sync, None),
            (plain, sync, None),
        ] {
            let host = OFlags::from_bits_retain(opened.cast_unsigned());
            assert_eq!(
                Durability::lacking(asked.cast_unsigned(), host),
                expected,
                "{asked:#o} on {opened:#o}"
            );
        }
    }
}
