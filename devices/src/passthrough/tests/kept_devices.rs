//! Devices of a share in a user namespace, which files stand in for.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use rustix::fs::{Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use super::fixture::operations::*;
use super::fixture::{GUEST_ROOT, Share, attribute, by, moved_to, name, node, opening, unshared};
use crate::filesystem::{Agreement, Attributes, Caller, NewNode, ROOT, SetAttributes};
use crate::passthrough::attributes::encode_device;
use crate::passthrough::stat::{Seen, Stat};
use crate::passthrough::{Config, Owners, Passthrough};

const NAME: &std::ffi::CStr = c"user.containers.override_stat";
const ACCESS: &std::ffi::CStr = c"system.posix_acl_access";
const DEFAULT: &std::ffi::CStr = c"system.posix_acl_default";
const ALICE: Caller = Caller {
    uid: 1234,
    gid: 2345,
    pid: 7,
    supplementary_gid: None,
};

fn config() -> Config {
    Config {
        owners: Owners::Mapped,
        ..Config::default()
    }
}

fn device(mode: u32, major: u32, minor: u32) -> NewNode {
    NewNode {
        rdev: encode_device(major, minor),
        ..node(mode)
    }
}

/// An ACL of tags and permissions; whom it names is the guest's root.
fn acl<const N: usize>(entries: [(u16, u16); N]) -> Vec<u8> {
    let mut value = vec![2, 0, 0, 0];
    for (tag, permissions) in entries {
        let id = if tag == 0x02 { 0 } else { u32::MAX };
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    value
}

fn told(attributes: &Attributes) -> (u32, u32) {
    (attributes.mode, attributes.rdev)
}

fn look(fs: &Passthrough, child: &str) -> Attributes {
    let entry = fs.lookup(&by(&GUEST_ROOT, ROOT), &name(child)).unwrap();
    let asked = fs.getattr(&by(&GUEST_ROOT, entry.inode), None).unwrap().0;
    assert_eq!(told(&asked), told(&entry.attributes));
    entry.attributes
}

/// In a namespace whose root is the process, who may make no device.
fn inside(test: &str, body: impl FnOnce(&Share)) {
    unshared("-r", &format!("kept_devices::{test}"), || {
        body(&Share::with(config()));
    });
}

#[test]
fn a_device_is_one_in_the_guest() {
    inside("a_device_is_one_in_the_guest", |share| {
        let root = by(&GUEST_ROOT, ROOT);
        for (child, mode, major, minor, value) in [
            ("null", libc::S_IFCHR | 0o666, 1, 3, "0:0:0666:char-1-3"),
            (
                "disk",
                libc::S_IFBLK | 0o640,
                8,
                300,
                "0:0:0640:block-8-300",
            ),
        ] {
            let wanted = (mode, encode_device(major, minor));
            let made = share
                .fs
                .mknod(&root, &name(child), &device(mode, major, minor));
            assert_eq!(made.map(|entry| told(&entry.attributes)), Ok(wanted));
            assert_eq!(told(&look(&share.fs, child)), wanted);
            // Who never saw it.
            let other = Passthrough::new(share.path("").as_path(), config()).unwrap();
            assert_eq!(told(&look(&other, child)), wanted);
            // Nobody on the host has it.
            let host = fs::symlink_metadata(share.path(child)).unwrap();
            assert_eq!((host.mode(), host.len()), (libc::S_IFREG | 0o1000, 0));
            let mut kept = [0; 100];
            let len = rustix::fs::getxattr(share.path(child), NAME, &mut kept[..]).unwrap();
            assert_eq!(&kept[..len], value.as_bytes());
            // And the name is taken.
            let again = share
                .fs
                .mknod(&root, &name(child), &device(mode, major, minor));
            assert_eq!(again.map(drop), Err(Errno::EXIST));
        }
    });
}

#[test]
fn its_mode_changes_and_its_owner_and_it_goes() {
    inside("its_mode_changes_and_its_owner_and_it_goes", |share| {
        let root = by(&GUEST_ROOT, ROOT);
        let mode = libc::S_IFCHR | 0o600;
        let made = share
            .fs
            .mknod(&root, &name("tty"), &device(mode, 4, 64))
            .unwrap();
        let request = by(&GUEST_ROOT, made.inode);
        let changes = SetAttributes {
            mode: Some(0o660),
            uid: Some(0),
            ..SetAttributes::default()
        };
        let changed = share.fs.setattr(&request, None, &changes).unwrap().0;
        let wanted = (libc::S_IFCHR | 0o660, encode_device(4, 64));
        assert_eq!(told(&changed), wanted);
        assert_eq!(share.fs.access(&request, 6), Ok(()));
        let other = by(&ALICE, made.inode);
        assert_eq!(share.fs.access(&other, 4), Err(Errno::ACCESS));
        share.fs.link(&root, &name("too"), made.inode).unwrap();
        share
            .fs
            .rename(&root, &name("too"), moved_to(ROOT, &name("moved"), 0))
            .unwrap();
        assert_eq!(told(&look(&share.fs, "moved")), wanted);
        share.fs.unlink(&root, &name("tty")).unwrap();
        share.fs.unlink(&root, &name("moved")).unwrap();
        assert!(!share.path("tty").exists() && !share.path("moved").exists());
    });
}

/// What the host has one of, stays one.
#[test]
fn fifos_and_sockets_are_the_hosts() {
    inside("fifos_and_sockets_are_the_hosts", |share| {
        let root = by(&GUEST_ROOT, ROOT);
        for (child, kind) in [("fifo", libc::S_IFIFO), ("socket", libc::S_IFSOCK)] {
            let made = share
                .fs
                .mknod(&root, &name(child), &node(kind | 0o640))
                .unwrap();
            let host = fs::symlink_metadata(share.path(child)).unwrap();
            assert_eq!(host.mode(), kind | 0o640);
            let changes = SetAttributes {
                mode: Some(0o600),
                ..SetAttributes::default()
            };
            let request = by(&GUEST_ROOT, made.inode);
            share.fs.setattr(&request, None, &changes).unwrap();
            let host = fs::symlink_metadata(share.path(child)).unwrap();
            assert_eq!(host.mode(), kind | 0o600);
        }
    });
}

/// Or any user of the guest would have the disk of his choice.
#[test]
fn the_guest_makes_none_of_a_file() {
    inside("the_guest_makes_none_of_a_file", |share| {
        let root = by(&GUEST_ROOT, ROOT);
        let (entry, _) = (share.fs)
            .create(&root, &name("f"), &node(0o666), opening(2, false))
            .unwrap();
        let request = by(&GUEST_ROOT, entry.inode);
        let value = b"0:0:0666:block-254-0";
        let set = share
            .fs
            .setxattr(&request, NAME, &attribute(value, 0, false));
        assert_eq!(set, Err(Errno::OPNOTSUPP));
        let changes = SetAttributes {
            mode: Some(0o1000),
            ..SetAttributes::default()
        };
        let changed = share.fs.setattr(&request, None, &changes).unwrap().0;
        assert_eq!(changed.mode, libc::S_IFREG | 0o1000);
        assert_eq!(look(&share.fs, "f").mode, libc::S_IFREG | 0o1000);
    });
}

/// Such trees are made by others, of whose files nothing is sticky.
#[test]
fn what_the_host_made_is_what_it_is() {
    inside("what_the_host_made_is_what_it_is", |share| {
        let value = b"0:0:0666:block-254-0";
        for (child, mode, contents) in [("f", 0o644, ""), ("g", 0o1000, "some"), ("h", 0o1644, "")]
        {
            let path = share.path(child);
            fs::write(&path, contents).unwrap();
            rustix::fs::setxattr(&path, NAME, value, XattrFlags::CREATE).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(told(&look(&share.fs, child)), (libc::S_IFREG | mode, 0));
        }
        // What has another kind in it is no device.
        let path = share.path("fifo");
        fs::write(&path, "").unwrap();
        rustix::fs::setxattr(&path, NAME, b"0:0:0666:pipe", XattrFlags::CREATE).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o1000)).unwrap();
        assert_eq!(told(&look(&share.fs, "fifo")), (libc::S_IFREG | 0o1000, 0));
    });
}

/// Nor of one that others keep a device in, which whoever owns it may do anything to.
#[test]
fn a_file_that_says_it_is_a_device_never_becomes_one() {
    let test = "a_file_that_says_it_is_a_device_never_becomes_one";
    inside(test, |share| {
        let path = share.path("f");
        fs::write(&path, "").unwrap();
        let value = b"0:0:0660:block-8-0";
        rustix::fs::setxattr(&path, NAME, value, XattrFlags::CREATE).unwrap();
        let root = by(&GUEST_ROOT, ROOT);
        let node = share.fs.lookup(&root, &name("f")).unwrap().inode;
        for mode in [0o1000, 0o7000, 0o1644] {
            let changes = SetAttributes {
                mode: Some(mode),
                ..SetAttributes::default()
            };
            let changed = share.fs.setattr(&by(&GUEST_ROOT, node), None, &changes);
            assert_eq!(changed.map(drop), Err(Errno::PERM), "{mode:o}");
        }
        let changes = SetAttributes {
            mode: Some(0o600),
            ..SetAttributes::default()
        };
        let changed = share.fs.setattr(&by(&GUEST_ROOT, node), None, &changes);
        assert_eq!(changed.unwrap().0.mode, libc::S_IFREG | 0o600);
    });
}

#[test]
fn what_somebody_else_put_in_its_place_is_no_device() {
    let test = "what_somebody_else_put_in_its_place_is_no_device";
    inside(test, |share| {
        let path = share.path("f");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o1000)).unwrap();
        let file = rustix::fs::open(&path, OFlags::PATH, Mode::empty()).unwrap();
        let host = Stat::of(&file).unwrap();
        for (uid, kind) in [(1234, libc::S_IFREG | 0o1000), (0, libc::S_IFBLK | 0o660)] {
            let device = Seen {
                uid,
                gid: 0,
                mode: libc::S_IFBLK | 0o660,
                device: (8, 0),
            };
            share.fs.keep_device(&file, &host, &device).unwrap();
            // Whoever had looked at it before took it for a file.
            let other = Passthrough::new(share.path("").as_path(), config()).unwrap();
            assert_eq!(look(&other, "f").mode, kind, "{uid}");
        }
    });
}

/// An ACL would change the mode by which the host's file is known.
#[test]
fn a_device_has_no_acl() {
    unshared("-r", "kept_devices::a_device_has_no_acl", || {
        let acls = Config {
            posix_acl: true,
            ..config()
        };
        let share = Share::with(acls);
        share.fs.init(Agreement {
            posix_acl: true,
            dont_mask: true,
            ..Agreement::default()
        });
        let root = by(&GUEST_ROOT, ROOT);
        let directory = share.fs.mkdir(&root, &name("d"), &node(0o755)).unwrap();
        let below = by(&GUEST_ROOT, directory.inode);
        let plain = acl([(0x01, 6), (0x04, 2), (0x20, 4)]);
        let set = attribute(&plain, 0, false);
        share.fs.setxattr(&below, DEFAULT, &set).unwrap();
        let new = NewNode {
            umask: 0o077,
            ..device(libc::S_IFCHR | 0o666, 1, 3)
        };
        // The default takes the place of the umask.
        let made = share.fs.mknod(&below, &name("null"), &new).unwrap();
        let wanted = (libc::S_IFCHR | 0o624, encode_device(1, 3));
        assert_eq!(told(&made.attributes), wanted);
        let request = by(&GUEST_ROOT, made.inode);
        let nothing = || {
            assert_eq!(share.fs.getxattr(&request, ACCESS, 0), Err(Errno::NODATA));
            assert_eq!(share.fs.listxattr(&request, 0).as_deref(), Ok(&[][..]));
        };
        nothing();
        // What a mode cannot say nobody may.
        let whole = acl([(0x01, 6), (0x02, 4), (0x04, 7), (0x10, 6), (0x20, 6)]);
        let set = attribute(&whole, 0, false);
        share.fs.setxattr(&below, DEFAULT, &set).unwrap();
        let zero = share.fs.mknod(&below, &name("zero"), &new).unwrap();
        assert_eq!(zero.attributes.mode, libc::S_IFCHR | 0o644);
        let inherited = share.fs.getxattr(&by(&GUEST_ROOT, zero.inode), ACCESS, 0);
        assert_eq!(inherited, Err(Errno::NODATA));
        for called in [ACCESS, DEFAULT] {
            let refused = share.fs.setxattr(&request, called, &set);
            assert_eq!(refused, Err(Errno::OPNOTSUPP), "{called:?}");
        }
        nothing();
        // One that says what a mode does is one.
        let plain = acl([(0x01, 6), (0x04, 4), (0x20, 0)]);
        let set = attribute(&plain, 0, false);
        share.fs.setxattr(&request, ACCESS, &set).unwrap();
        share.fs.removexattr(&request, ACCESS).unwrap();
        nothing();
        let wanted = (libc::S_IFCHR | 0o640, encode_device(1, 3));
        let other = Passthrough::new(share.path("d").as_path(), acls).unwrap();
        assert_eq!(told(&look(&other, "null")), wanted);
    });
}

#[test]
fn a_listing_says_of_files_alone_that_they_are() {
    inside("a_listing_says_of_files_alone_that_they_are", |share| {
        let root = by(&GUEST_ROOT, ROOT);
        for (file, content, mode) in [
            ("empty", "", 0o644),
            ("secret", "", 0),
            ("sticky", "content", 0o1000),
            ("like-one", "", 0o1000),
        ] {
            fs::write(share.path(file), content).unwrap();
            fs::set_permissions(share.path(file), PermissionsExt::from_mode(mode)).unwrap();
        }
        fs::create_dir(share.path("directory")).unwrap();
        let mode = libc::S_IFCHR | 0o600;
        share
            .fs
            .mknod(&root, &name("tty"), &device(mode, 4, 64))
            .unwrap();
        let plain = share.list(ROOT, false, 4096).unwrap();
        let with_entries = share.list(ROOT, true, 4096).unwrap();
        for (file, kind, kind_with_entry) in [
            ("empty", libc::DT_REG, libc::DT_REG),
            ("secret", libc::DT_REG, libc::DT_REG),
            ("sticky", libc::DT_REG, libc::DT_REG),
            ("like-one", libc::DT_UNKNOWN, libc::DT_REG),
            ("directory", libc::DT_DIR, libc::DT_DIR),
            ("tty", libc::DT_UNKNOWN, libc::DT_CHR),
        ] {
            for (listed, kind) in [(&plain, kind), (&with_entries, kind_with_entry)] {
                let entry = listed.iter().find(|entry| entry.name == file).unwrap();
                assert_eq!(entry.kind, u32::from(kind), "{file}");
            }
        }
    });
}

/// Elsewhere it is as ever.
#[test]
fn with_other_owners_there_are_none() {
    unshared(
        "-r",
        "kept_devices::with_other_owners_there_are_none",
        || {
            for owners in [Owners::Host, Owners::User] {
                let share = Share::with(Config {
                    owners,
                    ..Config::default()
                });
                let root = by(&GUEST_ROOT, ROOT);
                let made = share
                    .fs
                    .mknod(&root, &name("n"), &device(libc::S_IFCHR | 0o666, 1, 3));
                assert_eq!(made.map(drop), Err(Errno::PERM), "{owners:?}");
                assert!(!share.path("n").exists());
            }
        },
    );
}
