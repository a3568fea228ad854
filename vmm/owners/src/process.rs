//! Who this process is.

use nix::unistd::{Uid, User};
use rustix::thread::{CapabilitySet, capabilities};

/// The user of this process and what they may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// May be any user of its user namespace.
    pub(crate) may_switch: bool,
    /// Is in the first user namespace, where all users are.
    pub(crate) sees_all: bool,
}

impl Process {
    pub(crate) fn current() -> Self {
        let needed = CapabilitySet::SETUID | CapabilitySet::SETGID;
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        Self {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            may_switch: capabilities(None).is_ok_and(|sets| sets.effective.contains(needed)),
            sees_all: map.split_whitespace().eq(["0", "0", "4294967295"]),
        }
    }

    /// Whether mounts can be mapped for it.
    pub(crate) fn maps_mounts(&self) -> bool {
        self.may_switch && self.sees_all
    }

    /// What the user is called, or their number.
    pub(crate) fn user(&self) -> String {
        let user = User::from_uid(Uid::from_raw(self.uid)).ok().flatten();
        user.map_or_else(|| self.uid.to_string(), |user| user.name)
    }
}
