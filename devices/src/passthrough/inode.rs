//! One node of the host's file system that the guest knows.
//!
//! An [`Inode`] is held by descriptor while there are descriptors to spare,
//! and otherwise by what one can be had again by: see `finding`.

use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::budget::Descriptor;
use super::cached_attributes::CachedAttributes;
use super::clock::{Moment, Tick};
use super::mount::Mount;
use super::names::Names;
use super::stat::{Identity, Kind};
use super::sys::FileHandle;
use crate::filesystem::{NodeId, ROOT};

/// Where an inode is at the moment.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) descriptor: Option<Arc<Descriptor>>,
    /// The kernel's own handle, which finds it wherever it was moved.
    pub(super) handle: Option<Box<FileHandle>>,
    /// The names by which the guest was told of it.
    pub(super) names: Names,
}

/// A node that the guest knows.
#[derive(Debug)]
pub(super) struct Inode {
    /// Its number at the guest, never used again for another.
    pub(super) number: NodeId,
    pub(super) identity: Identity,
    /// Fixed for the life of a node.
    pub(super) kind: Kind,
    pub(super) mount: Arc<Mount>,
    /// The root of another file system mounted under the share.
    pub(super) mount_point: bool,
    /// See [`depth`](Self::depth).
    depth: AtomicU32,
    /// See [`verify`](Self::verify).
    verified: AtomicU32,
    /// How many references the guest holds. Changed under the lock of the
    /// table, atomic because a read lock is enough to add one.
    pub(super) references: AtomicU64,
    /// The attributes that the guest was told last.
    pub(super) told: CachedAttributes,
    /// How many handles the guest has open to write to it.
    pub(super) writers: AtomicU32,
    /// Whether there was no need to open what was last looked for in this directory: the
    /// guest knew it, or it was not there. Likely, it is so with the next.
    pub(super) opened_in_vain: AtomicBool,
    /// Since the last time descriptors were scarce.
    pub(super) recently_used: AtomicBool,
    place: Mutex<Place>,
}

impl Inode {
    /// A node with one reference, open as `descriptor`, in a place of its mount's
    /// capacity, unless it is the root.
    pub(super) fn new(
        number: NodeId,
        identity: Identity,
        kind: Kind,
        mount: Arc<Mount>,
        mount_point: bool,
        descriptor: Arc<Descriptor>,
    ) -> Self {
        Self {
            number,
            identity,
            kind,
            mount,
            mount_point,
            depth: AtomicU32::new(0),
            verified: AtomicU32::new(0),
            references: AtomicU64::new(1),
            told: CachedAttributes::default(),
            writers: AtomicU32::new(0),
            opened_in_vain: AtomicBool::new(false),
            recently_used: AtomicBool::new(true),
            place: Mutex::new(Place {
                descriptor: Some(descriptor),
                handle: None,
                names: Names::default(),
            }),
        }
    }

    /// Its place. Never held across a system call.
    pub(super) fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its descriptor, if it has one right now.
    pub(super) fn descriptor(&self) -> Option<Arc<Descriptor>> {
        let place = self.place();
        if place.descriptor.is_some() {
            // While the place is locked: the clock must not find the mark
            // missing once the descriptor has been handed out.
            self.recently_used.store(true, Ordering::Relaxed);
        }
        place.descriptor.clone()
    }

    /// How many levels under the root it was seen last; 0 when not known.
    pub(super) fn depth(&self) -> usize {
        self.depth.load(Ordering::Relaxed) as usize
    }

    pub(super) fn set_depth(&self, levels: usize) {
        // What does not fit is not known.
        let levels = u32::try_from(levels).unwrap_or(0);
        self.depth.store(levels, Ordering::Relaxed);
    }

    /// A directory was seen in `tick` where the guest takes it to be.
    pub(super) fn verify(&self, tick: Tick) {
        self.verified.store(tick.0, Ordering::Relaxed);
    }

    pub(super) fn is_verified(&self, tick: Tick) -> bool {
        self.verified.load(Ordering::Relaxed) == tick.0
    }

    /// The guest is told at `now` that an entry leads here.
    pub(super) fn told_name(&self, parent: NodeId, name: &CStr, now: Moment) {
        let only = self.kind == Kind::Directory;
        let capacity = &self.mount.capacity;
        self.place().names.told(parent, name, now, only, capacity);
    }

    /// The guest knows that an entry no longer leads here.
    pub(super) fn forget_name(&self, parent: NodeId, name: &CStr) {
        let gone = self.place().names.forget(parent, name);
        self.mount.capacity.give_back(gone);
    }
}

impl Drop for Inode {
    fn drop(&mut self) {
        let place = self.place.get_mut().unwrap_or_else(PoisonError::into_inner);
        let own = usize::from(self.number != ROOT);
        self.mount
            .capacity
            .give_back(own + place.names.beyond_first());
    }
}
