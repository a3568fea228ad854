//! Operations on names in a directory: find, make, remove and move them.

use std::mem::size_of;

use fuse_backend_rs::abi::fuse_abi::{
    CreateIn, EntryOut, LinkIn, MkdirIn, MknodIn, OpenOut, Rename2In, RenameIn,
};

use super::Context;
use crate::filesystem::{Entry, NewNode, Result};
use crate::fuse::encoding::{entry_out, open_out};
use crate::fuse::flags::OPEN_KILL_SUIDGID;
use crate::fuse::name;
use crate::fuse::reply::Reply;
use crate::fuse::request::Body;

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

/// The name comes first and the target second, unlike `symlink(2)`.
pub(super) fn symlink(
    context: &Context<'_>,
    body: &mut Body<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    let mut space = name::SYMLINK_SPACE;
    let (name, target) = name::component_and_target(body, &mut space)?;
    answer_entry(context, reply, || {
        let parent = context.header.inode;
        // The protocol carries no umask here: Linux gives every symbolic
        // link the mode 0777.
        context.fs.symlink(&context.caller, target, parent, name, 0)
    })
}

pub(super) fn mknod(
    context: &Context<'_>,
    body: &mut Body<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    let input: MknodIn = body.object()?;
    let mut space = name::SPACE;
    let name = name::component(body, &mut space)?;
    answer_entry(context, reply, || {
        let node = NewNode {
            mode: input.mode,
            umask: input.umask,
            rdev: input.rdev,
        };
        let parent = context.header.inode;
        context.fs.mknod(&context.caller, parent, name, node)
    })
}

pub(super) fn mkdir(
    context: &Context<'_>,
    body: &mut Body<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    let input: MkdirIn = body.object()?;
    let mut space = name::SPACE;
    let name = name::component(body, &mut space)?;
    answer_entry(context, reply, || {
        let node = NewNode {
            mode: input.mode,
            umask: input.umask,
            rdev: 0,
        };
        let parent = context.header.inode;
        context.fs.mkdir(&context.caller, parent, name, node)
    })
}

/// The header has the new directory, the body the node that gets a name.
pub(super) fn link(
    context: &Context<'_>,
    body: &mut Body<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    let input: LinkIn = body.object()?;
    let mut space = name::SPACE;
    let name = name::component(body, &mut space)?;
    answer_entry(context, reply, || {
        let new_parent = context.header.inode;
        context
            .fs
            .link(&context.caller, input.oldnodeid, new_parent, name)
    })
}

pub(super) fn create(
    context: &Context<'_>,
    body: &mut Body<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    let input: CreateIn = body.object()?;
    let mut space = name::SPACE;
    let name = name::component(body, &mut space)?;
    reply.ensure(size_of::<EntryOut>() + size_of::<OpenOut>())?;
    let node = NewNode {
        mode: input.mode,
        umask: input.umask,
        rdev: 0,
    };
    let (entry, opened) = context.fs.create(
        &context.caller,
        context.header.inode,
        name,
        node,
        input.flags,
        input.fuse_flags & OPEN_KILL_SUIDGID != 0,
    )?;
    reply.put(&entry_out(&entry, context.agreed))?;
    reply.put(&open_out(&opened))
}

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
