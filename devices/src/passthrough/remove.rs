//! Names that go or move: UNLINK, RMDIR, RENAME.
//!
//! A node may lose its last name while the guest still holds it. The host
//! keeps such a node for as long as it has a descriptor, so one is opened
//! before the name goes if the inode has been without; and an inode that is
//! found by name is told when its name changes.

use std::ffi::CStr;
use std::sync::Arc;

use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::Errno;

use super::Passthrough;
use super::inode::{Descriptor, Inode};
use super::root::one_component;
use super::stat::Status;
use crate::filesystem::{NodeId, Result};

/// An inode known to the guest that a name leads to, kept open while the name
/// changes.
struct Affected {
    inode: Arc<Inode>,
    _descriptor: Arc<Descriptor>,
}

impl Passthrough {
    pub(super) fn do_remove(&self, parent: NodeId, name: &CStr, flags: AtFlags) -> Result<()> {
        self.writable()?;
        one_component(name)?;
        let (parent, directory) = self.directory(parent)?;
        let affected = self.affected(&parent, &directory, name);
        rustix::fs::unlinkat(&*directory, name, flags)?;
        if let Some(affected) = affected {
            affected.inode.forget_name(parent.number, name);
        }
        Ok(())
    }

    pub(super) fn do_rename(
        &self,
        parent: NodeId,
        name: &CStr,
        new_parent: NodeId,
        new_name: &CStr,
        flags: u32,
    ) -> Result<()> {
        self.writable()?;
        one_component(name)?;
        one_component(new_name)?;
        let known = RenameFlags::NOREPLACE | RenameFlags::EXCHANGE | RenameFlags::WHITEOUT;
        let flags = RenameFlags::from_bits(flags)
            .filter(|flags| known.contains(*flags))
            .ok_or(Errno::INVAL)?;
        let (parent, from) = self.directory(parent)?;
        let (new_parent, to) = self.directory(new_parent)?;
        let moved = self.affected(&parent, &from, name);
        let replaced = self.affected(&new_parent, &to, new_name);
        if flags.is_empty() {
            // Old network file systems know plain renames only.
            rustix::fs::renameat(&*from, name, &*to, new_name)?;
        } else {
            rustix::fs::renameat_with(&*from, name, &*to, new_name, flags)?;
        }
        if let Some(replaced) = replaced {
            replaced.inode.forget_name(new_parent.number, new_name);
            if flags.contains(RenameFlags::EXCHANGE) {
                replaced.inode.remember_name(parent.number, name);
            }
        }
        if let Some(moved) = moved {
            moved.inode.remember_name(new_parent.number, new_name);
        }
        Ok(())
    }

    /// The inode that a name about to change leads to, if the guest holds it.
    /// Its descriptor is held until the name has changed: an inode without one
    /// is found again by what it is called, or by a file handle that is good
    /// for as long as the file has a name or is open.
    fn affected(&self, parent: &Inode, directory: &Descriptor, name: &CStr) -> Option<Affected> {
        let status = Status::of_child(directory, name).ok()?;
        let inode = self.inodes.find(&status.identity(&parent.mount))?;
        let descriptor = self.descriptor(&inode).ok()?;
        Some(Affected {
            inode,
            _descriptor: descriptor,
        })
    }
}
