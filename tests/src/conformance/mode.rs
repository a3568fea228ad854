//! How a share is cached, who serves it, and who uses it.

use std::fmt;

/// The options of a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// `cache=`.
    pub cache: &'static str,
    /// Others, each after a comma.
    more: &'static str,
}

/// Every cache policy, and write-back where it can be had.
pub const MODES: &[Mode] = &[
    mode("never", ""),
    mode("metadata", ""),
    mode("auto", ""),
    mode("always", ""),
    mode("auto", ",writeback"),
    mode("always", ",writeback"),
    mode("auto", ",writeback,atomic-truncate"),
];

const fn mode(cache: &'static str, more: &'static str) -> Mode {
    Mode { cache, more }
}

impl Mode {
    /// The one that is written `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        MODES.iter().copied().find(|mode| mode.to_string() == name)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.cache)?;
        f.write_str(self.more)
    }
}

/// Who runs a suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// User 0.
    Root,
    /// User 65534, without capabilities.
    Ordinary,
}

/// Both of them.
pub const USERS: &[User] = &[User::Root, User::Ordinary];

impl User {
    /// The one that is written `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        USERS.iter().copied().find(|user| user.to_string() == name)
    }

    /// The number of the user, and of the group.
    #[must_use]
    pub fn id(self) -> u32 {
        match self {
            Self::Root => 0,
            Self::Ordinary => 65534,
        }
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "root",
            Self::Ordinary => "user",
        })
    }
}

/// Who serves a share, and whose its files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// Root serves the host's owners.
    Host,
    /// An ordinary user of the host does with `owners=map`.
    Mapped,
    /// The same with `owners=xattr`.
    Xattr,
}

/// All of them.
pub const OWNERS: &[Owners] = &[Owners::Host, Owners::Mapped, Owners::Xattr];

/// The ordinary user as `serve --server-user` takes one: `games`, in Debian.
pub const SERVER_USER: (u32, u32) = (5, 60);

/// Whom that user may make others, as in `subuid(5)`.
pub const DELEGATED: &str = "games:100000:65536\n";

impl Owners {
    /// The one that is written `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let named = |owners: &Self| owners.to_string() == name;
        OWNERS.iter().copied().find(named)
    }
}

impl fmt::Display for Owners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "host",
            Self::Mapped => "map",
            Self::Xattr => "xattr",
        })
    }
}
