//! SETUPMAPPING and REMOVEMAPPING.

use rustix::io::Errno;

use crate::filesystem::{Result, SetupMappingArgs, WindowPart};
use crate::fuse::flags::SetupMappingFlags;
use crate::fuse::request::Call;

/// `FUSE_REMOVEMAPPING_MAX_ENTRY`: a page of `struct fuse_removemapping_one`.
const MOST_PARTS: usize = 4096 / size_of::<[u64; 2]>();

/// `struct fuse_setupmapping_in`.
pub(in crate::fuse) fn setupmapping(call: &mut Call<'_, '_>) -> Result<()> {
    let [handle, file_offset, len, flags, offset] = call.body.object::<[u64; 5]>()?;
    let flags = SetupMappingFlags::from_bits(flags).ok_or(Errno::INVAL)?;
    if flags.is_empty() {
        return Err(Errno::INVAL);
    }
    let args = SetupMappingArgs {
        // Linux maps by node alone.
        handle: Some(handle).filter(|handle| *handle != u64::MAX),
        file_offset,
        part: WindowPart { offset, len },
        writable: flags.contains(SetupMappingFlags::WRITE),
    };
    call.fs.setup_mapping(&call.request, &args)
}

/// `struct fuse_removemapping_in`, and as many `struct fuse_removemapping_one`
/// as it says.
pub(in crate::fuse) fn removemapping(call: &mut Call<'_, '_>) -> Result<()> {
    let count = usize::try_from(call.body.object::<u32>()?).map_err(|_| Errno::INVAL)?;
    if count == 0 || count > MOST_PARTS || count * size_of::<[u64; 2]>() != call.body.remaining() {
        return Err(Errno::INVAL);
    }
    let mut parts = [WindowPart::default(); MOST_PARTS];
    let parts = parts.get_mut(..count).ok_or(Errno::INVAL)?;
    for part in &mut *parts {
        let [offset, len] = call.body.object::<[u64; 2]>()?;
        *part = WindowPart { offset, len };
    }
    call.fs.remove_mapping(&call.request, parts)
}
