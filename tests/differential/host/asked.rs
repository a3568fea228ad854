//! Which operations Linux would ask a server for, by the state that the host is in.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use super::{Host, LAST, Open, kind, path_of};
use crate::actor::NodeId;
use crate::operation::{Caller, Change, LockKind, Name, Op};

/// Kept of more than this many bytes: nothing is made that large.
const LARGE: u64 = 1 << 20;

/// From here on file systems differ in whether a file can have bytes there.
const FAR: u64 = 1 << 43;

impl Host {
    /// The file whose contents a step changes.
    fn changed_by(&self, op: &Op) -> Option<OwnedFd> {
        let fd = match op {
            Op::Setattr(node, _, Change { size: Some(_), .. }) => self.node((*node).into()),
            Op::Open(node, flags) if flags & libc::O_TRUNC != 0 => self.node((*node).into()),
            Op::Create(dir, Name(name), _, flags) if flags & libc::O_TRUNC != 0 => {
                let flags = OFlags::PATH | OFlags::NOFOLLOW;
                let dir = self.node((*dir).into());
                return rustix::fs::openat(dir, &**name, flags, Mode::empty()).ok();
            }
            Op::Write(file, ..) | Op::Fallocate(file, ..) | Op::Copy(_, _, file, ..) => {
                &self.file((*file).into()).file
            }
            _ => return None,
        };
        fd.try_clone().ok()
    }

    /// Whether any file is open for writing.
    pub(crate) fn has_writers(&self) -> bool {
        let mut open = self.files.iter().flatten();
        open.any(|open| open.flags & OFlags::RWMODE != OFlags::RDONLY)
    }

    /// Whether Linux would ask a server for it at all, and nothing large comes of
    /// it.
    pub(crate) fn would_be_asked(&self, caller: &Caller, op: &Op) -> bool {
        let at = |slot: &u8| NodeId::from(*slot);
        let access = |file: &u8| self.file(at(file)).flags & OFlags::RWMODE;
        let (reads, writes) = (
            |file: &u8| access(file) != OFlags::WRONLY,
            |file: &u8| access(file) != OFlags::RDONLY,
        );
        let no_atime = |flags: &i32| flags & libc::O_NOATIME != 0;
        if caller.uid != 0 && self.changed_by(op).is_some_and(|fd| keeps_set_gid(&fd)) {
            return false;
        }
        // The bits go before a write, also before one that this file system refuses
        // as too far: only the host knows how far it goes.
        if caller.uid != 0
            && matches!(op, Op::Write(_, at, _) if *at >= FAR)
            && self.changed_by(op).is_some_and(|fd| has_set_id(&fd))
        {
            return false;
        }
        match op {
            // Its own FIFOs and devices are the guest's, directories have OPENDIR.
            Op::Open(node, flags) => {
                matches!(
                    kind(self.node(at(node))),
                    FileType::RegularFile | FileType::Symlink
                ) && (caller.uid == 0 || !no_atime(flags))
            }
            Op::Create(dir, name, _, flags) => {
                let no_follow = AtFlags::SYMLINK_NOFOLLOW;
                let existing = rustix::fs::statat(self.node(at(dir)), &*name.0, no_follow);
                // Only a race leads to one that is there.
                existing.is_err()
                    || flags & libc::O_EXCL != 0
                    || existing.is_ok_and(|stat| {
                        FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                    }) && (caller.uid == 0 || !no_atime(flags))
            }
            // A file that is open for writing shows no holes: the guest may have
            // more of it than it has sent.
            Op::Lseek(file, ..) => {
                let inode = |open: &Open| rustix::fs::fstat(&open.file).unwrap().st_ino;
                let own = inode(self.file(at(file)));
                let mut same = self
                    .files
                    .iter()
                    .flatten()
                    .filter(|open| inode(open) == own);
                same.all(|open| open.flags & OFlags::RWMODE == OFlags::RDONLY)
            }
            // What Linux knows keeps the directories that it is in.
            Op::Forget(node) => {
                let place = |fd: &OwnedFd| std::fs::read_link(path_of(fd)).unwrap();
                let own = place(self.node(at(node)));
                // A file that was made without a name has one since, who knows where.
                let is_somewhere = |fd: &OwnedFd| {
                    let links = rustix::fs::fstat(fd).unwrap().st_nlink;
                    links > 0 && place(fd).as_os_str().as_bytes().ends_with(b" (deleted)")
                };
                if self.nodes.iter().flatten().any(is_somewhere) {
                    return false;
                }
                let known = self.nodes.iter().flatten().map(place);
                known
                    .filter(|other| *other != own)
                    .all(|other| !other.starts_with(&own))
            }
            // ACCESS does not say in which groups the caller is.
            Op::Access(..) => caller.group.is_none(),
            // The VFS looks at these first.
            Op::Setxattr(_, name, value, flags) => {
                *flags <= 3 && value.length <= 65_536 && (1..=255).contains(&name.0.len())
            }
            Op::Getxattr(_, name, _) | Op::Removexattr(_, name) => {
                (1..=255).contains(&name.0.len())
            }
            // Neither a directory nor what has no name any more.
            Op::Link(node, ..) => {
                let stat = rustix::fs::fstat(self.node(at(node))).unwrap();
                FileType::from_raw_mode(stat.st_mode) != FileType::Directory
                    && (stat.st_nlink > 0 || self.linkable.contains(&at(node)))
            }
            // With a handle, for writing.
            Op::Setattr(_, Some(file), change) => change.size.is_none() || writes(file),
            Op::Read(file, _, size) => reads(file) && *size > 0,
            // To the end, wherever it is told to go, and not beyond what a file can have.
            Op::Write(file, offset, data) if self.file(at(file)).flags.contains(OFlags::APPEND) => {
                let size = rustix::fs::fstat(&self.file(at(file)).file)
                    .unwrap()
                    .st_size;
                let end = size.cast_unsigned().max(*offset);
                let fits = end.saturating_add(data.length.into()) <= LAST;
                writes(file) && data.length > 0 && fits
            }
            Op::Write(file, _, data) => writes(file) && data.length > 0,
            Op::Setlk(file, _, LockKind::Read, ..) => reads(file),
            Op::Setlk(file, _, LockKind::Write, ..) => writes(file),
            Op::Getlk(_, _, LockKind::Unlock, ..) => false,
            Op::Fallocate(file, mode, offset, length) => {
                let allocates = *mode & 2 == 0;
                let beyond = offset.checked_add(*length).is_none_or(|end| end > LAST);
                // What the host cannot do is not known beforehand, and the bits
                // must not outlast what it does.
                let stat = rustix::fs::fstat(&self.file(at(file)).file).unwrap();
                let set_id = caller.uid != 0 && stat.st_mode & 0o6000 != 0;
                writes(file)
                    && (!allocates || beyond || *length <= LARGE)
                    && (!set_id || matches!(mode, 0 | 1 | 3))
            }
            Op::Copy(from, at_, to, to_at, length, ..) => {
                let fits = |at: &u64| at.checked_add(*length).is_some_and(|end| end <= LAST);
                let size = rustix::fs::fstat(&self.file(at(from)).file)
                    .unwrap()
                    .st_size;
                let size = size.cast_unsigned();
                let target = rustix::fs::fstat(&self.file(at(to)).file).unwrap();
                // Linux takes the bits away by itself before it asks.
                let set_id = caller.uid != 0 && target.st_mode & 0o6000 != 0;
                reads(from)
                    && writes(to)
                    && !set_id
                    && !self.file(at(to)).flags.contains(OFlags::APPEND)
                    && fits(at_)
                    && fits(to_at)
                    && (size.saturating_sub(*at_) <= LARGE || *length <= LARGE)
            }
            _ => true,
        }
    }
}

fn has_set_id(fd: &OwnedFd) -> bool {
    rustix::fs::fstat(fd).unwrap().st_mode & 0o6000 != 0
}

/// Set-group-ID without the right to execute: the host's kernel goes by whether
/// the caller is in the group, which `FUSE_HANDLE_KILLPRIV_V2` leaves out.
fn keeps_set_gid(fd: &OwnedFd) -> bool {
    rustix::fs::fstat(fd).unwrap().st_mode & 0o2010 == 0o2000
}
