//! LOOKUP, READLINK, FORGET, BATCH_FORGET.

use std::mem::size_of;

use fuse_backend_rs::abi::fuse_abi::{BatchForgetIn, ForgetIn, ForgetOne};
use rustix::io::Errno;

use super::{Context, answer_entry};
use crate::filesystem::Result;
use crate::fuse::name;
use crate::fuse::reply::Reply;
use crate::fuse::request::Body;

pub(super) fn lookup(
    context: &Context<'_>,
    body: &mut Body<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    let mut space = name::SPACE;
    let name = name::component(body, &mut space)?;
    answer_entry(context, reply, || {
        let parent = context.header.inode;
        context.fs.lookup(&context.caller, parent, name)
    })
}

pub(super) fn readlink(context: &Context<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let target = context.fs.readlink(&context.caller, context.header.inode)?;
    reply.put_bytes(&target)
}

pub(super) fn forget(context: &Context<'_>, body: &mut Body<'_>) -> Result<()> {
    let input: ForgetIn = body.object()?;
    context.fs.forget(context.header.inode, input.nlookup);
    Ok(())
}

/// Nothing is forgotten when the count is wrong: half a list could be any
/// other list. The length of the request bounds the loop.
pub(super) fn batch_forget(context: &Context<'_>, body: &mut Body<'_>) -> Result<()> {
    let input: BatchForgetIn = body.object()?;
    if (input.count as usize).checked_mul(size_of::<ForgetOne>()) != Some(body.remaining()) {
        return Err(Errno::INVAL);
    }
    for _ in 0..input.count {
        let one: ForgetOne = body.object()?;
        context.fs.forget(one.nodeid, one.nlookup);
    }
    Ok(())
}
