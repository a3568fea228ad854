//! Which inodes hold a descriptor, and how the others get one again.
//!
//! When the share's part of the descriptors (see `budget`) is spent, or the
//! host says that there are no more, a second-chance clock picks inodes that
//! have not been used since it came by last, writes down how to find them again
//! and lets their descriptors go.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use rustix::io::Errno;

use super::Passthrough;
use super::budget::{Descriptor, Permit, Purpose, Refused};
use super::inode::Inode;
use crate::filesystem::Result;

/// How many inodes may turn out not to be found again, to let one go, before it
/// is one of these.
const PATIENCE: usize = 32;
/// How often an operation is tried again after descriptors were let go.
const RETRIES: usize = 8;
/// How long an operation waits at most, in naps, for descriptors that others
/// are at work with. No lock is held, and what a guest has them wait for is its
/// own doing.
const NAPS: usize = 1000;
const NAP: Duration = Duration::from_millis(1);

/// What came of letting an inode's descriptor go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Eviction {
    /// There is one less.
    Done,
    /// Those that could be let go are in use at the moment.
    Busy,
    /// All must stay.
    Vain,
}

/// An inode that cannot be had again without its descriptor.
#[derive(Debug)]
pub(super) struct Lost {
    inode: Arc<Inode>,
    descriptor: Arc<Descriptor>,
}

impl Passthrough {
    /// Leave to open one descriptor, for which an inode's may have to be let
    /// go. `ENFILE` when the guest makes us hold as many as it may.
    pub(super) fn permit(&self, purpose: Purpose) -> Result<Permit> {
        let mut naps = NAPS;
        loop {
            match self.part.permit(purpose) {
                Ok(permit) => return Ok(permit),
                Err(Refused::Exhausted) => return Err(Errno::NFILE),
                Err(Refused::UntilEviction) => {}
            }
            match self.evict() {
                Eviction::Done => {}
                // Other operations have them, and will soon be done.
                Eviction::Busy if naps > 0 => {
                    naps -= 1;
                    thread::sleep(NAP);
                }
                Eviction::Busy | Eviction::Vain => return Err(Errno::NFILE),
            }
        }
    }

    /// Opens a descriptor that counts as one for `purpose`.
    pub(super) fn hold<T>(
        &self,
        purpose: Purpose,
        open: impl FnMut() -> Result<T>,
    ) -> Result<Descriptor<T>> {
        let permit = self.permit(purpose)?;
        Ok(Descriptor::new(self.with_descriptors(open)?, permit))
    }

    /// Does something that takes a descriptor, and when the host has none left
    /// lets some inodes' go and tries again.
    pub(super) fn with_descriptors<T>(&self, mut act: impl FnMut() -> Result<T>) -> Result<T> {
        let mut retries = RETRIES;
        loop {
            match act() {
                Err(Errno::MFILE | Errno::NFILE) if retries > 0 => {
                    retries -= 1;
                    let some = (self.part.work() / 8).clamp(1, 256);
                    let evict = || self.evict() == Eviction::Done;
                    if !(0..some).fold(false, |any, _| evict() || any) {
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

    /// An inode got a descriptor: puts it on the clock.
    pub(super) fn took_descriptor(&self, inode: &Inode) {
        self.second_chance
            .watch(inode.number, self.part.work(), |number| {
                self.inodes
                    .get(number)
                    .is_ok_and(|inode| inode.place().descriptor.is_some())
            });
    }

    /// Lets one inode's descriptor go if there is one that can be. One that
    /// cannot be had again goes last: it has no name any more, and the guest
    /// has not opened it.
    fn evict(&self) -> Eviction {
        match self.evict_one() {
            (_, Some(lost)) if Self::let_go(&lost.inode, &lost.descriptor) => Eviction::Done,
            (outcome, _) => outcome,
        }
    }

    /// Lets the descriptor of one inode go that can be found again. Without
    /// success, says which one that cannot be was met first.
    pub(super) fn evict_one(&self) -> (Eviction, Option<Lost>) {
        // The root is on no clock; what is held beyond is with operations.
        let mut busy = self.part.work() > self.second_chance.hands() + 1;
        let mut lost = None;
        let mut patience = PATIENCE;
        // Twice round: the first time may only take the marks away. But with
        // few calls of the host, so that a guest with many inodes that cannot
        // be found again pays no more than others do.
        for _ in 0..self.second_chance.hands().saturating_mul(2) {
            let Some(number) = self.second_chance.next() else {
                break;
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
            let in_use = Arc::strong_count(&descriptor) > 2;
            if spared || in_use {
                busy |= in_use;
                self.second_chance.put_back(number);
                continue;
            }
            if self.can_be_found(&inode, &descriptor) && Self::let_go(&inode, &descriptor) {
                return (Eviction::Done, None);
            }
            self.second_chance.put_back(number);
            lost.get_or_insert(Lost { inode, descriptor });
            patience -= 1;
            if patience == 0 {
                break;
            }
        }
        let outcome = if busy { Eviction::Busy } else { Eviction::Vain };
        (outcome, lost)
    }

    /// Takes the descriptor out of its place; false when that could lose the
    /// inode. Whoever removes a name holds the descriptor meanwhile and marks
    /// the inode as used, under the same lock: as nobody has done so since
    /// the mark was taken away, the address found good after that still is.
    pub(super) fn let_go(inode: &Inode, descriptor: &Arc<Descriptor>) -> bool {
        let mut place = inode.place();
        if inode.recently_used.load(Ordering::Relaxed) || Arc::strong_count(descriptor) > 2 {
            return false;
        }
        place.descriptor = None;
        true
    }
}
