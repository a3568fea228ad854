//! One node of the host's file system that the guest knows.
//!
//! An [`Inode`] is held by descriptor while there are descriptors to spare,
//! and otherwise by an [`Address`] from which one can be had again.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, FileType, Statx, StatxFlags};

use super::mount::Mount;
use super::sys::FileHandle;
use crate::filesystem::{NodeId, Result};

/// What a node is, as far as it decides which requests make sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Directory,
    Regular,
    Symlink,
    /// FIFO, socket or device node: the guest's kernel implements these
    /// itself and the host's is never opened.
    Special,
}

/// What `statx(2)` said about a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Status {
    /// The answer as it came.
    pub(super) raw: Statx,
    /// `st_dev`.
    pub(super) device: u64,
    /// Mount ID, 0 on hosts that do not tell.
    pub(super) mount: u64,
    /// What it is.
    pub(super) kind: Kind,
}

impl Status {
    /// Of the open node itself.
    pub(super) fn of(fd: impl AsFd) -> Result<Self> {
        Self::at(fd, c"", AtFlags::EMPTY_PATH)
    }

    /// Of the entry `name` of a directory, following nothing.
    pub(super) fn of_child(directory: impl AsFd, name: &CStr) -> Result<Self> {
        super::root::one_component(name)?;
        Self::at(directory, name, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Of the directory that `path`, which only goes up, leads to. For
    /// finding out where a directory is and for nothing else.
    pub(super) fn above(directory: impl AsFd, path: &CStr) -> Result<Self> {
        Self::at(directory, path, AtFlags::empty())
    }

    fn at(fd: impl AsFd, name: &CStr, flags: AtFlags) -> Result<Self> {
        let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID;
        let raw = rustix::fs::statx(fd, name, flags | AtFlags::NO_AUTOMOUNT, mask)?;
        let kind = match FileType::from_raw_mode(raw.stx_mode.into()) {
            FileType::Directory => Kind::Directory,
            FileType::RegularFile => Kind::Regular,
            FileType::Symlink => Kind::Symlink,
            _ => Kind::Special,
        };
        let has_mount = raw.stx_mask & StatxFlags::MNT_ID.bits() != 0;
        Ok(Self {
            device: rustix::fs::makedev(raw.stx_dev_major, raw.stx_dev_minor),
            mount: if has_mount { raw.stx_mnt_id } else { 0 },
            kind,
            raw,
        })
    }

    /// When it was created, where the host's file system records that.
    pub(super) fn birth(&self) -> Option<(i64, u32)> {
        (self.raw.stx_mask & StatxFlags::BTIME.bits() != 0)
            .then_some((self.raw.stx_btime.tv_sec, self.raw.stx_btime.tv_nsec))
    }

    /// What tells the node from every other one there is or was.
    pub(super) fn identity(&self, mount: &Mount) -> Identity {
        Identity {
            device: self.device,
            mount: self.mount,
            ino: self.raw.stx_ino,
            birth: self.birth().filter(|_| mount.stable_birth),
            kind: self.kind,
        }
    }
}

/// What tells a node from every other one. The creation time is part of it
/// because file systems use inode numbers again, and a node held by address
/// only does not keep its number from being used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    pub(super) device: u64,
    pub(super) mount: u64,
    pub(super) ino: u64,
    birth: Option<(i64, u32)>,
    /// Where no creation time is recorded, at least a directory is never
    /// taken for the file that had its number.
    kind: Kind,
}

/// An `O_PATH` descriptor that counts against the budget while it is open.
#[derive(Debug)]
pub(super) struct Descriptor {
    fd: OwnedFd,
    held: Arc<AtomicUsize>,
}

impl Descriptor {
    /// Takes `fd` into the count `held`.
    pub(super) fn new(fd: OwnedFd, held: &Arc<AtomicUsize>) -> Self {
        held.fetch_add(1, Ordering::Relaxed);
        Self {
            fd,
            held: Arc::clone(held),
        }
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        self.held.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How an inode without a descriptor is found again.
#[derive(Clone, Debug, Default)]
pub(super) enum Address {
    /// Not at all: its descriptor must stay.
    #[default]
    None,
    /// By the kernel's own handle, wherever it was moved.
    Handle(FileHandle),
    /// By walking to it, one verified component at a time. A number and not a
    /// reference, so that dropping the end of a deep chain is not recursive.
    Name { parent: NodeId, name: Box<CStr> },
}

/// Where an inode is at the moment.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) descriptor: Option<Arc<Descriptor>>,
    pub(super) address: Address,
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
    /// How many levels under the root a directory was seen last; 0 for a
    /// node of which that is not known.
    pub(super) depth: AtomicUsize,
    /// How many references the guest holds. Changed under the lock of the
    /// table, atomic because a read lock is enough to add one.
    pub(super) references: AtomicU64,
    /// Since the last time descriptors were scarce.
    pub(super) recently_used: AtomicBool,
    place: Mutex<Place>,
}

impl Inode {
    /// A node with one reference, open as `descriptor`.
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
            depth: AtomicUsize::new(0),
            references: AtomicU64::new(1),
            recently_used: AtomicBool::new(true),
            place: Mutex::new(Place {
                descriptor: Some(descriptor),
                address: Address::None,
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

    /// Remembers the entry that leads to it, for mounts without file handles.
    pub(super) fn remember_name(&self, parent: NodeId, name: &CStr) {
        if self.mount.handles().is_some() {
            return;
        }
        let mut place = self.place();
        let same = matches!(&place.address,
            Address::Name { parent: p, name: n } if *p == parent && **n == *name);
        if !same {
            place.address = Address::Name {
                parent,
                name: name.into(),
            };
        }
    }

    /// The entry no longer leads to it: unless it has another address, its
    /// descriptor has to stay.
    pub(super) fn forget_name(&self, parent: NodeId, name: &CStr) {
        let mut place = self.place();
        if matches!(&place.address,
            Address::Name { parent: p, name: n } if *p == parent && **n == *name)
        {
            place.address = Address::None;
        }
    }
}
