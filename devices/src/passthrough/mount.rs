//! The file systems under a share: the one of its root, and those mounted
//! below it.
//!
//! Three things depend on the mount a file is on: whether it can be found
//! again by file handle, whether its creation time tells files apart, and how
//! its inode number is told to a guest that sees one `st_dev` for all of
//! them.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::host_fs::HostFs;
use super::root::Root;
use super::stat::{Identity, Kind, Stat};
use super::sys;

/// One mount.
#[derive(Debug)]
pub(super) struct Mount {
    /// A descriptor to open file handles by; `None` when that cannot work.
    handles: Option<OwnedFd>,
    /// The file system mounted there.
    pub(super) host_fs: HostFs,
}

impl Mount {
    /// The descriptor to open file handles by, where they work.
    pub(super) fn handles(&self) -> Option<&OwnedFd> {
        self.handles.as_ref()
    }

    /// What tells a node of this mount from every other one there is or was.
    pub(super) fn identity(&self, of: &Stat) -> Identity {
        of.identity(self.host_fs.stable_birth)
    }

    /// Finds out what the mount can do by a descriptor of a node on it. Only
    /// a directory shows whether handles work: opening anything else could
    /// have effects.
    fn probe(root: &Root, fd: impl AsFd, kind: Kind, allow_handles: bool) -> Self {
        let handles = (allow_handles && kind == Kind::Directory)
            .then(|| root.open_directory(&fd).ok())
            .flatten()
            .filter(|mount| {
                sys::name_to_handle(&fd)
                    .and_then(|handle| sys::open_by_handle(mount, &handle))
                    .is_ok()
            });
        Self {
            handles,
            host_fs: HostFs::of(&fd),
        }
    }
}

/// All mounts met so far, and the numbers given to their devices.
#[derive(Debug)]
pub(super) struct Mounts {
    root_id: u64,
    root: Arc<Mount>,
    root_device: u64,
    others: RwLock<HashMap<u64, Arc<Mount>>>,
    /// Devices below the share, in the order they were met.
    devices: RwLock<Vec<u64>>,
    allow_handles: bool,
    /// One of the mounts met is on a file system that may keep one waiting.
    some_may_stall: AtomicBool,
}

impl Mounts {
    /// Starts with the mount of the share's root.
    pub(super) fn new(root: &Root, status: &Stat, allow_handles: bool) -> Self {
        let mount = Mount::probe(root, root.fd(), Kind::Directory, allow_handles);
        Self {
            root_id: status.mount,
            some_may_stall: AtomicBool::new(mount.host_fs.may_stall),
            root: Arc::new(mount),
            root_device: status.device,
            others: RwLock::default(),
            devices: RwLock::default(),
            allow_handles,
        }
    }

    /// Whether a mount was met whose file system may keep one waiting.
    pub(super) fn some_may_stall(&self) -> bool {
        self.some_may_stall.load(Ordering::Relaxed)
    }

    /// The mount with this ID, if it was met before.
    pub(super) fn known(&self, id: u64) -> Option<Arc<Mount>> {
        if id == self.root_id {
            return Some(Arc::clone(&self.root));
        }
        let others = self.others.read().unwrap_or_else(PoisonError::into_inner);
        others.get(&id).cloned()
    }

    /// The mount that a node with `status`, open as `fd`, is on.
    pub(super) fn of(&self, root: &Root, fd: impl AsFd, status: &Stat) -> Arc<Mount> {
        if let Some(mount) = self.known(status.mount) {
            return mount;
        }
        let mount = Arc::new(Mount::probe(root, fd, status.kind, self.allow_handles));
        if mount.host_fs.may_stall {
            self.some_may_stall.store(true, Ordering::Relaxed);
        }
        let mut others = self.others.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(others.entry(status.mount).or_insert(mount))
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
