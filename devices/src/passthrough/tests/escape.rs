//! Ways out of the share that must not be.

use std::os::unix::fs::MetadataExt;

use rustix::io::Errno;

use super::fixture::operations::*;
use super::fixture::{GUEST_ROOT, Share, attribute, by, c, moved_to, name, names, node, opening};
use crate::filesystem::ROOT;
use crate::passthrough::{CachePolicy, Config};

/// A share with a secret beside it.
fn beside_a_secret() -> Share {
    let share = Share::new();
    std::fs::write(share.outside().join("secret"), b"secret").unwrap();
    share
}

#[test]
fn names_of_more_than_one_component_are_refused_everywhere() {
    let share = beside_a_secret();
    let (file, _) = share.create(ROOT, "f").unwrap();
    let fs = &share.fs;
    for bad in [
        c"..",
        c".",
        c"",
        c"../secret",
        c"/etc/passwd",
        c"f/",
        c"d/f",
    ] {
        let who = &GUEST_ROOT;
        let good = c"good";
        let outcomes = [
            fs.lookup(&by(who, ROOT), bad).map(drop),
            fs.mkdir(&by(who, ROOT), bad, &node(0o755)).map(drop),
            fs.mknod(&by(who, ROOT), bad, &node(0o644)).map(drop),
            fs.symlink(&by(who, ROOT), bad, good).map(drop),
            fs.create(&by(who, ROOT), bad, &node(0o644), opening(0, false))
                .map(drop),
            fs.link(&by(who, ROOT), bad, file.inode).map(drop),
            fs.unlink(&by(who, ROOT), bad),
            fs.rmdir(&by(who, ROOT), bad),
            fs.rename(&by(who, ROOT), bad, moved_to(ROOT, good, 0)),
            fs.rename(&by(who, ROOT), c"f", moved_to(ROOT, bad, 0)),
        ];
        assert_eq!(outcomes, [Err(Errno::INVAL); 10], "for {bad:?}");
    }
    assert_eq!(names(&share.list(ROOT, false, 4096).unwrap()), ["f"]);
    assert!(share.outside().join("secret").exists());
}

#[test]
fn a_symbolic_link_is_never_followed() {
    let share = beside_a_secret();
    std::os::unix::fs::symlink("../secret", share.path("file")).unwrap();
    std::os::unix::fs::symlink("..", share.path("directory")).unwrap();
    let file = share.walk("file").unwrap();
    let directory = share.walk("directory").unwrap();
    let fs = &share.fs;

    let kind = share.attributes(file).unwrap().mode & libc::S_IFMT;
    assert_eq!(kind, libc::S_IFLNK);
    assert_eq!(share.contents(file), Err(Errno::LOOP));
    assert_eq!(
        share.lookup(directory, "secret").map(drop),
        Err(Errno::NOTDIR)
    );
    assert_eq!(
        fs.opendir(&by(&GUEST_ROOT, directory)).map(drop),
        Err(Errno::NOTDIR)
    );
    assert_eq!(share.mkdir(directory, "new").map(drop), Err(Errno::NOTDIR));
    let flags = libc::O_RDWR | libc::O_TRUNC;
    let created = fs.create(
        &by(&GUEST_ROOT, ROOT),
        c(b"file\0"),
        &node(0o644),
        opening(flags.cast_unsigned(), false),
    );
    assert_eq!(created.map(drop), Err(Errno::LOOP));
    let secret = std::fs::read(share.outside().join("secret")).unwrap();
    assert_eq!(secret, b"secret");
}

#[test]
fn attributes_set_on_a_symbolic_link_stay_on_it() {
    let share = beside_a_secret();
    std::os::unix::fs::symlink("../secret", share.path("l")).unwrap();
    let link = share.walk("l").unwrap();
    let before = std::fs::metadata(share.outside().join("secret")).unwrap();
    // Only the privileged may give files away, and mark symbolic links.
    let owner = if share.fs.keeps_owners() {
        12
    } else {
        before.uid()
    };
    let changes = crate::filesystem::SetAttributes {
        uid: Some(owner),
        mtime: Some(crate::filesystem::SetTime::At(
            crate::filesystem::Timestamp::default(),
        )),
        ..Default::default()
    };
    let mode = crate::filesystem::SetAttributes {
        mode: Some(0o777),
        ..Default::default()
    };
    let size = crate::filesystem::SetAttributes {
        size: Some(0),
        ..Default::default()
    };
    let set = |changes| share.fs.setattr(&by(&GUEST_ROOT, link), None, changes);

    let told = set(&changes).unwrap().0;

    assert_eq!((told.uid, told.mtime.seconds), (owner, 0));
    assert_eq!(set(&mode).map(drop), Err(Errno::OPNOTSUPP));
    assert_eq!(set(&size).map(drop), Err(Errno::INVAL));
    let xattr = share
        .fs
        .setxattr(
            &by(&GUEST_ROOT, link),
            c"trusted.x",
            &attribute(b"1", 0, false),
        )
        .and_then(|()| share.fs.listxattr(&by(&GUEST_ROOT, link), 100));
    let marked = if share.fs.keeps_owners() {
        Ok(b"trusted.x\0".to_vec())
    } else {
        Err(Errno::PERM)
    };
    assert_eq!(xattr, marked);
    let after = std::fs::metadata(share.outside().join("secret")).unwrap();
    assert_eq!(after.modified().unwrap(), before.modified().unwrap());
    assert_eq!(after.permissions(), before.permissions());
    let mut none = [0; 100];
    let secret = share.outside().join("secret");
    assert_eq!(
        rustix::fs::getxattr(secret, "trusted.x", &mut none[..]),
        Err(Errno::NODATA)
    );
}

#[test]
fn a_file_replaced_by_a_link_between_lookup_and_open_is_not_followed() {
    let share = beside_a_secret();
    std::fs::write(share.path("f"), b"mine").unwrap();
    let inode = share.walk("f").unwrap();
    std::fs::remove_file(share.path("f")).unwrap();
    std::os::unix::fs::symlink("../secret", share.path("f")).unwrap();

    assert_eq!(share.contents(inode), Err(Errno::STALE));
    assert_eq!(share.contents(inode), Err(Errno::STALE));
    assert_eq!(share.contents(share.walk("f").unwrap()), Err(Errno::LOOP));
}

#[test]
fn a_let_go_inode_replaced_by_a_link_is_stale() {
    for handles in [false, true] {
        let share = Share::cramped(handles);
        std::fs::write(share.outside().join("secret"), b"secret").unwrap();
        std::fs::create_dir(share.path("d")).unwrap();
        std::fs::write(share.path("d/secret"), b"mine").unwrap();
        let directory = share.walk("d").unwrap();
        let file = share.lookup(directory, "secret").unwrap().inode;
        for n in 0..200 {
            std::fs::write(share.path(&n.to_string()), b"").unwrap();
            share.walk(&n.to_string()).unwrap();
        }
        std::fs::remove_dir_all(share.path("d")).unwrap();
        std::os::unix::fs::symlink("..", share.path("d")).unwrap();

        let outcome = share.contents(file);

        assert_eq!(outcome, Err(Errno::STALE), "with handles: {handles}");
    }
}

#[test]
fn a_directory_moved_out_is_stale_with_all_below_it() {
    let share = beside_a_secret();
    std::fs::create_dir_all(share.path("d/below/deep")).unwrap();
    std::fs::write(share.path("d/below/f"), b"f").unwrap();
    std::fs::write(share.path("mine"), b"").unwrap();
    let directory = share.walk("d").unwrap();
    let below = share.walk("d/below").unwrap();
    let file = share.walk("d/below/f").unwrap();
    let (fs, who) = (&share.fs, &GUEST_ROOT);
    let listing = fs.opendir(&by(who, below)).unwrap();
    let moved = share.outside().join("moved");
    std::fs::rename(share.path("d"), &moved).unwrap();
    std::fs::write(moved.join("below/later"), b"secret").unwrap();

    for inode in [directory, below] {
        let outcomes = [
            fs.lookup(&by(who, inode), c"later").map(drop),
            fs.lookup(&by(who, inode), c"f").map(drop),
            fs.opendir(&by(who, inode)).map(drop),
            fs.mkdir(&by(who, inode), c"new", &node(0o755)).map(drop),
            fs.create(&by(who, inode), c"new", &node(0o644), opening(0, false))
                .map(drop),
            fs.link(&by(who, inode), c"new", file).map(drop),
            fs.unlink(&by(who, inode), c"f"),
            fs.rmdir(&by(who, inode), c"deep"),
            fs.rename(&by(who, inode), c"f", moved_to(ROOT, c"f", 0)),
            fs.rename(&by(who, ROOT), c"mine", moved_to(inode, c"f", 0)),
        ];
        assert_eq!(outcomes, [Err(Errno::STALE); 10]);
        let up = fs.lookup(&by(who, inode), c"..");
        assert!(matches!(up, Err(Errno::INVAL | Errno::STALE)));
    }
    let mut page = super::fixture::Page::new(true, 4096);
    let listed = fs.readdir(&by(who, below), listing.handle, 0, &mut page);
    assert_eq!(listed, Err(Errno::STALE));
    assert_eq!(share.lookup(ROOT, "d").map(drop), Err(Errno::NOENT));
    // Back in the share, wherever, it is served again.
    std::fs::create_dir_all(share.path("x/y")).unwrap();
    std::fs::rename(&moved, share.path("x/y/z")).unwrap();
    assert_eq!(share.lookup(below, "f").unwrap().inode, file);
    assert_eq!(share.lookup(directory, "below").unwrap().inode, below);
}

#[test]
fn directories_are_found_inside_at_any_depth() {
    let share = Share::large(Config {
        cache: CachePolicy::Never,
        ..Config::default()
    });
    let mut at = ROOT;
    // More levels than one path can go up.
    for _ in 0..1500 {
        at = share.mkdir(at, "d").unwrap().inode;
    }
    let (file, _) = share.create(at, "f").unwrap();
    let other = share.mkdir(ROOT, "e").unwrap().inode;
    let (d, top) = (name("d"), share.walk("d").unwrap());

    share
        .fs
        .rename(&by(&GUEST_ROOT, ROOT), &d, moved_to(other, &d, 0))
        .unwrap();

    assert_eq!(share.lookup(at, "f").unwrap().inode, file.inode);
    assert!(share.lookup(top, "d").is_ok());
    // The standard library cannot name the bottom of it; rm goes step by step.
    let mut rm = std::process::Command::new("rm");
    let removed = rm.arg("-rf").arg(share.path("e")).status();
    assert!(removed.unwrap().success());
}

#[test]
fn the_root_does_not_tell_what_is_above_it() {
    let share = Share::new();

    let listed = share.list(ROOT, true, 4096).unwrap();

    let root = share.attributes(ROOT).unwrap().ino;
    let dots: Vec<_> = listed.iter().map(|l| (l.name.as_str(), l.ino)).collect();
    assert_eq!(dots.len(), 2);
    assert!(dots.contains(&(".", root)) && dots.contains(&("..", root)));
}

#[test]
fn a_host_fifo_put_in_the_place_of_a_file_does_not_block() {
    let share = Share::new();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        share.path("f"),
        rustix::fs::FileType::Fifo,
        0o644.into(),
        0,
    )
    .unwrap();
    let flags = (libc::O_WRONLY | libc::O_TRUNC).cast_unsigned();

    let created = share.fs.create(
        &by(&GUEST_ROOT, ROOT),
        &name("f"),
        &node(0o644),
        opening(flags, false),
    );

    assert_eq!(created.map(drop), Err(Errno::NXIO));
    let fifo = share.walk("f").unwrap();
    let size = crate::filesystem::SetAttributes {
        size: Some(0),
        ..Default::default()
    };
    let set = share.fs.setattr(&by(&GUEST_ROOT, fifo), None, &size);
    assert_eq!(set.map(drop), Err(Errno::INVAL));
}
