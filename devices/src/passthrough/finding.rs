//! How an inode that was let go is found again.
//!
//! Where the host's file system has file handles, by the handle. Otherwise by
//! any name that the guest was told of: from the nearest directory above that
//! is open, all components in one system call, however many there are, and
//! whatever is found is only taken for the node when its identity says so. A
//! file that has lost its last name is found as long as the guest has it open.
//! What is not found is `ESTALE`, which makes the guest look its path up
//! afresh.

use std::ffi::{CStr, CString};
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::Passthrough;
use super::budget::{Descriptor, Purpose};
use super::inode::{Inode, Place};
use super::names::Name;
use super::stat::Stat;
use super::sys;
use crate::filesystem::{NodeId, Result};

/// How many levels a way may have.
pub(super) const DEEPEST: usize = 16_384;
/// The longest path that one system call takes: `PATH_MAX` without the NUL.
const LONGEST: usize = 4095;

/// A path of remembered names.
#[derive(Debug)]
pub(super) struct Way {
    /// The directory that it begins at.
    pub(super) base: Arc<Inode>,
    /// Names with slashes between them; none when it ends where it begins.
    path: Vec<u8>,
}

impl Way {
    /// Whether it ends where it begins.
    pub(super) fn is_empty(&self) -> bool {
        self.path.is_empty()
    }

    /// Its parts, each short enough for one system call.
    fn parts(&self) -> impl Iterator<Item = Result<CString>> {
        let mut rest = &self.path[..];
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let end = if rest.len() <= LONGEST {
                rest.len()
            } else {
                // A name has at most 255 bytes, so there is a slash.
                let fits = rest.get(..=LONGEST).unwrap_or(rest);
                fits.iter()
                    .rposition(|byte| *byte == b'/')
                    .unwrap_or(rest.len())
            };
            let part = rest.get(..end).unwrap_or(rest);
            rest = rest.get(end + 1..).unwrap_or_default();
            Some(CString::new(part).map_err(|_| Errno::INVAL))
        })
    }
}

impl Passthrough {
    /// The inode's descriptor, opened again if it had been let go.
    pub(super) fn descriptor(&self, inode: &Arc<Inode>) -> Result<Arc<Descriptor>> {
        match inode.descriptor() {
            Some(descriptor) => Ok(descriptor),
            None => self.find(inode),
        }
    }

    /// Whether the inode, open as `descriptor`, may be let go: a node without
    /// a name lives by its descriptor alone, and one without a name that is known
    /// is found by its handle alone, unless the guest has it open.
    pub(super) fn can_be_found(&self, inode: &Inode, descriptor: &Descriptor) -> bool {
        let Ok(stat) = Stat::of(descriptor) else {
            return false;
        };
        let is_open = || self.handles.of(inode.number).is_some();
        if stat.raw.stx_nlink == 0 && !is_open() {
            return false;
        }
        if inode.mount.handles().is_some() && inode.place().handle.is_none() {
            let handle = sys::name_to_handle(descriptor.as_fd()).ok().map(Box::new);
            inode.place().handle = handle;
        }
        let place = inode.place();
        let nowhere = place.handle.is_none() && place.names.is_empty();
        drop(place);
        !nowhere || is_open()
    }

    fn find(&self, inode: &Arc<Inode>) -> Result<Arc<Descriptor>> {
        let outcome = match self.find_by_handle(inode) {
            Err(Errno::STALE) => self.find_by_name(inode),
            outcome => outcome,
        };
        match outcome {
            Err(Errno::STALE) => self.find_open(inode),
            outcome => outcome,
        }
    }

    fn find_by_handle(&self, inode: &Arc<Inode>) -> Result<Arc<Descriptor>> {
        let mount = inode.mount.handles().ok_or(Errno::STALE)?;
        let handle = inode.place().handle.clone().ok_or(Errno::STALE)?;
        let fd = self
            .hold(Purpose::Work, || sys::open_by_handle(mount, &handle))
            .map_err(|error| match error {
                // The thread has lost the privilege meanwhile: the guest can
                // still look the path up.
                Errno::PERM => Errno::STALE,
                other => other,
            })?;
        self.adopt_verified(inode, fd)
    }

    fn find_by_name(&self, inode: &Arc<Inode>) -> Result<Arc<Descriptor>> {
        let names: Vec<Name> = inode.place().names.iter().cloned().collect();
        let open = |name: &Name| {
            let way = self.way(name.parent, |_, place| {
                place.descriptor.is_some() || place.handle.is_some()
            })?;
            let directory = match way.base.descriptor() {
                Some(descriptor) => descriptor,
                None => self.find_by_handle(&way.base)?,
            };
            let fd = self.follow(&*directory, &way, Some(&name.name))?;
            self.adopt_verified(inode, fd)
        };
        let mut outcome = Err(Errno::STALE);
        for name in &names {
            outcome = open(name);
            if !matches!(outcome, Err(Errno::STALE)) {
                break;
            }
        }
        outcome
    }

    /// By a file that the guest has open.
    fn find_open(&self, inode: &Arc<Inode>) -> Result<Arc<Descriptor>> {
        let open = self.handles.of(inode.number).ok_or(Errno::STALE)?;
        let reopen = || self.root.reopen(open.host(), OFlags::PATH);
        let fd = self.hold(Purpose::Work, reopen)?;
        self.adopt_verified(inode, fd)
    }

    fn adopt_verified(&self, inode: &Arc<Inode>, fd: Descriptor) -> Result<Arc<Descriptor>> {
        let stat = Stat::of(&fd)?;
        if inode.mount.identity(&stat) != inode.identity {
            return Err(Errno::STALE);
        }
        Ok(self.give_descriptor(inode, Arc::new(fd)))
    }

    /// The names that lead down to the directory `to` from the nearest one
    /// above it, or itself, that is `reached` otherwise. The root always is.
    pub(super) fn way(&self, to: NodeId, reached: impl Fn(&Inode, &Place) -> bool) -> Result<Way> {
        // Upwards, so the bytes come from the last to the first.
        let mut path = Vec::new();
        let mut at = self.inodes.get(to)?;
        for _ in 0..DEEPEST {
            let place = at.place();
            if at.number == crate::filesystem::ROOT || reached(&at, &place) {
                drop(place);
                path.reverse();
                return Ok(Way { base: at, path });
            }
            // A directory has one name.
            let name = place.names.iter().next().ok_or(Errno::STALE)?;
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend(name.name.to_bytes().iter().rev());
            let parent = name.parent;
            drop(place);
            at = self.inodes.get(parent)?;
        }
        Err(Errno::STALE)
    }

    /// Opens what the way from `base`, and then `name`, lead to; `ESTALE` when
    /// they lead nowhere.
    pub(super) fn follow(
        &self,
        base: impl AsFd,
        way: &Way,
        name: Option<&CStr>,
    ) -> Result<Descriptor> {
        let mut at: Option<Descriptor> = None;
        let last = name.map(|name| Ok(name.to_owned()));
        for part in way.parts().chain(last) {
            let part = part?;
            let next = match &at {
                Some(at) => self.hold(Purpose::Work, || self.root.open_below(at, &part)),
                None => self.hold(Purpose::Work, || self.root.open_below(&base, &part)),
            };
            at = Some(next.map_err(astray)?);
        }
        at.ok_or(Errno::STALE)
    }
}

/// The host's answer to a name that leads nowhere, or not where it did.
pub(super) fn astray(error: Errno) -> Errno {
    match error {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV => Errno::STALE,
        other => other,
    }
}
