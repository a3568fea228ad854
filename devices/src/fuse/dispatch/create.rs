//! SYMLINK, MKNOD, MKDIR, LINK, CREATE, TMPFILE.

use std::ffi::CStr;
use std::mem::size_of;

use fuse_backend_rs::abi::fuse_abi::{CreateIn, EntryOut, LinkIn, MkdirIn, MknodIn, OpenOut};

use crate::filesystem::{Entry, NewNode, OpenArgs, Opened, Result};
use crate::fuse::encoding::open_out;
use crate::fuse::flags::OPEN_KILL_SUIDGID;
use crate::fuse::name;
use crate::fuse::request::Call;

/// The name comes first and the target second, unlike `symlink(2)`. There is
/// no umask: Linux gives every symbolic link the mode 0777.
pub(in crate::fuse) fn symlink(call: &mut Call<'_, '_>) -> Result<()> {
    let mut space = name::SYMLINK_SPACE;
    let (name, target) = name::component_and_target(&mut call.body, &mut space)?;
    call.ensure_entry()?;
    let entry = call.fs.symlink(&call.request, name, target)?;
    call.put_entry(&entry)
}

pub(in crate::fuse) fn mknod(call: &mut Call<'_, '_>) -> Result<()> {
    let MknodIn {
        mode, rdev, umask, ..
    } = call.body.object()?;
    make(call, NewNode { mode, umask, rdev }, |call, name, new| {
        call.fs.mknod(&call.request, name, new)
    })
}

pub(in crate::fuse) fn mkdir(call: &mut Call<'_, '_>) -> Result<()> {
    let MkdirIn { mode, umask } = call.body.object()?;
    let rdev = 0;
    make(call, NewNode { mode, umask, rdev }, |call, name, new| {
        call.fs.mkdir(&call.request, name, new)
    })
}

/// The header has the new directory, the body the node that gets a name.
pub(in crate::fuse) fn link(call: &mut Call<'_, '_>) -> Result<()> {
    let input: LinkIn = call.body.object()?;
    let mut space = name::SPACE;
    let name = name::component(&mut call.body, &mut space)?;
    call.ensure_entry()?;
    let entry = call.fs.link(&call.request, name, input.oldnodeid)?;
    call.put_entry(&entry)
}

pub(in crate::fuse) fn create(call: &mut Call<'_, '_>) -> Result<()> {
    let input: CreateIn = call.body.object()?;
    let mut space = name::SPACE;
    let name = name::component(&mut call.body, &mut space)?;
    make_open(call, &input, |call, new, open| {
        call.fs.create(&call.request, name, new, open)
    })
}

/// What follows is a name that Linux has no use for (`/`), and neither have we.
pub(in crate::fuse) fn tmpfile(call: &mut Call<'_, '_>) -> Result<()> {
    let input: CreateIn = call.body.object()?;
    make_open(call, &input, |call, new, open| {
        call.fs.tmpfile(&call.request, new, open)
    })
}

/// Has a file made and opened by `operation`.
fn make_open(
    call: &mut Call<'_, '_>,
    input: &CreateIn,
    operation: impl FnOnce(&Call<'_, '_>, &NewNode, OpenArgs) -> Result<(Entry, Opened)>,
) -> Result<()> {
    call.reply
        .ensure(size_of::<EntryOut>() + size_of::<OpenOut>())?;
    let new = NewNode {
        mode: input.mode,
        umask: input.umask,
        rdev: 0,
    };
    let open = OpenArgs {
        flags: input.flags,
        kill_privileges: input.fuse_flags & OPEN_KILL_SUIDGID != 0,
    };
    let (entry, opened) = operation(call, &new, open)?;
    call.put_entry(&entry)?;
    call.reply.put(&open_out(&opened))
}

/// Takes the name, which is the rest of the request, and has `new` made.
fn make(
    call: &mut Call<'_, '_>,
    new: NewNode,
    operation: impl FnOnce(&Call<'_, '_>, &CStr, &NewNode) -> Result<Entry>,
) -> Result<()> {
    let mut space = name::SPACE;
    let name = name::component(&mut call.body, &mut space)?;
    call.ensure_entry()?;
    let entry = operation(call, name, &new)?;
    call.put_entry(&entry)
}
