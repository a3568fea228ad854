//! Labels of new nodes. A security module of the guest has the label of what it
//! makes sent along, so that there is no moment at which the node has none.

use std::ffi::CStr;
use std::sync::Arc;

use rustix::fs::{AtFlags, XattrFlags};
use rustix::io::Errno;

use super::Passthrough;
use super::budget::Descriptor;
use super::inode::Inode;
use super::stat::{Kind, Stat};
use crate::filesystem::{Label, Request, Result};

impl Passthrough {
    /// Labels a node that `request` has just made, by the name in `place` if it
    /// has one. If that fails the node goes again, and with it the guest's
    /// reference.
    pub(super) fn label_or_undo(
        &self,
        request: &Request<'_>,
        inode: &Arc<Inode>,
        place: Option<(&Descriptor, &CStr)>,
    ) -> Result<()> {
        let labelled = match &request.label {
            Some(label) => self.label(inode, label),
            None => Ok(()),
        };
        if labelled.is_ok() {
            return Ok(());
        }
        if let Some((directory, name)) = place
            && Stat::of_child(directory, name)
                .is_ok_and(|status| inode.mount.identity(&status) == inode.identity)
        {
            let flags = match inode.kind {
                Kind::Directory => AtFlags::REMOVEDIR,
                _ => AtFlags::empty(),
            };
            // What the host has put into it stays.
            let _ = rustix::fs::unlinkat(directory, name, flags);
        }
        self.untold(inode);
        labelled
    }

    fn label(&self, inode: &Arc<Inode>, label: &Label<'_>) -> Result<()> {
        let name = self.attribute_names.on_host(label.name, false)?;
        let descriptor = self.descriptor(inode)?;
        let path = self.root.path_to(&*descriptor)?;
        match rustix::fs::setxattr(path.as_c_str(), &*name, label.value, XattrFlags::empty()) {
            // The host has no room for labels there: then the guest finds none,
            // and goes by what its policy says of such files.
            Err(Errno::OPNOTSUPP | Errno::PERM) => Ok(()),
            outcome => outcome,
        }
    }
}
