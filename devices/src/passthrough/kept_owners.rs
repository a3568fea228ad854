//! Owners, modes and device nodes that are kept in an extended attribute, for a
//! process that may give files to nobody (`Owners::Xattr`).
//!
//! On the host all belongs to the user of this process, who may always read and
//! write: files have 0600 and directories 0700 at least, whatever their mode in
//! the guest is. So nothing that the guest's root may do fails for want of
//! rights, without a moment at which a file has more than it should. The
//! permissions of other users of the host are never more than the guest gives
//! to others of its own, and set-ID bits are never set there. Devices, FIFOs
//! and sockets are empty files.
//!
//! Linux has no such attributes for symbolic links, nor for the host's own FIFOs,
//! sockets and devices. In the guest they are whose `owners` says, and to give
//! them to somebody does nothing: what unpacks an archive does that with every
//! link. What has no attribute yet, because the host made it, is as it is there.
//!
//! The guest never sees the attribute, and cannot set it (`attribute_names`). Those who
//! change it take turns (`turns`).

use std::ffi::CStr;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Mode, XattrFlags};
use rustix::io::Errno;

use super::Passthrough;
use super::acl::Acl;
use super::budget::Descriptor;
use super::grants::CAPABILITY;
use super::override_stat::{LONGEST, NAME, OverrideStat};
use super::owners::Owners;
use super::stat::{GROUP_EXECUTE, Kind, SET_GID, Seen, Stat, without_privileges};
use crate::filesystem::{Caller, NewNode, Request, Result, SetAttributes};

/// `S_IRWXG | S_IRWXO`.
const OTHERS: u32 = 0o077;

/// What a new node is to be: its mode and the numbers of a device.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewKind {
    pub(super) mode: u32,
    pub(super) device: (u32, u32),
    /// What no ACL takes the place of.
    pub(super) umask: u32,
}

impl NewKind {
    /// A regular file.
    pub(super) fn file(new: &NewNode) -> Self {
        Self {
            mode: libc::S_IFREG | new.mode & 0o7777,
            device: (0, 0),
            umask: new.umask,
        }
    }
}

/// What is kept of a node from the beginning.
#[derive(Clone, Debug)]
pub(super) struct Born {
    pub(super) seen: Seen,
    /// Of it, and of what will be made in it.
    pub(super) acls: [Option<Acl>; 2],
}

/// The rights that the host's user needs to a node with this mode.
fn needed(mode: u32) -> u32 {
    match Kind::of(mode) {
        Kind::Directory => 0o700,
        Kind::Regular if mode & 0o111 != 0 => 0o700,
        _ => 0o600,
    }
}

/// Whether the host's node can have the attribute.
pub(super) fn has_room(host: &Stat) -> bool {
    matches!(
        Kind::of(host.raw.stx_mode.into()),
        Kind::Regular | Kind::Directory
    )
}

impl Passthrough {
    /// Whether owners and modes are kept apart from the host's.
    pub(super) fn keeps_apart(&self) -> bool {
        self.ownership.policy() == Owners::Xattr
    }

    /// Puts what is kept of the node open as `fd` into its status.
    pub(super) fn see_kept(&self, status: &mut Stat, fd: impl AsFd) -> Result<()> {
        if !has_room(status) {
            return Ok(());
        }
        let kept = self.kept_of(fd)?;
        let Some(kept) = kept else { return Ok(()) };
        let kind = match (status.kind, kept.mode & libc::S_IFMT) {
            (Kind::Regular, special) if special != 0 => special,
            _ => u32::from(status.raw.stx_mode) & libc::S_IFMT,
        };
        status.seen = Seen {
            uid: kept.uid,
            gid: kept.gid,
            mode: kind | kept.mode & !libc::S_IFMT,
            device: kept.device,
        };
        status.kind = Kind::of(kind);
        Ok(())
    }

    /// What is kept of the node open as `fd`.
    pub(super) fn kept_of(&self, fd: impl AsFd) -> Result<Option<OverrideStat>> {
        let mut value = [0; LONGEST];
        let path = self.root.path_to(fd)?;
        match rustix::fs::getxattr(path.as_c_str(), NAME, &mut value[..]) {
            Ok(length) => Ok(OverrideStat::parse(value.get(..length).unwrap_or_default())),
            // There is none, or none of ours.
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE | Errno::ACCESS | Errno::PERM) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Keeps what the guest is to see of the node open as `fd`, which has the
    /// status `host`. What is there is replaced, or with `CREATE` an error.
    fn keep(&self, fd: impl AsFd, host: &Stat, seen: &Seen, flags: XattrFlags) -> Result<()> {
        if !has_room(host) {
            return Ok(());
        }
        let kept = OverrideStat {
            uid: seen.uid,
            gid: seen.gid,
            mode: seen.mode,
            device: seen.device,
        };
        let before = u32::from(host.raw.stx_mode) & 0o7777;
        let mode = needed(seen.mode) | before & seen.mode & OTHERS;
        let path = self.root.path_to(fd)?;
        let chmod = |mode| {
            let mode = Mode::from_raw_mode(mode);
            rustix::fs::chmodat(self.root.proc(), path.as_c_str(), mode, AtFlags::empty())
        };
        // First: who may not write to a file cannot set its attributes.
        if mode != before {
            chmod(mode)?;
        }
        let text = kept.text();
        let set = rustix::fs::setxattr(path.as_c_str(), NAME, text.as_bytes(), flags);
        if set.is_err() && mode != before {
            let _ = chmod(before);
        }
        set
    }

    /// The mode on the host of what is made with `mode`.
    pub(super) fn mode_on_host(&self, mode: u32) -> Mode {
        let mode = match self.keeps_apart() {
            true => needed(mode),
            false => mode & 0o7777,
        };
        Mode::from_raw_mode(mode)
    }

    /// Whose that will be which `request` makes in `directory`; nothing where
    /// the host sees to it.
    pub(super) fn owner_to_be(
        &self,
        request: &Request<'_>,
        directory: &Descriptor,
        new: NewKind,
    ) -> Result<Option<Born>> {
        if !self.keeps_apart() {
            return self.device_to_be(request, directory, new);
        }
        let above = self.status(directory)?.seen;
        let mut born = Born {
            seen: owner_in(&above, &request.caller, new),
            acls: [None, None],
        };
        self.inherit_acl(directory, new, &mut born)?;
        Ok(Some(born))
    }

    /// Keeps the owner of what has just been made, by the name in `place` if it
    /// has one. If that fails the node goes again.
    pub(super) fn keep_or_undo(
        &self,
        fd: impl AsFd,
        born: Option<&Born>,
        place: Option<(&Descriptor, &CStr)>,
    ) -> Result<()> {
        let Some(born) = born else { return Ok(()) };
        let host = Stat::of(&fd)?;
        let kept = match self.keeps_apart() {
            true => self.keep(&fd, &host, &born.seen, XattrFlags::CREATE),
            false => self.keep_device(&fd, &host, &born.seen),
        };
        let kept = match kept {
            // Another server has met it already, and given it to somebody.
            Err(Errno::EXIST) => Ok(()),
            outcome => outcome.and_then(|()| self.keep_inherited(&fd, born)),
        };
        if kept.is_err()
            && let Some((directory, name)) = place
            && Stat::of_child(directory, name).is_ok_and(|status| {
                (status.device, status.raw.stx_ino) == (host.device, host.raw.stx_ino)
            })
        {
            let flags = match host.kind {
                Kind::Directory => AtFlags::REMOVEDIR,
                _ => AtFlags::empty(),
            };
            let _ = rustix::fs::unlinkat(directory, name, flags);
        }
        kept
    }

    /// Changes what is kept of the node open as `fd` by what it is then; false for
    /// one that has no room.
    pub(super) fn change_kept(
        &self,
        fd: impl AsFd,
        change: impl FnOnce(&mut Seen),
    ) -> Result<bool> {
        let _turn = self.turn(&fd)?;
        let before = self.status(&fd)?;
        if !has_room(&before) {
            return Ok(false);
        }
        let mut seen = before.seen;
        change(&mut seen);
        (self.keep(fd, &before, &seen, XattrFlags::empty())).map(|()| true)
    }

    /// What SETATTR asks of the owner. As with `chown(2)` set-ID bits and
    /// capabilities go.
    pub(super) fn keep_owner(&self, descriptor: &Descriptor, asked: &SetAttributes) -> Result<()> {
        if Stat::of(descriptor)?.kind == Kind::Regular {
            let path = self.root.path_to(descriptor)?;
            // Mostly there is none.
            let _ = rustix::fs::removexattr(path.as_c_str(), CAPABILITY);
        }
        let give = |seen: &mut Seen| {
            clear_set_id(seen);
            seen.uid = asked.uid.unwrap_or(seen.uid);
            seen.gid = asked.gid.unwrap_or(seen.gid);
        };
        self.change_kept(descriptor, give).map(drop)
    }

    /// `chmod(2)`; false for a node that has a mode only on the host.
    pub(super) fn keep_mode(&self, fd: impl AsFd, mode: u32) -> Result<bool> {
        self.change_kept(fd, |seen| {
            seen.mode = seen.mode & libc::S_IFMT | mode & 0o7777;
        })
    }

    /// Takes set-ID bits away that a change of the contents does.
    pub(super) fn keep_no_set_id(&self, fd: impl AsFd) -> Result<()> {
        // Mostly there are none.
        match without_privileges(self.status(&fd)?.seen.mode) {
            Some(_) => self.change_kept(fd, clear_set_id).map(drop),
            None => Ok(()),
        }
    }

    /// Lets the user of this process open a file of theirs that the host's mode
    /// keeps from them; what the guest sees stays the same.
    pub(super) fn take_rights(&self, fd: impl AsFd) -> Result<()> {
        if !self.keeps_apart() || self.config.read_only {
            return Err(Errno::ACCESS);
        }
        match self.change_kept(fd, |_| ()) {
            Ok(true) => Ok(()),
            _ => Err(Errno::ACCESS),
        }
    }
}

/// As a regular file loses them.
fn clear_set_id(seen: &mut Seen) {
    if Kind::of(seen.mode) == Kind::Regular
        && let Some(cleared) = without_privileges(seen.mode)
    {
        seen.mode = seen.mode & libc::S_IFMT | cleared;
    }
}

/// As Linux gives a new inode its owner (`inode_init_owner`).
fn owner_in(above: &Seen, caller: &Caller, new: NewKind) -> Seen {
    let mut seen = Seen {
        uid: caller.uid,
        gid: caller.gid,
        mode: new.mode,
        device: new.device,
    };
    if above.mode & SET_GID == 0 {
        return seen;
    }
    seen.gid = above.gid;
    let member = caller.gid == above.gid || caller.supplementary_gid == Some(above.gid);
    let both = SET_GID | GROUP_EXECUTE;
    if Kind::of(new.mode) == Kind::Directory {
        seen.mode |= SET_GID;
    } else if seen.mode & both == both && !member && caller.uid != 0 {
        seen.mode &= !SET_GID;
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: Caller = Caller {
        uid: 1234,
        gid: 2345,
        pid: 7,
        supplementary_gid: None,
    };

    fn seen(uid: u32, gid: u32, mode: u32) -> Seen {
        Seen {
            uid,
            gid,
            mode,
            device: (0, 0),
        }
    }

    fn made(above: u32, caller: &Caller, mode: u32) -> (u32, u32) {
        let device = (0, 0);
        let made = owner_in(
            &seen(0, 77, above),
            caller,
            NewKind {
                mode,
                device,
                umask: 0,
            },
        );
        assert_eq!(made.uid, caller.uid);
        (made.gid, made.mode)
    }

    #[test]
    fn a_set_group_id_directory_gives_its_group() {
        let (directory, file) = (libc::S_IFDIR, libc::S_IFREG);
        assert_eq!(made(0o755, &ALICE, file | 0o2755), (2345, file | 0o2755));
        assert_eq!(made(0o2755, &ALICE, file | 0o644), (77, file | 0o644));
        assert_eq!(
            made(0o2755, &ALICE, directory | 0o700),
            (77, directory | 0o2700)
        );
        // The bit is for members.
        assert_eq!(made(0o2755, &ALICE, file | 0o2755), (77, file | 0o755));
        assert_eq!(made(0o2755, &ALICE, file | 0o2745), (77, file | 0o2745));
        let member = Caller {
            supplementary_gid: Some(77),
            ..ALICE
        };
        assert_eq!(made(0o2755, &member, file | 0o2755), (77, file | 0o2755));
        let root = Caller { uid: 0, ..ALICE };
        assert_eq!(made(0o2755, &root, file | 0o2755), (77, file | 0o2755));
    }
}
