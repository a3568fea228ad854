//! The files of the session: a fixed table.

use devices::filesystem::{NodeId, ROOT, Result};
use guest_init::protocol;
use rustix::fs::OFlags;
use rustix::io::Errno;

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
    Tainted,
}

impl Node {
    /// Every node but the root, in the order of their inode numbers.
    pub(super) const FILES: [Self; 10] = [
        Self::Plan,
        Self::Stdin,
        Self::Stdout,
        Self::Stderr,
        Self::Status,
        Self::WindowSize,
        Self::Mark,
        Self::Clock,
        Self::Signal,
        Self::Tainted,
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
            Self::Tainted => protocol::TAINTED,
        }
    }

    /// Whether the guest writes it, rather than reads it.
    pub(super) fn is_writable(self) -> bool {
        matches!(
            self,
            Self::Stdout | Self::Stderr | Self::Status | Self::Mark | Self::Tainted
        )
    }

    /// Whether it has no positions. The plan has: it is read in parts.
    pub(super) fn is_stream(self) -> bool {
        self != Self::Plan
    }

    pub(super) fn mode(self) -> u32 {
        match self {
            Self::Root => libc::S_IFDIR | 0o500,
            node if node.is_writable() => libc::S_IFREG | 0o200,
            _ => libc::S_IFREG | 0o400,
        }
    }

    /// Refuses to open a file for what it cannot do.
    pub(super) fn check_access(self, flags: u32) -> Result<()> {
        let wanted = if self.is_writable() {
            OFlags::WRONLY
        } else {
            OFlags::RDONLY
        };
        if self == Self::Root {
            return Err(Errno::ISDIR);
        }
        if OFlags::from_bits_retain(flags) & OFlags::ACCMODE == wanted {
            Ok(())
        } else {
            Err(Errno::ACCESS)
        }
    }
}
