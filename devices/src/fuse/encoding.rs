//! A file system's answers as the protocol's structures.

use std::time::Duration;

use fuse_backend_rs::abi::fuse_abi::{Attr, AttrOut, EntryOut, Kstatfs, OpenOut, StatfsOut};

use super::flags::{ATTR_SUBMOUNT, InitFlags, OpenOutFlags};
use crate::filesystem::{Attributes, Entry, OpenBehaviour, Opened, Statistics};

/// `struct fuse_attr`, 88 bytes.
pub(super) fn attr(attributes: &Attributes, agreed: InitFlags) -> Attr {
    let submount = attributes.submount && agreed.contains(InitFlags::SUBMOUNTS);
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
        flags: if submount { ATTR_SUBMOUNT } else { 0 },
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
