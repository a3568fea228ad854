//! Device nodes of a share in a user namespace (`Owners::Mapped`), where the host's
//! kernel makes none.
//!
//! An empty file of a mode that no other has, sticky and nobody's to read, stands in
//! for one. Its mode and the device's numbers are kept in the attribute that
//! containers keep them in (`override_stat`); owner and times are the file's own. The
//! guest cannot set the attribute (`attribute_names`), or any of its users would make
//! a disk that he may write to. A file of the host with the attribute and another mode
//! is what it is, and keeps from having this one. An ACL would change the mode too, so
//! there is none.

use std::ffi::CStr;
use std::os::fd::AsFd;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use super::Passthrough;
use super::acl::Acl;
use super::attribute_names::ACLS;
use super::budget::Descriptor;
use super::inode::Inode;
use super::kept_owners::{Born, NewKind};
use super::override_stat::{NAME, OverrideStat};
use super::owners::Owners;
use super::stat::{Kind, Seen, Stat};
use crate::filesystem::{NodeId, Request, Result};

/// The mode on the host of what stands in for a device.
pub(super) const MODE: u32 = 0o1000;

/// `S_IRWXU | S_IRWXG | S_IRWXO`.
const PERMISSIONS: u32 = 0o777;

/// Whether a node of this mode in the guest is a device.
fn is_device(mode: u32) -> bool {
    matches!(mode & libc::S_IFMT, libc::S_IFCHR | libc::S_IFBLK)
}

impl Passthrough {
    /// Whether files may stand in for devices here.
    pub(super) fn keeps_devices(&self) -> bool {
        self.ownership.policy() == Owners::Mapped
    }

    /// Whether the host's file looks like one that does.
    fn may_stand_in(&self, host: &Stat) -> bool {
        let raw = &host.raw;
        self.keeps_devices() && u32::from(raw.stx_mode) == libc::S_IFREG | MODE && raw.stx_size == 0
    }

    /// Whether the entry `name` of `parent`, a regular file on the host, can be nothing
    /// else in the guest, as far as its status says.
    pub(super) fn is_no_device(
        &self,
        parent: &Inode,
        directory: impl AsFd,
        name: &CStr,
        may_wait: bool,
    ) -> bool {
        let ask = |source| Stat::of_child_from(source, &directory, name);
        self.keeps_devices()
            && (self.status_below(parent, may_wait, ask))
                .is_ok_and(|host| host.kind == Kind::Regular && !self.may_stand_in(&host))
    }

    /// Puts the device for which the node open as `fd` stands in into its status.
    pub(super) fn see_device(&self, status: &mut Stat, fd: impl AsFd) -> Result<()> {
        if !self.may_stand_in(status) {
            return Ok(());
        }
        if let Some(kept) = self.kept_of(fd)?.filter(|kept| is_device(kept.mode)) {
            status.seen.mode = kept.mode;
            status.seen.device = kept.device;
            status.kind = Kind::Special;
        }
        Ok(())
    }

    /// What is to be kept of what is made with `new` in `directory`, if that may be a
    /// device.
    pub(super) fn device_to_be(
        &self,
        request: &Request<'_>,
        directory: &Descriptor,
        new: NewKind,
    ) -> Result<Option<Born>> {
        if !self.keeps_devices() || !is_device(new.mode) {
            return Ok(None);
        }
        let mut born = Born {
            seen: Seen {
                uid: request.caller.uid,
                gid: request.caller.gid,
                mode: new.mode,
                device: new.device,
            },
            acls: [None, None],
        };
        self.inherit_acl(directory, new, &mut born)?;
        if let Some(acl) = born.acls[0].take() {
            born.seen.mode = born.seen.mode & !PERMISSIONS | acl.strictest_mode();
        }
        Ok(Some(born))
    }

    /// Keeps what the guest is to see of the node open as `fd`, if that has been made
    /// to stand in for a device, and is not what somebody else put in its place.
    pub(super) fn keep_device(&self, fd: impl AsFd, host: &Stat, seen: &Seen) -> Result<()> {
        if !self.may_stand_in(host) || host.raw.stx_uid != seen.uid {
            return Ok(());
        }
        self.write_device(&fd, seen, XattrFlags::CREATE)?;
        // What the directory gave it lets nobody do anything.
        let path = self.root.path_to(&fd)?;
        match rustix::fs::removexattr(path.as_c_str(), ACLS[0]) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether a file may be given `mode`, by its owner or by an ACL: not the sticky bit,
    /// if others keep a device in it.
    pub(super) fn ensure_stays_file(&self, fd: impl AsFd, mode: u32) -> Result<()> {
        if !self.keeps_devices() || mode & MODE == 0 {
            return Ok(());
        }
        match self.kept_of(fd)? {
            Some(kept) if is_device(kept.mode) => Err(Errno::PERM),
            _ => Ok(()),
        }
    }

    /// SETXATTR of the ACL `name`; false for what is no device.
    pub(super) fn keep_device_acl(&self, node: NodeId, name: &CStr, value: &[u8]) -> Result<bool> {
        if !self.keeps_devices() {
            return Ok(false);
        }
        let (_, descriptor) = self.node_to_change(node, None)?;
        let Some(seen) = self.device_of(&*descriptor)? else {
            let mode = Stat::of(&*descriptor)?.raw.stx_mode;
            return (self.ensure_stays_file(&*descriptor, mode.into())).map(|()| false);
        };
        let acl = Acl::parse(value).ok_or(Errno::INVAL)?;
        if name != ACLS[0] || !acl.is_a_mode() {
            return Err(Errno::OPNOTSUPP);
        }
        self.keep_device_mode(&descriptor, seen.mode & !PERMISSIONS | acl.mode())
    }

    /// `chmod(2)` of a special file; false for what the host has one of.
    pub(super) fn keep_device_mode(&self, descriptor: &Descriptor, mode: u32) -> Result<bool> {
        let mut seen = match self.device_of(descriptor)? {
            Some(seen) => seen,
            None => return Ok(false),
        };
        seen.mode = seen.mode & libc::S_IFMT | mode & 0o7777;
        self.write_device(descriptor, &seen, XattrFlags::REPLACE)?;
        Ok(true)
    }

    /// The device for which the node open as `fd` stands in.
    pub(super) fn device_of(&self, fd: impl AsFd) -> Result<Option<Seen>> {
        if !self.keeps_devices() {
            return Ok(None);
        }
        let status = self.status(fd)?;
        Ok((self.may_stand_in(&status) && status.kind == Kind::Special).then_some(status.seen))
    }

    fn write_device(&self, fd: impl AsFd, seen: &Seen, flags: XattrFlags) -> Result<()> {
        let kept = OverrideStat {
            uid: seen.uid,
            gid: seen.gid,
            mode: seen.mode,
            device: seen.device,
        };
        let path = self.root.path_to(fd)?;
        rustix::fs::setxattr(path.as_c_str(), NAME, kept.text().as_bytes(), flags).map_err(
            |error| match error {
                // As without a place to keep it.
                Errno::OPNOTSUPP => Errno::PERM,
                other => other,
            },
        )
    }
}
