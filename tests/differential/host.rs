//! The host's own system calls on a directory, node by node as a FUSE server
//! is asked: what is right.
//!
//! What the guest's kernel decides before it asks is not in question here.
//! Permission bits are its business, so every caller has `CAP_DAC_OVERRIDE`
//! here, and owners and modes are changed by root.

mod asked;
mod calls;
mod locks;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid,
};
use rustix::io::Errno;

use crate::actor::{Actor, NodeId};
use crate::callers::{Power, assume};
use crate::operation::{Caller, Change, Name, Op, Time};
use crate::outcome::{self, Attributes, Listed, Outcome, When};

const LAST: u64 = i64::MAX as u64;

struct Open {
    file: OwnedFd,
    flags: OFlags,
}

pub(crate) struct Host {
    /// `O_PATH` descriptors.
    nodes: Vec<Option<OwnedFd>>,
    files: Vec<Option<Open>>,
    /// The locks of each owner on each file that was ever locked.
    locks: HashMap<(u64, u64, u64), File>,
    counts_blocks: bool,
    /// Files without a name that may have one.
    linkable: HashSet<NodeId>,
}

impl Host {
    pub(crate) fn new(root: &Path, counts_blocks: bool) -> Self {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let root = rustix::fs::open(root, flags, Mode::empty()).unwrap();
        Self {
            nodes: vec![Some(root)],
            files: Vec::new(),
            locks: HashMap::new(),
            counts_blocks,
            linkable: HashSet::new(),
        }
    }

    fn node(&self, node: NodeId) -> &OwnedFd {
        self.nodes[node].as_ref().unwrap()
    }

    fn file(&self, file: NodeId) -> &Open {
        self.files[file].as_ref().unwrap()
    }

    fn path(&self, node: NodeId) -> String {
        path_of(self.node(node))
    }

    fn attributes(&self, stat: &Stat) -> Attributes {
        attributes(stat, self.counts_blocks)
    }

    fn attributes_of(&self, fd: impl AsFd) -> Result<Outcome, Errno> {
        Ok(Outcome::Attributes(
            self.attributes(&rustix::fs::fstat(fd)?),
        ))
    }

    /// Takes a node into the list, unless it is there.
    fn found(&mut self, fd: OwnedFd) -> Result<Outcome, Errno> {
        let stat = rustix::fs::fstat(&fd)?;
        let known = self.nodes.iter().position(|known| {
            known.as_ref().is_some_and(|known| {
                let known = rustix::fs::fstat(known).unwrap();
                (known.st_dev, known.st_ino) == (stat.st_dev, stat.st_ino)
            })
        });
        if known.is_none() {
            self.nodes.push(Some(fd));
        }
        Ok(Outcome::Node(self.attributes(&stat), known))
    }

    fn lookup(&mut self, dir: NodeId, name: &Name) -> Result<Outcome, Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(self.node(dir), component(name)?, flags, Mode::empty())?;
        self.found(fd)
    }

    /// Has a name made by `act`, and finds what it leads to.
    fn make(
        &mut self,
        caller: &Caller,
        dir: NodeId,
        name: &Name,
        act: impl FnOnce(&OwnedFd, &[u8]) -> Result<(), Errno>,
    ) -> Result<Outcome, Errno> {
        let component = component(name)?;
        assume(caller, Power::Override, || act(self.node(dir), component))?;
        self.lookup(dir, name)
    }

    fn opened(&mut self, file: OwnedFd, flags: OFlags) -> Result<Outcome, Errno> {
        let path = OFlags::PATH | OFlags::CLOEXEC;
        let node = rustix::fs::open(path_of(&file), path, Mode::empty())?;
        let outcome = self.found(node)?;
        self.files.push(Some(Open { file, flags }));
        Ok(outcome)
    }

    fn setattr(
        &self,
        caller: &Caller,
        node: NodeId,
        file: Option<NodeId>,
        change: &Change,
    ) -> Result<Outcome, Errno> {
        let fd = self.node(node);
        let path = self.path(node);
        if change.uid == Some(u32::MAX) || change.gid == Some(u32::MAX) {
            return Err(Errno::INVAL);
        }
        let invalid = |time| matches!(time, Time::At(_, 1_000_000_000..));
        if change
            .times
            .is_some_and(|(atime, mtime)| invalid(atime) || invalid(mtime))
        {
            return Err(Errno::INVAL);
        }
        if change.size.is_some_and(|size| size > LAST) {
            return Err(Errno::INVAL);
        }
        if let Some(size) = change.size {
            assume(caller, Power::Override, || match file {
                Some(file) => rustix::fs::ftruncate(&self.file(file).file, size),
                None => truncate(fd, &path, size),
            })?;
        }
        if change.uid.is_some() || change.gid.is_some() {
            let (uid, gid) = (change.uid.map(Uid::from_raw), change.gid.map(Gid::from_raw));
            rustix::fs::chownat(fd, c"", uid, gid, AtFlags::EMPTY_PATH)?;
        }
        if let Some(mode) = change.mode {
            if kind(fd) == FileType::Symlink {
                return Err(Errno::OPNOTSUPP);
            }
            rustix::fs::chmod(&*path, Mode::from_raw_mode(mode))?;
        }
        if let Some((atime, mtime)) = change.times {
            let times = Timestamps {
                last_access: timespec(atime),
                last_modification: timespec(mtime),
            };
            if (atime, mtime) != (Time::Omit, Time::Omit) {
                rustix::fs::utimensat(fd, c"", &times, AtFlags::EMPTY_PATH)?;
            }
        }
        self.attributes_of(fd)
    }

    fn list(&self, dir: NodeId, plus: bool) -> Result<Outcome, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = rustix::fs::open(self.path(dir), flags, Mode::empty())?;
        // The library takes `getdents64(2)` for done then.
        if rustix::fs::fstat(&open)?.st_nlink == 0 {
            return Err(Errno::NOENT);
        }
        let mut listed = Vec::new();
        for entry in rustix::fs::Dir::read_from(&open)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes().to_vec();
            if name == b"." || name == b".." {
                continue;
            }
            let attributes = match plus {
                true => {
                    let no_follow = AtFlags::SYMLINK_NOFOLLOW;
                    let stat = rustix::fs::statat(&open, entry.file_name(), no_follow)?;
                    Some(self.attributes(&stat))
                }
                false => None,
            };
            listed.push(Listed {
                name,
                kind: d_type(entry.file_type()),
                attributes,
            });
        }
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Outcome::List(listed, true))
    }

    fn getxattr(&self, node: NodeId, name: &Name, size: u32) -> Result<Outcome, Errno> {
        let (path, name) = (self.path(node), &*name.0);
        if size == 0 {
            return Ok(Outcome::Number(
                rustix::fs::getxattr_query(path, name)? as u64
            ));
        }
        let mut value = vec![0; size as usize];
        let length = rustix::fs::getxattr(path, name, &mut value[..])?;
        value.truncate(length);
        Ok(Outcome::Bytes(value))
    }

    fn listxattr(&self, node: NodeId, size: u32) -> Result<Outcome, Errno> {
        let path = self.path(node);
        if size == 0 {
            return Ok(Outcome::Number(rustix::fs::listxattr_query(path)? as u64));
        }
        let mut names = vec![0; size as usize];
        let length = rustix::fs::listxattr(path, &mut names[..])?;
        Ok(Outcome::Names(split_names(&names[..length])))
    }

    fn copy(&self, op: &Op, caller: &Caller) -> Result<Outcome, Errno> {
        let Op::Copy(from, at, to, to_at, length, flags, _) = op else {
            unreachable!("a copy")
        };
        if *flags != 0 || *at > LAST || *to_at > LAST {
            return Err(Errno::INVAL);
        }
        let (from, to) = (self.file((*from).into()), self.file((*to).into()));
        let (mut at, mut to_at) = (*at, *to_at);
        let length = usize::try_from(*length).unwrap();
        let copied = assume(caller, Power::Override, || {
            let (at, to_at) = (Some(&mut at), Some(&mut to_at));
            rustix::fs::copy_file_range(&from.file, at, &to.file, to_at, length)
        })?;
        Ok(Outcome::Number(copied as u64))
    }

    fn read(&self, file: NodeId, at: u64, size: u32) -> Result<Outcome, Errno> {
        let mut bytes = vec![0; size as usize];
        let count = match position(at) {
            Ok(at) => rustix::io::pread(&self.file(file).file, &mut bytes[..], at)?,
            Err(error) => return Err(error),
        };
        bytes.truncate(count);
        Ok(Outcome::Bytes(bytes))
    }
}

impl Actor for Host {
    fn name(&self) -> &'static str {
        "host"
    }

    fn perform(&mut self, caller: &Caller, op: &Op) -> Outcome {
        outcome::of(self.act(caller, op))
    }
}

/// The names of a list as `listxattr(2)` gives it, sorted.
pub(crate) fn split_names(list: &[u8]) -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = list
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(<[u8]>::to_vec)
        .collect();
    names.sort_unstable();
    names
}

fn path_of(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn kind(fd: &OwnedFd) -> FileType {
    FileType::from_raw_mode(rustix::fs::fstat(fd).unwrap().st_mode)
}

/// What a server has to answer where Linux would have taken the path apart.
fn component(name: &Name) -> Result<&[u8], Errno> {
    match &*name.0 {
        b"" | b"." | b".." => Err(Errno::INVAL),
        name if name.len() > 255 => Err(Errno::NAMETOOLONG),
        name if name.contains(&b'/') => Err(Errno::INVAL),
        name => Ok(name),
    }
}

fn position(at: u64) -> Result<u64, Errno> {
    if at > LAST { Err(Errno::INVAL) } else { Ok(at) }
}

fn truncate(fd: &OwnedFd, path: &str, size: u64) -> Result<(), Errno> {
    match kind(fd) {
        FileType::RegularFile => {}
        FileType::Directory => return Err(Errno::ISDIR),
        _ => return Err(Errno::INVAL),
    }
    let open = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::fs::ftruncate(open, size)
}

fn timespec(time: Time) -> Timespec {
    let (tv_sec, tv_nsec) = match time {
        Time::Omit => (0, UTIME_OMIT),
        Time::Now => (0, UTIME_NOW),
        Time::At(seconds, nanoseconds) => (seconds, nanoseconds.into()),
    };
    Timespec { tv_sec, tv_nsec }
}

fn encode_device(device: u64) -> u32 {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

fn attributes(stat: &Stat, counts_blocks: bool) -> Attributes {
    let nanoseconds = |n: u64| u32::try_from(n).unwrap();
    Attributes {
        mode: stat.st_mode,
        nlink: u32::try_from(stat.st_nlink).unwrap(),
        uid: stat.st_uid,
        gid: stat.st_gid,
        rdev: encode_device(stat.st_rdev),
        size: stat.st_size.cast_unsigned(),
        blocks: counts_blocks.then(|| stat.st_blocks.cast_unsigned()),
        atime: When::of(stat.st_atime, nanoseconds(stat.st_atime_nsec)),
        mtime: When::of(stat.st_mtime, nanoseconds(stat.st_mtime_nsec)),
        ctime: When::of(stat.st_ctime, nanoseconds(stat.st_ctime_nsec)),
    }
}

/// `d_type`.
fn d_type(kind: FileType) -> u8 {
    u8::try_from(kind.as_raw_mode() >> 12).unwrap()
}
