//! The flag bits of the protocol, as `linux/fuse.h` numbers them. Unknown bits
//! are kept: what is agreed on at INIT decides how later requests are laid out.

use bitflags::bitflags;

bitflags! {
    /// Flags of INIT: 32 bits in `flags`, 32 more in `flags2` since 7.36.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(super) struct InitFlags: u64 {
        const ASYNC_READ = 1 << 0;
        const POSIX_LOCKS = 1 << 1;
        /// OPEN with `O_TRUNC` truncates.
        const ATOMIC_O_TRUNC = 1 << 3;
        /// LOOKUP of `.` and `..`.
        const EXPORT_SUPPORT = 1 << 4;
        const BIG_WRITES = 1 << 5;
        const DONT_MASK = 1 << 6;
        const FLOCK_LOCKS = 1 << 10;
        const HAS_IOCTL_DIR = 1 << 11;
        const AUTO_INVAL_DATA = 1 << 12;
        const DO_READDIRPLUS = 1 << 13;
        const READDIRPLUS_AUTO = 1 << 14;
        const ASYNC_DIO = 1 << 15;
        const WRITEBACK_CACHE = 1 << 16;
        const NO_OPEN_SUPPORT = 1 << 17;
        const PARALLEL_DIROPS = 1 << 18;
        const POSIX_ACL = 1 << 20;
        const MAX_PAGES = 1 << 22;
        const CACHE_SYMLINKS = 1 << 23;
        const NO_OPENDIR_SUPPORT = 1 << 24;
        /// A mapping's offsets are multiples of what the reply says.
        const MAP_ALIGNMENT = 1 << 26;
        const SUBMOUNTS = 1 << 27;
        const HANDLE_KILLPRIV_V2 = 1 << 28;
        const SETXATTR_EXT = 1 << 29;
        const INIT_EXT = 1 << 30;
        /// The security context extension of requests that create something.
        const SECURITY_CTX = 1 << 32;
        /// A node's attributes say whether it is to be mapped.
        const HAS_INODE_DAX = 1 << 33;
        /// The group extension of requests that create something. The header
        /// files of Linux before 6.3 lack it.
        const CREATE_SUPP_GROUP = 1 << 34;
        /// A file that bypasses the page cache can be mapped shared.
        const DIRECT_IO_ALLOW_MMAP = 1 << 36;
        /// Mounts may map users. The header then says who asks only where
        /// something is created.
        const ALLOW_IDMAP = 1 << 40;
        /// How long the guest waits for an answer is the server's to say.
        const REQUEST_TIMEOUT = 1 << 42;
    }

    /// `fuse_setattr_in.valid`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct SetattrValid: u32 {
        const MODE = 1 << 0;
        const UID = 1 << 1;
        const GID = 1 << 2;
        const SIZE = 1 << 3;
        const ATIME = 1 << 4;
        const MTIME = 1 << 5;
        const FH = 1 << 6;
        const ATIME_NOW = 1 << 7;
        const MTIME_NOW = 1 << 8;
        const CTIME = 1 << 10;
        const KILL_SUIDGID = 1 << 11;
    }

    /// `fuse_setupmapping_in.flags`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct SetupMappingFlags: u64 {
        const WRITE = 1 << 0;
        const READ = 1 << 1;
    }

    /// `fuse_open_out.open_flags`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct OpenOutFlags: u32 {
        const DIRECT_IO = 1 << 0;
        const KEEP_CACHE = 1 << 1;
        const CACHE_DIR = 1 << 3;
        const STREAM = 1 << 4;
        const NOFLUSH = 1 << 5;
        const PARALLEL_DIRECT_WRITES = 1 << 6;
    }
}

impl InitFlags {
    /// Joins the two halves of an INIT request.
    pub(super) const fn from_halves(low: u32, high: u32) -> Self {
        Self::from_bits_retain(low as u64 | (high as u64) << 32)
    }

    /// The bits of `flags`.
    #[allow(clippy::cast_possible_truncation)] // the lower half is what is asked for
    pub(super) const fn low(self) -> u32 {
        self.bits() as u32
    }

    /// The bits of `flags2`.
    pub(super) const fn high(self) -> u32 {
        (self.bits() >> 32) as u32
    }

    /// These bits when `condition` holds, none otherwise.
    pub(super) const fn when(self, condition: bool) -> Self {
        if condition { self } else { Self::empty() }
    }
}

/// `fuse_getattr_in.getattr_flags`: the `fh` field is valid.
pub(super) const GETATTR_FH: u32 = 1 << 0;

/// `fuse_open_in.open_flags`: clear set-ID bits on truncation.
pub(super) const OPEN_KILL_SUIDGID: u32 = 1 << 0;

/// `fuse_release_in.release_flags`: give up the lock of `flock(2)`.
pub(super) const RELEASE_FLOCK_UNLOCK: u32 = 1 << 1;

/// `fuse_lk_in.lk_flags`: a lock of `flock(2)`.
pub(super) const LK_FLOCK: u32 = 1 << 0;

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

/// `fuse_attr.flags`: to be mapped in the window.
pub(super) const ATTR_DAX: u32 = 1 << 1;
