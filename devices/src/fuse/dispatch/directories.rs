//! OPENDIR, READDIR, READDIRPLUS, RELEASEDIR, FSYNCDIR.

use std::mem::size_of;

use fuse_backend_rs::abi::fuse_abi::{FsyncIn, OpenIn, OpenOut, ReadIn, ReleaseIn};

use crate::filesystem::Result;
use crate::fuse::encoding::open_out;
use crate::fuse::flags::FSYNC_FDATASYNC;
use crate::fuse::limits::MAX_WRITE;
use crate::fuse::listing::PackedEntries;
use crate::fuse::request::Call;

/// The flags say nothing that a listing depends on.
pub(in crate::fuse) fn opendir(call: &mut Call<'_, '_>) -> Result<()> {
    let _: OpenIn = call.body.object()?;
    call.reply.ensure(size_of::<OpenOut>())?;
    let opened = call.fs.opendir(&call.request)?;
    call.reply.put(&open_out(&opened))
}

pub(in crate::fuse) fn readdir(call: &mut Call<'_, '_>) -> Result<()> {
    list(call, false)
}

pub(in crate::fuse) fn readdirplus(call: &mut Call<'_, '_>) -> Result<()> {
    list(call, true)
}

/// A listing that fails after its first entries is answered with these: the
/// guest was given references with them, and meets the error when it asks
/// for more.
fn list(call: &mut Call<'_, '_>, plus: bool) -> Result<()> {
    let input: ReadIn = call.body.object()?;
    let limit = (input.size.min(MAX_WRITE) as usize).min(call.reply.space());
    let mut entries = PackedEntries::new(limit, plus, call.agreed);
    let outcome = call
        .fs
        .readdir(&call.request, input.fh, input.offset, &mut entries);
    if entries.bytes().is_empty() {
        outcome?;
    }
    call.reply.put_bytes(entries.bytes())
}

pub(in crate::fuse) fn releasedir(call: &mut Call<'_, '_>) -> Result<()> {
    let input: ReleaseIn = call.body.object()?;
    call.fs.releasedir(&call.request, input.fh)
}

pub(in crate::fuse) fn fsyncdir(call: &mut Call<'_, '_>) -> Result<()> {
    let input: FsyncIn = call.body.object()?;
    let data_only = input.fsync_flags & FSYNC_FDATASYNC != 0;
    call.fs.fsyncdir(&call.request, input.fh, data_only)
}
