//! The system calls that each operation comes to.

use rustix::fs::{
    Access, AtFlags, CWD, FallocateFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags,
    SeekFrom, XattrFlags,
};
use rustix::io::Errno;

use super::{Host, component, kind, position};
use crate::actor::NodeId;
use crate::callers::{Power, assume};
use crate::operation::{Caller, LockKind, Name, Op};
use crate::outcome::Outcome;

impl Host {
    pub(super) fn act(&mut self, caller: &Caller, op: &Op) -> Result<Outcome, Errno> {
        let at = |slot: &u8| NodeId::from(*slot);
        match op {
            Op::Lookup(dir, name) => self.lookup(at(dir), name),
            Op::Forget(node) => {
                self.nodes[at(node)] = None;
                Ok(Outcome::Done)
            }
            Op::Getattr(_, Some(file)) => self.attributes_of(&self.file(at(file)).file),
            Op::Getattr(node, None) | Op::Statx(node) => self.attributes_of(self.node(at(node))),
            Op::Setattr(node, file, change) => {
                self.setattr(caller, at(node), file.as_ref().map(at), change)
            }
            Op::Readlink(node) => match kind(self.node(at(node))) {
                FileType::Symlink => {
                    let target = rustix::fs::readlinkat(self.node(at(node)), c"", Vec::new())?;
                    Ok(Outcome::Bytes(target.into_bytes()))
                }
                _ => Err(Errno::INVAL),
            },
            Op::Symlink(dir, name, Name(target)) => {
                self.make(caller, at(dir), name, |dir, name| {
                    rustix::fs::symlinkat(&**target, dir, name)
                })
            }
            Op::Mknod(dir, name, mode, rdev) => self.make(caller, at(dir), name, |dir, name| {
                // What `mknod(2)` calls it.
                let kind = match mode & libc::S_IFMT {
                    0 => FileType::RegularFile,
                    libc::S_IFDIR => return Err(Errno::PERM),
                    libc::S_IFLNK | 0o170_000 => return Err(Errno::INVAL),
                    _ => FileType::from_raw_mode(*mode),
                };
                let device = match kind {
                    FileType::CharacterDevice | FileType::BlockDevice => decode_device(*rdev),
                    _ => 0,
                };
                rustix::fs::mknodat(dir, name, kind, Mode::from_raw_mode(*mode), device)
            }),
            Op::Mkdir(dir, name, mode) => self.make(caller, at(dir), name, |dir, name| {
                rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(*mode))
            }),
            Op::Unlink(dir, name) => {
                rustix::fs::unlinkat(self.node(at(dir)), component(name)?, AtFlags::empty())?;
                Ok(Outcome::Done)
            }
            Op::Rmdir(dir, name) => {
                rustix::fs::unlinkat(self.node(at(dir)), component(name)?, AtFlags::REMOVEDIR)?;
                Ok(Outcome::Done)
            }
            Op::Rename(dir, name, to, new, flags) => {
                let (dir, to) = (self.node(at(dir)), self.node(at(to)));
                let (name, new) = (component(name)?, component(new)?);
                let flags = RenameFlags::from_bits_retain(flags.unwrap_or(0));
                rustix::fs::renameat_with(dir, name, to, new, flags)?;
                Ok(Outcome::Done)
            }
            Op::Link(node, dir, name) => {
                let path = self.path(at(node));
                let follow = AtFlags::SYMLINK_FOLLOW;
                let component = component(name)?;
                rustix::fs::linkat(CWD, path, self.node(at(dir)), component, follow)?;
                self.linkable.remove(&at(node));
                self.lookup(at(dir), name)
            }
            Op::Open(node, flags) => {
                let flags = opening(*flags);
                let path = self.path(at(node));
                let open = || rustix::fs::open(path, flags, Mode::empty());
                let file = match flags.contains(OFlags::TRUNC) {
                    true => assume(caller, Power::Override, open)?,
                    false => open()?,
                };
                self.opened(file, flags)?;
                Ok(Outcome::Done)
            }
            Op::Create(dir, name, mode, flags) => {
                let flags =
                    opening(*flags) | (OFlags::from_bits_retain(libc_flags(*flags)) & OFlags::EXCL);
                let component = component(name)?;
                let file = assume(caller, Power::Override, || {
                    let flags = flags | OFlags::CREATE | OFlags::NOFOLLOW;
                    rustix::fs::openat(
                        self.node(at(dir)),
                        component,
                        flags,
                        Mode::from_raw_mode(*mode),
                    )
                })?;
                self.opened(file, flags)
            }
            Op::Tmpfile(dir, mode, flags) => {
                let exclusive = OFlags::from_bits_retain(libc_flags(*flags)) & OFlags::EXCL;
                let flags = (opening(*flags) - OFlags::TRUNC) | exclusive;
                let path = self.path(at(dir));
                let file = assume(caller, Power::Override, || {
                    rustix::fs::open(path, flags | OFlags::TMPFILE, Mode::from_raw_mode(*mode))
                })?;
                let outcome = self.opened(file, flags)?;
                if exclusive.is_empty() {
                    self.linkable.insert(self.nodes.len() - 1);
                }
                Ok(outcome)
            }
            Op::Read(file, offset, size) => self.read(at(file), *offset, *size),
            Op::Write(file, offset, data) => {
                let file = self.file(at(file));
                let written = assume(caller, Power::Override, || {
                    rustix::io::pwrite(&file.file, &data.bytes(), position(*offset)?)
                })?;
                Ok(Outcome::Number(written as u64))
            }
            Op::Flush(file, owner) => {
                self.flush(at(file), *owner);
                Ok(Outcome::Done)
            }
            Op::Release(file) => {
                for owner in crate::client::OWNERS {
                    self.flush(at(file), owner);
                }
                self.files[at(file)] = None;
                Ok(Outcome::Done)
            }
            Op::Fsync(file, data) => {
                let file = &self.file(at(file)).file;
                match data {
                    true => rustix::fs::fdatasync(file)?,
                    false => rustix::fs::fsync(file)?,
                }
                Ok(Outcome::Done)
            }
            Op::Fsyncdir(dir) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY;
                rustix::fs::fsync(rustix::fs::open(self.path(at(dir)), flags, Mode::empty())?)?;
                Ok(Outcome::Done)
            }
            Op::Syncfs => Ok(Outcome::Done),
            Op::Fallocate(file, mode, offset, length) => {
                let file = self.file(at(file));
                assume(caller, Power::Override, || {
                    let mode = FallocateFlags::from_bits_retain(*mode);
                    rustix::fs::fallocate(&file.file, mode, *offset, *length)
                })?;
                Ok(Outcome::Done)
            }
            Op::Lseek(file, offset, whence) => {
                let to = match whence {
                    3 => SeekFrom::Data(*offset),
                    4 => SeekFrom::Hole(*offset),
                    _ => return Err(Errno::INVAL),
                };
                Ok(Outcome::Number(rustix::fs::seek(
                    &self.file(at(file)).file,
                    to,
                )?))
            }
            Op::Copy(..) => self.copy(op, caller),
            Op::List(dir, plus, ..) => self.list(at(dir), *plus),
            Op::Setxattr(node, name, value, flags) => {
                let flags = XattrFlags::from_bits_retain(*flags);
                rustix::fs::setxattr(self.path(at(node)), &*name.0, &value.bytes(), flags)?;
                Ok(Outcome::Done)
            }
            Op::Getxattr(node, name, size) => self.getxattr(at(node), name, *size),
            Op::Listxattr(node, size) => {
                assume(caller, Power::Override, || self.listxattr(at(node), *size))
            }
            Op::Removexattr(node, name) => {
                rustix::fs::removexattr(self.path(at(node)), &*name.0)?;
                Ok(Outcome::Done)
            }
            Op::Access(node, mask) => {
                let path = self.path(at(node));
                let access = Access::from_bits(*mask).ok_or(Errno::INVAL)?;
                assume(caller, Power::Plain, || {
                    rustix::fs::accessat(CWD, path, access, AtFlags::EACCESS)
                })?;
                Ok(Outcome::Done)
            }
            Op::Statfs(node) => {
                let found = rustix::fs::fstatvfs(self.node(at(node)))?;
                Ok(Outcome::Statistics(
                    found.f_bsize,
                    found.f_frsize,
                    found.f_namemax,
                ))
            }
            Op::Getlk(file, owner, kind, start, end) => {
                self.getlk(at(file), *owner, *kind, (*start, *end))
            }
            Op::Setlk(file, owner, kind, start, end) => {
                self.setlk(at(file), *owner, *kind, (*start, *end))
            }
            Op::Flock(file, kind) => {
                let operation = match kind {
                    LockKind::Read => FlockOperation::NonBlockingLockShared,
                    LockKind::Write => FlockOperation::NonBlockingLockExclusive,
                    LockKind::Unlock => FlockOperation::NonBlockingUnlock,
                };
                rustix::fs::flock(&self.file(at(file)).file, operation)?;
                Ok(Outcome::Done)
            }
        }
    }
}

fn libc_flags(flags: i32) -> u32 {
    flags.cast_unsigned()
}

fn opening(flags: i32) -> OFlags {
    let flags = OFlags::from_bits_retain(libc_flags(flags));
    // These are for what comes before: the path, and whether there is a file.
    (flags - OFlags::NOFOLLOW - OFlags::EXCL) | OFlags::CLOEXEC
}

/// The reverse of the kernel's `new_encode_dev`.
fn decode_device(rdev: u32) -> u64 {
    rustix::fs::makedev(
        (rdev >> 8) & 0xfff,
        (rdev & 0xff) | ((rdev >> 12) & 0xf_ff00),
    )
}
