//! GETATTR, STATX, SETATTR, ACCESS, STATFS.

use std::mem::size_of;

use fuse_backend_rs::abi::fuse_abi::{AccessIn, AttrOut, GetattrIn, SetattrIn, StatfsOut};
use rustix::io::Errno;

use crate::filesystem::{Result, SetAttributes, SetTime, Timestamp};
use crate::fuse::encoding::{STATX_OUT, attr_out, statfs_out, statx_out};
use crate::fuse::flags::{GETATTR_FH, SetattrValid as Valid};
use crate::fuse::request::Call;

pub(in crate::fuse) fn getattr(call: &mut Call<'_, '_>) -> Result<()> {
    let input: GetattrIn = call.body.object()?;
    call.reply.ensure(size_of::<AttrOut>())?;
    let handle = (input.flags & GETATTR_FH != 0).then_some(input.fh);
    let (attributes, timeout) = call.fs.getattr(&call.request, handle)?;
    call.reply.put(&attr_out(&attributes, timeout, call.agreed))
}

/// The same in another form, which has room for the time of creation. Linux
/// asks for all there is, and leaves to the server whether that costs anything.
pub(in crate::fuse) fn statx(call: &mut Call<'_, '_>) -> Result<()> {
    // `struct fuse_statx_in`: then sync hints and a mask.
    let [flags, _reserved] = call.body.object::<[u32; 2]>()?;
    let handle = call.body.object::<u64>()?;
    call.reply.ensure(STATX_OUT)?;
    let handle = (flags & GETATTR_FH != 0).then_some(handle);
    let (attributes, timeout) = call.fs.getattr(&call.request, handle)?;
    call.reply.put_bytes(&statx_out(&attributes, timeout))
}

pub(in crate::fuse) fn setattr(call: &mut Call<'_, '_>) -> Result<()> {
    let input: SetattrIn = call.body.object()?;
    let changes = changes(&input)?;
    call.reply.ensure(size_of::<AttrOut>())?;
    let handle = Valid::from_bits_retain(input.valid)
        .contains(Valid::FH)
        .then_some(input.fh);
    let (attributes, timeout) = call.fs.setattr(&call.request, handle, &changes)?;
    call.reply.put(&attr_out(&attributes, timeout, call.agreed))
}

fn changes(input: &SetattrIn) -> Result<SetAttributes> {
    let wants = |field| Valid::from_bits_retain(input.valid).contains(field);
    let time = |field, now, seconds: u64, nanoseconds| {
        Ok(match (wants(field), wants(now)) {
            (false, _) => None,
            (true, true) => Some(SetTime::Now),
            (true, false) => Some(SetTime::At(timestamp(seconds, nanoseconds)?)),
        })
    };
    let size = wants(Valid::SIZE).then_some(input.size);
    if size.is_some_and(|size| i64::try_from(size).is_err()) {
        return Err(Errno::INVAL);
    }
    let id = |field, id: u32| match wants(field) {
        // Means "leave it as it is" to `chown(2)`, and nobody to the guest.
        true if id == u32::MAX => Err(Errno::INVAL),
        wanted => Ok(wanted.then_some(id)),
    };
    Ok(SetAttributes {
        // Linux sends the file type along, which cannot be changed.
        mode: wants(Valid::MODE).then_some(input.mode & 0o7777),
        uid: id(Valid::UID, input.uid)?,
        gid: id(Valid::GID, input.gid)?,
        size,
        atime: time(Valid::ATIME, Valid::ATIME_NOW, input.atime, input.atimensec)?,
        mtime: time(Valid::MTIME, Valid::MTIME_NOW, input.mtime, input.mtimensec)?,
        ctime: wants(Valid::CTIME)
            .then(|| timestamp(input.ctime, input.ctimensec))
            .transpose()?,
        kill_privileges: wants(Valid::KILL_SUIDGID),
    })
}

fn timestamp(seconds: u64, nanoseconds: u32) -> Result<Timestamp> {
    if nanoseconds > 999_999_999 {
        return Err(Errno::INVAL);
    }
    Ok(Timestamp {
        seconds: seconds.cast_signed(),
        nanoseconds,
    })
}

pub(in crate::fuse) fn access(call: &mut Call<'_, '_>) -> Result<()> {
    let input: AccessIn = call.body.object()?;
    call.fs.access(&call.request, input.mask)
}

pub(in crate::fuse) fn statfs(call: &mut Call<'_, '_>) -> Result<()> {
    call.reply.ensure(size_of::<StatfsOut>())?;
    let statistics = call.fs.statfs(&call.request)?;
    call.reply.put(&statfs_out(&statistics))
}
