//! A file system's answers as the protocol's structures.

use std::time::Duration;

use fuse_backend_rs::abi::fuse_abi::{Attr, AttrOut, EntryOut, Kstatfs, OpenOut, StatfsOut};

use super::flags::{ATTR_DAX, ATTR_SUBMOUNT, InitFlags, OpenOutFlags};
use crate::filesystem::{Attributes, Entry, OpenBehaviour, Opened, Statistics, Timestamp};

/// `struct fuse_attr`, 88 bytes.
pub(super) fn attr(attributes: &Attributes, agreed: InitFlags) -> Attr {
    let submount = attributes.submount && agreed.contains(InitFlags::SUBMOUNTS);
    let mapped = attributes.mapped && agreed.contains(InitFlags::HAS_INODE_DAX);
    let flag = |flag, is_set| if is_set { flag } else { 0 };
    Attr {
        ino: attributes.ino,
        size: attributes.size,
        blocks: attributes.blocks,
        // Times before 1970 are negative numbers in two's complement.
        atime: attributes.atime.seconds.cast_unsigned(),
        mtime: attributes.mtime.seconds.cast_unsigned(),
        ctime: attributes.ctime.seconds.cast_unsigned(),
        atimensec: attributes.atime.nanoseconds,
        mtimensec: attributes.mtime.nanoseconds,
        ctimensec: attributes.ctime.nanoseconds,
        mode: attributes.mode,
        nlink: attributes.nlink,
        uid: attributes.uid,
        gid: attributes.gid,
        rdev: attributes.rdev,
        blksize: attributes.blksize,
        flags: flag(ATTR_SUBMOUNT, submount) | flag(ATTR_DAX, mapped),
    }
}

/// `struct fuse_attr_out`, 104 bytes.
pub(super) fn attr_out(attributes: &Attributes, timeout: Duration, agreed: InitFlags) -> AttrOut {
    AttrOut {
        attr_valid: timeout.as_secs(),
        attr_valid_nsec: timeout.subsec_nanos(),
        dummy: 0,
        attr: attr(attributes, agreed),
    }
}

/// `sizeof(struct fuse_statx_out)`.
pub(super) const STATX_OUT: usize = 288;

/// `STATX_BASIC_STATS` and `STATX_BTIME` of `statx(2)`.
const BASIC_STATS: u32 = 0x7ff;
const BTIME: u32 = 0x800;

/// `struct fuse_statx_out`, in which nothing says that a node is a mount point:
/// that comes with its entry.
pub(super) fn statx_out(attributes: &Attributes, timeout: Duration) -> [u8; STATX_OUT] {
    let btime = attributes.btime;
    let mask = BASIC_STATS | if btime.is_some() { BTIME } else { 0 };
    // The kernel's `new_decode_dev`.
    let device = attributes.rdev;
    let (major, minor) = (
        (device >> 8) & 0xfff,
        (device & 0xff) | ((device >> 12) & 0xf_ff00),
    );
    let mut out = Words::default();
    out.u64(timeout.as_secs());
    out.u32(timeout.subsec_nanos());
    out.skip(4 + 16);
    out.u32(mask);
    out.u32(attributes.blksize);
    out.skip(8);
    out.u32(attributes.nlink);
    out.u32(attributes.uid);
    out.u32(attributes.gid);
    // 16 bits, and as many of padding.
    out.u32(attributes.mode & 0xffff);
    out.u64(attributes.ino);
    out.u64(attributes.size);
    out.u64(attributes.blocks);
    out.skip(8);
    out.time(attributes.atime);
    out.time(btime.unwrap_or_default());
    out.time(attributes.ctime);
    out.time(attributes.mtime);
    out.u32(major);
    out.u32(minor);
    out.bytes
}

/// Fields one after the other.
struct Words {
    bytes: [u8; STATX_OUT],
    at: usize,
}

impl Default for Words {
    fn default() -> Self {
        Self {
            bytes: [0; STATX_OUT],
            at: 0,
        }
    }
}

impl Words {
    fn put(&mut self, field: &[u8]) {
        let end = self.at.saturating_add(field.len());
        if let Some(space) = self.bytes.get_mut(self.at..end) {
            space.copy_from_slice(field);
        }
        self.at = end;
    }

    fn u32(&mut self, word: u32) {
        self.put(&word.to_ne_bytes());
    }

    fn u64(&mut self, long: u64) {
        self.put(&long.to_ne_bytes());
    }

    fn skip(&mut self, length: usize) {
        self.at = self.at.saturating_add(length);
    }

    /// `struct fuse_sx_time`.
    fn time(&mut self, time: Timestamp) {
        self.u64(time.seconds.cast_unsigned());
        self.u32(time.nanoseconds);
        self.skip(4);
    }
}

/// `struct fuse_entry_out`, 128 bytes.
pub(super) fn entry_out(entry: &Entry, agreed: InitFlags) -> EntryOut {
    EntryOut {
        nodeid: entry.inode,
        generation: entry.generation,
        entry_valid: entry.entry_timeout.as_secs(),
        attr_valid: entry.attr_timeout.as_secs(),
        entry_valid_nsec: entry.entry_timeout.subsec_nanos(),
        attr_valid_nsec: entry.attr_timeout.subsec_nanos(),
        attr: attr(&entry.attributes, agreed),
    }
}

/// `struct fuse_open_out`, 16 bytes.
pub(super) fn open_out(opened: &Opened) -> OpenOut {
    let OpenBehaviour {
        direct_io,
        keep_cache,
        cache_dir,
        stream,
        no_flush,
        parallel_direct_writes,
    } = opened.behaviour;
    let mut flags = OpenOutFlags::empty();
    flags.set(OpenOutFlags::DIRECT_IO, direct_io);
    flags.set(OpenOutFlags::KEEP_CACHE, keep_cache);
    flags.set(OpenOutFlags::CACHE_DIR, cache_dir);
    flags.set(OpenOutFlags::STREAM, stream);
    flags.set(OpenOutFlags::NOFLUSH, no_flush);
    flags.set(OpenOutFlags::PARALLEL_DIRECT_WRITES, parallel_direct_writes);
    OpenOut {
        fh: opened.handle,
        open_flags: flags.bits(),
        passthrough: 0,
    }
}

/// `struct fuse_statfs_out`, 80 bytes.
pub(super) fn statfs_out(statistics: &Statistics) -> StatfsOut {
    StatfsOut {
        st: Kstatfs {
            blocks: statistics.blocks,
            bfree: statistics.blocks_free,
            bavail: statistics.blocks_available,
            files: statistics.files,
            ffree: statistics.files_free,
            bsize: statistics.block_size,
            namelen: statistics.name_max,
            frsize: statistics.fragment_size,
            padding: 0,
            spare: [0; 6],
        },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_device_of_statx_is_a_pair_of_numbers() {
        // `new_encode_dev(MKDEV(0xabc, 0x12345))`.
        let attributes = Attributes {
            rdev: 0x45 | 0xabc << 8 | 0x12300 << 12,
            ..Attributes::default()
        };
        let out = statx_out(&attributes, Duration::ZERO);
        let word = |at: usize| u32::from_ne_bytes(out[at..at + 4].try_into().unwrap());
        assert_eq!((word(160), word(164)), (0xabc, 0x12345));
    }
}
