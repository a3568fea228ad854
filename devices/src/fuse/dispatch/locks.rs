//! GETLK, SETLK, SETLKW.

use std::mem::size_of;

use fuse_backend_rs::abi::fuse_abi::{FileLock, LkIn, LkOut};
use rustix::io::Errno;

use crate::filesystem::{Lock, LockArgs, LockKind, LockRange, Result};
use crate::fuse::flags::LK_FLOCK;
use crate::fuse::request::Call;

// As every Linux numbers them but for alpha, parisc and sparc.
const F_RDLCK: u32 = 0;
const F_WRLCK: u32 = 1;
const F_UNLCK: u32 = 2;

pub(in crate::fuse) fn getlk(call: &mut Call<'_, '_>) -> Result<()> {
    let args = args(call, false)?;
    if args.flock {
        return Err(Errno::INVAL);
    }
    call.reply.ensure(size_of::<LkOut>())?;
    let found = call.fs.getlk(&call.request, &args)?;
    let lk = found.map_or(
        FileLock {
            type_: F_UNLCK,
            ..file_lock(&args.lock)
        },
        |lock| file_lock(&lock),
    );
    call.reply.put(&LkOut { lk })
}

pub(in crate::fuse) fn setlk(call: &mut Call<'_, '_>) -> Result<()> {
    let args = args(call, false)?;
    call.fs.setlk(&call.request, &args)
}

pub(in crate::fuse) fn setlkw(call: &mut Call<'_, '_>) -> Result<()> {
    let args = args(call, true)?;
    call.fs.setlk(&call.request, &args)
}

/// Linux has made `l_whence` and `l_len` into two offsets by now, and checked
/// them; `EINVAL` when nobody has.
fn args(call: &mut Call<'_, '_>, wait: bool) -> Result<LockArgs> {
    let input: LkIn = call.body.object()?;
    // A request that waits is kept as it came, however long.
    if call.body.remaining() > 0 {
        return Err(Errno::INVAL);
    }
    let FileLock {
        start,
        end,
        type_,
        pid,
    } = input.lk;
    if start > end || end > LockRange::END {
        return Err(Errno::INVAL);
    }
    let kind = match type_ {
        F_RDLCK => LockKind::Read,
        F_WRLCK => LockKind::Write,
        F_UNLCK => LockKind::Unlock,
        _ => return Err(Errno::INVAL),
    };
    Ok(LockArgs {
        handle: input.fh,
        owner: input.owner,
        lock: Lock {
            range: LockRange { start, end },
            kind,
            pid,
        },
        flock: input.lk_flags & LK_FLOCK != 0,
        wait,
    })
}

fn file_lock(lock: &Lock) -> FileLock {
    FileLock {
        start: lock.range.start,
        end: lock.range.end,
        type_: match lock.kind {
            LockKind::Read => F_RDLCK,
            LockKind::Write => F_WRLCK,
            LockKind::Unlock => F_UNLCK,
        },
        pid: lock.pid,
    }
}
