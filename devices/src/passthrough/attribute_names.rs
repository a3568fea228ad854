//! What an extended attribute of the guest is called on the host.
//!
//! | in the guest | on the host |
//! | --- | --- |
//! | `user.*` | the same |
//! | `security.capability` | the same: it is worth what a set-ID bit is, which the guest can set too |
//! | `system.posix_acl_access`, `system.posix_acl_default` | the same, where ACLs were agreed on |
//! | `trusted.*`, other `security.*` | behind a prefix: `trusted.virtiofs.`, or `user.virtiofs.` for a process that may not set trusted ones |
//! | the same where owners are kept in attributes | behind that prefix |
//! | `user.containers.override_stat` | nothing either, where the share keeps owners or devices in it |
//! | all others | nothing: `EOPNOTSUPP` |
//!
//! The host's kernel acts by what is called `security.selinux`,
//! `security.ima` or `trusted.overlay.redirect`, so a guest must not write
//! that: it would label files of the host, or lead an overlayfs of the host
//! out of its layers. The guest's kernel acts by the same names and needs them
//! to be its own. What has the prefix already is nobody's in the guest.

use std::borrow::Cow;
use std::ffi::{CStr, CString};

use rustix::fs::{MemfdFlags, XattrFlags};
use rustix::io::Errno;

use super::grants::CAPABILITY;
use super::override_stat;
use super::owners::Owners;
use super::root::Root;
use crate::filesystem::Result;

/// Longest name, without its NUL (`XATTR_NAME_MAX`).
const LONGEST: usize = 255;

const USER: &[u8] = b"user.";
const TRUSTED: &[u8] = b"trusted.";
const SECURITY: &[u8] = b"security.";
/// ACLs: that of a node, and that of what is made in a directory.
pub(super) const ACLS: [&CStr; 2] = [c"system.posix_acl_access", c"system.posix_acl_default"];

/// The prefixes, for those who may set `trusted.*` and for others.
const KEPT_TRUSTED: &[u8] = b"trusted.virtiofs.";
const KEPT_USER: &[u8] = b"user.virtiofs.";

/// The names of one share.
#[derive(Clone, Copy, Debug)]
pub(super) struct AttributeNames {
    prefix: &'static [u8],
    /// What [`override_stat`](super::override_stat) keeps is nobody's in the
    /// guest.
    owners_kept: bool,
    /// The same, of devices only.
    devices_kept: bool,
}

impl AttributeNames {
    /// For what the calling thread may do, and what the share does with owners.
    pub(super) fn of_process(owners: Owners) -> Self {
        Self {
            prefix: if may_trust() { KEPT_TRUSTED } else { KEPT_USER },
            owners_kept: owners == Owners::Xattr,
            devices_kept: owners == Owners::Mapped,
        }
    }

    /// Whether those that are the guest's alone are `trusted.*` on the host.
    pub(super) fn are_trusted(&self) -> bool {
        self.prefix == KEPT_TRUSTED
    }

    /// The host's name for the guest's `name`.
    pub(super) fn on_host<'n>(self, name: &'n CStr, acls: bool) -> Result<Cow<'n, CStr>> {
        let bytes = name.to_bytes();
        if self.is_kept_apart(bytes, acls) {
            let name = [self.prefix, bytes].concat();
            if name.len() > LONGEST {
                return Err(Errno::RANGE);
            }
            return CString::new(name).map(Cow::Owned).map_err(|_| Errno::INVAL);
        }
        match self.is_same(bytes, acls) {
            true => Ok(Cow::Borrowed(name)),
            false if is_prefix(bytes) => Err(Errno::INVAL),
            false => Err(Errno::OPNOTSUPP),
        }
    }

    /// The guest's name for the host's `name`, if it has one.
    pub(super) fn in_guest(self, name: &[u8], acls: bool) -> Option<&[u8]> {
        match name.strip_prefix(self.prefix) {
            Some(kept) => self.is_kept_apart(kept, acls).then_some(kept),
            None => self.is_same(name, acls).then_some(name),
        }
    }

    /// Whether it is called the same on both sides.
    fn is_same(self, name: &[u8], acls: bool) -> bool {
        if (self.owners_kept || self.devices_kept) && name == override_stat::NAME.to_bytes() {
            return false;
        }
        (name.starts_with(USER) && !name.starts_with(KEPT_USER))
            || name == CAPABILITY.to_bytes()
            || (acls && !self.owners_kept && is_acl_name(name))
    }

    /// Whether it has a prefix on the host.
    fn is_kept_apart(self, name: &[u8], acls: bool) -> bool {
        let secure = name.starts_with(SECURITY) && name != CAPABILITY.to_bytes();
        ((secure || name.starts_with(TRUSTED)) && !is_prefix(name))
            || (acls && self.owners_kept && is_acl_name(name))
    }
}

/// Whether the host has attributes of the kind of `name` at the root of a share.
pub(super) fn has_names_like(root: &Root, name: &CStr) -> bool {
    let got = (root.path_to(root.fd()))
        .and_then(|path| rustix::fs::getxattr(path.as_c_str(), name, &mut [0; 0][..]));
    got != Err(Errno::OPNOTSUPP)
}

/// Whether nothing follows the prefix, which Linux has on no file system.
fn is_prefix(name: &[u8]) -> bool {
    name == SECURITY || name == TRUSTED
}

/// Whether it is an ACL, which changes the mode as well.
pub(super) fn is_acl(name: &CStr) -> bool {
    ACLS.contains(&name)
}

fn is_acl_name(name: &[u8]) -> bool {
    ACLS.iter().any(|acl| acl.to_bytes() == name)
}

/// Whether it is for administrators alone (xattr(7)).
pub(super) fn is_administrators(name: &CStr) -> bool {
    name.to_bytes().starts_with(TRUSTED)
}

/// Whether the calling thread may set `trusted.*`, which takes a capability in
/// the first user namespace. Tried on a file in memory that nobody else sees.
fn may_trust() -> bool {
    let set = |file| rustix::fs::fsetxattr(file, c"trusted.virtiofs", b"", XattrFlags::empty());
    rustix::fs::memfd_create(c"xattr", MemfdFlags::CLOEXEC)
        .and_then(set)
        .is_ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ROOT: AttributeNames = AttributeNames {
        prefix: KEPT_TRUSTED,
        owners_kept: false,
        devices_kept: false,
    };
    const USER: AttributeNames = AttributeNames {
        prefix: KEPT_USER,
        owners_kept: false,
        devices_kept: false,
    };

    #[test]
    fn what_owners_are_kept_in_is_nobodys() {
        for names in [ROOT, USER] {
            let kept = AttributeNames {
                owners_kept: true,
                ..names
            };
            let name = override_stat::NAME;
            assert_eq!(kept.on_host(name, true), Err(Errno::OPNOTSUPP));
            assert_eq!(kept.in_guest(name.to_bytes(), true), None);
            assert_eq!(names.on_host(name, true).as_deref(), Ok(name));
            assert_eq!(
                kept.on_host(c"user.other", true).as_deref(),
                Ok(c"user.other")
            );
            let devices = AttributeNames {
                devices_kept: true,
                ..names
            };
            assert_eq!(devices.on_host(name, true), Err(Errno::OPNOTSUPP));
            assert_eq!(devices.in_guest(name.to_bytes(), true), None);
        }
    }

    #[test]
    fn what_the_host_acts_by_is_kept_apart_and_comes_back() {
        for name in [
            c"trusted.overlay.opaque",
            c"trusted.virtiofs.trusted.x",
            c"security.selinux",
            c"security.ima",
            c"security.capability.not",
        ] {
            for names in [ROOT, USER] {
                let host = names.on_host(name, false).unwrap();
                let host = host.to_bytes();
                assert!(host.starts_with(names.prefix), "{name:?}");
                assert_eq!(names.in_guest(host, false), Some(name.to_bytes()));
                // The host's own of that name is not the guest's.
                let own = names.in_guest(name.to_bytes(), false);
                assert_ne!(own, Some(name.to_bytes()), "{name:?}");
            }
        }
    }

    #[test]
    fn the_users_own_and_file_capabilities_are_the_hosts() {
        for name in [c"user.x", c"user.", c"user.overlay.opaque", CAPABILITY] {
            for names in [ROOT, USER] {
                assert_eq!(names.on_host(name, false).as_deref(), Ok(name));
                let back = names.in_guest(name.to_bytes(), false);
                assert_eq!(back, Some(name.to_bytes()));
            }
        }
    }

    #[test]
    fn acls_are_the_hosts_where_they_were_agreed_on() {
        let name = c"system.posix_acl_access";
        assert_eq!(ROOT.on_host(name, true).as_deref(), Ok(name));
        assert_eq!(ROOT.in_guest(name.to_bytes(), true), Some(name.to_bytes()));
        assert_eq!(ROOT.on_host(name, false), Err(Errno::OPNOTSUPP));
        assert_eq!(ROOT.in_guest(name.to_bytes(), false), None);
        let other = c"system.posix_acl_other";
        assert_eq!(ROOT.on_host(other, true), Err(Errno::OPNOTSUPP));
    }

    #[test]
    fn acls_are_kept_where_owners_are() {
        let kept = AttributeNames {
            owners_kept: true,
            ..USER
        };
        for name in ACLS {
            let host = [KEPT_USER, name.to_bytes()].concat();
            let on_host = kept.on_host(name, true).unwrap();
            assert_eq!(on_host.to_bytes(), host);
            assert_eq!(kept.in_guest(&host, true), Some(name.to_bytes()));
            assert_eq!(kept.on_host(name, false), Err(Errno::OPNOTSUPP));
            assert_eq!(kept.in_guest(&host, false), None);
            // The host's own.
            assert_eq!(kept.in_guest(name.to_bytes(), true), None);
            assert_eq!(USER.in_guest(&host, true), None);
        }
    }

    #[test]
    fn no_other_name_reaches_the_host_and_none_with_a_prefix() {
        for name in [
            c"system.nfs4_acl",
            c"btrfs.compression",
            c"user",
            c"x",
            c"user.virtiofs.security.selinux",
            c"TRUSTED.x",
        ] {
            for names in [ROOT, USER] {
                let refused = names.on_host(name, true);
                assert_eq!(refused, Err(Errno::OPNOTSUPP), "{name:?}");
                let shown = names.in_guest(name.to_bytes(), true);
                let by_prefix = name.to_bytes().starts_with(names.prefix);
                assert_eq!(shown.is_some(), by_prefix, "{name:?}");
            }
        }
        // Kept for another process.
        assert_eq!(
            ROOT.in_guest(b"user.virtiofs.security.selinux", false),
            None
        );
        assert_eq!(USER.in_guest(b"trusted.virtiofs.trusted.x", false), None);
        // Not what is behind the prefix.
        assert_eq!(ROOT.in_guest(b"trusted.virtiofs.user.x", false), None);
        assert_eq!(
            ROOT.in_guest(b"trusted.virtiofs.security.capability", false),
            None
        );
    }

    #[test]
    fn a_prefix_is_no_name() {
        for name in [c"trusted.", c"security."] {
            for names in [ROOT, USER] {
                assert_eq!(names.on_host(name, true), Err(Errno::INVAL), "{name:?}");
                let kept = [names.prefix, name.to_bytes()].concat();
                assert_eq!(names.in_guest(&kept, true), None, "{name:?}");
            }
        }
    }

    #[test]
    fn a_name_that_gets_too_long_is_refused() {
        let name = |length| {
            let name = [b"trusted.", vec![b'x'; length - 8].as_slice()].concat();
            CString::new(name).map_err(|_| Errno::INVAL)
        };
        let longest = LONGEST - KEPT_TRUSTED.len();
        assert!(
            ROOT.on_host(&name(longest).unwrap_or_default(), false)
                .is_ok()
        );
        let longer = name(longest + 1).unwrap_or_default();
        assert_eq!(ROOT.on_host(&longer, false), Err(Errno::RANGE));
    }
}
