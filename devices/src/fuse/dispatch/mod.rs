//! From an opcode to the code that serves it.
//!
//! The operations are grouped as in [`filesystem`](crate::filesystem) and in
//! [`passthrough`](crate::passthrough). Each takes the request
//! apart, makes sure that its answer fits, calls the file system once, and
//! writes the answer. A new operation is a line below and a function there.

mod attributes;
mod create;
mod directories;
mod files;
mod lookup;
mod remove;
mod xattrs;

use std::mem::size_of;

use fuse_backend_rs::abi::fuse_abi::EntryOut;
use rustix::io::Errno;

use super::encoding::entry_out;
use super::extensions;
use super::flags::InitFlags;
use super::opcode::Opcode;
use super::reply::Reply;
use super::request::{Body, Header, Request};
use crate::filesystem::{Caller, Entry, FileSystem, Result};

/// What the operations know about the request they serve.
struct Context<'s> {
    fs: &'s dyn FileSystem,
    header: Header,
    caller: Caller,
    /// What was agreed on at INIT.
    agreed: InitFlags,
}

/// Executes any request but INIT and DESTROY, which are about the session.
/// `Ok` means that `reply` has the body of the answer.
pub(super) fn execute(
    fs: &dyn FileSystem,
    agreed: InitFlags,
    request: Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    let Request {
        header,
        mut body,
        mut extensions,
    } = request;
    let context = &Context {
        fs,
        header,
        caller: caller(&header, agreed, &mut extensions)?,
        agreed,
    };
    let body = &mut body;
    match header.opcode {
        Opcode::LOOKUP => lookup::lookup(context, body, reply),
        Opcode::SYMLINK => create::symlink(context, body, reply),
        Opcode::MKNOD => create::mknod(context, body, reply),
        Opcode::MKDIR => create::mkdir(context, body, reply),
        Opcode::LINK => create::link(context, body, reply),
        Opcode::CREATE => create::create(context, body, reply),
        Opcode::UNLINK => remove::unlink(context, body),
        Opcode::RMDIR => remove::rmdir(context, body),
        Opcode::RENAME => remove::rename(context, body),
        Opcode::RENAME2 => remove::rename2(context, body),

        Opcode::FORGET => lookup::forget(context, body),
        Opcode::BATCH_FORGET => lookup::batch_forget(context, body),
        Opcode::GETATTR => attributes::getattr(context, body, reply),
        Opcode::SETATTR => attributes::setattr(context, body, reply),
        Opcode::READLINK => lookup::readlink(context, reply),
        Opcode::ACCESS => attributes::access(context, body),
        Opcode::STATFS => attributes::statfs(context, reply),

        Opcode::OPEN => files::open(context, body, reply),
        Opcode::READ => files::read(context, body, reply),
        Opcode::WRITE => files::write(context, body, reply),
        Opcode::FLUSH => files::flush(context, body),
        Opcode::RELEASE => files::release(context, body),
        Opcode::FSYNC => files::fsync(context, body),
        Opcode::FALLOCATE => files::fallocate(context, body),
        Opcode::LSEEK => files::lseek(context, body, reply),

        Opcode::OPENDIR => directories::opendir(context, body, reply),
        Opcode::READDIR | Opcode::READDIRPLUS => directories::readdir(context, body, reply),
        Opcode::RELEASEDIR => directories::releasedir(context, body),
        Opcode::FSYNCDIR => directories::fsyncdir(context, body),

        Opcode::SETXATTR => xattrs::setxattr(context, body, reply),
        Opcode::GETXATTR => xattrs::getxattr(context, body, reply),
        Opcode::LISTXATTR => xattrs::listxattr(context, body, reply),
        Opcode::REMOVEXATTR => xattrs::removexattr(context, body),

        Opcode::INTERRUPT => interrupt(context, body),
        _ => Err(Errno::NOSYS),
    }
}

fn caller(header: &Header, agreed: InitFlags, extensions: &mut Body<'_>) -> Result<Caller> {
    let supplementary_gid = if header.extensions_len == 0 {
        None
    } else if agreed.contains(InitFlags::CREATE_SUPP_GROUP) {
        extensions::supplementary_gid(extensions)?
    } else {
        return Err(Errno::INVAL);
    };
    Ok(Caller {
        uid: header.uid,
        gid: header.gid,
        pid: header.pid,
        supplementary_gid,
    })
}

/// INTERRUPT names a request under way; that request is answered with
/// `EINTR` if it is cut short. `EAGAIN` says that it was not found, because
/// it is not yet read or is already answered, and the guest may ask again
/// (Documentation/filesystems/fuse.rst, "Interrupting filesystem
/// operations").
fn interrupt(context: &Context<'_>, body: &mut Body<'_>) -> Result<()> {
    let unique = body.object::<u64>()?;
    if context.fs.interrupt(unique) {
        Ok(())
    } else {
        Err(Errno::AGAIN)
    }
}

/// Answers with the entry that `find` comes back with. The room for it is
/// sought first: the guest must hear of every reference it is given.
fn answer_entry(
    context: &Context<'_>,
    reply: &mut Reply<'_>,
    find: impl FnOnce() -> Result<Entry>,
) -> Result<()> {
    reply.ensure(size_of::<EntryOut>())?;
    let entry = find()?;
    reply.put(&entry_out(&entry, context.agreed))
}
