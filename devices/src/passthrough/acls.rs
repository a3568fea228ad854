//! The users and groups that POSIX ACLs name, in the guest and on the host: where
//! these are not the same, the attributes in which ACLs are kept are not either
//! (`struct posix_acl_xattr_entry`, `owners`).

use std::borrow::Cow;
use std::ffi::CStr;

use rustix::io::Errno;

use super::Passthrough;
use super::attribute_names::is_acl;
use super::owners::{NOBODY, Owners};
use crate::filesystem::Result;

/// `struct posix_acl_xattr_header`, in bytes: the version, which Linux checks.
const HEADER: usize = 4;
/// `struct posix_acl_xattr_entry`, in bytes: tag, permissions, id.
const ENTRY: usize = 8;
/// Where the id is in it.
const ID: usize = 4;

/// Tags of the entries that name somebody.
const USER: u16 = 0x02;
const GROUP: u16 = 0x08;

/// Whom an entry names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    User(u32),
    Group(u32),
}

/// Puts what `id` makes of those that are named into the entries of `value`. One
/// that is no ACL stays as it is, for the host to refuse.
fn rename(value: &mut [u8], id: impl Fn(Named) -> Result<u32>) -> Result<()> {
    let Some((_, entries)) = value.split_at_mut_checked(HEADER) else {
        return Ok(());
    };
    for entry in entries.chunks_exact_mut(ENTRY) {
        let (head, number) = entry.split_at_mut(ID);
        let tag = head.first_chunk().copied().map(u16::from_le_bytes);
        let Some(number) = number.first_chunk_mut::<4>() else {
            continue;
        };
        let old = u32::from_le_bytes(*number);
        let named = match tag {
            Some(USER) => Named::User(old),
            Some(GROUP) => Named::Group(old),
            _ => continue,
        };
        *number = id(named)?.to_le_bytes();
    }
    Ok(())
}

impl Passthrough {
    /// An attribute that is to be set, with the host's users in it if it is an ACL:
    /// `EINVAL` where it names somebody who is nobody there, as on mounts whose
    /// owners the host maps.
    pub(super) fn acl_on_host<'v>(&self, name: &CStr, value: &'v [u8]) -> Result<Cow<'v, [u8]>> {
        if !is_acl(name) || self.ownership.is_hosts() {
            return Ok(Cow::Borrowed(value));
        }
        let mut value = value.to_vec();
        rename(&mut value, |named| {
            let id = match named {
                Named::User(id) => self.ownership.user_on_host(id),
                Named::Group(id) => self.ownership.group_on_host(id),
            };
            id.ok_or(Errno::INVAL)
        })?;
        Ok(Cow::Owned(value))
    }

    /// The reverse, in place, for an attribute that was read.
    pub(super) fn acl_in_guest(&self, name: &CStr, value: &mut [u8]) {
        if !is_acl(name) || self.ownership.policy() == Owners::Host {
            return;
        }
        let renamed = rename(value, |named| {
            Ok(match named {
                // Whom the host's kernel cannot name to us; the guest's would not
                // take the ACL.
                Named::User(u32::MAX) | Named::Group(u32::MAX) => NOBODY,
                Named::User(id) => self.ownership.user_in_guest(id),
                Named::Group(id) => self.ownership.group_in_guest(id),
            })
        });
        debug_assert_eq!(renamed, Ok(()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(entries: &[(u16, u32)]) -> Vec<u8> {
        let mut value = vec![2, 0, 0, 0];
        for (tag, id) in entries {
            value.extend(tag.to_le_bytes());
            value.extend(6_u16.to_le_bytes());
            value.extend(id.to_le_bytes());
        }
        value
    }

    #[test]
    fn only_those_that_are_named_change() {
        let entries = |user, group| {
            let all = [(0x01, !0), (USER, user), (0x04, !0), (GROUP, group)];
            acl(&[&all[..], &[(0x10, !0), (0x20, !0)]].concat())
        };
        let mut value = entries(5, 7);
        let outcome = rename(&mut value, |named| {
            Ok(match named {
                Named::User(id) => id + 100,
                Named::Group(id) => id + 200,
            })
        });
        assert_eq!((outcome, value), (Ok(()), entries(105, 207)));
        let refused = rename(&mut entries(5, 7), |_| Err(Errno::INVAL));
        assert_eq!(refused, Err(Errno::INVAL));
    }

    #[test]
    fn what_is_no_acl_is_left_to_the_host() {
        for length in [0, 1, 4, 5, 11, 13, 19] {
            let mut value = acl(&[(USER, 5), (USER, 6)]);
            value.truncate(length);
            let whole = (length.saturating_sub(HEADER)) / ENTRY;
            let before = value.clone();
            assert_eq!(rename(&mut value, |_| Ok(9)), Ok(()));
            assert_eq!(value == before, whole == 0, "{length}");
        }
    }
}
