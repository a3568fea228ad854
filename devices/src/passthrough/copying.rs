//! COPY_FILE_RANGE: data that goes from one file of the share to another
//! without the guest, as blocks that both have in common where the host's file
//! system can do that.
//!
//! The answer can be "as you would do without me": for `EOPNOTSUPP` and for
//! `EXDEV` Linux reads and writes what was to be copied (`fuse_copy_file_range`
//! in fs/fuse/file.c). `ENOSYS` it would remember for the rest of the session.

use rustix::io::{Errno, retry_on_intr};

use super::Passthrough;
use super::files::is_part;
use crate::filesystem::{CopyFileRangeArgs, Request, Result};

/// The most bytes that one request copies. A task that is killed meanwhile waits
/// for its answer, and so does a reset of the device; programs go on by
/// themselves after a short copy. Whole blocks of any file system, so that
/// what comes after can be shared as well.
const MOST: u64 = 64 << 20;

impl Passthrough {
    /// COPY_FILE_RANGE.
    pub(super) fn copy(&self, request: &Request<'_>, args: &CopyFileRangeArgs) -> Result<u64> {
        self.writable()?;
        let source = self.handles.get(request.node, args.handle)?;
        let target = self.handles.get(args.to_node, args.to_handle)?;
        let (from, to) = (&source.file()?.file, &target.file()?.file);
        // What the host makes when it is read has no size to copy by.
        if source.inode.mount.host_fs.synthetic || target.inode.mount.host_fs.synthetic {
            return Err(Errno::OPNOTSUPP);
        }
        if args.flags != 0 {
            return Err(Errno::INVAL);
        }
        let (mut offset, mut to_offset) = (position(args.offset)?, position(args.to_offset)?);
        let length = usize::try_from(args.length.min(MOST)).map_err(|_| Errno::INVAL)?;
        target.inode.told.forget();
        // As with FALLOCATE, no flag says so.
        let by_user = self.agreement().kill_privileges && request.caller.uid != 0;
        if by_user && is_part(offset, length as u64) && is_part(to_offset, length as u64) {
            self.clear_set_id(to)?;
        }
        let copied = retry_on_intr(|| {
            rustix::fs::copy_file_range(from, Some(&mut offset), to, Some(&mut to_offset), length)
        })?;
        // Linux asks for nothing beyond the end that it knows of, so the file
        // has become shorter. For 0 bytes to the beginning of a file Linux
        // drops all its pages, also those that it has not written back.
        if copied == 0 && length > 0 {
            return Err(Errno::OPNOTSUPP);
        }
        self.mend_written(&target);
        Ok(copied as u64)
    }
}

/// An offset as the host's `off_t`.
fn position(offset: u64) -> Result<u64> {
    i64::try_from(offset)
        .map(|_| offset)
        .map_err(|_| Errno::INVAL)
}
