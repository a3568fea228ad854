//! Owners that the host's kernel maps, and whom ACLs name where they are not the
//! host's.

use std::os::unix::fs::chown;
use std::path::Path;

use rustix::io::Errno;

use super::fixture::operations::*;
use super::fixture::{GUEST_ROOT, Share, attribute, by, name, node, unshared};
use super::unprivileged::{directory, unprivileged};
use crate::filesystem::{Agreement, Caller, ROOT};
use crate::passthrough::{Config, Owners};

const ALICE: Caller = Caller {
    uid: 1234,
    gid: 2345,
    pid: 7,
    supplementary_gid: None,
};
const ACCESS: &std::ffi::CStr = c"system.posix_acl_access";

/// In a user namespace that has one user.
#[test]
fn who_is_in_no_map_makes_nothing() {
    let test = "mapped::who_is_in_no_map_makes_nothing";
    unshared("-r", test, || {
        // A process that may be anybody.
        assert_eq!(Owners::Automatic.resolved(), Owners::Host);
        for (owners, strangers) in [
            (Owners::Mapped, Err(Errno::OVERFLOW)),
            (Owners::Host, Ok(())),
            (Owners::User, Ok(())),
        ] {
            let share = Share::with(Config {
                owners,
                ..Config::default()
            });
            let make = |caller: &Caller, child: &str| {
                let made = (share.fs).mkdir(&by(caller, ROOT), &name(child), &node(0o755));
                made.map(drop)
            };
            assert_eq!(make(&GUEST_ROOT, "root"), Ok(()));
            assert_eq!(make(&ALICE, "alice"), strangers, "{owners:?}");
            assert_eq!(share.path("alice").exists(), strangers.is_ok());
            // The thread is itself again.
            assert_eq!(make(&GUEST_ROOT, "again"), Ok(()));
        }
    });
}

/// An access ACL that gives this user and this group the right to read.
fn acl(user: u32, group: u32) -> Vec<u8> {
    let mut acl = 2_u32.to_le_bytes().to_vec();
    let entries: [(u16, u16, u32); 6] = [
        (1, 6, u32::MAX),
        (2, 4, user),
        (4, 4, u32::MAX),
        (8, 4, group),
        (16, 4, u32::MAX),
        (32, 0, u32::MAX),
    ];
    for (tag, permissions, id) in entries {
        acl.extend(tag.to_le_bytes());
        acl.extend(permissions.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    acl
}

fn kept(path: &Path) -> Vec<u8> {
    let mut value = [0; 100];
    let length = rustix::fs::getxattr(path, ACCESS, &mut value[..]).unwrap();
    value[..length].to_vec()
}

#[test]
fn acls_name_the_process_where_the_guest_names_root() {
    let place = directory(65_534, 0o644);
    let file = place.path().join("f");
    if rustix::process::geteuid().is_root() {
        chown(&file, Some(65_534), Some(65_534)).unwrap();
    }
    let config = Config {
        posix_acl: true,
        ..Config::default()
    };
    unprivileged(place.path(), config, |fs| {
        assert_eq!(Owners::Automatic.resolved(), Owners::User);
        fs.init(Agreement {
            posix_acl: true,
            ..Agreement::default()
        });
        let node = fs.lookup(&by(&GUEST_ROOT, ROOT), &name("f")).unwrap().inode;
        let request = by(&GUEST_ROOT, node);
        let set = |user, group| {
            let acl = acl(user, group);
            fs.setxattr(&request, ACCESS, &attribute(&acl, 0, false))
        };
        let own = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        assert_eq!(set(0, 0), Ok(()));
        assert_eq!(kept(&file), acl(own.0, own.1));
        assert_eq!(fs.getxattr(&request, ACCESS, 100), Ok(acl(0, 0)));
        assert_eq!(set(77, 78), Ok(()));
        assert_eq!(kept(&file), acl(77, 78));
        assert_eq!(fs.getxattr(&request, ACCESS, 100), Ok(acl(77, 78)));
        for (user, group) in [(65_534, 0), (0, 65_534), (own.0, 0), (u32::MAX, 0)] {
            assert_eq!(set(user, group), Err(Errno::INVAL), "{user} {group}");
        }
        assert_eq!(kept(&file), acl(77, 78));
        // Root of the host is nobody here.
        let value = acl(0, 0);
        rustix::fs::setxattr(&file, ACCESS, &value, rustix::fs::XattrFlags::empty()).unwrap();
        assert_eq!(fs.getxattr(&request, ACCESS, 100), Ok(acl(65_534, 65_534)));
    });
}
