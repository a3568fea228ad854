//! Extended attributes.

use std::ffi::CStr;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use rustix::io::Errno;

use super::fixture::operations::*;
use super::fixture::{GUEST_ROOT, Share, attribute, by, opening};
use crate::filesystem::{Agreement, Caller, Label, NewNode, ROOT};
use crate::passthrough::{Config, Error, Passthrough};

#[test]
fn values_come_back_and_sizes_are_told() {
    let share = Share::new();
    let (file, _) = share.create(ROOT, "f").unwrap();
    let (fs, who, inode) = (&share.fs, &GUEST_ROOT, file.inode);
    let value: Vec<u8> = (0..=255).collect();

    fs.setxattr(&by(who, inode), c"user.v", &attribute(&value, 0, false))
        .unwrap();
    fs.setxattr(&by(who, inode), c"user.empty", &attribute(b"", 0, false))
        .unwrap();

    assert_eq!(
        fs.getxattr(&by(who, inode), c"user.v", 1000).unwrap(),
        value
    );
    assert_eq!(fs.getxattr(&by(who, inode), c"user.v", 256).unwrap(), value);
    assert_eq!(
        fs.getxattr(&by(who, inode), c"user.v", u32::MAX).unwrap(),
        value
    );
    assert_eq!(
        fs.getxattr(&by(who, inode), c"user.v", 0).unwrap().len(),
        256
    );
    assert_eq!(
        fs.getxattr(&by(who, inode), c"user.empty", 10).unwrap(),
        b""
    );
    assert_eq!(
        fs.getxattr(&by(who, inode), c"user.v", 255),
        Err(Errno::RANGE)
    );
    assert_eq!(
        fs.getxattr(&by(who, inode), c"user.none", 9),
        Err(Errno::NODATA)
    );
    let mut names = fs.listxattr(&by(who, inode), 100).unwrap();
    names.retain(|byte| *byte != b'.');
    let mut listed: Vec<_> = names.split(|b| *b == 0).filter(|n| !n.is_empty()).collect();
    listed.sort();
    assert_eq!(listed, [&b"userempty"[..], b"userv"]);
    assert_eq!(fs.listxattr(&by(who, inode), 0).unwrap().len(), 18);
    assert_eq!(fs.listxattr(&by(who, inode), 5), Err(Errno::RANGE));
    assert_eq!(fs.removexattr(&by(who, inode), c"user.v"), Ok(()));
    assert_eq!(
        fs.removexattr(&by(who, inode), c"user.v"),
        Err(Errno::NODATA)
    );
}

#[test]
fn creation_and_replacement_are_told_apart() {
    let share = Share::new();
    let directory = share.mkdir(ROOT, "d").unwrap().inode;
    let set = |flags: i32| {
        let flags = flags.cast_unsigned();
        share.fs.setxattr(
            &by(&GUEST_ROOT, directory),
            c"user.v",
            &attribute(b"1", flags, false),
        )
    };

    assert_eq!(set(libc::XATTR_REPLACE), Err(Errno::NODATA));
    assert_eq!(set(libc::XATTR_CREATE), Ok(()));
    assert_eq!(set(libc::XATTR_CREATE), Err(Errno::EXIST));
    assert_eq!(set(libc::XATTR_REPLACE), Ok(()));
    assert_eq!(set(64), Err(Errno::INVAL));
}

#[test]
fn the_longest_value_passes_where_the_host_takes_it() {
    let share = Share::new();
    let (file, _) = share.create(ROOT, "f").unwrap();
    let long = vec![7; 65_536];

    let stored = share.fs.setxattr(
        &by(&GUEST_ROOT, file.inode),
        c"user.long",
        &attribute(&long, 0, false),
    );

    match stored {
        Ok(()) => {
            let back = share
                .fs
                .getxattr(&by(&GUEST_ROOT, file.inode), c"user.long", 65_536);
            assert_eq!(back.unwrap(), long);
        }
        // ext4 without large xattrs keeps them within a block.
        Err(error) => assert_eq!(error, Errno::NOSPC),
    }
    let longer = vec![7; 65_537];
    let refused = share.fs.setxattr(
        &by(&GUEST_ROOT, file.inode),
        c"user.long",
        &attribute(&longer, 0, false),
    );
    assert_eq!(refused, Err(Errno::TOOBIG));
}

#[test]
fn acls_that_the_guest_would_not_enforce_are_not_served() {
    let share = Share::new();
    let acl = c"system.posix_acl_access";
    let fs = &share.fs;

    assert_eq!(
        fs.getxattr(&by(&GUEST_ROOT, ROOT), acl, 100),
        Err(Errno::OPNOTSUPP)
    );
    assert_eq!(
        fs.setxattr(&by(&GUEST_ROOT, ROOT), acl, &attribute(b"", 0, false)),
        Err(Errno::OPNOTSUPP)
    );
    assert_eq!(
        fs.removexattr(&by(&GUEST_ROOT, ROOT), acl),
        Err(Errno::OPNOTSUPP)
    );
}

#[test]
fn a_share_without_them_says_so_once_for_all() {
    let share = Share::with(Config {
        xattr: false,
        ..Config::default()
    });
    let fs = &share.fs;

    assert_eq!(
        fs.getxattr(&by(&GUEST_ROOT, ROOT), c"user.v", 0),
        Err(Errno::NOSYS)
    );
    assert_eq!(fs.listxattr(&by(&GUEST_ROOT, ROOT), 0), Err(Errno::NOSYS));
    assert_eq!(
        fs.setxattr(&by(&GUEST_ROOT, ROOT), c"user.v", &attribute(b"", 0, false)),
        Err(Errno::NOSYS)
    );
    assert_eq!(
        fs.removexattr(&by(&GUEST_ROOT, ROOT), c"user.v"),
        Err(Errno::NOSYS)
    );
    let both = Config {
        xattr: false,
        posix_acl: true,
        ..Config::default()
    };
    let refused = Passthrough::new(&share.path(""), both);
    assert!(matches!(refused, Err(Error::AclWithoutXattr)));
}

#[test]
fn a_default_acl_takes_the_place_of_the_umask() {
    let share = Share::with(Config {
        posix_acl: true,
        ..Config::default()
    });
    let capabilities = share.fs.capabilities().agreement;
    assert!(capabilities.posix_acl && capabilities.dont_mask);
    share.fs.init(capabilities);
    // acl(5) as the kernel stores it: version 2, then tag, permissions and ID
    // of the owner (rwx), the group (r-x) and others (r-x).
    let entry = |tag: u16, permissions: u16| {
        let mut bytes = tag.to_le_bytes().to_vec();
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(u32::MAX.to_le_bytes());
        bytes
    };
    let acl = [
        2u32.to_le_bytes().to_vec(),
        entry(1, 7),
        entry(4, 5),
        entry(0x20, 5),
    ]
    .concat();
    let new = NewNode {
        mode: 0o666,
        umask: 0o077,
        rdev: 0,
    };
    let mode = |child: &std::ffi::CStr| {
        let made = share.fs.mknod(&by(&GUEST_ROOT, ROOT), child, &new).unwrap();
        made.attributes.mode & 0o7777
    };

    let plain = mode(c"plain");
    let kind = c"system.posix_acl_default";
    share
        .fs
        .setxattr(&by(&GUEST_ROOT, ROOT), kind, &attribute(&acl, 0, false))
        .unwrap();
    let inherited = mode(c"inherited");

    assert_eq!((plain, inherited), (0o600, 0o644));
    assert_eq!(
        share
            .fs
            .getxattr(&by(&GUEST_ROOT, ROOT), kind, 100)
            .unwrap(),
        acl
    );
}

#[test]
fn an_acl_takes_the_set_group_id_bit_only_when_the_guest_says_so() {
    let share = Share::new();
    let file = share.path("f");
    std::fs::write(&file, b"").unwrap();
    std::fs::set_permissions(&file, Permissions::from_mode(0o2755)).unwrap();
    let node = share.lookup(ROOT, "f").unwrap();
    let mode = || std::fs::metadata(&file).unwrap().permissions().mode() & 0o7777;
    let set = |clear| {
        share
            .fs
            .setxattr(
                &by(&GUEST_ROOT, node.inode),
                c"user.v",
                &attribute(b"1", 0, clear),
            )
            .unwrap();
        mode()
    };

    assert_eq!((set(false), set(true)), (0o2755, 0o755));
}

/// An access ACL that gives user 1234 the right to read.
fn acl() -> Vec<u8> {
    let mut acl = 2_u32.to_le_bytes().to_vec();
    let undefined = u32::MAX;
    for (tag, permissions, id) in [
        (1_u16, 6_u16, undefined),
        (2, 4, 1234),
        (4, 4, undefined),
        (16, 4, undefined),
        (32, 0, undefined),
    ] {
        acl.extend(tag.to_le_bytes());
        acl.extend(permissions.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    acl
}

#[test]
fn names_are_listed_to_those_who_may_ask_for_the_values() {
    for served in [false, true] {
        let share = Share::with(Config {
            posix_acl: served,
            ..Config::default()
        });
        share.fs.init(Agreement {
            posix_acl: served,
            ..Agreement::default()
        });
        std::fs::write(share.path("f"), b"").unwrap();
        let set = |name: &CStr, value: &[u8]| {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(share.path("f"), name, value, flags)
        };
        set(c"user.a", b"1").unwrap();
        set(c"user.virtiofs.b", b"1").unwrap();
        let acls = set(c"system.posix_acl_access", &acl()).is_ok();
        let _ = set(c"trusted.host", b"1");
        let node = share.walk("f").unwrap();
        let of_guest = |name: &CStr| {
            let request = by(&GUEST_ROOT, node);
            let set = share
                .fs
                .setxattr(&request, name, &attribute(b"1", 0, false));
            set.unwrap();
        };
        of_guest(c"trusted.t");
        of_guest(c"security.s");

        for uid in [0, 1234, u32::MAX] {
            let caller = Caller {
                uid,
                gid: uid,
                ..GUEST_ROOT
            };
            let request = by(&caller, node);
            let listed = share.fs.listxattr(&request, 1000).unwrap();
            let text = String::from_utf8(listed.clone()).unwrap();
            let mut names: Vec<_> = text.split_terminator('\0').collect();
            names.sort_unstable();
            let mut expected = Vec::new();
            if acls && served {
                expected.push("system.posix_acl_access");
            }
            expected.push("security.s");
            if uid != 1234 {
                expected.push("trusted.t");
            }
            expected.push("user.a");
            expected.sort_unstable();
            assert_eq!(names, expected, "{served} {uid}");
            let asked = share.fs.listxattr(&request, 0).unwrap().len();
            assert_eq!(asked, listed.len());
            let len = u32::try_from(listed.len()).unwrap();
            assert_eq!(share.fs.listxattr(&request, len).unwrap(), listed);
            let less = share.fs.listxattr(&request, len - 1);
            assert_eq!(less, Err(Errno::RANGE));
        }
    }
}

#[test]
fn a_long_list_of_names_comes_whole() {
    let share = Share::new();
    std::fs::write(share.path("f"), b"").unwrap();
    let node = share.walk("f").unwrap();
    let request = by(&GUEST_ROOT, node);
    let mut set = 0;
    for n in 0..30 {
        let long = std::ffi::CString::new(format!("user.{n:0100}")).unwrap();
        let outcome = share
            .fs
            .setxattr(&request, &long, &attribute(b"", 0, false));
        // Some file systems have room for a block of them.
        set += usize::from(outcome.is_ok());
    }
    assert!(set > 10, "{set}");
    let listed = share.fs.listxattr(&request, 65_536).unwrap();
    assert_eq!(listed.len(), set * 106);
    assert_eq!(share.fs.listxattr(&request, 0).unwrap().len(), set * 106);
}

#[test]
fn labels_of_the_guest_are_none_of_the_hosts() {
    let share = Share::new();
    std::fs::write(share.path("f"), b"").unwrap();
    let node = share.walk("f").unwrap();
    let request = by(&GUEST_ROOT, node);
    let host = |name: &CStr| {
        let mut value = [0; 100];
        let length = rustix::fs::getxattr(share.path("f"), name, &mut value[..])?;
        Ok::<_, Errno>(value[..length].to_vec())
    };

    for name in [
        c"security.selinux",
        c"security.ima",
        c"trusted.overlay.opaque",
    ] {
        let before = host(name);
        let missing = share.fs.getxattr(&request, name, 100);
        assert_eq!(missing, Err(Errno::NODATA), "{name:?}");
        let set = share
            .fs
            .setxattr(&request, name, &attribute(b"label", 0, false));
        assert_eq!(set, Ok(()), "{name:?}");
        assert_eq!(host(name), before, "{name:?}");
        assert_eq!(share.fs.getxattr(&request, name, 100).unwrap(), b"label");
        assert_eq!(share.fs.getxattr(&request, name, 0).unwrap().len(), 5);
        assert_eq!(share.fs.removexattr(&request, name), Ok(()));
        let gone = share.fs.removexattr(&request, name);
        assert_eq!(gone, Err(Errno::NODATA), "{name:?}");
    }
    for name in [c"user.virtiofs.security.selinux", c"system.nfs4_acl"] {
        let set = share
            .fs
            .setxattr(&request, name, &attribute(b"x", 0, false));
        assert_eq!(set, Err(Errno::OPNOTSUPP), "{name:?}");
        let got = share.fs.getxattr(&request, name, 100);
        assert_eq!(got, Err(Errno::OPNOTSUPP), "{name:?}");
    }
}

#[test]
fn what_is_made_has_the_label_that_came_with_it() {
    let share = Share::new();
    let name = c"security.selinux";
    let value = b"system_u:object_r:tmp_t:s0\0";
    let labelled = by(&GUEST_ROOT, ROOT).labelled(Some(Label { name, value }));
    let new = |mode| NewNode {
        mode,
        umask: 0,
        rdev: 0,
    };
    let opening = opening((libc::O_RDWR).cast_unsigned(), false);
    let fs = &share.fs;
    assert!(fs.capabilities().labels);

    let made = [
        fs.mkdir(&labelled, c"directory", &new(0o755)).unwrap(),
        fs.mknod(&labelled, c"file", &new(0o644)).unwrap(),
        fs.create(&labelled, c"open", &new(0o644), opening)
            .unwrap()
            .0,
        fs.tmpfile(&labelled, &new(0o644), opening).unwrap().0,
    ];
    for entry in made {
        let got = fs.getxattr(&by(&GUEST_ROOT, entry.inode), name, 100);
        assert_eq!(got.unwrap(), value);
    }
    // Without root the host has no such attribute for a link.
    fs.symlink(&labelled, c"link", c"target").unwrap();

    // What is there already keeps its own.
    let other = Label {
        name,
        value: b"other",
    };
    let again = by(&GUEST_ROOT, ROOT).labelled(Some(other));
    let open = fs.create(&again, c"open", &new(0o644), opening).unwrap().0;
    let got = fs.getxattr(&by(&GUEST_ROOT, open.inode), name, 100);
    assert_eq!(got.unwrap(), value);
}

#[test]
fn what_cannot_be_labelled_is_not_made() {
    let share = Share::new();
    // Longer than any file system takes.
    let value = vec![b'x'; 70_000];
    let name = c"security.selinux";
    let label = Label {
        name,
        value: &value,
    };
    let labelled = by(&GUEST_ROOT, ROOT).labelled(Some(label));
    let new = NewNode {
        mode: 0o755,
        umask: 0,
        rdev: 0,
    };
    let opening = opening((libc::O_RDWR).cast_unsigned(), false);
    let fs = &share.fs;

    let made = [
        fs.mkdir(&labelled, c"d", &new).map(drop),
        fs.mknod(&labelled, c"f", &new).map(drop),
        fs.symlink(&labelled, c"l", c"target").map(drop),
        fs.create(&labelled, c"o", &new, opening).map(drop),
        fs.tmpfile(&labelled, &new, opening).map(drop),
    ];
    assert_eq!(made, [Err(Errno::TOOBIG); 5]);
    assert_eq!(std::fs::read_dir(share.path("")).unwrap().count(), 0);
    assert_eq!((fs.inode_count(), fs.open_count()), (0, 0));
}

#[test]
fn a_mode_that_the_guest_changed_by_an_acl_is_not_taken_for_a_change_of_the_host() {
    let share = Share::with(Config {
        posix_acl: true,
        ..Config::default()
    });
    share.fs.init(share.fs.capabilities().agreement);
    std::fs::write(share.path("f"), b"").unwrap();
    let node = share.walk("f").unwrap();
    let kind = c"system.posix_acl_access";
    let request = by(&GUEST_ROOT, node);
    let mode = || share.path("f").metadata().unwrap().permissions().mode() & 0o777;
    let before = mode();

    let set = share
        .fs
        .setxattr(&request, kind, &attribute(&acl(), 0, false));
    set.unwrap();
    assert_ne!(mode(), before);
    assert!(share.open(node, libc::O_RDONLY).is_ok());
    assert_eq!(share.fs.removexattr(&request, kind), Ok(()));
    assert!(share.open(node, libc::O_RDONLY).is_ok());
}
