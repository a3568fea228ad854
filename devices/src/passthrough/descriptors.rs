//! Which inodes hold a descriptor, and how the others get one again.
//!
//! When the [`Budget`](super::budget::Budget) is spent, or the host says that
//! there are no more descriptors, a second-chance clock picks inodes that have
//! not been used since it came by last, writes down how to find them again and
//! lets their descriptors go.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::io::Errno;

use super::Passthrough;
use super::inode::{Descriptor, Inode};
use crate::filesystem::Result;

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
                || !self.can_be_found(&inode, &descriptor)
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
}
