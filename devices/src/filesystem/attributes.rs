//! Attributes of nodes, and of the whole file system.

use std::time::Duration;

use rustix::io::Errno;

use super::request::{Handle, Request, Result};

/// GETATTR and STATX, which ask for the same, SETATTR, ACCESS and STATFS.
#[allow(unused_variables)]
pub trait AttributeOperations {
    /// The attributes, and how long the guest may trust them. `handle` is the
    /// open file they are asked of, if any.
    fn getattr(
        &self,
        request: &Request<'_>,
        handle: Option<Handle>,
    ) -> Result<(Attributes, Duration)> {
        Err(Errno::NOSYS)
    }

    /// Makes `changes` and answers as [`getattr`](Self::getattr).
    fn setattr(
        &self,
        request: &Request<'_>,
        handle: Option<Handle>,
        changes: &SetAttributes,
    ) -> Result<(Attributes, Duration)> {
        Err(Errno::NOSYS)
    }

    /// `mask` as with `access(2)`.
    fn access(&self, request: &Request<'_>, mask: u32) -> Result<()> {
        Err(Errno::NOSYS)
    }

    /// The status of the whole file system.
    fn statfs(&self, request: &Request<'_>) -> Result<Statistics> {
        Err(Errno::NOSYS)
    }
}

/// A point in time, in the form `statx` gives it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timestamp {
    /// Seconds since the epoch.
    pub seconds: i64,
    /// Nanoseconds, 0 to 999 999 999.
    pub nanoseconds: u32,
}

/// The attributes of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// The host's inode number, for `st_ino`.
    pub ino: u64,
    /// Size in bytes.
    pub size: u64,
    /// Space taken, in units of 512 bytes.
    pub blocks: u64,
    /// Last access.
    pub atime: Timestamp,
    /// Last change of the contents.
    pub mtime: Timestamp,
    /// Last change of the attributes.
    pub ctime: Timestamp,
    /// Creation, where the host's file system records it.
    pub btime: Option<Timestamp>,
    /// Type and permission bits, as `st_mode`.
    pub mode: u32,
    /// Number of hard links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node, in the kernel's `new_encode_dev` form.
    pub rdev: u32,
    /// Preferred I/O size in bytes.
    pub blksize: u32,
    /// The node is the root of another file system mounted under the share
    /// (`FUSE_ATTR_SUBMOUNT`).
    pub submount: bool,
    /// The guest is to map the file in its window (`FUSE_ATTR_DAX`).
    pub mapped: bool,
}

/// What SETATTR asks to change; `None` leaves a thing as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetAttributes {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size in bytes.
    pub size: Option<u64>,
    /// Last access.
    pub atime: Option<SetTime>,
    /// Last change of the contents.
    pub mtime: Option<SetTime>,
    /// Last change of the attributes, sent with the writeback cache only.
    pub ctime: Option<Timestamp>,
    /// Clear set-user-ID, set-group-ID and file capabilities as a side effect
    /// (`FATTR_KILL_SUIDGID`).
    pub kill_privileges: bool,
}

/// A time to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// The time of the host's clock.
    Now,
    /// The time given.
    At(Timestamp),
}

/// The status of the whole file system, as `statvfs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Total blocks, in units of `fragment_size`.
    pub blocks: u64,
    /// Free blocks.
    pub blocks_free: u64,
    /// Blocks free to unprivileged users.
    pub blocks_available: u64,
    /// Total inodes.
    pub files: u64,
    /// Free inodes.
    pub files_free: u64,
    /// Preferred block size in bytes.
    pub block_size: u32,
    /// Longest file name in bytes.
    pub name_max: u32,
    /// The unit of the block counts, in bytes.
    pub fragment_size: u32,
}
