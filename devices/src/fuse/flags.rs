//! The flag bits of the protocol, as `linux/fuse.h` numbers them.
//!
//! Kept here rather than taken from a library because the server must never
//! lose a bit it does not know: what is agreed on at INIT decides how later
//! requests are laid out.

use std::ops::{BitAnd, BitOr};

/// Flags of INIT: 32 bits in `flags`, 32 more in `flags2` since 7.36.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct InitFlags(pub(super) u64);

impl InitFlags {
    pub(super) const NONE: Self = Self(0);
    pub(super) const ASYNC_READ: Self = Self(1 << 0);
    pub(super) const ATOMIC_O_TRUNC: Self = Self(1 << 3);
    pub(super) const BIG_WRITES: Self = Self(1 << 5);
    pub(super) const DONT_MASK: Self = Self(1 << 6);
    pub(super) const AUTO_INVAL_DATA: Self = Self(1 << 12);
    pub(super) const DO_READDIRPLUS: Self = Self(1 << 13);
    pub(super) const READDIRPLUS_AUTO: Self = Self(1 << 14);
    pub(super) const ASYNC_DIO: Self = Self(1 << 15);
    pub(super) const WRITEBACK_CACHE: Self = Self(1 << 16);
    pub(super) const PARALLEL_DIROPS: Self = Self(1 << 18);
    pub(super) const POSIX_ACL: Self = Self(1 << 20);
    pub(super) const MAX_PAGES: Self = Self(1 << 22);
    pub(super) const CACHE_SYMLINKS: Self = Self(1 << 23);
    pub(super) const SUBMOUNTS: Self = Self(1 << 27);
    pub(super) const HANDLE_KILLPRIV_V2: Self = Self(1 << 28);
    pub(super) const SETXATTR_EXT: Self = Self(1 << 29);
    pub(super) const INIT_EXT: Self = Self(1 << 30);
    /// The group extension of requests that create something. The header
    /// files of Linux before 6.3 lack it.
    pub(super) const CREATE_SUPP_GROUP: Self = Self(1 << 34);

    /// Joins the two halves of an INIT request.
    pub(super) const fn from_halves(low: u32, high: u32) -> Self {
        Self(low as u64 | (high as u64) << 32)
    }

    /// The bits of `flags`.
    #[allow(clippy::cast_possible_truncation)] // the lower half is what is asked for
    pub(super) const fn low(self) -> u32 {
        self.0 as u32
    }

    /// The bits of `flags2`.
    pub(super) const fn high(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Whether all bits of `other` are set.
    pub(super) const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These bits when `condition` holds, none otherwise.
    pub(super) const fn when(self, condition: bool) -> Self {
        if condition { self } else { Self::NONE }
    }
}

impl BitOr for InitFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for InitFlags {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// `fuse_getattr_in.getattr_flags`: the `fh` field is valid.
pub(super) const GETATTR_FH: u32 = 1 << 0;

/// `fuse_open_in.open_flags`: clear set-ID bits on truncation.
pub(super) const OPEN_KILL_SUIDGID: u32 = 1 << 0;

/// `fuse_write_in.write_flags`: the data comes from the page cache.
pub(super) const WRITE_CACHE: u32 = 1 << 0;
/// `fuse_write_in.write_flags`: clear set-ID bits.
pub(super) const WRITE_KILL_SUIDGID: u32 = 1 << 2;

/// `fuse_fsync_in.fsync_flags`: the data only, as `fdatasync(2)`.
pub(super) const FSYNC_FDATASYNC: u32 = 1 << 0;

/// `fuse_setxattr_in.setxattr_flags`: clear the set-group-ID bit.
pub(super) const SETXATTR_ACL_KILL_SGID: u32 = 1 << 0;

/// `fuse_attr.flags`: the root of another mounted file system.
pub(super) const ATTR_SUBMOUNT: u32 = 1 << 0;

/// `fuse_setattr_in.valid`.
pub(super) mod setattr {
    pub(in crate::fuse) const MODE: u32 = 1 << 0;
    pub(in crate::fuse) const UID: u32 = 1 << 1;
    pub(in crate::fuse) const GID: u32 = 1 << 2;
    pub(in crate::fuse) const SIZE: u32 = 1 << 3;
    pub(in crate::fuse) const ATIME: u32 = 1 << 4;
    pub(in crate::fuse) const MTIME: u32 = 1 << 5;
    pub(in crate::fuse) const FH: u32 = 1 << 6;
    pub(in crate::fuse) const ATIME_NOW: u32 = 1 << 7;
    pub(in crate::fuse) const MTIME_NOW: u32 = 1 << 8;
    pub(in crate::fuse) const CTIME: u32 = 1 << 10;
    pub(in crate::fuse) const KILL_SUIDGID: u32 = 1 << 11;
}

/// `fuse_open_out.open_flags`.
pub(super) mod fopen {
    pub(in crate::fuse) const DIRECT_IO: u32 = 1 << 0;
    pub(in crate::fuse) const KEEP_CACHE: u32 = 1 << 1;
    pub(in crate::fuse) const CACHE_DIR: u32 = 1 << 3;
    pub(in crate::fuse) const STREAM: u32 = 1 << 4;
    pub(in crate::fuse) const NOFLUSH: u32 = 1 << 5;
    pub(in crate::fuse) const PARALLEL_DIRECT_WRITES: u32 = 1 << 6;
}
