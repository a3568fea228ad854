//! Names and nodes: looked up, made, linked, moved, removed, forgotten.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use rustix::io::Errno;

use super::fixture::operations::*;
use super::fixture::{GUEST_ROOT, Share, by, moved_to, name, node};
use crate::filesystem::{Agreement, NewNode, ROOT};
use crate::passthrough::{CachePolicy, Config, Error, Passthrough};

#[test]
fn the_attributes_of_an_entry_are_those_of_the_host() {
    let share = Share::new();
    std::fs::write(share.path("f"), vec![1; 5000]).unwrap();
    let host = std::fs::metadata(share.path("f")).unwrap();

    let told = share.lookup(ROOT, "f").unwrap().attributes;

    assert_eq!(
        (told.ino, told.size, told.blocks, told.mode, told.nlink),
        (host.ino(), 5000, host.blocks(), host.mode(), 1)
    );
    assert_eq!((told.uid, told.gid), (host.uid(), host.gid()));
    assert_eq!(told.mtime.seconds, host.mtime());
    assert_eq!(i64::from(told.mtime.nanoseconds), host.mtime_nsec());
    assert!(!told.submount);
}

#[test]
fn one_node_has_one_number_by_whatever_name() {
    let share = Share::new();
    std::fs::write(share.path("a"), b"").unwrap();
    std::fs::hard_link(share.path("a"), share.path("b")).unwrap();

    assert_eq!(share.walk("a"), share.walk("b"));
}

#[test]
fn a_missing_name_may_be_remembered_only_when_everything_is_cached() {
    let share = Share::new();
    let always = Share::with(Config {
        cache: CachePolicy::Always,
        ..Config::default()
    });

    assert_eq!(share.lookup(ROOT, "x").map(|_| ()), Err(Errno::NOENT));
    let entry = always.lookup(ROOT, "x").unwrap();
    assert_eq!(entry.inode, 0);
    assert!(!entry.entry_timeout.is_zero());
}

#[test]
fn an_inode_goes_with_its_last_reference_and_its_number_never_comes_back() {
    let share = Share::new();
    std::fs::write(share.path("f"), b"").unwrap();
    let held = share.fs.descriptor_count();
    let first = share.walk("f").unwrap();
    let again = share.walk("f").unwrap();

    share.fs.forget(first, 1);
    let still = share.attributes(first).map(|_| ());
    share.fs.forget(first, 1);

    assert_eq!((first, still), (again, Ok(())));
    assert_eq!(share.attributes(first), Err(Errno::STALE));
    assert_eq!(share.fs.inode_count(), 0);
    assert_eq!(share.fs.descriptor_count(), held);
    assert_ne!(share.walk("f").unwrap(), first);
}

#[test]
fn hostile_forgets_do_no_harm() {
    let share = Share::new();
    std::fs::write(share.path("f"), b"").unwrap();
    let inode = share.walk("f").unwrap();

    share.fs.forget(ROOT, u64::MAX);
    share.fs.forget(99, 1);
    share.fs.forget(inode, u64::MAX);
    share.fs.forget(inode, 1);

    assert_eq!(share.fs.inode_count(), 0);
    assert!(share.walk("f").is_ok());
}

#[test]
fn lookups_and_forgets_leave_nothing_behind() {
    let share = Share::new();
    for n in 0..50 {
        std::fs::write(share.path(&n.to_string()), b"").unwrap();
    }
    let held = share.fs.descriptor_count();

    for round in 0..20 {
        for n in 0..50 {
            let inode = share.walk(&n.to_string()).unwrap();
            share.fs.forget(inode, 1);
        }
        let listed = share.list(ROOT, true, 4096).unwrap();
        for entry in listed.iter().filter_map(|l| l.entry) {
            share.fs.forget(entry.inode, 1);
        }
        assert_eq!(share.fs.inode_count(), 0, "in round {round}");
    }

    assert_eq!(share.fs.descriptor_count(), held);
    assert_eq!(share.fs.open_count(), 0);
}

#[test]
fn destroy_takes_everything_back_and_the_share_serves_again() {
    let share = Share::new();
    let (entry, opened) = share.create(ROOT, "f").unwrap();

    share.fs.destroy();

    assert_eq!(share.attributes(entry.inode), Err(Errno::STALE));
    assert_eq!(
        share.read(entry.inode, opened.handle, 0, 1),
        Err(Errno::BADF)
    );
    assert_eq!((share.fs.inode_count(), share.fs.open_count()), (0, 0));
    share.fs.init(Agreement::default());
    assert_ne!(share.walk("f").unwrap(), entry.inode);
}

#[test]
fn every_kind_of_node_is_made_with_exactly_the_mode_asked() {
    let share = Share::new();
    let fs = &share.fs;
    let mknod = |child, mode, rdev| {
        let new = NewNode {
            mode,
            umask: 0o077,
            rdev,
        };
        fs.mknod(&by(&GUEST_ROOT, ROOT), &name(child), &new)
    };

    // The umask in the request was applied by the guest; the process's own
    // must not be applied by the host.
    let directory = fs
        .mkdir(&by(&GUEST_ROOT, ROOT), &name("d"), &node(0o1777))
        .unwrap();
    let file = mknod("f", libc::S_IFREG | 0o666, 0).unwrap();
    let fifo = mknod("p", libc::S_IFIFO | 0o622, 0).unwrap();
    let socket = mknod("s", libc::S_IFSOCK | 0o777, 0).unwrap();
    let untyped = mknod("u", 0o600, 0).unwrap();
    let link = fs
        .symlink(&by(&GUEST_ROOT, ROOT), &name("l"), &name("../over/there"))
        .unwrap();

    assert_eq!(directory.attributes.mode, libc::S_IFDIR | 0o1777);
    assert_eq!(file.attributes.mode, libc::S_IFREG | 0o666);
    assert_eq!(fifo.attributes.mode, libc::S_IFIFO | 0o622);
    assert_eq!(socket.attributes.mode, libc::S_IFSOCK | 0o777);
    assert_eq!(untyped.attributes.mode, libc::S_IFREG | 0o600);
    assert_eq!(
        fs.readlink(&by(&GUEST_ROOT, link.inode)).unwrap(),
        b"../over/there"
    );
    assert_eq!(fs.readlink(&by(&GUEST_ROOT, file.inode)), Err(Errno::INVAL));
    let host = std::fs::symlink_metadata(share.path("p")).unwrap();
    assert!(host.file_type().is_fifo());
    assert_eq!(
        mknod("x", libc::S_IFDIR | 0o777, 0).map(|_| ()),
        Err(Errno::PERM)
    );
    assert_eq!(
        mknod("x", libc::S_IFLNK | 0o777, 0).map(|_| ()),
        Err(Errno::INVAL)
    );
}

#[test]
fn the_umask_counts_when_that_was_agreed() {
    let share = Share::new();
    share.fs.init(Agreement {
        dont_mask: true,
        ..Agreement::default()
    });
    let new = NewNode {
        mode: 0o777,
        umask: 0o027,
        rdev: 0,
    };

    let made = share
        .fs
        .mkdir(&by(&GUEST_ROOT, ROOT), &name("d"), &new)
        .unwrap();

    assert_eq!(made.attributes.mode & 0o7777, 0o750);
}

#[test]
fn device_numbers_survive_the_way_there_and_back() {
    use crate::passthrough::attributes::encode_device;
    use crate::passthrough::create::decode_device;
    let device = rustix::fs::makedev(0xabc, 0x12345);

    let told = encode_device(0xabc, 0x12345);

    // new_encode_dev: minor 0x45, major << 8, rest of the minor << 12.
    assert_eq!(told, 0x45 | 0xabc << 8 | 0x12300 << 12);
    let (major, minor) = decode_device(told);
    assert_eq!(rustix::fs::makedev(major, minor), device);
}

#[test]
fn links_are_made_to_files_and_to_symbolic_links_themselves() {
    let share = Share::new();
    let (file, _) = share.create(ROOT, "f").unwrap();
    std::os::unix::fs::symlink("f", share.path("l")).unwrap();
    let link = share.walk("l").unwrap();
    let directory = share.mkdir(ROOT, "d").unwrap();
    let make = |inode, to| share.fs.link(&by(&GUEST_ROOT, ROOT), &name(to), inode);

    let hard = make(file.inode, "f2").unwrap();
    let hard_link = make(link, "l2").unwrap();

    assert_eq!((hard.inode, hard.attributes.nlink), (file.inode, 2));
    assert_eq!(hard_link.inode, link);
    assert!(share.path("l2").symlink_metadata().unwrap().is_symlink());
    assert_eq!(make(file.inode, "f2").map(|_| ()), Err(Errno::EXIST));
    assert_eq!(make(directory.inode, "d2").map(|_| ()), Err(Errno::PERM));
}

#[test]
fn removal_takes_the_right_kind_only() {
    let share = Share::new();
    let directory = share.mkdir(ROOT, "d").unwrap();
    share.create(directory.inode, "f").unwrap();
    let fs = &share.fs;
    let (d, f) = (name("d"), name("f"));

    assert_eq!(fs.unlink(&by(&GUEST_ROOT, ROOT), &d), Err(Errno::ISDIR));
    assert_eq!(fs.rmdir(&by(&GUEST_ROOT, ROOT), &d), Err(Errno::NOTEMPTY));
    assert_eq!(
        fs.rmdir(&by(&GUEST_ROOT, directory.inode), &f),
        Err(Errno::NOTDIR)
    );
    assert_eq!(fs.unlink(&by(&GUEST_ROOT, directory.inode), &f), Ok(()));
    assert_eq!(fs.rmdir(&by(&GUEST_ROOT, ROOT), &d), Ok(()));
    assert_eq!(fs.rmdir(&by(&GUEST_ROOT, ROOT), &d), Err(Errno::NOENT));
    // The guest's working directory may be one that is gone.
    assert_eq!(share.attributes(directory.inode).unwrap().nlink, 0);
    let orphan = fs.mkdir(&by(&GUEST_ROOT, directory.inode), &d, &node(0o755));
    assert_eq!(orphan.map(|_| ()), Err(Errno::NOENT));
}

#[test]
fn renames_replace_exchange_and_refuse_as_told() {
    let share = Share::new();
    std::fs::write(share.path("a"), b"A").unwrap();
    std::fs::write(share.path("b"), b"B").unwrap();
    let (a, b) = (share.walk("a").unwrap(), share.walk("b").unwrap());
    let rename = |from: &str, to: &str, flags| {
        share.fs.rename(
            &by(&GUEST_ROOT, ROOT),
            &name(from),
            moved_to(ROOT, &name(to), flags),
        )
    };

    assert_eq!(rename("a", "b", libc::RENAME_NOREPLACE), Err(Errno::EXIST));
    assert_eq!(rename("a", "b", libc::RENAME_EXCHANGE), Ok(()));
    assert_eq!((share.walk("a"), share.walk("b")), (Ok(b), Ok(a)));
    assert_eq!(rename("a", "b", 0), Ok(()));
    assert_eq!(share.walk("b"), Ok(b));
    assert_eq!(share.attributes(a).unwrap().nlink, 0);
    assert_eq!(rename("b", "c", 8), Err(Errno::INVAL));
    assert_eq!(rename("nothing", "c", 0), Err(Errno::NOENT));
}

#[test]
fn a_whiteout_takes_the_place_of_what_moved() {
    let share = Share::new();
    std::fs::write(share.path("a"), b"A").unwrap();

    let outcome = share.fs.rename(
        &by(&GUEST_ROOT, ROOT),
        &name("a"),
        moved_to(ROOT, &name("b"), libc::RENAME_WHITEOUT),
    );

    outcome.unwrap();
    let whiteout = share.lookup(ROOT, "a").unwrap().attributes;
    assert_eq!(
        (whiteout.mode & libc::S_IFMT, whiteout.rdev),
        (libc::S_IFCHR, 0)
    );
}

#[test]
fn what_cannot_be_shared_says_why() {
    let share = Share::new();
    std::fs::write(share.path("f"), b"").unwrap();
    let new = |path: &str| Passthrough::new(&share.path(path), Config::default());

    assert!(matches!(new("f"), Err(Error::NotADirectory { .. })));
    assert!(matches!(new("missing"), Err(Error::OpenRoot { .. })));
    std::os::unix::fs::symlink(".", share.path("link")).unwrap();
    let through = new("link").unwrap();
    let root = through.getattr(&by(&GUEST_ROOT, ROOT), None).unwrap().0;
    assert_eq!(root.mode & libc::S_IFMT, libc::S_IFDIR);
}

#[test]
fn statistics_are_those_of_the_host() {
    let share = Share::new();
    let host = rustix::fs::statvfs(share.path("")).unwrap();

    let told = share.fs.statfs(&by(&GUEST_ROOT, ROOT)).unwrap();

    assert_eq!((told.blocks, told.files), (host.f_blocks, host.f_files));
    assert_eq!(
        (told.name_max, u64::from(told.block_size)),
        (255, host.f_bsize)
    );
}
