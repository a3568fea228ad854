//! LOOKUP of `.` and `..`: nodes of which the guest has the number alone.
//!
//! The number of a node is what the guest's kernel makes a file handle of,
//! for `name_to_handle_at(2)`, for clients of an NFS server in the guest, and
//! for the index of an overlayfs. Whoever comes back with it may find that the
//! guest has dropped the node from its cache, and sent FORGET. So where this is
//! wanted nodes are kept for a while that the guest has forgotten, without a
//! descriptor, to be found again as those that were let go are (see
//! `finding`). One that was not kept, or that the host has removed, is
//! `ESTALE`.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Passthrough;
use super::inode::Inode;
use super::stat::{Kind, Stat};
use crate::filesystem::{Entry, ROOT, Request, Result};

/// What tells the nodes of this share from those that had their numbers in a
/// share before, of which there may be file handles. Linux keeps 32 bits of it.
pub(super) fn new_generation() -> u64 {
    (RandomState::new().build_hasher().finish() >> 32) | 1
}

impl Passthrough {
    /// What tells a node from one that had its number before. Linux has 0 for
    /// the root of a file system whatever it is told.
    pub(super) fn generation_of(&self, inode: &Inode) -> u64 {
        let mounted = || inode.mount_point && inode.kind == Kind::Directory;
        if inode.number == ROOT || (mounted() && self.agreement().submounts) {
            0
        } else {
            self.generation
        }
    }

    /// LOOKUP of `.`.
    pub(super) fn itself(&self, request: &Request<'_>) -> Result<Entry> {
        let (inode, descriptor) = self.node(request.node)?;
        let status = self.status(&*descriptor)?;
        let inode = self.inodes.reference_to(inode.number)?;
        Ok(self.entry(&inode, &status))
    }

    /// LOOKUP of `..`. The share's root is above what is looked at here, so
    /// what is one higher is in the share, unless the host moves it: that is
    /// checked afterwards.
    pub(super) fn above_itself(&self, request: &Request<'_>) -> Result<Entry> {
        let (inode, descriptor) = self.directory(request.node)?;
        if inode.number == ROOT {
            return self.itself(request);
        }
        let fd = self.open_above(&*descriptor, 1)?;
        let may_wait = request.may_wait();
        let status = self.status_below(&inode, may_wait, |source| Stat::of_from(source, &fd))?;
        let status = self.seen(status, &fd)?;
        let mount = self.mount_of(&fd, &status, &inode.mount);
        let identity = mount.identity(&status);
        let fd = Arc::new(fd);
        self.make_room();
        let (above, made) = self.inodes.reference_or_insert(&identity, |number| {
            self.capacity.room()?.keep();
            let (kind, fd) = (status.kind, Arc::clone(&fd));
            Ok(Inode::new(number, identity, kind, mount, false, fd))
        })?;
        if made {
            self.took_descriptor(&above);
        } else {
            self.give_descriptor(&above, Arc::clone(&fd));
        }
        match self.confine(&above, &*fd) {
            Ok(()) => Ok(self.entry(&above, &status)),
            Err(error) => {
                self.untold(&above);
                Err(error)
            }
        }
    }

    /// Drops forgotten nodes where there is no place for others any more.
    pub(super) fn make_room(&self) {
        while self.capacity.is_full() && self.inodes.drop_oldest_forgotten() {}
    }

    /// A node that the guest has forgotten is kept without its descriptor, and
    /// not at all if it cannot be found again or if its server may be gone:
    /// FORGET waits for nobody.
    pub(super) fn keep_forgotten(&self, inode: &Arc<Inode>) {
        let Some(descriptor) = inode.place().descriptor.clone() else {
            return;
        };
        inode.recently_used.store(false, Ordering::Relaxed);
        if !inode.mount.host_fs.may_stall && self.can_be_found(inode, &descriptor) {
            // If somebody is using it, the clock lets go of it later.
            Self::let_go(inode, &descriptor);
        } else {
            self.inodes.remove_forgotten(inode.number);
        }
    }
}
