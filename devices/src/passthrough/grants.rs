//! Set-ID bits and file capabilities that the guest's root has just given, and
//! which a change of the owner or size right after must not take away.
//!
//! When an overlayfs in the guest copies a file up to a share, it sets the
//! capabilities, then the size, the mode, and the owner
//! (`ovl_copy_up_metadata`). On a local file system a change of the size or the
//! owner clears set-ID bits and capabilities when `truncate(2)` or `chown(2)`
//! asks for that, which overlayfs does not. In FUSE the two cannot be told
//! apart: Linux asks for it with every change of an owner (`fuse_do_setattr`),
//! and the host's `chown(2)` and `truncate(2)` do it unasked. What tells is that
//! the same task of root gave them a moment before, and what the file is called
//! meanwhile.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use super::Passthrough;
use super::budget::Descriptor;
use super::inode::Inode;
use super::names::{Name, Names};
use crate::filesystem::{NodeId, Request, Result};

/// Where file capabilities are.
pub(super) const CAPABILITY: &std::ffi::CStr = c"security.capability";

/// Room for any `struct vfs_cap_data`.
const CAPABILITY_MAX: usize = 64;

/// The bits that a change of the owner clears.
const SET_IDS: u32 = 0o6000;

/// How long the owner may take to follow.
const A_MOMENT: Duration = Duration::from_secs(5);

/// How many grants are remembered, and so how many copies can be made at once.
const MOST: usize = 64;

/// Who gave what, lately.
#[derive(Debug, Default)]
pub(super) struct Grants(Mutex<VecDeque<Grant>>);

#[derive(Debug)]
struct Grant {
    node: NodeId,
    pid: u32,
    at: Instant,
}

impl Grants {
    /// Remembers that the caller gave the node set-ID bits or capabilities.
    pub(super) fn note(&self, request: &Request<'_>) {
        if !request.caller.may_be_root() || request.caller.pid == 0 {
            return;
        }
        let mut grants = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if grants.len() >= MOST {
            grants.pop_front();
        }
        grants.push_back(Grant {
            node: request.node,
            pid: request.caller.pid,
            at: Instant::now(),
        });
    }

    /// Whether this caller gave the node something just now. It counts once.
    fn take(&self, request: &Request<'_>) -> bool {
        if !request.caller.may_be_root() {
            return false;
        }
        let mut grants = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        grants.retain(|grant| grant.at.elapsed() < A_MOMENT);
        let all = grants.len();
        grants.retain(|grant| (grant.node, grant.pid) != (request.node, request.caller.pid));
        grants.len() < all
    }
}

/// What a file has of its own that a change of the owner takes away.
#[derive(Debug)]
pub(super) struct Privileged {
    mode: Option<u32>,
    capability: Option<Vec<u8>>,
}

/// Whether overlayfs calls a copy so until it is complete: `#` and a number
/// (`ovl_create_temp`), or nothing at all (`ovl_copy_up_tmpfile`).
fn may_be_copy(names: &Names) -> bool {
    let is_copy = |name: &Name| name.name.to_bytes().starts_with(b"#");
    names.is_empty() || names.iter().any(is_copy)
}

impl Passthrough {
    /// What is to outlive a change of the owner that `request` asks for.
    pub(super) fn granted(
        &self,
        request: &Request<'_>,
        inode: &Inode,
        descriptor: &Descriptor,
    ) -> Result<Option<Privileged>> {
        if !self.grants.take(request) || !may_be_copy(&inode.place().names) {
            return Ok(None);
        }
        let mode = self.status(descriptor)?.seen.mode & 0o7777;
        let mut value = vec![0; CAPABILITY_MAX];
        let name = self.root.path_to(descriptor)?;
        let capability = match rustix::fs::getxattr(name.as_c_str(), CAPABILITY, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                Some(value)
            }
            Err(_) => None,
        };
        Ok(Some(Privileged {
            mode: (mode & SET_IDS != 0).then_some(mode),
            capability,
        }))
    }

    /// Gives it back.
    pub(super) fn give_back(
        &self,
        inode: &Inode,
        descriptor: &Descriptor,
        privileged: &Privileged,
    ) -> Result<()> {
        if let Some(mode) = privileged.mode {
            self.set_mode(inode, descriptor, mode)?;
        }
        let Some(capability) = &privileged.capability else {
            return Ok(());
        };
        let name = self.root.path_to(descriptor)?;
        match rustix::fs::setxattr(name.as_c_str(), CAPABILITY, capability, XattrFlags::empty()) {
            // Not ours to give.
            Err(Errno::PERM | Errno::OPNOTSUPP) => Ok(()),
            outcome => outcome,
        }
    }
}
