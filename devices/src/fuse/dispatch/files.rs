//! OPEN, READ, WRITE, FLUSH, RELEASE, FSYNC, SYNCFS, FALLOCATE, LSEEK, and
//! COPY_FILE_RANGE in its two forms.

use std::mem::size_of;

use fuse_backend_rs::abi::fuse_abi::{
    FallocateIn, FlushIn, FsyncIn, LseekIn, LseekOut, OpenIn, OpenOut, ReadIn, ReleaseIn, WriteIn,
    WriteOut,
};
use rustix::io::Errno;

use crate::filesystem::{
    CopyFileRangeArgs, FallocateArgs, LseekArgs, OpenArgs, ReadArgs, ReleaseArgs, Result, WriteArgs,
};
use crate::fuse::encoding::open_out;
use crate::fuse::flags::{
    FSYNC_FDATASYNC, OPEN_KILL_SUIDGID, RELEASE_FLOCK_UNLOCK, WRITE_CACHE, WRITE_KILL_SUIDGID,
};
use crate::fuse::limits::{MAX_READ, MAX_WRITE};
use crate::fuse::request::Call;

pub(in crate::fuse) fn open(call: &mut Call<'_, '_>) -> Result<()> {
    let input: OpenIn = call.body.object()?;
    call.reply.ensure(size_of::<OpenOut>())?;
    let args = OpenArgs {
        flags: input.flags,
        kill_privileges: input.fuse_flags & OPEN_KILL_SUIDGID != 0,
    };
    let opened = call.fs.open(&call.request, args)?;
    call.reply.put(&open_out(&opened))
}

pub(in crate::fuse) fn read(call: &mut Call<'_, '_>) -> Result<()> {
    let input: ReadIn = call.body.object()?;
    if input.size > MAX_READ {
        return Err(Errno::INVAL);
    }
    let args = ReadArgs {
        handle: input.fh,
        size: input.size,
        offset: input.offset,
        flags: input.flags,
    };
    call.reply.put_data(input.size as usize, |data| {
        call.fs.read(&call.request, &args, data)
    })
}

pub(in crate::fuse) fn write(call: &mut Call<'_, '_>) -> Result<()> {
    let input: WriteIn = call.body.object()?;
    if input.size > MAX_WRITE || input.size as usize != call.body.remaining() {
        return Err(Errno::INVAL);
    }
    call.reply.ensure(size_of::<WriteOut>())?;
    let args = WriteArgs {
        handle: input.fh,
        size: input.size,
        offset: input.offset,
        flags: input.flags,
        from_cache: input.fuse_flags & WRITE_CACHE != 0,
        kill_privileges: input.fuse_flags & WRITE_KILL_SUIDGID != 0,
    };
    let written = call.fs.write(&call.request, &args, &mut call.body.data())?;
    // Linux takes a larger number for a broken server.
    let size = u32::try_from(written).map_or(input.size, |written| written.min(input.size));
    call.reply.accept(size as usize);
    call.reply.put(&WriteOut { size, padding: 0 })
}

pub(in crate::fuse) fn flush(call: &mut Call<'_, '_>) -> Result<()> {
    let input: FlushIn = call.body.object()?;
    call.fs.flush(&call.request, input.fh, input.lock_owner)
}

pub(in crate::fuse) fn release(call: &mut Call<'_, '_>) -> Result<()> {
    let input: ReleaseIn = call.body.object()?;
    let args = ReleaseArgs {
        handle: input.fh,
        unlock: input.release_flags & RELEASE_FLOCK_UNLOCK != 0,
    };
    call.fs.release(&call.request, args)
}

pub(in crate::fuse) fn fsync(call: &mut Call<'_, '_>) -> Result<()> {
    let input: FsyncIn = call.body.object()?;
    let data_only = input.fsync_flags & FSYNC_FDATASYNC != 0;
    call.fs.fsync(&call.request, input.fh, data_only)
}

/// The body is padding.
pub(in crate::fuse) fn syncfs(call: &mut Call<'_, '_>) -> Result<()> {
    call.fs.syncfs(&call.request)
}

pub(in crate::fuse) fn fallocate(call: &mut Call<'_, '_>) -> Result<()> {
    let input: FallocateIn = call.body.object()?;
    let args = FallocateArgs {
        handle: input.fh,
        mode: input.mode,
        offset: input.offset,
        length: input.length,
    };
    call.fs.fallocate(&call.request, &args)
}

pub(in crate::fuse) fn lseek(call: &mut Call<'_, '_>) -> Result<()> {
    let input: LseekIn = call.body.object()?;
    call.reply.ensure(size_of::<LseekOut>())?;
    let args = LseekArgs {
        handle: input.fh,
        offset: input.offset,
        whence: input.whence,
    };
    let offset = call.fs.lseek(&call.request, &args)?;
    call.reply.put(&LseekOut { offset })
}

/// Answers with a `struct fuse_write_out`, whose size has 32 bits.
pub(in crate::fuse) fn copy_file_range(call: &mut Call<'_, '_>) -> Result<()> {
    let args = copy_file_range_in(call)?;
    call.reply.ensure(size_of::<WriteOut>())?;
    let args = CopyFileRangeArgs {
        length: args.length.min(u32::MAX.into()),
        ..args
    };
    let copied = call.fs.copy_file_range(&call.request, &args)?;
    let size = u32::try_from(copied.min(args.length)).map_err(|_| Errno::IO)?;
    call.reply.put(&WriteOut { size, padding: 0 })
}

/// Answers with a `struct fuse_copy_file_range_out`, which is a `u64` (7.45).
pub(in crate::fuse) fn copy_file_range_64(call: &mut Call<'_, '_>) -> Result<()> {
    let args = copy_file_range_in(call)?;
    call.reply.ensure(size_of::<u64>())?;
    let copied = call.fs.copy_file_range(&call.request, &args)?;
    call.reply.put(&copied.min(args.length))
}

/// `struct fuse_copy_file_range_in`.
fn copy_file_range_in(call: &mut Call<'_, '_>) -> Result<CopyFileRangeArgs> {
    let [handle, offset, to_node, to_handle, to_offset, length, flags] =
        call.body.object::<[u64; 7]>()?;
    Ok(CopyFileRangeArgs {
        handle,
        offset,
        to_node,
        to_handle,
        to_offset,
        length,
        flags,
    })
}
