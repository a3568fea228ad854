//! From the flags of a guest's open to a file of the host and the handle that
//! stands for it. OPEN, CREATE and OPENDIR share this.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::Passthrough;
use super::budget::{Descriptor, Permit};
use super::config::CachePolicy;
use super::handle::{OpenFile, OpenNode};
use super::inode::Inode;
use super::mount::Mount;
use super::stat::Kind;
use crate::filesystem::{OpenArgs, Opened, Result, WOULD_WAIT};

/// What of the guest's open flags reaches the host. `O_DIRECT` does not: the
/// guest's pages need not be aligned as the host's file system wants them,
/// and whether the guest caches has been decided by then.
const PASSED_ON: OFlags = OFlags::RDWR
    .union(OFlags::WRONLY)
    .union(OFlags::APPEND)
    .union(OFlags::TRUNC)
    .union(OFlags::SYNC)
    .union(OFlags::DSYNC)
    .union(OFlags::NOATIME);

/// `O_ACCMODE`.
const ACCESS_MODE: OFlags = OFlags::RDWR.union(OFlags::WRONLY);

impl Passthrough {
    /// Opens a node that the guest knows; `permit` is for an open file.
    pub(super) fn open_inode(
        &self,
        inode: &Arc<Inode>,
        args: OpenArgs,
        may_wait: bool,
        permit: Permit,
    ) -> Result<Opened> {
        match inode.kind {
            Kind::Regular => {}
            Kind::Directory => return Err(Errno::ISDIR),
            Kind::Symlink => return Err(Errno::LOOP),
            // The guest's kernel has its own FIFOs, sockets and devices.
            Kind::Special => return Err(Errno::NXIO),
        }
        let host_flags = self.host_flags(args.flags, &inode.mount)?;
        let descriptor = self.descriptor(inode)?;
        let (fd, host_flags) =
            self.open_as_allowed(&descriptor, host_flags, args.flags, may_wait)?;
        if host_flags.contains(OFlags::TRUNC) {
            inode.told.forget();
        }
        if args.kill_privileges && host_flags.contains(OFlags::TRUNC) {
            self.clear_set_id(&fd)?;
        }
        let file = Descriptor::new(File::from(fd), permit);
        Ok(self.opened(Arc::clone(inode), file, host_flags))
    }

    /// Opens a file with `host_flags`, or with what the host wants changed
    /// about them.
    fn open_as_allowed(
        &self,
        descriptor: &Descriptor,
        host_flags: OFlags,
        asked: u32,
        may_wait: bool,
    ) -> Result<(OwnedFd, OFlags)> {
        let open = |flags| {
            Ok((
                self.reopen_unless_leased(descriptor, flags, may_wait)?,
                flags,
            ))
        };
        let appending = OFlags::from_bits_retain(asked) & OFlags::APPEND;
        match open(host_flags) {
            // What a program may only write, we need not be able to read.
            Err(Errno::ACCESS) if asked_to_write_only(asked) => {
                open((host_flags - ACCESS_MODE) | OFlags::WRONLY)
            }
            // A file for appending only (chattr +a).
            Err(Errno::PERM) if !appending.is_empty() => open(host_flags | OFlags::APPEND),
            outcome => outcome,
        }
    }

    /// The host's flags for a file that the guest opens with `flags`.
    ///
    /// `O_APPEND` is not among them: a program can change its mind about it
    /// while writes are under way, so each says for itself where it goes.
    pub(super) fn host_flags(&self, flags: u32, mount: &Mount) -> Result<OFlags> {
        let mut flags = OFlags::from_bits_retain(flags) & PASSED_ON;
        let access = flags & ACCESS_MODE;
        if access == ACCESS_MODE {
            return Err(Errno::INVAL);
        }
        if access != OFlags::RDONLY || flags.contains(OFlags::TRUNC) {
            self.writable()?;
        }
        if self.config.read_only {
            // The tree is to stay as it is, access times included.
            flags |= OFlags::NOATIME;
        }
        if !mount.host_fs.synthetic {
            flags -= OFlags::APPEND;
        }
        // Files that are opened for direct I/O are not written back.
        if self.agreement().writeback_cache && !mount.host_fs.synthetic {
            // The guest's kernel reads what it has only part of.
            if access == OFlags::WRONLY {
                flags = (flags - ACCESS_MODE) | OFlags::RDWR;
            }
        }
        Ok(flags)
    }

    /// Opens what an `O_PATH` descriptor stands for; without `O_NOATIME` when
    /// that is for the file's owner alone.
    pub(super) fn reopen(
        &self,
        descriptor: impl std::os::fd::AsFd,
        flags: OFlags,
    ) -> Result<OwnedFd> {
        let open = |flags| self.with_descriptors(|| self.root.reopen(&descriptor, flags));
        let outcome = match open(flags) {
            Err(Errno::ACCESS) if self.keeps_apart() => {
                self.take_rights(&descriptor)?;
                open(flags)
            }
            outcome => outcome,
        };
        match outcome {
            Err(Errno::PERM) if flags.contains(OFlags::NOATIME) => open(flags - OFlags::NOATIME),
            outcome => outcome,
        }
    }

    /// The same, but does not wait for a process of the host that has a lease
    /// of the file (`F_SETLEASE`) to give it up, which may take 45 seconds.
    /// `O_NONBLOCK` means nothing else to a regular file.
    pub(super) fn reopen_unless_leased(
        &self,
        descriptor: impl std::os::fd::AsFd,
        flags: OFlags,
        may_wait: bool,
    ) -> Result<OwnedFd> {
        if may_wait {
            return self.reopen(descriptor, flags);
        }
        (self.reopen(descriptor, flags | OFlags::NONBLOCK)).map_err(|error| match error {
            Errno::AGAIN => WOULD_WAIT,
            other => other,
        })
    }

    /// Makes the handle of a file just opened.
    pub(super) fn opened(
        &self,
        inode: Arc<Inode>,
        file: Descriptor<File>,
        host_flags: OFlags,
    ) -> Opened {
        // What the guest would write back has places, and this has but an end.
        let only_appended = host_flags.contains(OFlags::APPEND) && self.agreement().writeback_cache;
        let mut behaviour = if inode.mount.host_fs.synthetic || only_appended {
            // A guest that went by the size of the former would read nothing.
            CachePolicy::Never.file_behaviour()
        } else {
            self.config.cache.file_behaviour()
        };
        // Closing what was only read has nothing to tell, but that it ends locks.
        behaviour.no_flush = host_flags & ACCESS_MODE == OFlags::RDONLY && !self.agreement().locks;
        let node = OpenNode::File(OpenFile {
            file,
            flags: host_flags,
        });
        Opened {
            handle: self.handles.insert(inode, node),
            behaviour,
        }
    }
}

fn asked_to_write_only(flags: u32) -> bool {
    OFlags::from_bits_retain(flags) & ACCESS_MODE == OFlags::WRONLY
}
