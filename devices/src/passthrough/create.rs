//! New nodes: MKDIR, MKNOD, SYMLINK, LINK, CREATE, TMPFILE.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::Passthrough;
use super::budget::{Descriptor, Purpose};
use super::confinement::Otherwise;
use super::credentials::{Power, set_thread_apart, set_umask};
use super::inode::Inode;
use super::kept_devices;
use super::kept_owners::NewKind;
use super::lookup::Leave;
use super::root::{FdName, one_component};
use super::stat::{Kind, Stat};
use crate::filesystem::{
    CreateOperations, Entry, NewNode, NodeId, OpenArgs, Opened, Request, Result,
};

/// How often CREATE tries again when the name comes and goes on the host.
const RACES: usize = 8;

impl CreateOperations for Passthrough {
    fn mkdir(&self, request: &Request<'_>, name: &CStr, new: &NewNode) -> Result<Entry> {
        let kind = NewKind {
            mode: libc::S_IFDIR | new.mode & 0o7777,
            device: (0, 0),
            umask: new.umask,
        };
        let mode = self.mode_on_host(kind.mode);
        self.make(request, name, new.umask, Some(kind), |directory| {
            rustix::fs::mkdirat(directory, name, mode)
        })
    }

    fn mknod(&self, request: &Request<'_>, name: &CStr, new: &NewNode) -> Result<Entry> {
        let kind = match FileType::from_raw_mode(new.mode) {
            FileType::Directory => return Err(Errno::PERM),
            // mknod(2): no type means a regular file.
            _ if new.mode & libc::S_IFMT == 0 => FileType::RegularFile,
            FileType::Symlink | FileType::Unknown => return Err(Errno::INVAL),
            kind => kind,
        };
        let device = match kind {
            FileType::CharacterDevice | FileType::BlockDevice => decode_device(new.rdev),
            _ => (0, 0),
        };
        let mode = kind.as_raw_mode() | new.mode & 0o7777;
        let new_kind = NewKind {
            mode,
            device,
            umask: new.umask,
        };
        let (kind, device) = match self.keeps_apart() {
            true => (FileType::RegularFile, (0, 0)),
            false => (kind, device),
        };
        let mode = self.mode_on_host(mode);
        self.make(request, name, new.umask, Some(new_kind), |directory| {
            let device = rustix::fs::makedev(device.0, device.1);
            let stands_in = || self.device_to_be(request, directory, new_kind);
            match rustix::fs::mknodat(directory, name, kind, mode, device) {
                Err(Errno::PERM) if stands_in()?.is_some() => {
                    let mode = Mode::from_raw_mode(kept_devices::MODE);
                    rustix::fs::mknodat(directory, name, FileType::RegularFile, mode, 0)
                }
                outcome => outcome,
            }
        })
    }

    fn symlink(&self, request: &Request<'_>, name: &CStr, target: &CStr) -> Result<Entry> {
        // The target is the guest's business: nothing here follows it.
        self.make(request, name, 0, None, |directory| {
            rustix::fs::symlinkat(target, directory, name)
        })
    }

    fn link(&self, request: &Request<'_>, name: &CStr, node: NodeId) -> Result<Entry> {
        self.writable()?;
        one_component(name)?;
        let inode = self.inodes.get(node)?;
        if inode.kind == Kind::Directory {
            return Err(Errno::PERM);
        }
        let known = self.coherent_to_link(&inode, &request.caller);
        let (parent, directory) = self.coherent_directory(request.node, &request.caller)?;
        if known?.is_none() {
            self.confine_file(&inode, Otherwise::Stale)?;
        }
        let descriptor = self.descriptor(&inode)?;
        let leave = Leave {
            permit: self.permit(Purpose::Work)?,
            // It is remembered already.
            room: None,
            may_wait: true,
        };
        let spare = self.spare()?;
        // Through /proc, because linking an empty path needs a capability.
        // The link followed is the one in /proc; the node is linked itself.
        rustix::fs::linkat(
            self.root.proc(),
            FdName::of(&*descriptor).as_c_str(),
            &*directory,
            name,
            AtFlags::SYMLINK_FOLLOW,
        )?;
        drop(spare);
        self.refusals.arrived(request.caller.pid);
        let (inode, status) = self.child_permitted(&parent, &*directory, name, leave)?;
        Ok(self.entry(&inode, &status))
    }

    /// A file that is there already is opened as OPEN would, unless `O_EXCL`
    /// forbids; only a file made here is ever opened by name, so that nothing
    /// the host put there in the meantime is followed or blocks.
    fn create(
        &self,
        request: &Request<'_>,
        name: &CStr,
        new: &NewNode,
        open: OpenArgs,
    ) -> Result<(Entry, Opened)> {
        self.writable()?;
        one_component(name)?;
        let (parent, directory) = self.coherent_directory(request.node, &request.caller)?;
        let kind = NewKind::file(new);
        let mode = self.mode_on_host(kind.mode);
        let exclusive = OFlags::from_bits_retain(open.flags).contains(OFlags::EXCL);
        for _ in 0..RACES {
            let host_flags = self.host_flags(open.flags, &parent.mount)?;
            let (open_permit, mut leave) = (self.permit(Purpose::Open)?, self.leave_to_make()?);
            let owner = self.owner_to_be(request, &directory, kind)?;
            let made = self.as_caller(request, new.umask, || {
                let flags =
                    host_flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                self.with_descriptors(|| rustix::fs::openat(&*directory, name, flags, mode))
            });
            match made {
                Ok(fd) => {
                    let file = Descriptor::new(File::from(fd), open_permit);
                    let place = (&parent, &*directory, name);
                    self.keep_or_undo(&file, owner.as_ref(), Some((&*directory, name)))?;
                    return self.created(request, place, file, leave, host_flags);
                }
                Err(Errno::EXIST) if !exclusive => {}
                Err(error) => return Err(error),
            }
            leave.may_wait = request.may_wait();
            match self.child_permitted(&parent, &*directory, name, leave) {
                Ok((inode, status)) => {
                    let opened = self.open_inode(&inode, open, request.may_wait(), open_permit);
                    return match opened {
                        // Opening may have truncated it.
                        Ok(opened) => {
                            let status = self.refreshed(&inode, status);
                            Ok((self.entry(&inode, &status), opened))
                        }
                        Err(error) => {
                            self.untold(&inode);
                            Err(error)
                        }
                    };
                }
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Errno::STALE)
    }

    fn tmpfile(
        &self,
        request: &Request<'_>,
        new: &NewNode,
        open: OpenArgs,
    ) -> Result<(Entry, Opened)> {
        self.writable()?;
        let (parent, directory) = self.coherent_directory(request.node, &request.caller)?;
        let kind = NewKind::file(new);
        let mode = self.mode_on_host(kind.mode);
        let owner = self.owner_to_be(request, &directory, kind)?;
        let host_flags = self.host_flags(open.flags, &parent.mount)? - OFlags::TRUNC;
        let (open_permit, leave) = (self.permit(Purpose::Open)?, self.leave_to_make()?);
        // With O_EXCL the host gives it no name either.
        let exclusive = OFlags::from_bits_retain(open.flags) & OFlags::EXCL;
        let flags = host_flags | exclusive | OFlags::TMPFILE | OFlags::CLOEXEC;
        let fd = self.as_caller(request, new.umask, || {
            self.with_descriptors(|| rustix::fs::openat(&*directory, c".", flags, mode))
        });
        let fd = fd.map_err(|error| match error {
            // Linux would never ask again, on no file system of the share.
            Errno::NOSYS => Errno::OPNOTSUPP,
            other => other,
        })?;
        let file = Descriptor::new(File::from(fd), open_permit);
        self.keep_or_undo(&file, owner.as_ref(), None)?;
        let path = self.with_descriptors(|| self.root.reopen(&file, OFlags::PATH))?;
        let (inode, status) = self.adopt_unnamed(&parent, path, leave)?;
        self.label_or_undo(request, &inode, None)?;
        let opened = self.opened(Arc::clone(&inode), file, host_flags);
        Ok((self.entry(&inode, &status), opened))
    }
}

impl Passthrough {
    /// The answer to CREATE for a file just made and open as `fd`. The inode
    /// comes from the descriptor and not from the name, which may lead
    /// elsewhere by now.
    fn created(
        &self,
        request: &Request<'_>,
        (parent, directory, name): (&Arc<Inode>, &Descriptor, &CStr),
        file: Descriptor<File>,
        leave: Leave<'_>,
        host_flags: OFlags,
    ) -> Result<(Entry, Opened)> {
        let path = self.with_descriptors(|| self.root.reopen(&file, OFlags::PATH))?;
        let (inode, status) = self.adopt(parent, name, path, leave)?;
        self.label_or_undo(request, &inode, Some((directory, name)))?;
        let opened = self.opened(Arc::clone(&inode), file, host_flags);
        Ok((self.entry(&inode, &status), opened))
    }

    /// The status of an inode now, or the one given.
    fn refreshed(&self, inode: &Arc<Inode>, status: Stat) -> Stat {
        self.descriptor(inode)
            .and_then(|descriptor| self.status(&*descriptor))
            .unwrap_or(status)
    }

    /// Makes a node with `act` in the directory it is handed and looks it up.
    fn make(
        &self,
        request: &Request<'_>,
        name: &CStr,
        umask: u32,
        kind: Option<NewKind>,
        act: impl Fn(&Descriptor) -> Result<()>,
    ) -> Result<Entry> {
        self.writable()?;
        one_component(name)?;
        let (parent, directory) = self.coherent_directory(request.node, &request.caller)?;
        let leave = self.leave_to_make()?;
        let owner = match kind {
            Some(kind) => self.owner_to_be(request, &directory, kind)?,
            // A link has no room for one.
            None => None,
        };
        let spare = self.spare()?;
        self.as_caller(request, umask, || act(&directory))?;
        drop(spare);
        let fd = self.with_descriptors(|| self.root.open_child(&*directory, name))?;
        self.keep_or_undo(&fd, owner.as_ref(), Some((&*directory, name)))?;
        let (inode, status) = self.adopt(&parent, name, fd, leave)?;
        self.label_or_undo(request, &inode, Some((&*directory, name)))?;
        Ok(self.entry(&inode, &status))
    }

    /// A descriptor to give up for the one of what is about to be made: the
    /// host may have none left where a permit says that one may be had.
    fn spare(&self) -> Result<OwnedFd> {
        self.with_descriptors(|| rustix::io::fcntl_dupfd_cloexec(self.root.proc(), 0))
    }

    /// Does `act` with the caller's user, group and umask.
    ///
    /// The guest's kernel has applied the umask already, unless it was agreed
    /// that this side does so, which lets a default ACL take its place. The
    /// process's own must never count.
    fn as_caller<T>(
        &self,
        request: &Request<'_>,
        umask: u32,
        act: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        // That of a process whose threads cannot have their own is 0, and the guest's
        // kernel applies its own.
        if self.root.sets_apart() {
            set_thread_apart(self.root.proc())?;
            // What is kept apart has a mode of its own.
            let masks = self.agreement().dont_mask && !self.keeps_apart();
            set_umask(if masks { umask } else { 0 });
        }
        let _caller = self.privileges.assume(&request.caller, Power::Override)?;
        act()
    }
}

/// The reverse of [`encode_device`](super::attributes::encode_device).
pub(super) fn decode_device(rdev: u32) -> (u32, u32) {
    (
        (rdev >> 8) & 0xfff,
        (rdev & 0xff) | ((rdev >> 12) & 0xfff00),
    )
}
