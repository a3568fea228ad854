//! Open files and their contents: OPEN, READ, WRITE, FLUSH, RELEASE, FSYNC,
//! SYNCFS, FALLOCATE, LSEEK, COPY_FILE_RANGE.
//!
//! Data moves between the host's file and the guest's pages in one system
//! call, at the position given, with no lock held.

use std::fs::File;

use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::{Errno, retry_on_intr};

use super::Passthrough;
use super::budget::Purpose;
use super::confinement::Otherwise;
use super::durability::Durability;
use super::handle::{Open, OpenFile};
use super::stat::Kind;
use super::sys::count_call;
use crate::filesystem::{
    CopyFileRangeArgs, FallocateArgs, FileOperations, Handle, LockOwner, LseekArgs, NodeId,
    OpenArgs, Opened, Position, ReadArgs, ReleaseArgs, ReplyData, Request, RequestData, Result,
    WriteArgs,
};

impl FileOperations for Passthrough {
    fn open(&self, request: &Request<'_>, args: OpenArgs) -> Result<Opened> {
        if self.agreement().no_open {
            return Err(Errno::NOSYS);
        }
        let inode = self.inodes.get(request.node)?;
        if inode.kind == Kind::Regular && !self.coherent_file(&inode, &request.caller)? {
            self.confine_file(&inode, Otherwise::UnlessOpen)?;
        }
        let permit = self.permit(Purpose::Open)?;
        let opened = self.open_inode(&inode, args, request.may_wait(), permit)?;
        let now = self.clock.now();
        self.refusals.opened(request.caller.pid, request.node, now);
        Ok(opened)
    }

    fn read(
        &self,
        request: &Request<'_>,
        args: &ReadArgs,
        data: &mut dyn ReplyData,
    ) -> Result<usize> {
        let open = self.opened_by(request, args.handle)?;
        let file = &open.file()?.file;
        let wanted = usize::try_from(args.size).map_err(|_| Errno::INVAL)?;
        let mut done = 0;
        // Once more after a short read: the guest takes one for the end of
        // the file and would show zeros in place of an error half way. Not
        // from a file that says only now what it has, and may wait for more:
        // there the program hears of what there was.
        let once = open.inode.mount.host_fs.synthetic;
        while done < wanted && !(once && done > 0) {
            match data.fill_from(file, wanted - done, position(args.offset, done)?) {
                Ok(0) => break,
                Ok(count) => done = done.saturating_add(count),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write(
        &self,
        request: &Request<'_>,
        args: &WriteArgs,
        data: &mut dyn RequestData,
    ) -> Result<usize> {
        self.writable()?;
        let open = self.handles.get(request.node, args.handle)?;
        open.inode.told.forget();
        let OpenFile { file, flags, .. } = open.file()?;
        let only_appended = flags.contains(OFlags::APPEND);
        let to_the_end = OFlags::from_bits_retain(args.flags).contains(OFlags::APPEND);
        // The host would append what belongs elsewhere, and a page of the guest's cache
        // as a whole.
        let elsewhere = args.from_cache || !to_the_end;
        if only_appended && elsewhere && !open.inode.mount.host_fs.synthetic {
            return Err(Errno::PERM);
        }
        // The guest's program may have changed its mind with F_SETFL.
        let append = to_the_end && !only_appended && !self.agreement().writeback_cache;
        if args.kill_privileges && is_part(args.offset, args.size.into()) {
            self.clear_set_id(file)?;
        }
        let wanted = usize::try_from(args.size).map_err(|_| Errno::INVAL)?;
        let mut done = 0;
        while done < wanted {
            let at = match append {
                true => Position::End,
                false => position(args.offset, done)?,
            };
            let stopped = match data.drain_to(file, wanted - done, at) {
                // The host does not say why.
                Ok(0) => Errno::IO,
                Ok(count) => {
                    done = done.saturating_add(count);
                    continue;
                }
                Err(Errno::INTR) => continue,
                Err(error) => error,
            };
            // A program is told how far it came, and the reason by its next
            // write. For pages that the guest writes back there is no next
            // one: Linux looks at the error alone (fuse_writepage_end) and
            // counts them as stored whatever the length says.
            if done == 0 || args.from_cache {
                return Err(stopped);
            }
            break;
        }
        self.mend_written(&open);
        if done > 0
            && let Some(durability) = Durability::lacking(args.flags, *flags)
        {
            durability.sync(file)?;
        }
        Ok(done)
    }

    fn flush(&self, request: &Request<'_>, handle: Handle, owner: LockOwner) -> Result<()> {
        // Of a tree that is only read there is nothing to tell.
        if self.agreement().no_open {
            return Err(Errno::NOSYS);
        }
        let open = self.handles.get(request.node, handle)?;
        self.unlock_for(request, owner);
        // Only for the locks' sake: see `opened`.
        if self.agreement().locks && !open.node.may_write() {
            return Ok(());
        }
        let outcome = match open.inode.mount.host_fs.tells_at_close {
            true => self.close_a_copy(&open),
            false => Ok(()),
        };
        // After it: what is written back by then may change the times.
        self.told_by_closing(&open);
        outcome
    }

    fn release(&self, request: &Request<'_>, args: ReleaseArgs) -> Result<()> {
        let open = self.handles.remove(request.node, args.handle)?;
        self.unlock_with(request, args.handle);
        if args.unlock {
            Self::unlock_open(request, &open);
        }
        Ok(())
    }

    fn fsync(&self, request: &Request<'_>, handle: Handle, data_only: bool) -> Result<()> {
        if self.agreement().no_open {
            return Err(Errno::NOSYS);
        }
        self.sync(request.node, handle, data_only)
    }

    fn syncfs(&self, request: &Request<'_>) -> Result<()> {
        self.sync_file_systems(request.node)
    }

    fn fallocate(&self, request: &Request<'_>, args: &FallocateArgs) -> Result<()> {
        self.writable()?;
        let open = self.handles.get(request.node, args.handle)?;
        open.inode.told.forget();
        // Modes unknown here are the host's to judge.
        let mode = FallocateFlags::from_bits_retain(args.mode);
        let file = &open.file()?.file;
        retry_on_intr(|| rustix::fs::fallocate(file, mode, args.offset, args.length))?;
        // Linux sends no flag for it with FALLOCATE, and leaves the bits to
        // the server all the same. Whether the caller has CAP_FSETID is not
        // said either; root has. What the host refuses takes nothing away.
        if self.agreement().kill_privileges && request.caller.uid != 0 {
            self.clear_set_id(file)?;
        }
        self.mend_written(&open);
        Ok(())
    }

    fn lseek(&self, request: &Request<'_>, args: &LseekArgs) -> Result<u64> {
        let open = self.opened_by(request, args.handle)?;
        self.seek(&open, args)
    }

    fn copy_file_range(&self, request: &Request<'_>, args: &CopyFileRangeArgs) -> Result<u64> {
        self.copy(request, args)
    }
}

impl Passthrough {
    /// Only a close makes file systems like NFS tell of failed writes. No program is
    /// started before it: `dup` costs a confined thread less than `fcntl`, whose
    /// arguments are looked at.
    fn close_a_copy(&self, open: &Open) -> Result<()> {
        let copy = || {
            count_call();
            rustix::io::dup(open.host())
        };
        match self.hold(Purpose::Work, copy) {
            Ok(copy) => copy.close(),
            // A close must not fail for want of descriptors, and not keep
            // quiet either: slower, but it tells the same.
            Err(Errno::MFILE | Errno::NFILE) if open.node.may_write() => {
                Durability::Data.sync(open.host())
            }
            Err(Errno::MFILE | Errno::NFILE) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// FSYNC and FSYNCDIR.
    pub(super) fn sync(&self, number: NodeId, handle: Handle, data_only: bool) -> Result<()> {
        let durability = if data_only {
            Durability::Data
        } else {
            Durability::All
        };
        match self.handles.get(number, handle) {
            Ok(open) => durability.sync(open.host()),
            // A guest that has no handle of a directory may still sync it.
            Err(error) => {
                let inode = self.inodes.get(number)?;
                if inode.kind != Kind::Directory {
                    return Err(error);
                }
                let descriptor = self.descriptor(&inode)?;
                let open = || self.root.open_directory(&*descriptor).map(File::from);
                durability.sync(&*self.hold(Purpose::Work, open)?)
            }
        }
    }
}

/// Whether there is such a part of a file. What is asked of any other fails on
/// the host, and takes nobody's set-ID bits away.
pub(super) fn is_part(offset: u64, length: u64) -> bool {
    let end = offset.checked_add(length);
    length > 0 && end.is_some_and(|end| i64::try_from(end).is_ok())
}

/// The position `done` bytes after `offset`. Beyond what `off_t` can say is
/// `EINVAL` already here: as a negative number it could mean something else.
fn position(offset: u64, done: usize) -> Result<Position> {
    offset
        .checked_add(done as u64)
        .filter(|at| i64::try_from(*at).is_ok())
        .map(Position::At)
        .ok_or(Errno::INVAL)
}
