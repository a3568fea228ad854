//! Device nodes of a share in a user namespace (`Owners::Mapped`), where the host's
//! kernel makes none.
//!
//! An empty file of a mode that no other has, sticky and nobody's to read, stands in
//! for one. Its mode and the device's numbers are kept in the attribute that
//! containers keep them in (`override_stat`); owner and times are the file's own. The
//! guest cannot set the attribute (`attribute_names`), or any of its users would make
//! a disk that he may write to. A file of the host with the attribute and another mode
//! is what it is.

use std::os::fd::AsFd;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use super::Passthrough;
use super::budget::Descriptor;
use super::kept_owners::{Born, NewKind};
use super::override_stat::{NAME, OverrideStat};
use super::owners::Owners;
use super::stat::{Kind, Seen, Stat};
use crate::filesystem::{Request, Result};

/// The mode on the host of what stands in for a device.
pub(super) const MODE: u32 = 0o1000;

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

    /// What is to be kept of what is made with `new`, if that may be a device.
    pub(super) fn device_to_be(&self, request: &Request<'_>, new: NewKind) -> Option<Born> {
        let masked = match self.agreement().dont_mask {
            true => new.umask & 0o777,
            false => 0,
        };
        (self.keeps_devices() && is_device(new.mode)).then_some(Born {
            seen: Seen {
                uid: request.caller.uid,
                gid: request.caller.gid,
                mode: new.mode & !masked,
                device: new.device,
            },
            acls: [None, None],
        })
    }

    /// Keeps what the guest is to see of the node open as `fd`, if that has been made
    /// to stand in for a device.
    pub(super) fn keep_device(&self, fd: impl AsFd, host: &Stat, seen: &Seen) -> Result<()> {
        match self.may_stand_in(host) {
            true => self.write_device(fd, seen, XattrFlags::CREATE),
            false => Ok(()),
        }
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
