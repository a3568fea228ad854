//! What the guest may have written and not yet sent: pages of a file that it
//! has open for writing. Nothing that is told of such a file may hide them.
//!
//! Linux asks for the attributes and for the holes of a file without sending
//! its dirty pages first (`fuse_lseek`, `fuse_update_attributes`), and
//! programs believe the answer: `tar -S` takes a file without blocks for one
//! hole and reads none of it, `cp` and `install` skip what SEEK_DATA skips.
//! So, on a share whose pages the guest caches:
//!
//! * LSEEK finds data everywhere in a file that may be dirty, up to its size.
//!   Once write-back was agreed on only the guest knows the size, and LSEEK is
//!   `ENOSYS`: for the rest of the session Linux then answers as if there were
//!   no holes at all.
//! * The blocks of a file that may be dirty are at least what its size takes,
//!   and never none. "No blocks" of a file that may become dirty is not to be
//!   kept. Any other number hides nothing, though it may be too small: what a
//!   file has that is being written to under write-back is kept for a second,
//!   because Linux has to know the attributes for every write
//!   (`fuse_cache_write_iter`), and asks for its capabilities whenever it was
//!   told them anew. After the file is closed it asks for the blocks again.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::Passthrough;
use super::handle::Open;
use super::inode::Inode;
use super::stat::{Kind, Stat};
use crate::filesystem::{LseekArgs, Result};

/// The unit of `st_blocks`, in bytes.
const BLOCK: u64 = 512;

/// The fewest blocks of a file that may have data: a page of the guest.
const A_PAGE: u64 = 4096 / BLOCK;

/// How long the guest may trust the attributes of a file that it is writing to
/// and may not have sent.
const WHILE_WRITTEN: Duration = Duration::from_secs(1);

const SEEK_DATA: u32 = libc::SEEK_DATA.cast_unsigned();
const SEEK_HOLE: u32 = libc::SEEK_HOLE.cast_unsigned();

impl Passthrough {
    /// Whether the guest has pages of files in its cache, of all or of those it
    /// has mapped, and may change them.
    fn guest_has_pages(&self) -> bool {
        let cached = !self.config.cache.bypasses_pages() || self.agreement().direct_mappings;
        cached && !self.config.read_only
    }

    /// Whether the guest may hold data of this file that it has not sent. It
    /// sends all before it releases the last handle it can write to.
    fn may_be_dirty(&self, inode: &Inode) -> bool {
        inode.writers.load(Ordering::Relaxed) > 0
            && self.guest_has_pages()
            && !inode.mount.host_fs.synthetic
    }

    /// `st_blocks` for the guest.
    pub(super) fn guest_blocks(&self, inode: &Inode, status: &Stat) -> u64 {
        let blocks = status.raw.stx_blocks;
        if self.may_be_dirty(inode) {
            blocks.max(status.raw.stx_size.div_ceil(BLOCK)).max(A_PAGE)
        } else {
            blocks
        }
    }

    /// How long the guest may go by what it is told of the file now, which must
    /// not hide data that it writes from now on.
    pub(super) fn longest_trust(&self, inode: &Inode, status: &Stat) -> Duration {
        if inode.kind != Kind::Regular || !self.guest_has_pages() || inode.mount.host_fs.synthetic {
            return Duration::MAX;
        }
        let writeback = self.agreement().writeback_cache;
        if writeback && self.may_be_dirty(inode) {
            return WHILE_WRITTEN;
        }
        let without_blocks = status.raw.stx_blocks == 0;
        // Without write-back nothing can be dirty in an empty file, and what
        // makes it longer makes Linux ask again.
        match without_blocks && (writeback || status.raw.stx_size > 0) {
            true => Duration::ZERO,
            false => Duration::MAX,
        }
    }

    /// LSEEK.
    pub(super) fn seek(&self, open: &Open, args: &LseekArgs) -> Result<u64> {
        if self.agreement().writeback_cache {
            return Err(Errno::NOSYS);
        }
        let file = &open.file()?.file;
        // Beyond what lseek(2) can say there is certainly neither.
        if i64::try_from(args.offset).is_err() {
            return Err(Errno::NXIO);
        }
        let to = match args.whence {
            SEEK_DATA => SeekFrom::Data(args.offset),
            SEEK_HOLE => SeekFrom::Hole(args.offset),
            _ => return Err(Errno::INVAL),
        };
        if !self.may_be_dirty(&open.inode) {
            // The position this leaves behind is used by nothing.
            return rustix::fs::seek(file, to);
        }
        let size = Stat::of(file)?.raw.stx_size;
        match to {
            _ if args.offset >= size => Err(Errno::NXIO),
            SeekFrom::Data(offset) => Ok(offset),
            _ => Ok(size),
        }
    }
}
