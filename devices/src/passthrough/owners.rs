//! Whose the files of a share are, in the guest and on the host.
//!
//! | policy | in the guest | what it makes | a change of the owner |
//! | --- | --- | --- | --- |
//! | `Host` | the host's owners | belongs to whoever makes it | is one on the host |
//! | `Mapped` | the host's, as a user namespace or a mount maps them | belongs to whoever makes it, if that is anybody | the same |
//! | `User` | the user of this process is root | belongs to that user | fails but to root, or does nothing |
//! | `Xattr` | what is kept in an attribute, else as `User` | belongs to whoever makes it, by an attribute | is one of the attribute |
//!
//! As `User` a process serves that has no more rights than its user. That user
//! is the guest's root then, both ways: programs such as `git` and `make` find
//! that a tree belongs to who works on it. The host's root is nobody there, or
//! its set-user-ID programs would be root's in the guest, and any other user is
//! who it is. The guest's kernel decides who may do what by that, as ever, and
//! the host's what this process may.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Gid, Uid};
use rustix::io::Errno;

use super::Passthrough;
use super::budget::Descriptor;
use super::credentials::Privileges;
use super::stat::Stat;
use crate::filesystem::{Result, SetAttributes};

/// Whose the files of a share are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Owners {
    /// [`Host`](Self::Host) for a process that may act as other users,
    /// [`User`](Self::User) for any other.
    #[default]
    Automatic,
    /// The host's owners are the guest's.
    Host,
    /// As [`Host`](Self::Host), in a user namespace or on a mount with maps: who is
    /// not in them makes nothing (`EOVERFLOW`).
    Mapped,
    /// The user and the group of this process are root's in the guest, and
    /// whatever the guest makes is theirs.
    User,
    /// Owners, modes and device nodes are kept in `user.containers.override_stat`,
    /// as containers keep them. The host's file system has to have such
    /// attributes.
    Xattr,
}

impl Owners {
    /// What this process does with owners, and never `Automatic`.
    #[must_use]
    pub fn resolved(self) -> Self {
        self.resolved_for(Privileges::of_process().may_switch())
    }

    fn resolved_for(self, may_switch: bool) -> Self {
        match self {
            Self::Automatic if may_switch => Self::Host,
            Self::Automatic => Self::User,
            policy => policy,
        }
    }
}

/// Who is nobody's user or group: `overflowuid` of user namespaces.
pub(super) const NOBODY: u32 = 65_534;

/// The policy of one share, and the user it is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ownership {
    policy: Owners,
    uid: u32,
    gid: u32,
    /// What cannot be done to an owner is forgotten and no error.
    forgets: bool,
}

/// Whom an owner of the guest's is on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnHost {
    Id(u32),
    /// Somebody who can own nothing there.
    Nobody,
}

impl OnHost {
    /// -1 names nobody.
    fn known(self) -> Option<u32> {
        match self {
            Self::Id(u32::MAX) | Self::Nobody => None,
            Self::Id(id) => Some(id),
        }
    }
}

impl Ownership {
    /// For a process that `may_switch` to other users.
    pub(super) fn new(asked: Owners, forgets: bool, may_switch: bool) -> Self {
        Self {
            policy: asked.resolved_for(may_switch),
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            forgets,
        }
    }

    pub(super) fn policy(self) -> Owners {
        self.policy
    }

    /// Whether a change of the owner may not be made and yet no error.
    pub(super) fn forgets(self) -> bool {
        self.forgets
    }

    /// Whether what the guest's users make is theirs on the host.
    pub(super) fn is_hosts(self) -> bool {
        matches!(self.policy, Owners::Host | Owners::Mapped)
    }

    /// Who a user of the host is in the guest.
    pub(super) fn user_in_guest(self, id: u32) -> u32 {
        match self.is_hosts() {
            true => id,
            false => in_guest(id, self.uid),
        }
    }

    /// The same for a group.
    pub(super) fn group_in_guest(self, id: u32) -> u32 {
        match self.is_hosts() {
            true => id,
            false => in_guest(id, self.gid),
        }
    }

    /// Who a user of the guest is on the host, if anybody.
    pub(super) fn user_on_host(self, id: u32) -> Option<u32> {
        on_host(id, self.uid, u32::MAX, u32::MAX).known()
    }

    /// The same for a group.
    pub(super) fn group_on_host(self, id: u32) -> Option<u32> {
        on_host(id, self.gid, u32::MAX, u32::MAX).known()
    }

    fn uid_on_host(self, id: u32, before: &Stat) -> OnHost {
        on_host(id, self.uid, before.seen.uid, before.raw.stx_uid)
    }

    fn gid_on_host(self, id: u32, before: &Stat) -> OnHost {
        on_host(id, self.gid, before.seen.gid, before.raw.stx_gid)
    }
}

/// A user or group of the host in the guest, where `own` is root's.
fn in_guest(id: u32, own: u32) -> u32 {
    match id {
        id if id == own => 0,
        0 => NOBODY,
        id => id,
    }
}

/// The reverse, for a node of which the guest sees the owner `seen` and the
/// host has `raw`.
fn on_host(id: u32, own: u32, seen: u32, raw: u32) -> OnHost {
    match id {
        id if id == seen => OnHost::Id(raw),
        0 => OnHost::Id(own),
        // It would be root's the next time that the guest asks.
        id if id == own => OnHost::Nobody,
        // It would be nobody's.
        NOBODY => OnHost::Nobody,
        id => OnHost::Id(id),
    }
}

impl Passthrough {
    /// The status of the node open as `fd`, as the guest is told it.
    pub(super) fn status(&self, fd: impl AsFd) -> Result<Stat> {
        self.seen(Stat::of(&fd)?, &fd)
    }

    /// The status of the node open as `fd`, with what the guest sees of it.
    pub(super) fn seen(&self, mut status: Stat, fd: impl AsFd) -> Result<Stat> {
        status.seen.uid = self.ownership.user_in_guest(status.raw.stx_uid);
        status.seen.gid = self.ownership.group_in_guest(status.raw.stx_gid);
        if self.keeps_apart() {
            self.see_kept(&mut status, fd)?;
        } else {
            self.see_device(&mut status, fd)?;
        }
        Ok(status)
    }

    /// What SETATTR asks of the owner.
    pub(super) fn set_owner(&self, descriptor: &Descriptor, changes: &SetAttributes) -> Result<()> {
        // -1 would mean "leave it as it is".
        if changes.uid == Some(u32::MAX) || changes.gid == Some(u32::MAX) {
            return Err(Errno::INVAL);
        }
        let own = self.ownership;
        if own.is_hosts() {
            return chown(descriptor, changes.uid, changes.gid);
        }
        if self.keeps_apart() {
            return self.keep_owner(descriptor, changes);
        }
        let before = self.status(descriptor)?;
        let uid = changes.uid.map(|uid| own.uid_on_host(uid, &before));
        let gid = changes.gid.map(|gid| own.gid_on_host(gid, &before));
        if own.forgets {
            // One may be had without the other.
            for (uid, gid) in [(None, gid), (uid, None)] {
                match change(descriptor, uid, gid) {
                    Ok(()) | Err(Errno::PERM) => {}
                    Err(error) => return Err(error),
                }
            }
            return Ok(());
        }
        change(descriptor, uid, gid)
    }
}

/// `EPERM` for whatever this process may not give.
fn change(descriptor: &Descriptor, uid: Option<OnHost>, gid: Option<OnHost>) -> Result<()> {
    let id = |id: Option<OnHost>| match id {
        None => Ok(None),
        Some(OnHost::Id(id)) => Ok(Some(id)),
        Some(OnHost::Nobody) => Err(Errno::PERM),
    };
    let (uid, gid) = (id(uid)?, id(gid)?);
    if uid.is_none() && gid.is_none() {
        return Ok(());
    }
    // A user namespace does not know of others than its own.
    chown(descriptor, uid, gid).map_err(|error| match error {
        Errno::INVAL => Errno::PERM,
        other => other,
    })
}

fn chown(descriptor: &Descriptor, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
    let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    rustix::fs::chownat(descriptor, c"", uid, gid, AtFlags::EMPTY_PATH)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u32 = 1000;

    #[test]
    fn the_own_user_is_root_and_root_is_nobody() {
        assert_eq!(in_guest(OWN, OWN), 0);
        assert_eq!(in_guest(0, OWN), NOBODY);
        assert_eq!(in_guest(1001, OWN), 1001);
        // In a user namespace, or as root.
        assert_eq!(in_guest(0, 0), 0);
    }

    #[test]
    fn who_may_act_as_others_serves_the_hosts_owners() {
        for (may_switch, policy) in [(true, Owners::Host), (false, Owners::User)] {
            assert_eq!(Owners::Automatic.resolved_for(may_switch), policy);
            assert_eq!(Owners::Xattr.resolved_for(may_switch), Owners::Xattr);
            assert_eq!(Owners::User.resolved_for(may_switch), Owners::User);
        }
    }

    #[test]
    fn what_is_given_to_somebody_is_seen_to_be_theirs() {
        for raw in [0, OWN, 1001] {
            let seen = in_guest(raw, OWN);
            for id in [0, OWN, 1001, NOBODY] {
                match on_host(id, OWN, seen, raw) {
                    OnHost::Id(host) => assert_eq!(in_guest(host, OWN), id, "from {raw}"),
                    OnHost::Nobody => assert!(id == OWN || id == NOBODY, "{id} from {raw}"),
                }
            }
            assert_eq!(on_host(seen, OWN, seen, raw), OnHost::Id(raw));
        }
    }
}
