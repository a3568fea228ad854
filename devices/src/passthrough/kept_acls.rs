//! POSIX ACLs of a share that keeps owners in attributes: kept beside these
//! (`attribute_names`), because whom they name is nobody on the host, whose kernel
//! would act by them.
//!
//! The guest's kernel acts by them, and leaves to this side what a file system does
//! with them: an ACL that is set sets the mode, and one that a mode says is none; a
//! directory's default is what is made in it begins with, in place of the umask. What
//! `chmod(2)` changes of an ACL is put into it when it is read.

use std::borrow::Cow;
use std::ffi::CStr;
use std::os::fd::AsFd;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use super::Passthrough;
use super::acl::Acl;
use super::attribute_names::ACLS;
use super::budget::Descriptor;
use super::kept_owners::{Born, NewKind, has_room};
use super::stat::{Kind, SET_GID, Stat};
use crate::filesystem::{NodeId, Result, SetXattrArgs};

/// That of a node, and that of what is made in a directory.
const ACCESS: &CStr = ACLS[0];
const DEFAULT: &CStr = ACLS[1];

/// `S_IRWXU | S_IRWXG | S_IRWXO`.
const MODE: u32 = 0o777;

/// The longest value that is read, in bytes (`XATTR_SIZE_MAX`).
const LONGEST: usize = 65_536;

impl Passthrough {
    /// SETXATTR of an ACL.
    pub(super) fn keep_acl(
        &self,
        node: NodeId,
        name: &CStr,
        args: &SetXattrArgs<'_>,
    ) -> Result<()> {
        let acl = Acl::parse(args.value).ok_or(Errno::INVAL)?;
        let (inode, descriptor) = self.node_to_change(node, None)?;
        let status = self.status(&*descriptor)?;
        if !has_room(&status) {
            return Err(Errno::OPNOTSUPP);
        }
        if name == DEFAULT {
            return match status.kind {
                Kind::Directory => self.put_acl(&*descriptor, name, &acl),
                _ => Err(Errno::ACCESS),
            };
        }
        inode.told.forget();
        match acl.is_a_mode() {
            true => self.drop_acl(&*descriptor, name)?,
            false => self.put_acl(&*descriptor, name, &acl)?,
        }
        let changed = self.change_kept(&*descriptor, |seen| {
            seen.mode = seen.mode & !MODE | acl.mode();
            if args.clear_set_gid {
                seen.mode &= !SET_GID;
            }
        });
        changed.map(drop)
    }

    /// REMOVEXATTR of an ACL, which need not be there.
    pub(super) fn forget_acl(&self, node: NodeId, name: &CStr) -> Result<()> {
        let (_, descriptor) = self.node_to_change(node, None)?;
        self.drop_acl(&*descriptor, name)
    }

    /// GETXATTR of an ACL.
    pub(super) fn kept_acl(&self, node: NodeId, name: &CStr) -> Result<Vec<u8>> {
        let (_, descriptor) = self.node(node)?;
        let acl = self.read_acl(&*descriptor, name)?.ok_or(Errno::NODATA)?;
        if name == DEFAULT {
            return Ok(acl.value());
        }
        let seen = self.status(&*descriptor)?.seen;
        Ok(acl.with_mode(seen.mode).value())
    }

    /// The ACL that says who may do what to the node open as `fd`, if it has one.
    pub(super) fn acl_in_force(&self, fd: &Descriptor, status: &Stat) -> Result<Option<Acl>> {
        match self.agreement().posix_acl {
            true => Ok((self.read_acl(fd, ACCESS)?).map(|acl| acl.with_mode(status.seen.mode))),
            false => Ok(None),
        }
    }

    /// What is to be made in `directory` has what that gives.
    pub(super) fn inherit_acl(
        &self,
        directory: &Descriptor,
        new: NewKind,
        born: &mut Born,
    ) -> Result<()> {
        if !self.agreement().posix_acl {
            return Ok(());
        }
        let Some(default) = self.read_acl(directory, DEFAULT)? else {
            born.seen.mode &= !(new.umask & MODE);
            return Ok(());
        };
        let own = default.clone().for_new(born.seen.mode);
        born.seen.mode = born.seen.mode & !MODE | own.mode();
        if !own.is_a_mode() {
            born.acls[0] = Some(own);
        }
        if Kind::of(new.mode) == Kind::Directory {
            born.acls[1] = Some(default);
        }
        Ok(())
    }

    /// Puts what a new node has inherited beside its owner.
    pub(super) fn keep_inherited(&self, fd: impl AsFd, born: &Born) -> Result<()> {
        for (name, acl) in ACLS.into_iter().zip(&born.acls) {
            if let Some(acl) = acl {
                self.put_acl(&fd, name, acl)?;
            }
        }
        Ok(())
    }

    fn read_acl(&self, fd: impl AsFd, name: &CStr) -> Result<Option<Acl>> {
        let host_name = self.name_of_acl(name)?;
        let mut value = [0; 1024];
        let path = self.root.path_to(fd)?;
        match rustix::fs::getxattr(path.as_c_str(), &*host_name, &mut value[..]) {
            Ok(length) => Ok(value.get(..length).and_then(Acl::parse)),
            Err(Errno::RANGE) => {
                let mut value = vec![0; LONGEST];
                let length = rustix::fs::getxattr(path.as_c_str(), &*host_name, &mut value[..])?;
                Ok(value.get(..length).and_then(Acl::parse))
            }
            // Links and devices of the host have none, nor what is the host's alone.
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn put_acl(&self, fd: impl AsFd, name: &CStr, acl: &Acl) -> Result<()> {
        let host_name = self.name_of_acl(name)?;
        let (path, value) = (self.root.path_to(&fd)?, acl.value());
        let flags = XattrFlags::empty();
        self.with_rights(fd, || {
            rustix::fs::setxattr(path.as_c_str(), &*host_name, &value, flags)
        })
    }

    fn drop_acl(&self, fd: impl AsFd, name: &CStr) -> Result<()> {
        let host_name = self.name_of_acl(name)?;
        let path = self.root.path_to(&fd)?;
        self.with_rights(fd, || {
            match rustix::fs::removexattr(path.as_c_str(), &*host_name) {
                Err(Errno::NODATA) => Ok(()),
                outcome => outcome,
            }
        })
    }

    /// Does `act`, for which the mode that the host gave a file may have to change.
    fn with_rights(&self, fd: impl AsFd, act: impl Fn() -> Result<()>) -> Result<()> {
        match act() {
            Err(Errno::ACCESS) => {
                self.take_rights(fd)?;
                act()
            }
            outcome => outcome,
        }
    }

    fn name_of_acl<'n>(&self, name: &'n CStr) -> Result<Cow<'n, CStr>> {
        self.attribute_names.on_host(name, true)
    }
}
