//! SYMLINK, MKNOD, MKDIR, LINK, CREATE.

use std::mem::size_of;

use fuse_backend_rs::abi::fuse_abi::{CreateIn, EntryOut, LinkIn, MkdirIn, MknodIn, OpenOut};

use super::{Context, answer_entry};
use crate::filesystem::{NewNode, Result};
use crate::fuse::encoding::{entry_out, open_out};
use crate::fuse::flags::OPEN_KILL_SUIDGID;
use crate::fuse::name;
use crate::fuse::reply::Reply;
use crate::fuse::request::Body;

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
