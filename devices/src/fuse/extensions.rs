//! Extensions at the end of a request (`struct fuse_ext_header`, since 7.38),
//! each agreed on at INIT: the supplementary group of a task that creates
//! something (`FUSE_EXT_GROUPS`), and the label of what it creates
//! (`struct fuse_secctx_header`, which is in place of the other header and has
//! a number of contexts where that has a type from 32 up).

use std::ffi::CStr;

use rustix::io::Errno;

use super::flags::InitFlags;
use super::request::Body;
use crate::filesystem::{Label, Result};

/// `FUSE_MAX_NR_SECCTX`: up to here it is a number of security contexts.
const MAX_CONTEXTS: u32 = 31;

/// `FUSE_EXT_GROUPS`: a `struct fuse_supp_groups` follows.
const GROUPS: u32 = 32;

/// The length of either header, which the size in it includes, and of
/// `struct fuse_secctx`.
const HEADER: usize = 8;

/// Room for the extensions that can occur: Linux sends a single group, in 16
/// bytes, and a single label, which SELinux and Smack have shorter than a page.
pub(super) const SPACE: Space = [0; 4096];
type Space = [u8; 4096];

/// What the extensions of a request say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extensions<'s> {
    pub(super) group: Option<u32>,
    pub(super) label: Option<Label<'s>>,
}

/// Reads them all into `space`; `EINVAL` when one was not agreed on.
pub(super) fn read<'s>(
    extensions: &mut Body<'_>,
    agreed: InitFlags,
    space: &'s mut Space,
) -> Result<Extensions<'s>> {
    let mut said = Extensions::default();
    let mut bytes = extensions.rest(space).unwrap_or(Err(Errno::INVAL))?;
    while !bytes.is_empty() {
        let size = word(bytes, 0)? as usize;
        if size < HEADER {
            return Err(Errno::INVAL);
        }
        let extension = bytes.get(..size).ok_or(Errno::INVAL)?;
        match word(extension, 4)? {
            GROUPS if agreed.contains(InitFlags::CREATE_SUPP_GROUP) => {
                said.group = one_group(extension)?;
            }
            count @ ..=MAX_CONTEXTS if agreed.contains(InitFlags::SECURITY_CTX) => {
                said.label = one_label(count, extension)?;
            }
            _ => return Err(Errno::INVAL),
        }
        // Each begins on a multiple of 8 (FUSE_REC_ALIGN).
        bytes = bytes.get(size.next_multiple_of(8)..).unwrap_or_default();
    }
    Ok(said)
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

/// `struct fuse_secctx`, a name, and a label. Linux has one at most, which is
/// none while no security module labels files.
fn one_label(count: u32, extension: &[u8]) -> Result<Option<Label<'_>>> {
    if count == 0 {
        return Ok(None);
    }
    if count > 1 {
        return Err(Errno::INVAL);
    }
    let length = word(extension, HEADER)? as usize;
    let rest = extension.get(HEADER + HEADER..).ok_or(Errno::INVAL)?;
    let name = CStr::from_bytes_until_nul(rest).map_err(|_| Errno::INVAL)?;
    let value = rest.get(name.count_bytes() + 1..).unwrap_or_default();
    let value = value.get(..length).ok_or(Errno::INVAL)?;
    // Nothing else is a label: no set-ID bit comes this way.
    let bytes = name.to_bytes();
    if !bytes.starts_with(b"security.") || bytes == b"security.capability" {
        return Err(Errno::INVAL);
    }
    Ok(Some(Label { name, value }))
}

fn word(bytes: &[u8], at: usize) -> Result<u32> {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .map(|word| u32::from_ne_bytes(*word))
        .ok_or(Errno::INVAL)
}
