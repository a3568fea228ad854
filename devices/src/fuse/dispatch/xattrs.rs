//! SETXATTR, GETXATTR, LISTXATTR, REMOVEXATTR.

use std::mem::size_of;

use fuse_backend_rs::abi::fuse_abi::{GetxattrIn, GetxattrOut, SetxattrIn};
use rustix::io::Errno;

use crate::filesystem::{Result, SetXattrArgs};
use crate::fuse::flags::{InitFlags, SETXATTR_ACL_KILL_SGID};
use crate::fuse::name;
use crate::fuse::reply::Reply;
use crate::fuse::request::Call;

/// Longest value, and longest list of names, in bytes (`XATTR_SIZE_MAX`,
/// `XATTR_LIST_MAX` in `linux/limits.h`).
const XATTR_MAX: usize = 65536;

pub(in crate::fuse) fn setxattr(call: &mut Call<'_, '_>) -> Result<()> {
    let input: SetxattrIn = call.body.object()?;
    // `struct fuse_setxattr_in` has 8 bytes more when that was agreed on.
    let [setxattr_flags, _padding] = if call.agreed.contains(InitFlags::SETXATTR_EXT) {
        call.body.object::<[u32; 2]>()?
    } else {
        [0; 2]
    };
    let size = input.size as usize;
    let name_len = call
        .body
        .remaining()
        .checked_sub(size)
        .ok_or(Errno::INVAL)?;
    if size > XATTR_MAX {
        return Err(Errno::TOOBIG);
    }
    let mut space = name::SPACE;
    let name = name::attribute(&mut call.body, name_len, &mut space)?;
    let mut value = vec![0; size];
    call.body.fill(&mut value)?;
    let args = SetXattrArgs {
        value: &value,
        flags: input.flags,
        clear_set_gid: setxattr_flags & SETXATTR_ACL_KILL_SGID != 0,
    };
    call.fs.setxattr(&call.request, name, &args)?;
    call.reply.accept(size);
    Ok(())
}

pub(in crate::fuse) fn getxattr(call: &mut Call<'_, '_>) -> Result<()> {
    let input: GetxattrIn = call.body.object()?;
    let mut space = name::SPACE;
    let name_len = call.body.remaining();
    let name = name::attribute(&mut call.body, name_len, &mut space)?;
    answer_bytes(input.size, call.reply, |size| {
        call.fs.getxattr(&call.request, name, size)
    })
}

pub(in crate::fuse) fn listxattr(call: &mut Call<'_, '_>) -> Result<()> {
    let input: GetxattrIn = call.body.object()?;
    answer_bytes(input.size, call.reply, |size| {
        call.fs.listxattr(&call.request, size)
    })
}

pub(in crate::fuse) fn removexattr(call: &mut Call<'_, '_>) -> Result<()> {
    let mut space = name::SPACE;
    let name_len = call.body.remaining();
    let name = name::attribute(&mut call.body, name_len, &mut space)?;
    call.fs.removexattr(&call.request, name)
}

/// Answers with what `get` comes back with, or with its length alone when
/// `size` is 0. A file system may allocate as much as it is asked for, so
/// `get` is asked for no more than the guest has room for.
fn answer_bytes(
    size: u32,
    reply: &mut Reply<'_>,
    get: impl FnOnce(u32) -> Result<Vec<u8>>,
) -> Result<()> {
    if size == 0 {
        reply.ensure(size_of::<GetxattrOut>())?;
        let length = get(0)?.len();
        let size = u32::try_from(length).map_err(|_| Errno::TOOBIG)?;
        return reply.put(&GetxattrOut { size, padding: 0 });
    }
    reply.ensure(1)?;
    let room = (size as usize).min(reply.space()).min(XATTR_MAX);
    let bytes = get(u32::try_from(room).unwrap_or(size))?;
    if bytes.len() > room {
        return Err(Errno::RANGE);
    }
    reply.put_bytes(&bytes)
}
