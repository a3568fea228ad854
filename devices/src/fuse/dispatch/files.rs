//! Operations on an open file, and the opening of one.

use std::mem::size_of;

use fuse_backend_rs::abi::fuse_abi::{
    FallocateIn, FlushIn, FsyncIn, LseekIn, LseekOut, OpenIn, OpenOut, ReadIn, ReleaseIn, WriteIn,
    WriteOut,
};
use rustix::io::Errno;

use super::Context;
use crate::filesystem::{Result, WriteRequest};
use crate::fuse::data::RequestPages;
use crate::fuse::encoding::open_out;
use crate::fuse::flags::{FSYNC_FDATASYNC, OPEN_KILL_SUIDGID, WRITE_CACHE, WRITE_KILL_SUIDGID};
use crate::fuse::negotiation::{MAX_READ, MAX_WRITE};
use crate::fuse::reply::Reply;
use crate::fuse::request::Body;

pub(super) fn open(
    context: &Context<'_>,
    body: &mut Body<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    let input: OpenIn = body.object()?;
    reply.ensure(size_of::<OpenOut>())?;
    let opened = context.fs.open(
        &context.caller,
        context.header.inode,
        input.flags,
        input.fuse_flags & OPEN_KILL_SUIDGID != 0,
    )?;
    reply.put(&open_out(&opened))
}

pub(super) fn read(
    context: &Context<'_>,
    body: &mut Body<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    let input: ReadIn = body.object()?;
    if input.size > MAX_READ {
        return Err(Errno::INVAL);
    }
    reply.put_data(input.size as usize, |data| {
        context.fs.read(
            &context.caller,
            context.header.unique,
            context.header.inode,
            input.fh,
            data,
            input.size,
            input.offset,
            input.flags,
        )
    })
}

pub(super) fn write(
    context: &Context<'_>,
    body: &mut Body<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    let input: WriteIn = body.object()?;
    if input.size > MAX_WRITE || input.size as usize != body.remaining() {
        return Err(Errno::INVAL);
    }
    reply.ensure(size_of::<WriteOut>())?;
    let request = WriteRequest {
        size: input.size,
        offset: input.offset,
        flags: input.flags,
        from_cache: input.fuse_flags & WRITE_CACHE != 0,
        kill_privileges: input.fuse_flags & WRITE_KILL_SUIDGID != 0,
    };
    let written = context.fs.write(
        &context.caller,
        context.header.inode,
        input.fh,
        &mut RequestPages::new(body),
        &request,
    )?;
    // Linux takes a larger number for a broken server.
    let size = u32::try_from(written).map_or(input.size, |written| written.min(input.size));
    reply.accept(size as usize);
    reply.put(&WriteOut { size, padding: 0 })
}

pub(super) fn flush(context: &Context<'_>, body: &mut Body<'_>) -> Result<()> {
    let input: FlushIn = body.object()?;
    let inode = context.header.inode;
    context
        .fs
        .flush(&context.caller, inode, input.fh, input.lock_owner)
}

pub(super) fn release(context: &Context<'_>, body: &mut Body<'_>) -> Result<()> {
    let input: ReleaseIn = body.object()?;
    context
        .fs
        .release(&context.caller, context.header.inode, input.fh)
}

pub(super) fn fsync(context: &Context<'_>, body: &mut Body<'_>) -> Result<()> {
    let input: FsyncIn = body.object()?;
    let data_only = input.fsync_flags & FSYNC_FDATASYNC != 0;
    context
        .fs
        .fsync(&context.caller, context.header.inode, input.fh, data_only)
}

pub(super) fn fallocate(context: &Context<'_>, body: &mut Body<'_>) -> Result<()> {
    let input: FallocateIn = body.object()?;
    context.fs.fallocate(
        &context.caller,
        context.header.inode,
        input.fh,
        input.mode,
        input.offset,
        input.length,
    )
}

pub(super) fn lseek(
    context: &Context<'_>,
    body: &mut Body<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    let input: LseekIn = body.object()?;
    reply.ensure(size_of::<LseekOut>())?;
    let offset = context.fs.lseek(
        &context.caller,
        context.header.inode,
        input.fh,
        input.offset,
        input.whence,
    )?;
    reply.put(&LseekOut { offset })
}
