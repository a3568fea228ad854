//! Extensions at the end of a request (`struct fuse_ext_header`, since 7.38).
//!
//! One kind is agreed on at INIT and understood: the supplementary group of a
//! task that creates something (`FUSE_EXT_GROUPS`). Security contexts use the
//! same frame and would be read here.

use rustix::io::Errno;

use super::request::Body;
use crate::filesystem::Result;

/// `FUSE_EXT_GROUPS`: a `struct fuse_supp_groups` follows.
const GROUPS: u32 = 32;

/// `sizeof(struct fuse_ext_header)`, which the size in it includes.
const HEADER: usize = 8;

/// Room for the extensions that can occur: Linux sends a single group, in 16
/// bytes.
const SPACE: usize = 64;

/// The supplementary group in `extensions`, if there is one.
pub(super) fn supplementary_gid(extensions: &mut Body<'_>) -> Result<Option<u32>> {
    let mut space = [0; SPACE];
    let mut bytes = extensions.rest(&mut space).unwrap_or(Err(Errno::INVAL))?;
    let mut group = None;
    while !bytes.is_empty() {
        let size = word(bytes, 0)? as usize;
        if size < HEADER {
            return Err(Errno::INVAL);
        }
        let extension = bytes.get(..size).ok_or(Errno::INVAL)?;
        match word(extension, 4)? {
            GROUPS => group = one_group(extension)?,
            _ => return Err(Errno::INVAL),
        }
        // Each begins on a multiple of 8 (FUSE_REC_ALIGN).
        bytes = bytes.get(size.next_multiple_of(8)..).unwrap_or_default();
    }
    Ok(group)
}

/// `struct fuse_supp_groups`. More than one group would need more than one to
/// be put into effect, and no guest sends that.
fn one_group(extension: &[u8]) -> Result<Option<u32>> {
    match word(extension, HEADER)? {
        0 => Ok(None),
        1 => word(extension, HEADER + 4).map(Some),
        _ => Err(Errno::INVAL),
    }
}

fn word(bytes: &[u8], at: usize) -> Result<u32> {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .map(|word| u32::from_ne_bytes(*word))
        .ok_or(Errno::INVAL)
}
