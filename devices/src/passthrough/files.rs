//! Open files and their contents: OPEN, READ, WRITE, FLUSH, RELEASE, FSYNC,
//! FALLOCATE, LSEEK.
//!
//! Data moves between the host's file and the guest's pages in one system
//! call, at the position given, with no lock held and nothing allocated.

use std::fs::File;

use rustix::fs::{FallocateFlags, OFlags, SeekFrom};
use rustix::io::Errno;

use super::Passthrough;
use super::attributes::clear_set_id;
use super::confinement::Otherwise;
use super::handle::Open;
use super::stat::Kind;
use super::sys;
use crate::filesystem::{
    FallocateArgs, FileOperations, Handle, LseekArgs, NodeId, OpenArgs, Opened, Position, ReadArgs,
    ReplyData, Request, RequestData, Result, WriteArgs,
};

impl FileOperations for Passthrough {
    fn open(&self, request: &Request<'_>, args: OpenArgs) -> Result<Opened> {
        let inode = self.inodes.get(request.node)?;
        if inode.kind == Kind::Regular && !self.coherent_file(&inode, &request.caller)? {
            self.confine_file(&inode, Otherwise::UnlessOpen)?;
        }
        let opened = self.open_inode(&inode, args)?;
        self.refusals.arrived(request.caller.pid);
        Ok(opened)
    }

    fn read(
        &self,
        request: &Request<'_>,
        args: &ReadArgs,
        data: &mut dyn ReplyData,
    ) -> Result<usize> {
        let open = self.handles.get(request.node, args.handle)?;
        let file = &open.file()?.file;
        let wanted = usize::try_from(args.size).map_err(|_| Errno::INVAL)?;
        let mut done = 0;
        // Once more after a short read: the guest takes one for the end of
        // the file and would show zeros in place of an error half way.
        while done < wanted {
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
        let file = self.appending_as_asked(&open, args.flags)?;
        open.inode.told.forget();
        if args.kill_privileges {
            clear_set_id(file)?;
        }
        let wanted = usize::try_from(args.size).map_err(|_| Errno::INVAL)?;
        let mut done = 0;
        while done < wanted {
            // On a file opened with O_APPEND the host ignores the position.
            let at = position(args.offset, done)?;
            match data.drain_to(file, wanted - done, at) {
                Ok(0) => break,
                Ok(count) => done = done.saturating_add(count),
                Err(Errno::INTR) => {}
                // What was written was written; the next write tells.
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        if done > 0 {
            match durability(args.flags, open.file()?.flags) {
                None => {}
                Some(Durability::Data) => rustix::fs::fdatasync(file)?,
                Some(Durability::All) => rustix::fs::fsync(file)?,
            }
        }
        Ok(done)
    }

    fn flush(&self, request: &Request<'_>, handle: Handle) -> Result<()> {
        let open = self.handles.get(request.node, handle)?;
        self.told_by_closing(&open);
        // Only a close makes file systems like NFS tell of failed writes.
        match self.with_descriptors(|| rustix::io::fcntl_dupfd_cloexec(open.host(), 0)) {
            Ok(copy) => sys::close(copy),
            // A close must not fail for want of descriptors; fsync tells.
            Err(Errno::MFILE | Errno::NFILE) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn release(&self, request: &Request<'_>, handle: Handle) -> Result<()> {
        self.handles.remove(request.node, handle).map(drop)
    }

    fn fsync(&self, request: &Request<'_>, handle: Handle, data_only: bool) -> Result<()> {
        self.sync(request.node, handle, data_only)
    }

    fn fallocate(&self, request: &Request<'_>, args: &FallocateArgs) -> Result<()> {
        self.writable()?;
        let open = self.handles.get(request.node, args.handle)?;
        open.inode.told.forget();
        // Modes unknown here are the host's to judge.
        let mode = FallocateFlags::from_bits_retain(args.mode);
        rustix::fs::fallocate(&open.file()?.file, mode, args.offset, args.length)
    }

    fn lseek(&self, request: &Request<'_>, args: &LseekArgs) -> Result<u64> {
        let open = self.handles.get(request.node, args.handle)?;
        let file = &open.file()?.file;
        // Beyond what lseek(2) can say there is certainly neither.
        if i64::try_from(args.offset).is_err() {
            return Err(Errno::NXIO);
        }
        // The position this leaves behind is used by nothing.
        const DATA: u32 = libc::SEEK_DATA.cast_unsigned();
        const HOLE: u32 = libc::SEEK_HOLE.cast_unsigned();
        match args.whence {
            DATA => rustix::fs::seek(file, SeekFrom::Data(args.offset)),
            HOLE => rustix::fs::seek(file, SeekFrom::Hole(args.offset)),
            _ => Err(Errno::INVAL),
        }
    }
}

impl Passthrough {
    /// The host's file to write to, in the append mode that the guest's
    /// program has set by now.
    fn appending_as_asked<'a>(&self, open: &'a Open, flags: u32) -> Result<&'a File> {
        let file = open.file()?;
        let append = OFlags::from_bits_retain(flags).contains(OFlags::APPEND);
        if append == file.flags.contains(OFlags::APPEND) || self.agreement().writeback_cache {
            return Ok(&file.file);
        }
        if let Some(toggled) = file.toggled.get() {
            return Ok(toggled);
        }
        let flags = (file.flags ^ OFlags::APPEND) - OFlags::TRUNC;
        let fd = self.reopen(&file.file, flags)?;
        Ok(file.toggled.get_or_init(|| File::from(fd)))
    }

    /// FSYNC and FSYNCDIR.
    pub(super) fn sync(&self, number: NodeId, handle: Handle, data_only: bool) -> Result<()> {
        let sync = |file: &File| {
            if data_only {
                rustix::fs::fdatasync(file)
            } else {
                rustix::fs::fsync(file)
            }
        };
        match self.handles.get(number, handle) {
            Ok(open) => sync(open.host()),
            // A guest that has no handle of a directory may still sync it.
            Err(error) => {
                let inode = self.inodes.get(number)?;
                if inode.kind != Kind::Directory {
                    return Err(error);
                }
                let descriptor = self.descriptor(&inode)?;
                let fd = self.with_descriptors(|| self.root.open_directory(&*descriptor))?;
                sync(&File::from(fd))
            }
        }
    }
}

/// What has to be on the disk before a write is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Durability {
    /// The data, and what is needed to read it back (`O_DSYNC`).
    Data,
    /// Every attribute as well (`O_SYNC`).
    All,
}

/// What the flags of a write ask for beyond what the host's file, opened with
/// `opened`, does by itself.
///
/// They are the only place where Linux says so of a direct write that is
/// synchronous for another reason than the flags of the open file: `RWF_DSYNC`
/// and `RWF_SYNC`, or a file system mounted with `sync` (`fuse_write_flags` in
/// fs/fuse/file.c). It sends no FSYNC after it.
fn durability(asked: u32, opened: OFlags) -> Option<Durability> {
    // Not `OFlags::DSYNC`, which is all of `O_SYNC` in rustix.
    const DATA: u32 = libc::O_DSYNC.cast_unsigned();
    const ALL: u32 = libc::O_SYNC.cast_unsigned();
    let lacks = |bits| asked & bits == bits && opened.bits() & bits != bits;
    if lacks(ALL) {
        Some(Durability::All)
    } else if lacks(DATA) {
        Some(Durability::Data)
    } else {
        None
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_made_durable_as_it_asks_unless_the_file_does_so_by_itself() {
        let plain = libc::O_RDWR;
        let (dsync, sync) = (plain | libc::O_DSYNC, plain | libc::O_SYNC);
        for (asked, opened, expected) in [
            (plain, plain, None),
            (dsync, plain, Some(Durability::Data)),
            (sync, plain, Some(Durability::All)),
            (dsync, dsync, None),
            (sync, dsync, Some(Durability::All)),
            (dsync, sync, None),
            (sync, sync, None),
            (plain, sync, None),
        ] {
            let host = OFlags::from_bits_retain(opened.cast_unsigned());
            assert_eq!(
                durability(asked.cast_unsigned(), host),
                expected,
                "{asked:#o} on {opened:#o}"
            );
        }
    }
}
