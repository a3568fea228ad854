//! Operations on an open directory, and the opening of one.

use std::mem::size_of;

use fuse_backend_rs::abi::fuse_abi::{FsyncIn, OpenIn, OpenOut, ReadIn, ReleaseIn};

use super::Context;
use crate::filesystem::Result;
use crate::fuse::encoding::open_out;
use crate::fuse::flags::FSYNC_FDATASYNC;
use crate::fuse::listing::PackedEntries;
use crate::fuse::negotiation::MAX_WRITE;
use crate::fuse::opcode::Opcode;
use crate::fuse::reply::Reply;
use crate::fuse::request::Body;

pub(super) fn opendir(
    context: &Context<'_>,
    body: &mut Body<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    let input: OpenIn = body.object()?;
    reply.ensure(size_of::<OpenOut>())?;
    let opened = context
        .fs
        .opendir(&context.caller, context.header.inode, input.flags)?;
    reply.put(&open_out(&opened))
}

/// READDIR and READDIRPLUS.
///
/// A listing that fails after its first entries is answered with these: the
/// guest was given references with them, and meets the error when it asks
/// for more.
pub(super) fn readdir(
    context: &Context<'_>,
    body: &mut Body<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    let input: ReadIn = body.object()?;
    let limit = (input.size.min(MAX_WRITE) as usize).min(reply.space());
    let plus = context.header.opcode == Opcode::READDIRPLUS;
    let mut entries = PackedEntries::new(limit, plus, context.agreed);
    let outcome = context.fs.readdir(
        &context.caller,
        context.header.inode,
        input.fh,
        input.offset,
        &mut entries,
    );
    if entries.bytes().is_empty() {
        outcome?;
    }
    reply.put_bytes(entries.bytes())
}

pub(super) fn releasedir(context: &Context<'_>, body: &mut Body<'_>) -> Result<()> {
    let input: ReleaseIn = body.object()?;
    context
        .fs
        .releasedir(&context.caller, context.header.inode, input.fh)
}

pub(super) fn fsyncdir(context: &Context<'_>, body: &mut Body<'_>) -> Result<()> {
    let input: FsyncIn = body.object()?;
    let data_only = input.fsync_flags & FSYNC_FDATASYNC != 0;
    context
        .fs
        .fsyncdir(&context.caller, context.header.inode, input.fh, data_only)
}
