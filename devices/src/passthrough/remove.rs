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
use super::budget::Descriptor;
use super::inode::Inode;
use super::root::one_component;
use super::stat::{Source, Stat};
use crate::filesystem::{RemoveOperations, RenameArgs, Request, Result};

/// An inode known to the guest that a name leads to, kept open while the name
/// changes.
struct Affected {
    inode: Arc<Inode>,
    _descriptor: Arc<Descriptor>,
}

impl RemoveOperations for Passthrough {
    fn unlink(&self, request: &Request<'_>, name: &CStr) -> Result<()> {
        self.remove(request, name, AtFlags::empty())
    }

    fn rmdir(&self, request: &Request<'_>, name: &CStr) -> Result<()> {
        self.remove(request, name, AtFlags::REMOVEDIR)
    }

    fn rename(&self, request: &Request<'_>, name: &CStr, to: RenameArgs<'_>) -> Result<()> {
        self.writable()?;
        one_component(name)?;
        one_component(to.name)?;
        let known = RenameFlags::NOREPLACE | RenameFlags::EXCHANGE | RenameFlags::WHITEOUT;
        let flags = RenameFlags::from_bits(to.flags)
            .filter(|flags| known.contains(*flags))
            .ok_or(Errno::INVAL)?;
        // Both, so that a task that is refused is refused for both at once.
        let from = self.coherent_directory(request.node, &request.caller);
        let (new_parent, new_directory) = self.coherent_directory(to.parent, &request.caller)?;
        let (parent, directory) = from?;
        let moved = self.affected(&parent, &directory, name);
        let replaced = self.affected(&new_parent, &new_directory, to.name);
        if flags.is_empty() {
            // Old network file systems know plain renames only.
            rustix::fs::renameat(&*directory, name, &*new_directory, to.name)?;
        } else {
            rustix::fs::renameat_with(&*directory, name, &*new_directory, to.name, flags)?;
        }
        self.renamed(
            (&parent, name),
            (&new_parent, to.name),
            moved,
            replaced,
            flags,
        );
        Ok(())
    }
}

impl Passthrough {
    /// The inodes that a rename concerned are known by other names.
    fn renamed(
        &self,
        (parent, name): (&Inode, &CStr),
        (new_parent, new_name): (&Inode, &CStr),
        moved: Option<Affected>,
        replaced: Option<Affected>,
        flags: RenameFlags,
    ) {
        let number = |affected: &Option<Affected>| affected.as_ref().map(|a| a.inode.number);
        if moved.is_some() && number(&moved) == number(&replaced) {
            // rename(2): two names of one file stay as they are.
            return;
        }
        if let Some(Affected { inode, .. }) = replaced {
            inode.forget_name(new_parent.number, new_name);
            if flags.contains(RenameFlags::EXCHANGE) {
                self.told_name(&inode, parent, name);
            }
        }
        if let Some(Affected { inode, .. }) = moved {
            inode.forget_name(parent.number, name);
            self.told_name(&inode, new_parent, new_name);
        }
    }

    fn remove(&self, request: &Request<'_>, name: &CStr, flags: AtFlags) -> Result<()> {
        self.writable()?;
        one_component(name)?;
        let (parent, directory) = self.coherent_directory(request.node, &request.caller)?;
        let affected = self.affected(&parent, &directory, name);
        rustix::fs::unlinkat(&*directory, name, flags)?;
        if let Some(affected) = affected {
            affected.inode.forget_name(parent.number, name);
        }
        Ok(())
    }

    /// The inode that a name about to change leads to, if the guest holds it.
    /// Its descriptor is held until the name has changed: an inode without one
    /// is found again by what it is called, or by a file handle that is good
    /// for as long as the file has a name or is open.
    fn affected(&self, parent: &Inode, directory: &Descriptor, name: &CStr) -> Option<Affected> {
        // Another file system's root stays where it is: nobody is asked for it.
        let source = match parent.mount.host_fs.up_to_date {
            true => Source::Kernel,
            false => Source::Server,
        };
        let status = Stat::of_child_from(source, directory, name).ok()?;
        let inode = self.inodes.find(&parent.mount.identity(&status))?;
        let descriptor = self.descriptor(&inode).ok()?;
        Some(Affected {
            inode,
            _descriptor: descriptor,
        })
    }
}
