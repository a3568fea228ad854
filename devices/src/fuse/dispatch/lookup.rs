//! LOOKUP, READLINK, FORGET, BATCH_FORGET.

use std::mem::size_of;

use fuse_backend_rs::abi::fuse_abi::{BatchForgetIn, ForgetIn, ForgetOne};
use rustix::io::Errno;

use crate::filesystem::Result;
use crate::fuse::flags::InitFlags;
use crate::fuse::name::{self, Sought};
use crate::fuse::request::Call;

/// Linux asks for `.` and `..` where it has the number of a node and no name
/// (fs/fuse/inode.c, `fuse_get_dentry`, `fuse_get_parent`), if that was agreed.
pub(in crate::fuse) fn lookup(call: &mut Call<'_, '_>) -> Result<()> {
    let mut space = name::SPACE;
    let sought = name::sought(&mut call.body, &mut space)?;
    call.ensure_entry()?;
    let by_number = call.agreed.contains(InitFlags::EXPORT_SUPPORT);
    let entry = match sought {
        Sought::Child(name) => call.fs.lookup(&call.request, name)?,
        Sought::Itself if by_number => call.fs.lookup_itself(&call.request)?,
        Sought::Parent if by_number => call.fs.lookup_parent(&call.request)?,
        Sought::Itself | Sought::Parent => return Err(Errno::INVAL),
    };
    call.put_entry(&entry)
}

pub(in crate::fuse) fn readlink(call: &mut Call<'_, '_>) -> Result<()> {
    let target = call.fs.readlink(&call.request)?;
    call.reply.put_bytes(&target)
}

pub(in crate::fuse) fn forget(call: &mut Call<'_, '_>) -> Result<()> {
    let input: ForgetIn = call.body.object()?;
    call.fs.forget(call.request.node, input.nlookup);
    Ok(())
}

/// Nothing is forgotten when the count is wrong: half a list could be any
/// other list. The length of the request bounds the loop.
pub(in crate::fuse) fn batch_forget(call: &mut Call<'_, '_>) -> Result<()> {
    let input: BatchForgetIn = call.body.object()?;
    if (input.count as usize).checked_mul(size_of::<ForgetOne>()) != Some(call.body.remaining()) {
        return Err(Errno::INVAL);
    }
    for _ in 0..input.count {
        let one: ForgetOne = call.body.object()?;
        call.fs.forget(one.nodeid, one.nlookup);
    }
    Ok(())
}
