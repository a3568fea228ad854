//! New nodes: MKDIR, MKNOD, SYMLINK, LINK, CREATE.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::Passthrough;
use super::credentials::{Power, Umask, set_thread_apart};
use super::inode::{Descriptor, Inode};
use super::root::{FdName, one_component};
use super::stat::{Kind, Status};
use crate::filesystem::{Caller, Entry, NewNode, NodeId, Opened, Result};

/// How often CREATE tries again when the name comes and goes on the host.
const RACES: usize = 8;

impl Passthrough {
    pub(super) fn do_mkdir(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: &CStr,
        node: NewNode,
    ) -> Result<Entry> {
        let mode = Mode::from_raw_mode(node.mode & 0o7777);
        self.make(caller, parent, name, node.umask, |directory| {
            rustix::fs::mkdirat(directory, name, mode)
        })
    }

    pub(super) fn do_mknod(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: &CStr,
        node: NewNode,
    ) -> Result<Entry> {
        let kind = match FileType::from_raw_mode(node.mode) {
            FileType::Directory => return Err(Errno::PERM),
            // mknod(2): no type means a regular file.
            _ if node.mode & libc::S_IFMT == 0 => FileType::RegularFile,
            FileType::Symlink | FileType::Unknown => return Err(Errno::INVAL),
            kind => kind,
        };
        let mode = Mode::from_raw_mode(node.mode & 0o7777);
        let device = match kind {
            FileType::CharacterDevice | FileType::BlockDevice => decode_device(node.rdev),
            _ => 0,
        };
        self.make(caller, parent, name, node.umask, |directory| {
            rustix::fs::mknodat(directory, name, kind, mode, device)
        })
    }

    pub(super) fn do_symlink(
        &self,
        caller: &Caller,
        target: &CStr,
        parent: NodeId,
        name: &CStr,
    ) -> Result<Entry> {
        // The target is the guest's business: nothing here follows it.
        self.make(caller, parent, name, 0, |directory| {
            rustix::fs::symlinkat(target, directory, name)
        })
    }

    pub(super) fn do_link(
        &self,
        number: NodeId,
        new_parent: NodeId,
        new_name: &CStr,
    ) -> Result<Entry> {
        self.writable()?;
        one_component(new_name)?;
        let inode = self.inodes.get(number)?;
        if inode.kind == Kind::Directory {
            return Err(Errno::PERM);
        }
        let (new_parent, directory) = self.directory(new_parent)?;
        let descriptor = self.descriptor(&inode)?;
        // Through /proc, because linking an empty path needs a capability.
        // The link followed is the one in /proc; the node is linked itself.
        rustix::fs::linkat(
            self.root.proc(),
            FdName::of(&*descriptor).as_c_str(),
            &*directory,
            new_name,
            AtFlags::SYMLINK_FOLLOW,
        )?;
        let (inode, status) = self.child(&new_parent, &*directory, new_name)?;
        Ok(self.entry(&inode, &status))
    }

    /// A file that is there already is opened as OPEN would, unless `O_EXCL`
    /// forbids; only a file made here is ever opened by name, so that nothing
    /// the host put there in the meantime is followed or blocks.
    pub(super) fn do_create(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: &CStr,
        node: NewNode,
        flags: u32,
        kill_privileges: bool,
    ) -> Result<(Entry, Opened)> {
        self.writable()?;
        self.may_open()?;
        one_component(name)?;
        let (parent, directory) = self.directory(parent)?;
        let mode = Mode::from_raw_mode(node.mode & 0o7777);
        let exclusive = OFlags::from_bits_retain(flags).contains(OFlags::EXCL);
        for _ in 0..RACES {
            let host_flags = self.host_flags(flags)?;
            let made = self.as_caller(caller, node.umask, || {
                let flags =
                    host_flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                self.with_descriptors(|| rustix::fs::openat(&*directory, name, flags, mode))
            });
            match made {
                Ok(fd) => return self.created(&parent, name, fd, host_flags),
                Err(Errno::EXIST) if !exclusive => {}
                Err(error) => return Err(error),
            }
            match self.child(&parent, &*directory, name) {
                Ok((inode, status)) => {
                    let opened = self.open_inode(&inode, flags, kill_privileges);
                    return match opened {
                        // Opening may have truncated it.
                        Ok(opened) => {
                            let status = self.refreshed(&inode, status);
                            Ok((self.entry(&inode, &status), opened))
                        }
                        Err(error) => {
                            self.inodes.forget(inode.number, 1);
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

    /// The answer to CREATE for a file just made and open as `fd`. The inode
    /// comes from the descriptor and not from the name, which may lead
    /// elsewhere by now.
    fn created(
        &self,
        parent: &Arc<Inode>,
        name: &CStr,
        fd: OwnedFd,
        host_flags: OFlags,
    ) -> Result<(Entry, Opened)> {
        let path = self.with_descriptors(|| self.root.reopen(&fd, OFlags::PATH))?;
        let (inode, status) = self.adopt(parent, name, path)?;
        let opened = self.opened(Arc::clone(&inode), fd, host_flags);
        Ok((self.entry(&inode, &status), opened))
    }

    /// The status of an inode now, or the one given.
    fn refreshed(&self, inode: &Arc<Inode>, status: Status) -> Status {
        self.descriptor(inode)
            .and_then(|descriptor| Status::of(&*descriptor))
            .unwrap_or(status)
    }

    /// Makes a node with `act` in the directory it is handed and looks it up.
    fn make(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: &CStr,
        umask: u32,
        act: impl Fn(&Descriptor) -> Result<()>,
    ) -> Result<Entry> {
        self.writable()?;
        one_component(name)?;
        let (parent, directory) = self.directory(parent)?;
        self.as_caller(caller, umask, || act(&directory))?;
        let (inode, status) = self.child(&parent, &*directory, name)?;
        Ok(self.entry(&inode, &status))
    }

    /// Does `act` with the caller's user, group and umask.
    ///
    /// The guest's kernel has applied the umask already, unless it was agreed
    /// that this side does so, which lets a default ACL take its place. The
    /// process's own must never count.
    fn as_caller<T>(
        &self,
        caller: &Caller,
        umask: u32,
        act: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        set_thread_apart(self.root.proc().as_fd())?;
        let umask = if self.agreement().dont_mask { umask } else { 0 };
        let _umask = Umask::set(umask);
        let _caller = self.privileges.assume(caller, Power::Override)?;
        act()
    }
}

/// The reverse of [`encode_device`](super::attributes::encode_device).
pub(super) fn decode_device(rdev: u32) -> rustix::fs::Dev {
    rustix::fs::makedev(
        (rdev >> 8) & 0xfff,
        (rdev & 0xff) | ((rdev >> 12) & 0xfff00),
    )
}
