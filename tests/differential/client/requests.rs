//! The requests that each operation comes to.

use rustix::io::Errno;

use super::{Client, Transport, flock_owner};
use crate::actor::NodeId;
use crate::host::split_names;
use crate::message::opcode;
use crate::operation::{Caller, Name, Op};
use crate::outcome::Outcome;

const OPEN_KILL_SUIDGID: u32 = 1;
const FLOCK: u32 = 1;

impl<T: Transport> Client<T> {
    pub(super) fn act(&mut self, caller: &Caller, op: &Op) -> Result<Outcome, Errno> {
        let at = |slot: &u8| NodeId::from(*slot);
        match op {
            Op::Lookup(dir, Name(name)) => {
                let request = self.request(opcode::LOOKUP, at(dir), caller);
                self.entry(request.string(name))
            }
            Op::Forget(node) => {
                let node = self.nodes[at(node)].take().unwrap();
                self.forget(node.number, node.lookups);
                Ok(Outcome::Done)
            }
            Op::Getattr(node, file) => {
                let handle = file.as_ref().map(|file| self.file(at(file)).handle);
                let request = self.request(opcode::GETATTR, at(node), caller);
                let flags = u32::from(handle.is_some());
                let body = self.send(request.u32(flags).u32(0).u64(handle.unwrap_or(0)))?;
                Ok(Outcome::Attributes(self.attributes(&body, 16)))
            }
            Op::Statx(node) => {
                let request = self.request(opcode::STATX, at(node), caller);
                let body = self.send(request.u32(0).u32(0).u64(0).u32(0).u32(0xfff))?;
                Ok(Outcome::Attributes(self.statx(&body)))
            }
            Op::Setattr(node, file, change) => {
                self.setattr(caller, at(node), file.as_ref().map(at), change)
            }
            Op::Readlink(node) => {
                let request = self.request(opcode::READLINK, at(node), caller);
                Ok(Outcome::Bytes(self.send(request)?.bytes().to_vec()))
            }
            Op::Symlink(dir, Name(name), Name(target)) => {
                let group = self.group(at(dir), caller);
                let request = self.request(opcode::SYMLINK, at(dir), caller);
                self.entry(request.string(name).string(target).group(group))
            }
            Op::Mknod(dir, Name(name), mode, rdev) => {
                let group = self.group(at(dir), caller);
                let request = self.request(opcode::MKNOD, at(dir), caller);
                let request = request.u32(*mode).u32(*rdev).u32(0).u32(0);
                self.entry(request.string(name).group(group))
            }
            Op::Mkdir(dir, Name(name), mode) => {
                let group = self.group(at(dir), caller);
                let request = self.request(opcode::MKDIR, at(dir), caller);
                self.entry(request.u32(*mode).u32(0).string(name).group(group))
            }
            Op::Unlink(dir, Name(name)) => {
                let request = self.request(opcode::UNLINK, at(dir), caller);
                self.done(request.string(name))
            }
            Op::Rmdir(dir, Name(name)) => {
                let request = self.request(opcode::RMDIR, at(dir), caller);
                self.done(request.string(name))
            }
            Op::Rename(dir, Name(name), to, Name(new), flags) => {
                let to = self.node(at(to)).number;
                let request = match flags {
                    None => self.request(opcode::RENAME, at(dir), caller).u64(to),
                    Some(flags) => {
                        let request = self.request(opcode::RENAME2, at(dir), caller);
                        request.u64(to).u32(*flags).u32(0)
                    }
                };
                self.done(request.string(name).string(new))
            }
            Op::Link(node, dir, Name(name)) => {
                let number = self.node(at(node)).number;
                let request = self.request(opcode::LINK, at(dir), caller);
                self.entry(request.u64(number).string(name))
            }
            Op::Open(node, flags) => {
                let truncates = flags & libc::O_TRUNC != 0;
                let kill = if truncates && caller.uid != 0 {
                    OPEN_KILL_SUIDGID
                } else {
                    0
                };
                let request = self.request(opcode::OPEN, at(node), caller);
                let body = self.send(request.u32(flags.cast_unsigned()).u32(kill))?;
                let node = self.node(at(node)).number;
                self.opened(node, &body, 0, *flags);
                Ok(Outcome::Done)
            }
            Op::Create(dir, Name(name), mode, flags) => {
                let group = self.group(at(dir), caller);
                let kill = if caller.uid == 0 {
                    0
                } else {
                    OPEN_KILL_SUIDGID
                };
                let creating = (flags | libc::O_CREAT).cast_unsigned();
                let request = self.request(opcode::CREATE, at(dir), caller);
                let request = request
                    .u32(creating)
                    .u32(libc::S_IFREG | *mode)
                    .u32(0)
                    .u32(kill);
                self.make_open(request.string(name).group(group), *flags)
            }
            Op::Tmpfile(dir, mode, flags) => {
                let group = self.group(at(dir), caller);
                let request = self.request(opcode::TMPFILE, at(dir), caller);
                let all = (flags | libc::O_TMPFILE).cast_unsigned();
                let request = request.u32(all).u32(libc::S_IFREG | *mode).u32(0).u32(0);
                self.make_open(request.string(b"/").group(group), *flags)
            }
            Op::Read(file, offset, size) => {
                let open = self.file(at(file));
                let (handle, flags) = (open.handle, open.flags);
                let request = self.file_request(opcode::READ, at(file), caller);
                let request = request.u64(handle).u64(*offset).u32(*size).u32(0).u64(0);
                Ok(Outcome::Bytes(
                    self.send(request.u32(flags).u32(0))?.bytes().to_vec(),
                ))
            }
            Op::Write(file, offset, data) => self.write(caller, at(file), *offset, &data.bytes()),
            Op::Flush(file, owner) => self.flush(caller, at(file), *owner),
            Op::Release(file) => self.release(caller, at(file)),
            Op::Fsync(file, data) => {
                let handle = self.file(at(file)).handle;
                let request = self.file_request(opcode::FSYNC, at(file), caller);
                self.done(request.u64(handle).u32((*data).into()).u32(0))
            }
            Op::Fsyncdir(dir) => {
                let request = self.request(opcode::OPENDIR, at(dir), caller).u32(0).u32(0);
                let handle = self.send(request)?.u64(0);
                let request = self.request(opcode::FSYNCDIR, at(dir), caller);
                let outcome = self.done(request.u64(handle).u32(0).u32(0));
                let request = self.request(opcode::RELEASEDIR, at(dir), caller);
                self.send(request.u64(handle).u32(0).u32(0).u64(0))?;
                outcome
            }
            Op::Syncfs => {
                let request = self.request(opcode::SYNCFS, 0, caller);
                self.done(request.u64(0))
            }
            Op::Statfs(node) => {
                let request = self.request(opcode::STATFS, at(node), caller);
                let body = self.send(request)?;
                Ok(Outcome::Statistics(
                    body.u32(40).into(),
                    body.u32(48).into(),
                    body.u32(44).into(),
                ))
            }
            Op::Fallocate(file, mode, offset, length) => {
                let handle = self.file(at(file)).handle;
                let request = self.file_request(opcode::FALLOCATE, at(file), caller);
                self.done(
                    request
                        .u64(handle)
                        .u64(*offset)
                        .u64(*length)
                        .u32(*mode)
                        .u32(0),
                )
            }
            Op::Lseek(file, offset, whence) => {
                let handle = self.file(at(file)).handle;
                let request = self.file_request(opcode::LSEEK, at(file), caller);
                let body = self.send(request.u64(handle).u64(*offset).u32(*whence).u32(0))?;
                Ok(Outcome::Number(body.u64(0)))
            }
            Op::Copy(from, offset, to, to_offset, length, flags, wide) => {
                let opcode = match wide {
                    true => opcode::COPY_FILE_RANGE_64,
                    false => opcode::COPY_FILE_RANGE,
                };
                let (node, handle) = (self.file(at(to)).node, self.file(at(to)).handle);
                let from_handle = self.file(at(from)).handle;
                let request = self
                    .file_request(opcode, at(from), caller)
                    .u64(from_handle)
                    .u64(*offset)
                    .u64(node)
                    .u64(handle)
                    .u64(*to_offset)
                    .u64(*length)
                    .u64(*flags);
                let body = self.send(request)?;
                Ok(Outcome::Number(if *wide {
                    body.u64(0)
                } else {
                    body.u32(0).into()
                }))
            }
            Op::List(dir, plus, room, again) => self.list(caller, at(dir), (*plus, *room, *again)),
            Op::Setxattr(node, Name(name), value, flags) => {
                let request = self.request(opcode::SETXATTR, at(node), caller);
                let request = request.u32(value.length).u32(*flags).string(name);
                self.done(request.bytes(&value.bytes()))
            }
            Op::Getxattr(node, Name(name), size) => {
                let request = self.request(opcode::GETXATTR, at(node), caller);
                let body = self.send(request.u32(*size).u32(0).string(name))?;
                Ok(match size {
                    0 => Outcome::Number(body.u32(0).into()),
                    _ => Outcome::Bytes(body.bytes().to_vec()),
                })
            }
            Op::Listxattr(node, size) => {
                let request = self.request(opcode::LISTXATTR, at(node), caller);
                let body = self.send(request.u32(*size).u32(0))?;
                Ok(match size {
                    0 => Outcome::Number(body.u32(0).into()),
                    _ => Outcome::Names(split_names(body.bytes())),
                })
            }
            Op::Removexattr(node, Name(name)) => {
                let request = self.request(opcode::REMOVEXATTR, at(node), caller);
                self.done(request.string(name))
            }
            Op::Access(node, mask) => {
                let request = self.request(opcode::ACCESS, at(node), caller);
                self.done(request.u32(*mask).u32(0))
            }
            Op::Getlk(file, owner, kind, start, end) => {
                let which = (opcode::GETLK, *owner);
                let body = self.setlk(caller, at(file), which, *kind, (*start, *end, 0))?;
                Ok(match body.u32(16) {
                    2 => Outcome::Done,
                    kind => Outcome::Lock(u8::try_from(kind).unwrap(), body.u64(0), body.u64(8)),
                })
            }
            Op::Setlk(file, owner, kind, start, end) => {
                let which = (opcode::SETLK, *owner);
                self.setlk(caller, at(file), which, *kind, (*start, *end, 0))?;
                Ok(Outcome::Done)
            }
            Op::Flock(file, kind) => {
                self.files[at(file)].as_mut().unwrap().flocked = true;
                let which = (opcode::SETLK, flock_owner(at(file)));
                let all = (0, i64::MAX.cast_unsigned(), FLOCK);
                self.setlk(caller, at(file), which, *kind, all)?;
                Ok(Outcome::Done)
            }
        }
    }
}
