//! IOCTL.
//!
//! Linux copies what a command points to by the size in its number, so a
//! command's argument comes as bytes. What it points to in turn stays with the
//! guest, but for the salt and the signature of `FS_IOC_ENABLE_VERITY`, which
//! newer guests send behind it.

use std::mem::size_of;

use fuse_backend_rs::abi::fuse_abi::{IoctlIn, IoctlOut};
use rustix::io::Errno;

use crate::filesystem::{IoctlArgs, Result};
use crate::fuse::request::Call;

/// Longest argument of a command, in bytes: more than the largest that is
/// known, `FS_IOC_ENABLE_VERITY` with a signature of 16128 bytes.
const INPUT_MAX: usize = 32768;
/// Longest answer, in bytes.
const OUTPUT_MAX: usize = 4096;

pub(in crate::fuse) fn ioctl(call: &mut Call<'_, '_>) -> Result<()> {
    let input: IoctlIn = call.body.object()?;
    let size = input.in_size as usize;
    if size != call.body.remaining() {
        return Err(Errno::INVAL);
    }
    // Nothing that is known takes so much.
    if size > INPUT_MAX {
        return Err(Errno::NOTTY);
    }
    let room = (input.out_size as usize).min(OUTPUT_MAX);
    call.reply.ensure(size_of::<IoctlOut>() + room)?;
    let mut argument = vec![0; size];
    call.body.fill(&mut argument)?;
    let args = IoctlArgs {
        handle: input.fh,
        command: input.cmd,
        input: &argument,
        room,
    };
    let output = call.fs.ioctl(&call.request, &args)?;
    if output.len() > room {
        return Err(Errno::OVERFLOW);
    }
    // What failed is told by the header, which Linux takes as well.
    call.reply.put(&IoctlOut::default())?;
    call.reply.put_bytes(&output)
}
