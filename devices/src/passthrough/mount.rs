//! The file systems under a share: the one of its root, and those mounted
//! below it.
//!
//! Three things depend on the mount a file is on: whether it can be found
//! again by file handle, whether its creation time tells files apart, and how
//! its inode number is told to a guest that sees one `st_dev` for all of
//! them.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};

use super::Passthrough;
use super::budget::{Descriptor, Permit, Purpose};
use super::capacity::Capacity;
use super::host_fs::HostFs;
use super::root::Root;
use super::stat::{Identity, Kind, Stat};
use super::sys;

/// One mount.
#[derive(Debug)]
pub(super) struct Mount {
    /// A descriptor to open file handles by; `None` when that cannot work.
    handles: Option<Descriptor>,
    /// The file system mounted there.
    pub(super) host_fs: HostFs,
    /// Where the inodes on it take their places.
    pub(super) capacity: Arc<Capacity>,
}

impl Mount {
    /// The descriptor to open file handles by, where they work.
    pub(super) fn handles(&self) -> Option<&Descriptor> {
        self.handles.as_ref()
    }

    /// What tells a node of this mount from every other one there is or was.
    pub(super) fn identity(&self, of: &Stat) -> Identity {
        of.identity(self.host_fs.stable_birth)
    }

    /// Finds out what the mount can do by a descriptor of a node on it. That
    /// handles work shows with a directory only, as opening anything else
    /// could have effects, and with leave to hold one for good and another
    /// for the trial.
    fn probe(
        root: &Root,
        fd: impl AsFd,
        leave: Option<[Permit; 2]>,
        capacity: &Arc<Capacity>,
    ) -> Self {
        let handles = leave.and_then(|[permit, _trial]| {
            let mount = Descriptor::new(root.open_directory(&fd).ok()?, permit);
            let handle = sys::name_to_handle(&fd).ok()?;
            sys::open_by_handle(&mount, &handle)
                .is_ok()
                .then_some(mount)
        });
        Self {
            handles,
            host_fs: HostFs::of(&fd),
            capacity: Arc::clone(capacity),
        }
    }
}

/// The mounts that the guest knows a node on, and the numbers given to their
/// devices. They live as long as such a node: what is held for one would keep
/// the host from unmounting it.
#[derive(Debug)]
pub(super) struct Mounts {
    root_id: u64,
    root: Arc<Mount>,
    root_device: u64,
    others: RwLock<HashMap<u64, Weak<Mount>>>,
    /// Devices below the share, in the order they were met.
    devices: RwLock<Vec<u64>>,
    /// One of the mounts met is on a file system that may keep one waiting.
    some_may_stall: AtomicBool,
}

impl Mounts {
    /// Starts with the mount of the share's root.
    pub(super) fn new(
        root: &Root,
        status: &Stat,
        leave: Option<[Permit; 2]>,
        capacity: &Arc<Capacity>,
    ) -> Self {
        let mount = Mount::probe(root, root.fd(), leave, capacity);
        Self {
            root_id: status.mount,
            some_may_stall: AtomicBool::new(mount.host_fs.may_stall),
            root: Arc::new(mount),
            root_device: status.device,
            others: RwLock::default(),
            devices: RwLock::default(),
        }
    }

    /// Whether a mount was met whose file system may keep one waiting.
    pub(super) fn some_may_stall(&self) -> bool {
        self.some_may_stall.load(Ordering::Relaxed)
    }

    /// Whether the guest knows a node that is not on the root's mount.
    pub(super) fn has_others(&self) -> bool {
        let others = self.others.read().unwrap_or_else(PoisonError::into_inner);
        others.values().any(|mount| mount.strong_count() > 0)
    }

    /// The mount of the share's root.
    pub(super) fn of_root(&self) -> Arc<Mount> {
        Arc::clone(&self.root)
    }

    /// The mount with this ID, if it was met before.
    pub(super) fn known(&self, id: u64) -> Option<Arc<Mount>> {
        if id == self.root_id {
            return Some(Arc::clone(&self.root));
        }
        let others = self.others.read().unwrap_or_else(PoisonError::into_inner);
        others.get(&id).and_then(Weak::upgrade)
    }

    /// Takes `mount` up as the one with this ID, unless another thread has
    /// met it in the meantime.
    fn meet(&self, id: u64, mount: Mount) -> Arc<Mount> {
        let mut others = self.others.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(mount) = others.get(&id).and_then(Weak::upgrade) {
            return mount;
        }
        if mount.host_fs.may_stall {
            self.some_may_stall.store(true, Ordering::Relaxed);
        }
        // What the host mounted and unmounted in the course of time.
        others.retain(|_, mount| mount.strong_count() > 0);
        let mount = Arc::new(mount);
        others.insert(id, Arc::downgrade(&mount));
        mount
    }

    /// The inode number told to the guest for `ino` on `device`.
    ///
    /// On the root's device it is the host's. On every other one the top 16
    /// bits are exclusive-ored with a number that stands for the device, from
    /// 1 up in the order they were met, so that two files of one share do not
    /// look like hard links of each other. Exact for host inode numbers below
    /// 2^48 and up to 65 535 devices.
    pub(super) fn guest_ino(&self, device: u64, ino: u64) -> u64 {
        if device == self.root_device {
            return ino;
        }
        let devices = self.devices.read().unwrap_or_else(PoisonError::into_inner);
        let mut index = devices.iter().position(|d| *d == device);
        drop(devices);
        if index.is_none() {
            let mut devices = self.devices.write().unwrap_or_else(PoisonError::into_inner);
            index = devices.iter().position(|d| *d == device);
            if index.is_none() {
                index = Some(devices.len());
                devices.push(device);
            }
        }
        let number = index.unwrap_or(0).saturating_add(1) as u64;
        ino ^ (number << 48)
    }
}

impl Passthrough {
    /// The mount that a node with `status`, open as `fd`, is on. The way there
    /// leads over the one `above`.
    pub(super) fn mount_of(&self, fd: impl AsFd, status: &Stat, above: &Mount) -> Arc<Mount> {
        if let Some(mount) = self.mounts.known(status.mount) {
            return mount;
        }
        let permit = |purpose| self.permit(purpose).ok();
        let leave = (self.config.file_handles && status.kind == Kind::Directory)
            .then(|| Some([permit(Purpose::Mount)?, permit(Purpose::Work)?]));
        let mut mount = Mount::probe(&self.root, fd, leave.flatten(), &self.capacity);
        mount.host_fs.may_stall |= above.host_fs.may_stall;
        self.mounts.meet(status.mount, mount)
    }
}
