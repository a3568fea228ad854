//! The files of the session: a fixed table.

use std::os::raw::c_uint;

use devices::filesystem::{NodeId, ROOT, Result};
use guest_init::protocol;
use rustix::io::Errno;

/// `DT_REG` of `dirent.h`.
pub(super) const DT_REG: u32 = 8;

const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;

/// The access mode within the flags of `open(2)`.
const O_ACCMODE: c_uint = 0o3;
const O_RDONLY: c_uint = 0;
const O_WRONLY: c_uint = 1;

/// A node of the session's file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Root,
    Plan,
    Stdin,
    Stdout,
    Stderr,
    Status,
    WindowSize,
    Mark,
    Clock,
    Signal,
}

impl Node {
    /// Every node but the root, in the order of their inode numbers.
    pub(super) const FILES: [Self; 9] = [
        Self::Plan,
        Self::Stdin,
        Self::Stdout,
        Self::Stderr,
        Self::Status,
        Self::WindowSize,
        Self::Mark,
        Self::Clock,
        Self::Signal,
    ];

    pub(super) fn inode(self) -> NodeId {
        // The order of declaration is the order of the numbers.
        ROOT + self as NodeId
    }

    pub(super) fn of(inode: NodeId) -> Option<Self> {
        if inode == ROOT {
            return Some(Self::Root);
        }
        Self::FILES.into_iter().find(|node| node.inode() == inode)
    }

    pub(super) fn named(name: &[u8]) -> Option<Self> {
        Self::FILES
            .into_iter()
            .find(|node| node.name().as_bytes() == name)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Root => "",
            Self::Plan => protocol::PLAN,
            Self::Stdin => protocol::STDIN,
            Self::Stdout => protocol::STDOUT,
            Self::Stderr => protocol::STDERR,
            Self::Status => protocol::STATUS,
            Self::WindowSize => protocol::WINDOW_SIZE,
            Self::Mark => protocol::MARK,
            Self::Clock => protocol::CLOCK,
            Self::Signal => protocol::SIGNAL,
        }
    }

    /// Whether the guest writes it, rather than reads it.
    pub(super) fn is_writable(self) -> bool {
        matches!(
            self,
            Self::Stdout | Self::Stderr | Self::Status | Self::Mark
        )
    }

    /// Whether it has no positions. The plan has: it is read in parts.
    pub(super) fn is_stream(self) -> bool {
        self != Self::Plan
    }

    pub(super) fn mode(self) -> u32 {
        match self {
            Self::Root => S_IFDIR | 0o500,
            node if node.is_writable() => S_IFREG | 0o200,
            _ => S_IFREG | 0o400,
        }
    }

    /// Refuses to open a file for what it cannot do.
    pub(super) fn check_access(self, flags: u32) -> Result<()> {
        let wanted = if self.is_writable() {
            O_WRONLY
        } else {
            O_RDONLY
        };
        if self == Self::Root {
            return Err(Errno::ISDIR);
        }
        if flags & O_ACCMODE == wanted {
            Ok(())
        } else {
            Err(Errno::ACCESS)
        }
    }
}
