//! From an opcode to the code that serves it.
//!
//! The operations are grouped by what they are about: [`names`] in
//! directories, [`nodes`] and their attributes, open [`files`] and
//! [`directories`], extended attributes ([`xattrs`]). Each takes the request
//! apart, makes sure that its answer fits, calls the file system once, and
//! writes the answer. A new operation is a line below and a function there.

mod directories;
mod files;
mod names;
mod nodes;
mod xattrs;

use rustix::io::Errno;

use super::extensions;
use super::flags::InitFlags;
use super::opcode::Opcode;
use super::reply::Reply;
use super::request::{Body, Header, Request};
use crate::filesystem::{Caller, FileSystem, Result};

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
        Opcode::LOOKUP => names::lookup(context, body, reply),
        Opcode::SYMLINK => names::symlink(context, body, reply),
        Opcode::MKNOD => names::mknod(context, body, reply),
        Opcode::MKDIR => names::mkdir(context, body, reply),
        Opcode::LINK => names::link(context, body, reply),
        Opcode::CREATE => names::create(context, body, reply),
        Opcode::UNLINK => names::unlink(context, body),
        Opcode::RMDIR => names::rmdir(context, body),
        Opcode::RENAME => names::rename(context, body),
        Opcode::RENAME2 => names::rename2(context, body),

        Opcode::FORGET => nodes::forget(context, body),
        Opcode::BATCH_FORGET => nodes::batch_forget(context, body),
        Opcode::GETATTR => nodes::getattr(context, body, reply),
        Opcode::SETATTR => nodes::setattr(context, body, reply),
        Opcode::READLINK => nodes::readlink(context, reply),
        Opcode::ACCESS => nodes::access(context, body),
        Opcode::STATFS => nodes::statfs(context, reply),

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
