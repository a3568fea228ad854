//! UNLINK, RMDIR, RENAME, RENAME2.

use fuse_backend_rs::abi::fuse_abi::{Rename2In, RenameIn};

use crate::filesystem::{NodeId, RenameArgs, Result};
use crate::fuse::name;
use crate::fuse::request::Call;

pub(in crate::fuse) fn unlink(call: &mut Call<'_, '_>) -> Result<()> {
    let mut space = name::SPACE;
    let name = name::component(&mut call.body, &mut space)?;
    call.fs.unlink(&call.request, name)
}

pub(in crate::fuse) fn rmdir(call: &mut Call<'_, '_>) -> Result<()> {
    let mut space = name::SPACE;
    let name = name::component(&mut call.body, &mut space)?;
    call.fs.rmdir(&call.request, name)
}

pub(in crate::fuse) fn rename(call: &mut Call<'_, '_>) -> Result<()> {
    let input: RenameIn = call.body.object()?;
    move_name(call, input.newdir, 0)
}

pub(in crate::fuse) fn rename2(call: &mut Call<'_, '_>) -> Result<()> {
    let input: Rename2In = call.body.object()?;
    move_name(call, input.newdir, input.flags)
}

fn move_name(call: &mut Call<'_, '_>, parent: NodeId, flags: u32) -> Result<()> {
    let mut space = name::TWO_NAMES_SPACE;
    let (name, new_name) = name::two_components(&mut call.body, &mut space)?;
    let to = RenameArgs {
        parent,
        name: new_name,
        flags,
    };
    call.fs.rename(&call.request, name, to)
}
