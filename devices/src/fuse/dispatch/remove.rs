//! UNLINK, RMDIR, RENAME, RENAME2.

use fuse_backend_rs::abi::fuse_abi::{Rename2In, RenameIn};

use super::Context;
use crate::filesystem::Result;
use crate::fuse::name;
use crate::fuse::request::Body;

pub(super) fn unlink(context: &Context<'_>, body: &mut Body<'_>) -> Result<()> {
    let mut space = name::SPACE;
    let name = name::component(body, &mut space)?;
    context
        .fs
        .unlink(&context.caller, context.header.inode, name)
}

pub(super) fn rmdir(context: &Context<'_>, body: &mut Body<'_>) -> Result<()> {
    let mut space = name::SPACE;
    let name = name::component(body, &mut space)?;
    context
        .fs
        .rmdir(&context.caller, context.header.inode, name)
}

pub(super) fn rename(context: &Context<'_>, body: &mut Body<'_>) -> Result<()> {
    let input: RenameIn = body.object()?;
    move_name(context, body, input.newdir, 0)
}

pub(super) fn rename2(context: &Context<'_>, body: &mut Body<'_>) -> Result<()> {
    let input: Rename2In = body.object()?;
    move_name(context, body, input.newdir, input.flags)
}

fn move_name(
    context: &Context<'_>,
    body: &mut Body<'_>,
    new_parent: u64,
    flags: u32,
) -> Result<()> {
    let mut space = name::TWO_NAMES_SPACE;
    let (name, new_name) = name::two_components(body, &mut space)?;
    let parent = context.header.inode;
    context
        .fs
        .rename(&context.caller, parent, name, new_parent, new_name, flags)
}
