//! Attributes: GETATTR, SETATTR, ACCESS, STATFS, and the privileges that a
//! change of contents takes away.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Access, AtFlags, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::io::{Errno, retry_on_intr};

use super::Passthrough;
use super::budget::{Descriptor, Purpose};
use super::credentials::Power;
use super::grants::CAPABILITY;
use super::inode::Inode;
use super::permissions::permits;
use super::root::FdName;
use super::stat::{Kind, SET_GID, SET_UID, Stat, without_privileges};
use crate::filesystem::{
    AttributeOperations, Attributes, Handle, Request, Result, SetAttributes, SetTime, Statistics,
    Timestamp,
};

impl AttributeOperations for Passthrough {
    fn getattr(
        &self,
        request: &Request<'_>,
        handle: Option<Handle>,
    ) -> Result<(Attributes, Duration)> {
        // A handle that is just being closed does no harm: the inode is
        // still there.
        let open = handle.and_then(|handle| self.handles.get(request.node, handle).ok());
        let (inode, status) = match &open {
            Some(open) => {
                self.confine(&open.inode, open.host())?;
                (Arc::clone(&open.inode), self.status(open.host())?)
            }
            None => {
                let (inode, descriptor) = self.node(request.node)?;
                let status = self.status(&*descriptor)?;
                (inode, status)
            }
        };
        let timeout = self.attribute_timeout(&inode, &status);
        Ok((self.attributes(&inode, &status), timeout))
    }

    /// The order matters: the size before the owner and mode, which may take
    /// our own right to change it away; the mode after size and owner, which
    /// clear set-ID bits; times last, because all of these touch them.
    fn setattr(
        &self,
        request: &Request<'_>,
        handle: Option<Handle>,
        changes: &SetAttributes,
    ) -> Result<(Attributes, Duration)> {
        self.writable()?;
        // truncate(2), which goes by a path as OPEN does.
        let by_path = changes.size.is_some() && handle.is_none();
        if by_path {
            self.coherent_to_truncate(request.node, &request.caller)?;
        }
        let (inode, descriptor) = self.node_to_change(request.node, handle)?;
        let new_owner = changes.uid.is_some() || changes.gid.is_some();
        let granted = match (new_owner || changes.size.is_some()) && changes.mode.is_none() {
            true => self.granted(request, &inode, &descriptor)?,
            false => None,
        };
        if let Some(size) = changes.size {
            self.set_size(&inode, &descriptor, handle, size, request.may_wait())?;
        }
        if by_path {
            self.refusals.arrived(request.caller.pid);
        }
        // Not of a file that cannot have this size, nor before a chown(2), which does it
        // itself if it can be done.
        let by_owner = new_owner && !self.ownership.forgets();
        let clears = changes.kill_privileges && changes.mode.is_none() && !by_owner;
        if clears && granted.is_none() {
            self.drop_privileges(&inode, &descriptor)?;
        }
        if new_owner {
            self.set_owner(&descriptor, changes)?;
        }
        if let Some(granted) = &granted {
            self.give_back(&inode, &descriptor, granted)?;
            if !new_owner {
                // The owner is still to come.
                self.grants.note(request);
            }
        }
        if let Some(mode) = changes.mode {
            self.set_mode(&inode, &descriptor, mode)?;
            if mode & (SET_UID | SET_GID) != 0 && inode.kind == Kind::Regular {
                self.grants.note(request);
            }
        }
        if changes.atime.is_some() || changes.mtime.is_some() {
            let times = Timestamps {
                last_access: timespec(changes.atime)?,
                last_modification: timespec(changes.mtime)?,
            };
            rustix::fs::utimensat(&*descriptor, c"", &times, AtFlags::EMPTY_PATH)?;
        }
        let status = self.status(&*descriptor)?;
        let timeout = self.attribute_timeout(&inode, &status);
        Ok((self.attributes(&inode, &status), timeout))
    }

    fn access(&self, request: &Request<'_>, mask: u32) -> Result<()> {
        let (inode, descriptor) = self.node(request.node)?;
        let access = Access::from_bits(mask).ok_or(Errno::INVAL)?;
        if access.contains(Access::WRITE_OK) && inode.kind != Kind::Special {
            self.writable()?;
        }
        if self.keeps_apart() {
            let status = self.status(&*descriptor)?;
            let acl = self.acl_in_force(&descriptor, &status)?;
            return match permits(&status.seen, acl.as_ref(), &request.caller, mask) {
                true => Ok(()),
                false => Err(Errno::ACCESS),
            };
        }
        if inode.kind == Kind::Special
            && let Some(seen) = self.device_of(&*descriptor)?
        {
            return match permits(&seen, None, &request.caller, mask) {
                true => Ok(()),
                false => Err(Errno::ACCESS),
            };
        }
        let name = FdName::of(&*descriptor);
        let _caller = self.privileges.assume(&request.caller, Power::Plain)?;
        // EACCESS: ask for the identity assumed, which is the effective one.
        rustix::fs::accessat(self.root.proc(), name.as_c_str(), access, AtFlags::EACCESS)
    }

    fn statfs(&self, request: &Request<'_>) -> Result<Statistics> {
        let (_, descriptor) = self.node(request.node)?;
        let status = rustix::fs::fstatvfs(&*descriptor)?;
        let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        Ok(Statistics {
            blocks: status.f_blocks,
            blocks_free: status.f_bfree,
            blocks_available: status.f_bavail,
            files: status.f_files,
            files_free: status.f_ffree,
            block_size: narrow(status.f_bsize),
            name_max: narrow(status.f_namemax),
            fragment_size: narrow(status.f_frsize),
        })
    }
}

impl Passthrough {
    fn set_size(
        &self,
        inode: &Inode,
        descriptor: &Descriptor,
        handle: Option<Handle>,
        size: u64,
        may_wait: bool,
    ) -> Result<()> {
        match inode.kind {
            Kind::Regular => {}
            Kind::Directory => return Err(Errno::ISDIR),
            Kind::Symlink | Kind::Special => return Err(Errno::INVAL),
        }
        if let Some(handle) = handle {
            let open = self.handles.get(inode.number, handle)?;
            let file = &open.file()?.file;
            if open.node.may_write() {
                self.allocate_mapped(inode.number, file.as_fd(), size)?;
            }
            match retry_on_intr(|| rustix::fs::ftruncate(file, size)) {
                // Not open for writing; the guest may still have the right.
                Err(Errno::INVAL | Errno::BADF) => {}
                outcome => return outcome,
            }
        }
        let open = || self.reopen_unless_leased(descriptor, OFlags::WRONLY, may_wait);
        let file = self.hold(Purpose::Work, open)?;
        self.allocate_mapped(inode.number, file.as_fd(), size)?;
        retry_on_intr(|| rustix::fs::ftruncate(&file, size))
    }

    pub(super) fn set_mode(&self, inode: &Inode, descriptor: &Descriptor, mode: u32) -> Result<()> {
        if inode.kind == Kind::Symlink {
            return Err(Errno::OPNOTSUPP);
        }
        if self.keeps_apart() && self.keep_mode(descriptor, mode)? {
            return Ok(());
        }
        if inode.kind == Kind::Special && self.keep_device_mode(descriptor, mode)? {
            return Ok(());
        }
        if inode.kind == Kind::Regular {
            self.ensure_stays_file(descriptor, mode)?;
        }
        rustix::fs::chmodat(
            self.root.proc(),
            FdName::of(descriptor).as_c_str(),
            Mode::from_raw_mode(mode & 0o7777),
            AtFlags::empty(),
        )
    }

    /// Clears set-ID bits and file capabilities, as a write by somebody
    /// without `CAP_FSETID` does.
    fn drop_privileges(&self, inode: &Inode, descriptor: &Descriptor) -> Result<()> {
        if inode.kind != Kind::Regular {
            return Ok(());
        }
        if self.keeps_apart() {
            self.keep_no_set_id(descriptor)?;
        } else if let Some(mode) = without_privileges(self.status(descriptor)?.seen.mode) {
            self.set_mode(inode, descriptor, mode)?;
        }
        let name = self.root.path_to(descriptor)?;
        match rustix::fs::removexattr(name.as_c_str(), CAPABILITY) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Clears the set-ID bits of an open file. File capabilities need no help:
    /// the host's kernel takes them away with every write and truncation, which
    /// it does with set-ID bits only for processes without `CAP_FSETID`.
    pub(super) fn clear_set_id(&self, file: impl AsFd) -> Result<()> {
        if self.keeps_apart() {
            return self.keep_no_set_id(&file);
        }
        let mode = rustix::fs::fstat(&file)?.st_mode;
        let Some(mode) = without_privileges(mode) else {
            return Ok(());
        };
        match rustix::fs::fchmod(file, Mode::from_raw_mode(mode)) {
            // Not ours to change, hence we have no CAP_FSETID, hence the kernel
            // clears them.
            Err(Errno::PERM) => Ok(()),
            outcome => outcome,
        }
    }

    /// How long the guest may trust the attributes of a node.
    ///
    /// A file that runs with its owner's rights gets no time at all: Linux
    /// drops what it knows of size and times after a write, but not the mode,
    /// and would go on running as root what somebody else has written to.
    pub(super) fn attribute_timeout(&self, inode: &Inode, status: &Stat) -> Duration {
        let privileged =
            inode.kind == Kind::Regular && without_privileges(status.seen.mode).is_some();
        if privileged {
            Duration::ZERO
        } else {
            let longest = self.longest_trust(inode, status);
            self.config.cache.attribute_timeout().min(longest)
        }
    }

    /// The attributes of a node in the guest's terms.
    pub(super) fn attributes(&self, inode: &Inode, status: &Stat) -> Attributes {
        self.told_attributes(inode, status);
        self.mend(inode.number, status.raw.stx_size);
        let raw = &status.raw;
        let time = |t: rustix::fs::StatxTimestamp| Timestamp {
            seconds: t.tv_sec,
            nanoseconds: t.tv_nsec,
        };
        Attributes {
            ino: self.mounts.guest_ino(status.device, raw.stx_ino),
            size: raw.stx_size,
            blocks: self.guest_blocks(inode, status),
            atime: time(raw.stx_atime),
            mtime: time(raw.stx_mtime),
            ctime: time(raw.stx_ctime),
            btime: status.birth().map(|(seconds, nanoseconds)| Timestamp {
                seconds,
                nanoseconds,
            }),
            mode: status.seen.mode,
            nlink: raw.stx_nlink,
            uid: status.seen.uid,
            gid: status.seen.gid,
            rdev: encode_device(status.seen.device.0, status.seen.device.1),
            blksize: raw.stx_blksize,
            submount: inode.mount_point
                && inode.kind == Kind::Directory
                && self.agreement().submounts,
            mapped: self.is_mappable(inode),
        }
    }
}

fn timespec(time: Option<SetTime>) -> Result<Timespec> {
    let nanoseconds = |n: u32| rustix::fs::Nsecs::from(n);
    match time {
        None => Ok(Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        }),
        Some(SetTime::Now) => Ok(Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW,
        }),
        // Values from a thousand million up have meanings of their own.
        Some(SetTime::At(at)) if at.nanoseconds >= 1_000_000_000 => Err(Errno::INVAL),
        Some(SetTime::At(at)) => Ok(Timespec {
            tv_sec: at.seconds,
            tv_nsec: nanoseconds(at.nanoseconds),
        }),
    }
}

/// A device number as the kernel's `new_encode_dev` packs it into 32 bits.
pub(super) fn encode_device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xfff00) << 12)
}
