//! Nodes that the host moved out of the share.
//!
//! A descriptor goes with its node wherever that is moved, so a guest that
//! holds one could follow it out of the share.
//!
//! Before a *directory* is used for anything, it is therefore checked that the
//! share's root is still above it. How far above is remembered, which makes the
//! check one system call, or one for every 1365 levels; after a move it is
//! found out anew, up to the nearest directory that knows it, or for 16 384
//! levels: a directory deeper than that has to be looked up. Elsewhere
//! the host is handed `..` only where the guest asks what is above a directory
//! (see `exporting`), and nothing else found that way is shown to it.
//!
//! Nothing leads from a *file* to where it is but its names. It is opened,
//! changed or linked only while a name that the guest was told of leads to it;
//! for `ESTALE` the guest looks its path up, and is told the new name if the
//! file is still under the share. What it has open it may go on using, opening
//! again and changing, as any process may, but it is not linked back in. A file
//! of which the guest itself removed every name that it knew was not moved: it is
//! used as before, and linked if the host has another name of it (`linkat(2)` of
//! an open file). The guest could have kept the one it had.
//!
//! A move between the check and the use is not noticed until the next use.

use std::ffi::CStr;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::Passthrough;
use super::budget::{Descriptor, Purpose};
use super::finding::DEEPEST;
use super::inode::Inode;
use super::names::Name;
use super::stat::{Identity, Kind, Stat};
use super::sys::count_call;
use crate::filesystem::{Handle, NodeId, ROOT, Result};

/// Levels that one system call can go up: a path is shorter than `PATH_MAX`
/// (4096 bytes).
const LEVELS: usize = 1365;

/// `../` as often as that, and the NUL.
static UP: [u8; LEVELS * 3 + 1] = {
    let mut path = [0; LEVELS * 3 + 1];
    let mut level = 0;
    while level < LEVELS {
        path[level * 3] = b'.';
        path[level * 3 + 1] = b'.';
        path[level * 3 + 2] = b'/';
        level += 1;
    }
    path
};

/// The path that goes up `levels` directories: a tail of [`UP`].
fn up(levels: usize) -> Option<&'static CStr> {
    let start = LEVELS.checked_sub(levels)?.checked_mul(3)?;
    CStr::from_bytes_with_nul(UP.get(start..)?).ok()
}

/// What becomes of a file to which no name leads any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Otherwise {
    Stale,
    /// The guest's own, when it has it open.
    UnlessOpen,
}

/// Where a share is a mount of a part of a file system, nothing is above what was
/// moved out of the part.
fn out_of_mount(error: Errno) -> Errno {
    match error {
        Errno::NOENT => Errno::STALE,
        other => other,
    }
}

impl Passthrough {
    /// A node and its descriptor, for looking at it. `ESTALE` for a directory
    /// that the host has moved out of the share.
    pub(super) fn node(&self, number: NodeId) -> Result<(Arc<Inode>, Arc<Descriptor>)> {
        let inode = self.inodes.get(number)?;
        let descriptor = self.descriptor(&inode)?;
        if inode.kind == Kind::Directory {
            self.confine(&inode, &*descriptor)?;
        }
        Ok((inode, descriptor))
    }

    /// As [`node`](Self::node), for changing it. Nothing is asked of what the
    /// guest has open as `handle`.
    pub(super) fn node_to_change(
        &self,
        number: NodeId,
        handle: Option<Handle>,
    ) -> Result<(Arc<Inode>, Arc<Descriptor>)> {
        let (inode, descriptor) = self.node(number)?;
        let open = handle.is_some_and(|handle| self.handles.get(number, handle).is_ok());
        if inode.kind != Kind::Directory && !open {
            self.confine_file(&inode, Otherwise::UnlessOpen)?;
        }
        Ok((inode, descriptor))
    }

    /// Makes sure that a name which the guest was told of leads to the file.
    pub(super) fn confine_file(&self, inode: &Inode, otherwise: Otherwise) -> Result<()> {
        let place = inode.place();
        if place.names.is_empty() {
            return Ok(());
        }
        let names: Vec<Name> = place.names.iter().cloned().collect();
        drop(place);
        let leads_to_it = |name: &Name| {
            self.directory(name.parent)
                .and_then(|(_, directory)| Stat::of_child(&*directory, &name.name))
                .is_ok_and(|stat| inode.mount.identity(&stat) == inode.identity)
        };
        let open = || self.handles.of(inode.number).is_some();
        if names.iter().any(leads_to_it) || (otherwise == Otherwise::UnlessOpen && open()) {
            return Ok(());
        }
        Err(Errno::STALE)
    }

    /// Makes sure that the directory open as `fd` is under the share's root.
    pub(super) fn confine(&self, inode: &Inode, fd: impl AsFd) -> Result<()> {
        if inode.number == ROOT || inode.kind != Kind::Directory {
            return Ok(());
        }
        let root = self.inodes.get(ROOT)?;
        let levels = inode.depth();
        if levels > 0 && self.above(&fd, levels, &root)? == root.identity {
            return Ok(());
        }
        let levels = self.climb(fd, &root)?;
        inode.set_depth(levels);
        Ok(())
    }

    /// What is `levels` above a directory.
    fn above(&self, fd: impl AsFd, levels: usize, root: &Inode) -> Result<Identity> {
        let mut at: Option<Descriptor> = None;
        let mut left = levels;
        while left > LEVELS {
            at = Some(match &at {
                Some(at) => self.open_above(at, LEVELS)?,
                None => self.open_above(&fd, LEVELS)?,
            });
            left -= LEVELS;
        }
        let path = up(left).ok_or(Errno::STALE)?;
        let stat = match &at {
            Some(at) => Stat::above(at, path),
            None => Stat::above(fd, path),
        };
        Ok(root.mount.identity(&stat.map_err(out_of_mount)?))
    }

    pub(super) fn open_above(&self, fd: impl AsFd, levels: usize) -> Result<Descriptor> {
        let path = up(levels).ok_or(Errno::STALE)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        self.hold(Purpose::Work, || {
            count_call();
            rustix::fs::openat(&fd, path, flags, Mode::empty()).map_err(out_of_mount)
        })
    }

    /// How many levels the share's root is above a directory; `ESTALE` when
    /// it is not. Ends at the first directory on the way up of which that is
    /// known, and tells it to all before it.
    fn climb(&self, fd: impl AsFd, root: &Inode) -> Result<usize> {
        let mut before = root.mount.identity(&Stat::of(&fd)?);
        let mut at = self.open_above(fd, 1)?;
        let mut passed = Vec::new();
        let mut levels: usize = 1;
        loop {
            let here = root.mount.identity(&Stat::of(&at)?);
            let mut top = (here == root.identity).then_some(0);
            // The top of everything is its own parent.
            if top.is_none() && here == before {
                return Err(Errno::STALE);
            }
            if top.is_none()
                && let Some(known) = self.inodes.find(&here)
            {
                let depth = known.depth();
                if depth > 0 && self.above(&at, depth, root)? == root.identity {
                    top = Some(depth);
                } else {
                    passed.push((known, levels));
                }
            }
            if let Some(depth) = top {
                let levels = levels.saturating_add(depth);
                for (inode, at) in passed {
                    inode.set_depth(levels - at);
                }
                return Ok(levels);
            }
            if levels >= DEEPEST {
                return Err(Errno::STALE);
            }
            before = here;
            at = self.open_above(at, 1)?;
            levels += 1;
        }
    }
}
