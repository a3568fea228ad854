//! Names in requests, checked in one place.
//!
//! A name the guest sends becomes a path component on the host, so every
//! opcode takes its names from here and from nowhere else. What passes is one
//! component: NUL-terminated where the protocol says so, not empty, no `/`,
//! not `.` or `..`, at most 255 bytes. LOOKUP alone may ask for those two, and
//! gets a word for them that is no name.

use std::ffi::CStr;

use rustix::io::Errno;

use super::request::Body;
use crate::filesystem::Result;

/// Longest component in bytes, without its NUL (`NAME_MAX`).
const NAME_MAX: usize = 255;

/// Longest target of a symbolic link in bytes, without its NUL: `PATH_MAX`
/// counts the NUL.
const TARGET_MAX: usize = 4095;

/// Space for the one name of a request.
pub(super) const SPACE: NameSpace = [0; NAME_MAX + 1];
type NameSpace = [u8; NAME_MAX + 1];

/// Space for the two names of RENAME.
pub(super) const TWO_NAMES_SPACE: TwoNamesSpace = [0; 2 * (NAME_MAX + 1)];
type TwoNamesSpace = [u8; 2 * (NAME_MAX + 1)];

/// Space for the name and the target of SYMLINK.
pub(super) const SYMLINK_SPACE: SymlinkSpace = [0; NAME_MAX + 1 + TARGET_MAX + 1];
type SymlinkSpace = [u8; NAME_MAX + 1 + TARGET_MAX + 1];

/// The name that is all the rest of a request.
pub(super) fn component<'s>(body: &mut Body<'_>, space: &'s mut NameSpace) -> Result<&'s CStr> {
    checked(terminated(rest(body, space)?)?)
}

/// What LOOKUP is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sought<'s> {
    Child(&'s CStr),
    /// `.`
    Itself,
    /// `..`
    Parent,
}

/// The name that is all the rest of a LOOKUP.
pub(super) fn sought<'s>(body: &mut Body<'_>, space: &'s mut NameSpace) -> Result<Sought<'s>> {
    let name = terminated(rest(body, space)?)?;
    match name.to_bytes() {
        b"." => Ok(Sought::Itself),
        b".." => Ok(Sought::Parent),
        _ => checked(name).map(Sought::Child),
    }
}

/// The two names that are all the rest of a request.
pub(super) fn two_components<'s>(
    body: &mut Body<'_>,
    space: &'s mut TwoNamesSpace,
) -> Result<(&'s CStr, &'s CStr)> {
    let (first, second) = two_strings(rest(body, space)?)?;
    Ok((checked(first)?, checked(second)?))
}

/// The name of a symbolic link and its target, which may be any string.
pub(super) fn component_and_target<'s>(
    body: &mut Body<'_>,
    space: &'s mut SymlinkSpace,
) -> Result<(&'s CStr, &'s CStr)> {
    let (name, target) = two_strings(rest(body, space)?)?;
    if target.count_bytes() > TARGET_MAX {
        return Err(Errno::NAMETOOLONG);
    }
    Ok((checked(name)?, target))
}

/// The name of an extended attribute, which takes `length` bytes with its NUL
/// (all the rest of the request where that is all). It is no path: `/` and
/// `.` are as good as any other character. `ERANGE` for a bad length is what
/// `setxattr(2)` answers.
pub(super) fn attribute<'s>(
    body: &mut Body<'_>,
    length: usize,
    space: &'s mut NameSpace,
) -> Result<&'s CStr> {
    if length == 0 {
        return Err(Errno::INVAL);
    }
    let bytes = space.get_mut(..length).ok_or(Errno::RANGE)?;
    body.fill(bytes)?;
    let name = terminated(bytes)?;
    if name.is_empty() {
        return Err(Errno::RANGE);
    }
    Ok(name)
}

fn rest<'s>(body: &mut Body<'_>, space: &'s mut [u8]) -> Result<&'s [u8]> {
    body.rest(space).unwrap_or(Err(Errno::NAMETOOLONG))
}

fn two_strings(bytes: &[u8]) -> Result<(&CStr, &CStr)> {
    let first = CStr::from_bytes_until_nul(bytes).map_err(|_| Errno::INVAL)?;
    let second = bytes
        .get(first.count_bytes() + 1..)
        .ok_or(Errno::INVAL)
        .and_then(terminated)?;
    Ok((first, second))
}

/// Exactly one string: a NUL at the end and none before.
fn terminated(bytes: &[u8]) -> Result<&CStr> {
    CStr::from_bytes_with_nul(bytes).map_err(|_| Errno::INVAL)
}

fn checked(name: &CStr) -> Result<&CStr> {
    match name.to_bytes() {
        b"" | b"." | b".." => Err(Errno::INVAL),
        bytes if bytes.len() > NAME_MAX => Err(Errno::NAMETOOLONG),
        bytes if bytes.contains(&b'/') => Err(Errno::INVAL),
        _ => Ok(name),
    }
}
