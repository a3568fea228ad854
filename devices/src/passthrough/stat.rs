//! What the host says of a node, and what tells it from every other one.

use std::ffi::CStr;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FileType, Statx, StatxFlags};

use super::root::one_component;
use super::sys::count_call;
use crate::filesystem::Result;

/// What a node is, as far as it decides which requests make sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Directory,
    Regular,
    Symlink,
    /// FIFO, socket or device node: the guest's kernel implements these
    /// itself and the host's is never opened.
    Special,
}

/// Who is asked for a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Whoever has the file, be it a server that does not answer any more.
    Server,
    /// The host's kernel, which waits for nobody and may say what was once.
    Kernel,
}

impl Source {
    fn flags(self) -> AtFlags {
        match self {
            Self::Server => AtFlags::STATX_SYNC_AS_STAT,
            Self::Kernel => AtFlags::STATX_DONT_SYNC,
        }
    }
}

impl Kind {
    /// By the mode of a node.
    pub(super) fn of(mode: u32) -> Self {
        match FileType::from_raw_mode(mode) {
            FileType::Directory => Self::Directory,
            FileType::RegularFile => Self::Regular,
            FileType::Symlink => Self::Symlink,
            _ => Self::Special,
        }
    }
}

pub(super) const SET_UID: u32 = 0o4000;
pub(super) const SET_GID: u32 = 0o2000;
pub(super) const GROUP_EXECUTE: u32 = 0o0010;

/// The mode without the set-ID bits that a change of contents clears; `None`
/// when it has none. Set-group-ID without group-execute means mandatory
/// locking and stays.
pub(super) fn without_privileges(mode: u32) -> Option<u32> {
    let mut cleared = mode & !SET_UID;
    if mode & GROUP_EXECUTE != 0 {
        cleared &= !SET_GID;
    }
    (cleared != mode).then_some(cleared & 0o7777)
}

/// What the guest is told of the owner, of what he may do and of a device (see
/// `owners`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// `st_mode`.
    pub(super) mode: u32,
    /// Major and minor.
    pub(super) device: (u32, u32),
}

/// What `statx(2)` said about a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stat {
    /// The answer as it came.
    pub(super) raw: Statx,
    /// Who it belongs to in the guest, and what it is there: as on the host,
    /// unless it was [looked at](super::Passthrough::seen) as the guest does.
    pub(super) seen: Seen,
    /// `st_dev`.
    pub(super) device: u64,
    /// Mount ID, 0 on hosts that do not tell.
    pub(super) mount: u64,
    /// What it is, in the guest.
    pub(super) kind: Kind,
}

impl Stat {
    /// Of the open node itself.
    pub(super) fn of(fd: impl AsFd) -> Result<Self> {
        Self::of_from(Source::Server, fd)
    }

    /// As [`of`](Self::of), from `source`.
    pub(super) fn of_from(source: Source, fd: impl AsFd) -> Result<Self> {
        Self::at(fd, c"", AtFlags::EMPTY_PATH | source.flags())
    }

    /// Of the entry `name` of a directory, following nothing.
    pub(super) fn of_child(directory: impl AsFd, name: &CStr) -> Result<Self> {
        Self::of_child_from(Source::Server, directory, name)
    }

    /// As [`of_child`](Self::of_child), from `source`.
    pub(super) fn of_child_from(source: Source, directory: impl AsFd, name: &CStr) -> Result<Self> {
        one_component(name)?;
        Self::at(directory, name, AtFlags::SYMLINK_NOFOLLOW | source.flags())
    }

    /// Of the directory that `path`, which only goes up, leads to. For
    /// finding out where a directory is and for nothing else.
    pub(super) fn above(directory: impl AsFd, path: &CStr) -> Result<Self> {
        Self::at(directory, path, AtFlags::empty())
    }

    fn at(fd: impl AsFd, name: &CStr, flags: AtFlags) -> Result<Self> {
        count_call();
        let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID;
        let raw = rustix::fs::statx(fd, name, flags | AtFlags::NO_AUTOMOUNT, mask)?;
        let kind = Kind::of(raw.stx_mode.into());
        let has_mount = raw.stx_mask & StatxFlags::MNT_ID.bits() != 0;
        Ok(Self {
            device: rustix::fs::makedev(raw.stx_dev_major, raw.stx_dev_minor),
            mount: if has_mount { raw.stx_mnt_id } else { 0 },
            kind,
            seen: Seen {
                uid: raw.stx_uid,
                gid: raw.stx_gid,
                mode: raw.stx_mode.into(),
                device: (raw.stx_rdev_major, raw.stx_rdev_minor),
            },
            raw,
        })
    }

    /// When it was created, where the host's file system records that.
    pub(super) fn birth(&self) -> Option<(i64, u32)> {
        (self.raw.stx_mask & StatxFlags::BTIME.bits() != 0)
            .then_some((self.raw.stx_btime.tv_sec, self.raw.stx_btime.tv_nsec))
    }

    /// What tells the node from every other one; its creation time does only
    /// where that never changes.
    pub(super) fn identity(&self, birth_is_stable: bool) -> Identity {
        let birth = self.birth().filter(|_| birth_is_stable);
        let (birth_seconds, birth_nanoseconds) = birth.unwrap_or(UNKNOWN);
        Identity {
            device: self.device,
            mount: self.mount,
            ino: self.raw.stx_ino,
            birth_seconds,
            birth_nanoseconds,
            kind: Kind::of(self.raw.stx_mode.into()),
        }
    }
}

/// No time has as many nanoseconds.
const UNKNOWN: (i64, u32) = (0, u32::MAX);

/// What tells a node from every other one. The creation time is part of it
/// because file systems use inode numbers again, and a node held by address
/// only does not keep its number from being used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    pub(super) device: u64,
    pub(super) mount: u64,
    pub(super) ino: u64,
    // Two fields, in which the kind has room: there is one for every inode.
    birth_seconds: i64,
    birth_nanoseconds: u32,
    /// Where no creation time is recorded, at least a directory is never
    /// taken for the file that had its number. On the host.
    kind: Kind,
}
