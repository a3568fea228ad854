//! What a share is told: the cache policy and what may be done through it.
//!
//! What follows from a cache policy is decided here and nowhere else.

use std::time::Duration;

use super::owners::Owners;
use crate::filesystem::OpenBehaviour;

/// How long a guest may trust what never changes behind its back.
const A_DAY: Duration = Duration::from_secs(86_400);

/// What the guest may keep instead of asking the host again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CachePolicy {
    /// Nothing: every read, write and path walk goes to the host, and the
    /// guest sees a host change at once. Only what it has mapped shared, which
    /// Linux can do since 6.6, it keeps for as long.
    Never,
    /// Names and attributes for a day, data never: for trees whose layout is
    /// the guest's alone while the contents change outside.
    Metadata,
    /// Names and attributes for a second, and data until the file is opened
    /// again or its modification time changed. Whatever is opened is what is
    /// there on the host at that time (close-to-open).
    #[default]
    Auto,
    /// Everything for a day: for a tree that only this guest changes.
    Always,
}

impl CachePolicy {
    /// How long the guest may trust attributes.
    pub(super) fn attribute_timeout(self) -> Duration {
        match self {
            Self::Never => Duration::ZERO,
            Self::Auto => Duration::from_secs(1),
            Self::Metadata | Self::Always => A_DAY,
        }
    }

    /// How long the guest may trust that a name leads where it led.
    pub(super) fn entry_timeout(self) -> Duration {
        self.attribute_timeout()
    }

    /// As [`entry_timeout`](Self::entry_timeout), for a name that is used
    /// without us.
    pub(super) fn unchecked_entry_timeout(self) -> Duration {
        match self {
            Self::Auto => Duration::ZERO,
            other => other.entry_timeout(),
        }
    }

    /// How long the guest may trust that a name does not exist; `None` keeps
    /// it from remembering that at all. A user who creates a file on the host
    /// and looks for it in the guest must not wait, so only `Always` has one.
    pub(super) fn negative_timeout(self) -> Option<Duration> {
        (self == Self::Always).then_some(A_DAY)
    }

    /// Whether the guest reads and writes past its page cache.
    pub(super) fn bypasses_pages(self) -> bool {
        matches!(self, Self::Never | Self::Metadata)
    }

    /// How the guest treats a regular file it opened.
    pub(super) fn file_behaviour(self) -> OpenBehaviour {
        let direct_io = self.bypasses_pages();
        OpenBehaviour {
            direct_io,
            keep_cache: self == Self::Always,
            // The host serializes what has to be; it needs no help.
            parallel_direct_writes: direct_io,
            ..OpenBehaviour::default()
        }
    }

    /// How the guest treats a directory it opened.
    pub(super) fn directory_behaviour(self) -> OpenBehaviour {
        let keep = matches!(self, Self::Metadata | Self::Always);
        OpenBehaviour {
            keep_cache: keep,
            cache_dir: keep,
            ..OpenBehaviour::default()
        }
    }
}

/// The options of one share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)]
pub struct Config {
    /// What the guest may cache.
    pub cache: CachePolicy,
    /// The guest may keep written data to itself for a while
    /// (`FUSE_WRITEBACK_CACHE`). For shares that nobody else writes to.
    pub writeback: bool,
    /// A file that is opened with `O_TRUNC` is emptied by OPEN
    /// (`FUSE_ATOMIC_O_TRUNC`). Only with `writeback`.
    pub atomic_truncate: bool,
    /// Every change is refused with `EROFS`, by this side, whatever the guest
    /// mounted.
    pub read_only: bool,
    /// What the host's kernel makes up is not there: procfs, sysfs and their like,
    /// mounted below the share. For a share of all that the host has.
    pub only_stored: bool,
    /// Extended attributes are served. When not, the guest is told once that
    /// there are none and never asks again, which spares it the question for
    /// `security.capability`: before the first write after it asked for the
    /// attributes, and under write-back once a second while it writes.
    pub xattr: bool,
    /// POSIX access control lists are served, and default ACLs take the place
    /// of the umask. Needs `xattr`.
    pub posix_acl: bool,
    /// Mount points below the share are announced (`FUSE_SUBMOUNTS`), so that
    /// `st_dev` tells the file systems apart.
    pub announce_submounts: bool,
    /// The guest may map users for a mount of its own (`FUSE_ALLOW_IDMAP`). It
    /// does not say any more who asks, but where something is created.
    pub idmap: bool,
    /// How many nodes are remembered that the guest has forgotten. If any, it
    /// may look them up by their number (`FUSE_EXPORT_SUPPORT`).
    pub remembered: usize,
    /// Locks of the guest are locks on the host. When not, the guest's kernel
    /// keeps them to itself.
    pub locks: bool,
    /// Whose the files are.
    pub owners: Owners,
    /// With [`Owners::User`]: a change of the owner that cannot be made does
    /// nothing, and is not told.
    pub forget_owners: bool,
    /// How many descriptors may be held for inodes that the guest knows but
    /// has not opened; `None` takes a share of `RLIMIT_NOFILE`.
    pub fd_budget: Option<usize>,
    /// How many inodes the guest may hold that are not the root, names of them
    /// beyond the first included; `ENOMEM` for whoever wants more. See
    /// [`inodes_for`](Self::inodes_for).
    pub max_inodes: usize,
    /// Inodes without a descriptor may be found again by file handle where
    /// the process and the file system allow it; otherwise only by name.
    pub file_handles: bool,
}

/// As many as a checkout of a large project has files.
const FEWEST_INODES: usize = 65_536;

impl Config {
    /// How many nodes are to be remembered for an NFS server in the guest.
    pub const EXPORTED: usize = 65_536;

    /// How many inodes suit a guest with `memory` bytes: more than it could hold,
    /// because Linux takes over a thousand bytes for one itself, and at least
    /// 65 536.
    #[must_use]
    pub fn inodes_for(memory: u64) -> usize {
        let fit = usize::try_from(memory / 512).unwrap_or(usize::MAX);
        fit.max(FEWEST_INODES)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cache: CachePolicy::default(),
            writeback: false,
            atomic_truncate: false,
            read_only: false,
            only_stored: false,
            xattr: true,
            posix_acl: false,
            announce_submounts: false,
            idmap: false,
            remembered: 0,
            locks: false,
            owners: Owners::default(),
            forget_owners: false,
            fd_budget: None,
            // Of a guest with 512 MiB.
            max_inodes: 1 << 20,
            file_handles: true,
        }
    }
}
