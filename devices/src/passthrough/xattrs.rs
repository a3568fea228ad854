//! Extended attributes: SETXATTR, GETXATTR, LISTXATTR, REMOVEXATTR.
//!
//! They are read and written through the inode's own descriptor by way of
//! `/proc/self/fd`, the working directory of the calling thread. The last
//! path component is that directory's magic link, so the node itself is
//! meant, symbolic links included. Which of them there are for the guest, and
//! what they are called on the host, is in `attribute_names`.

use std::borrow::Cow;
use std::ffi::CStr;

use rustix::fs::{Mode, XattrFlags};
use rustix::io::Errno;

use super::Passthrough;
use super::attribute_names::{is_acl, is_administrators};
use super::grants::CAPABILITY;
use crate::filesystem::{NodeId, Request, Result, SetXattrArgs, XattrOperations};

/// `XATTR_SIZE_MAX` and `XATTR_LIST_MAX`, in bytes: the longest that Linux has.
const LONGEST: usize = 65_536;

/// Room, in bytes, for the names of most files.
const FEW: usize = 1024;

impl XattrOperations for Passthrough {
    fn setxattr(&self, request: &Request<'_>, name: &CStr, args: &SetXattrArgs<'_>) -> Result<()> {
        let host_name = self.host_name(name)?;
        self.writable()?;
        let flags = XattrFlags::from_bits(args.flags).ok_or(Errno::INVAL)?;
        if self.keeps_apart() && is_acl(name) {
            return self.keep_acl(request.node, name, args);
        }
        if is_acl(name) && self.keep_device_acl(request.node, name, args.value)? {
            return Ok(());
        }
        let value = self.acl_on_host(name, args.value)?;
        self.with_path_to_change(request.node, name, |path| {
            rustix::fs::setxattr(path, &*host_name, &value, flags)?;
            if name == CAPABILITY {
                self.grants.note(request);
            }
            if args.clear_set_gid {
                // The host sees this process set the ACL, which may keep the
                // bit; the guest's task may not.
                let mode = Mode::from_raw_mode(rustix::fs::stat(path)?.st_mode);
                if mode.contains(Mode::SGID) {
                    rustix::fs::chmod(path, mode - Mode::SGID)?;
                }
            }
            Ok(())
        })
    }

    fn getxattr(&self, request: &Request<'_>, name: &CStr, size: u32) -> Result<Vec<u8>> {
        let host_name = self.host_name(name)?;
        let host_name = &*host_name;
        if self.keeps_apart() && is_acl(name) {
            let value = self.kept_acl(request.node, name)?;
            let room = usize::try_from(size).unwrap_or(LONGEST);
            return match size == 0 || value.len() <= room {
                true => Ok(value),
                false => Err(Errno::RANGE),
            };
        }
        let got = self.with_path(request.node, |path| {
            if size == 0 {
                return rustix::fs::getxattr_query(path, host_name).map(blank);
            }
            let mut value = blank(usize::try_from(size).unwrap_or(LONGEST));
            let length = rustix::fs::getxattr(path, host_name, &mut value[..])?;
            value.truncate(length);
            self.acl_in_guest(name, &mut value);
            Ok(value)
        });
        match got {
            // An overlay of the guest's asks for attributes of its own before it shows a
            // file, and shows none that it may not ask. They need no right to read on Linux;
            // what they are called here does. Where nothing is written nobody has set them.
            Err(Errno::ACCESS) if self.config.read_only && is_administrators(name) => {
                Err(Errno::NODATA)
            }
            got => got,
        }
    }

    fn listxattr(&self, request: &Request<'_>, size: u32) -> Result<Vec<u8>> {
        if !self.config.xattr {
            return Err(Errno::NOSYS);
        }
        let all = self.with_path(request.node, |path| {
            let mut few = [0; FEW];
            match rustix::fs::listxattr(path, &mut few[..]) {
                Ok(length) => Ok(few[..length].to_vec()),
                Err(Errno::RANGE) => {
                    let mut names = blank(LONGEST);
                    let length = rustix::fs::listxattr(path, &mut names[..])?;
                    names.truncate(length);
                    Ok(names)
                }
                Err(error) => Err(error),
            }
        })?;
        let names: Vec<u8> = all
            .split_inclusive(|byte| *byte == 0)
            .filter_map(|name| self.listed(request, name))
            .flatten()
            .copied()
            .collect();
        if size > 0 && names.len() > usize::try_from(size).unwrap_or(LONGEST) {
            return Err(Errno::RANGE);
        }
        Ok(names)
    }

    fn removexattr(&self, request: &Request<'_>, name: &CStr) -> Result<()> {
        let host_name = self.host_name(name)?;
        self.writable()?;
        if self.keeps_apart() && is_acl(name) {
            return self.forget_acl(request.node, name);
        }
        self.with_path_to_change(request.node, name, |path| {
            rustix::fs::removexattr(path, &*host_name)
        })
    }
}

impl Passthrough {
    /// What an attribute of the guest is called on the host. `ENOSYS` when they
    /// are off: the guest then stops asking. An ACL that the guest would not
    /// enforce has no name there.
    fn host_name<'n>(&self, name: &'n CStr) -> Result<Cow<'n, CStr>> {
        if !self.config.xattr {
            return Err(Errno::NOSYS);
        }
        let acls = self.agreement().posix_acl;
        self.attribute_names.on_host(name, acls)
    }

    /// How LISTXATTR names an attribute of the host, NUL included: none that
    /// GETXATTR denies, and nothing that is for administrators alone
    /// (xattr(7)). Of the guest's capabilities nothing is known but that root
    /// has them.
    fn listed<'n>(&self, request: &Request<'_>, name: &'n [u8]) -> Option<&'n [u8]> {
        let bare = name.strip_suffix(b"\0")?;
        let acls = self.agreement().posix_acl;
        let shown = self.attribute_names.in_guest(bare, acls)?;
        if shown.starts_with(b"trusted.") && !request.caller.may_be_root() {
            return None;
        }
        // The guest's name is the end of the host's, or all of it.
        name.get(bare.len() - shown.len()..)
    }

    /// Hands `act` a path that leads to the inode itself.
    fn with_path<T>(&self, number: NodeId, act: impl FnOnce(&CStr) -> Result<T>) -> Result<T> {
        let (_, descriptor) = self.node(number)?;
        act(self.root.path_to(&*descriptor)?.as_c_str())
    }

    /// As [`with_path`](Self::with_path), for changing the guest's `name`. After
    /// it has changed an ACL the guest asks for the mode by itself.
    fn with_path_to_change<T>(
        &self,
        number: NodeId,
        name: &CStr,
        act: impl FnOnce(&CStr) -> Result<T>,
    ) -> Result<T> {
        let (inode, descriptor) = self.node_to_change(number, None)?;
        if is_acl(name) {
            inode.told.forget();
        }
        act(self.root.path_to(&*descriptor)?.as_c_str())
    }
}

/// A buffer of `length` bytes, or of the longest value there is.
fn blank(length: usize) -> Vec<u8> {
    vec![0; length.min(LONGEST)]
}
