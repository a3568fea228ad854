//! Which inodes hold a descriptor, and how the others get one again.
//!
//! When the [`Budget`](super::budget::Budget) is spent, or the host says that
//! there are no more descriptors, a second-chance clock picks inodes that have
//! not been used since it came by last, writes down how to find them again and
//! lets their descriptors go.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::io::Errno;

use super::Passthrough;
use super::inode::{Address, Descriptor, Inode};
use super::stat::Stat;
use super::sys;
use crate::filesystem::Result;

/// How far a walk by name goes up before it gives up.
const DEEPEST: usize = 16_384;
/// How many inodes are looked at to let one go.
const PATIENCE: usize = 512;
/// How often an operation is tried again after descriptors were let go.
const RETRIES: usize = 8;

impl Passthrough {
    /// Does something that takes a descriptor, and when there is none left
    /// lets some inodes' go and tries again.
    pub(super) fn with_descriptors<T>(&self, mut act: impl FnMut() -> Result<T>) -> Result<T> {
        let mut retries = RETRIES;
        loop {
            match act() {
                Err(Errno::MFILE | Errno::NFILE) if retries > 0 => {
                    retries -= 1;
                    let some = (self.descriptors.held() / 8).clamp(1, 256);
                    if !(0..some).fold(false, |any, _| self.evict_one() || any) {
                        return Err(Errno::NFILE);
                    }
                }
                outcome => return outcome,
            }
        }
    }

    /// The inode's descriptor, opened again if it had been let go. Answers
    /// `ESTALE` when the node is no longer where it was, which makes the
    /// guest look its path up afresh.
    pub(super) fn descriptor(&self, inode: &Arc<Inode>) -> Result<Arc<Descriptor>> {
        match inode.descriptor() {
            Some(descriptor) => Ok(descriptor),
            None => self.walk_to(inode),
        }
    }

    /// Gives `inode` a descriptor, or keeps the one it has got in the
    /// meantime.
    pub(super) fn give_descriptor(
        &self,
        inode: &Arc<Inode>,
        fresh: Arc<Descriptor>,
    ) -> Arc<Descriptor> {
        let mut place = inode.place();
        if let Some(descriptor) = &place.descriptor {
            return Arc::clone(descriptor);
        }
        place.descriptor = Some(Arc::clone(&fresh));
        drop(place);
        inode.recently_used.store(true, Ordering::Relaxed);
        self.took_descriptor(inode);
        fresh
    }

    /// An inode got a descriptor: puts it on the clock and meets the budget.
    pub(super) fn took_descriptor(&self, inode: &Inode) {
        self.descriptors.watch(inode.number, |number| {
            self.inodes
                .get(number)
                .is_ok_and(|inode| inode.place().descriptor.is_some())
        });
        // One more than was added, so that a budget that was overdrawn is met
        // again.
        for _ in 0..2 {
            if self.descriptors.held() <= self.descriptors.budget() || !self.evict_one() {
                break;
            }
        }
    }

    /// Opens the inode by its address: by handle, or from the nearest
    /// ancestor that has a descriptor down, verifying every step.
    fn walk_to(&self, inode: &Arc<Inode>) -> Result<Arc<Descriptor>> {
        let mut steps = Vec::new();
        let mut at = Arc::clone(inode);
        let mut base = loop {
            let place = at.place();
            if let Some(descriptor) = &place.descriptor {
                break Arc::clone(descriptor);
            }
            let address = place.address.clone();
            drop(place);
            match address {
                Address::None => return Err(Errno::STALE),
                Address::Handle(handle) => {
                    let mount = at.mount.handles().ok_or(Errno::STALE)?;
                    let fd = self
                        .with_descriptors(|| sys::open_by_handle(mount, &handle))
                        .map_err(|error| match error {
                            // The thread has lost the privilege meanwhile:
                            // the guest can still look the path up.
                            Errno::PERM => Errno::STALE,
                            other => other,
                        })?;
                    break self.adopt_verified(&at, fd)?;
                }
                Address::Name { parent, name } => {
                    if steps.len() >= DEEPEST {
                        return Err(Errno::STALE);
                    }
                    steps.push((at, name));
                    at = self.inodes.get(parent)?;
                }
            }
        };
        for (node, name) in steps.into_iter().rev() {
            let fd = self
                .with_descriptors(|| self.root.open_child(&base, &name))
                .map_err(|error| match error {
                    Errno::NOENT | Errno::NOTDIR => Errno::STALE,
                    other => other,
                })?;
            base = self.adopt_verified(&node, fd)?;
        }
        Ok(base)
    }

    fn adopt_verified(&self, inode: &Arc<Inode>, fd: OwnedFd) -> Result<Arc<Descriptor>> {
        let status = Stat::of(&fd)?;
        if inode.mount.identity(&status) != inode.identity {
            return Err(Errno::STALE);
        }
        Ok(self.give_descriptor(inode, self.descriptors.count(fd)))
    }

    /// Lets one inode's descriptor go. False when every one of them is needed.
    pub(super) fn evict_one(&self) -> bool {
        // Twice round: the first time may only take the marks away. But never
        // long, so that a guest with many inodes that must stay pays no more
        // than others do.
        for _ in 0..self.descriptors.hands().saturating_mul(2).min(PATIENCE) {
            let Some(number) = self.descriptors.next_hand() else {
                return false;
            };
            let Ok(inode) = self.inodes.get(number) else {
                continue;
            };
            let Some(descriptor) = inode.place().descriptor.clone() else {
                continue;
            };
            let spared = inode.recently_used.swap(false, Ordering::Relaxed);
            // Two owners: the inode, and this function. A third is at work
            // with it, and letting go would free nothing.
            if spared
                || Arc::strong_count(&descriptor) > 2
                || !self.has_address(&inode, &descriptor)
            {
                self.descriptors.spare(number);
                continue;
            }
            if Self::let_go(&inode, &descriptor) {
                return true;
            }
            self.descriptors.spare(number);
        }
        false
    }

    /// Takes the descriptor out of its place; false when that could lose the
    /// inode. Whoever removes a name holds the descriptor meanwhile and marks
    /// the inode as used, under the same lock: as nobody has done so since
    /// the mark was taken away, the address found good after that still is.
    fn let_go(inode: &Inode, descriptor: &Arc<Descriptor>) -> bool {
        let mut place = inode.place();
        if inode.recently_used.load(Ordering::Relaxed) || Arc::strong_count(descriptor) > 2 {
            return false;
        }
        place.descriptor = None;
        true
    }

    /// Makes sure that the inode can be found again without its descriptor.
    fn has_address(&self, inode: &Inode, descriptor: &Descriptor) -> bool {
        if inode.mount.handles().is_some() {
            // The last name is gone: the descriptor alone keeps it alive.
            if Stat::of(descriptor).is_ok_and(|s| s.raw.stx_nlink == 0) {
                return false;
            }
            if matches!(inode.place().address, Address::Handle(_)) {
                return true;
            }
            let Ok(handle) = sys::name_to_handle(descriptor.as_fd()) else {
                return false;
            };
            inode.place().address = Address::Handle(handle);
            return true;
        }
        let address = inode.place().address.clone();
        let Address::Name { parent, name } = address else {
            return false;
        };
        let Ok(parent) = self.inodes.get(parent) else {
            return false;
        };
        // Something on the host may have moved it. When the parent has been
        // let go as well there is nothing to verify against; the walk back
        // verifies every step.
        let Some(parent) = parent.place().descriptor.clone() else {
            return true;
        };
        Stat::of_child(&*parent, &name)
            .is_ok_and(|status| inode.mount.identity(&status) == inode.identity)
    }
}
