//! What is synced, when, and what a sync that fails does.

use std::path::Path;

use rustix::io::Errno;

use super::fixture::operations::*;
use super::fixture::{GUEST_ROOT, Share, by, node, opening, writing};
use crate::filesystem::{ROOT, WriteArgs};
use crate::passthrough::durability::Durability::{self, All, Data, FileSystem};
use crate::passthrough::durability::recorded;
use crate::passthrough::{Config, Passthrough};

#[test]
fn fsync_takes_the_attributes_along_unless_told_not_to() {
    let share = Share::new();
    let (entry, opened) = share.create(ROOT, "f").unwrap();
    let directory = share.mkdir(ROOT, "d").unwrap();
    let listing = share.fs.opendir(&by(&GUEST_ROOT, directory.inode)).unwrap();
    let (file, directory) = (
        by(&GUEST_ROOT, entry.inode),
        by(&GUEST_ROOT, directory.inode),
    );
    recorded::syncs();

    for (data_only, expected) in [(false, All), (true, Data)] {
        share.fs.fsync(&file, opened.handle, data_only).unwrap();
        assert_eq!(recorded::syncs(), [expected]);
        share
            .fs
            .fsyncdir(&directory, listing.handle, data_only)
            .unwrap();
        assert_eq!(recorded::syncs(), [expected]);
        share.fs.fsyncdir(&directory, 0, data_only).unwrap();
        assert_eq!(recorded::syncs(), [expected]);
    }
}

#[test]
fn a_sync_that_fails_is_told() {
    let share = Share::new();
    let (entry, opened) = share.create(ROOT, "f").unwrap();
    let directory = share.mkdir(ROOT, "d").unwrap();
    let file = by(&GUEST_ROOT, entry.inode);

    recorded::fail(Errno::IO);
    let outcome = share.fs.fsync(&file, opened.handle, false);
    assert_eq!(outcome, Err(Errno::IO));
    recorded::fail(Errno::NOSPC);
    let directory = by(&GUEST_ROOT, directory.inode);
    assert_eq!(share.fs.fsyncdir(&directory, 0, true), Err(Errno::NOSPC));
    recorded::fail(Errno::DQUOT);
    let synced = writing(opened.handle, 0, b"x", libc::O_SYNC);
    let outcome = share.write_with(entry.inode, b"x", &synced);
    assert_eq!(outcome, Err(Errno::DQUOT));
}

/// What was synced by a write with `flags` to a file opened with `opened`.
fn synced_by(flags: i32, opened: i32, from_cache: bool) -> Vec<Durability> {
    let share = Share::new();
    std::fs::write(share.path("f"), b"old").unwrap();
    let inode = share.walk("f").unwrap();
    let opened = share.fs.open(
        &by(&GUEST_ROOT, inode),
        opening((libc::O_RDWR | opened).cast_unsigned(), false),
    );
    let args = WriteArgs {
        from_cache,
        ..writing(opened.unwrap().handle, 0, b"new", libc::O_RDWR | flags)
    };
    recorded::syncs();
    share.write_with(inode, b"new", &args).unwrap();
    recorded::syncs()
}

#[test]
fn a_synchronous_write_is_on_the_disk_before_its_answer() {
    for from_cache in [false, true] {
        assert_eq!(synced_by(0, 0, from_cache), []);
        assert_eq!(synced_by(libc::O_DSYNC, 0, from_cache), [Data]);
        assert_eq!(synced_by(libc::O_SYNC, 0, from_cache), [All]);
        // The host's file does it by itself.
        assert_eq!(synced_by(libc::O_SYNC, libc::O_SYNC, from_cache), []);
    }
}

#[test]
fn a_file_opened_to_be_synchronous_is_so_on_the_host() {
    let share = Share::new();
    let (entry, _) = share.create(ROOT, "f").unwrap();
    for flag in [libc::O_DSYNC, libc::O_SYNC] {
        let opened = share.open(entry.inode, libc::O_RDWR | flag).unwrap();
        let open = share.fs.handles.get(entry.inode, opened.handle).unwrap();
        let host = rustix::fs::fcntl_getfl(open.host()).unwrap().bits();
        assert_eq!(host & flag.cast_unsigned(), flag.cast_unsigned());
    }
}

#[test]
fn the_guest_can_sync_all_of_the_share() {
    for file_handles in [true, false] {
        let share = Share::with(Config {
            file_handles,
            ..Config::default()
        });
        let directory = share.mkdir(ROOT, "d").unwrap().inode;
        recorded::syncs();

        for node in [ROOT, directory] {
            assert_eq!(share.fs.syncfs(&by(&GUEST_ROOT, node)), Ok(()));
            assert_eq!(recorded::syncs(), [FileSystem]);
        }
        recorded::fail(Errno::IO);
        assert_eq!(share.fs.syncfs(&by(&GUEST_ROOT, ROOT)), Err(Errno::IO));
        assert_eq!(
            share.fs.syncfs(&by(&GUEST_ROOT, u64::MAX)),
            Err(Errno::STALE)
        );
    }
}

/// A daemon behind FUSE may store files and still say that it has no blocks.
#[test]
fn a_file_system_without_blocks_is_synced_too() {
    let fs = Passthrough::new(Path::new("/proc/sys/kernel"), Config::default()).unwrap();
    let request = by(&GUEST_ROOT, ROOT);
    assert!(fs.mkdir(&request, c"d", &node(0o755)).is_err());
    recorded::syncs();

    assert_eq!(fs.syncfs(&request), Ok(()));
    assert_eq!(recorded::syncs(), [FileSystem]);
}

#[test]
fn what_nobody_changed_is_not_synced() {
    let share = Share::new();
    std::fs::write(share.path("f"), "text").unwrap();
    let node = share.walk("f").unwrap();
    share.contents(node).unwrap();
    recorded::syncs();
    let synced = || {
        share.fs.syncfs(&by(&GUEST_ROOT, ROOT)).unwrap();
        recorded::syncs().len()
    };

    assert_eq!(synced(), 0);
    let opened = share.open(node, libc::O_RDWR).unwrap();
    share.write(node, opened.handle, 0, b"more").unwrap();
    assert_eq!([synced(), synced()], [1, 1]);

    let share = Share::with(Config {
        read_only: true,
        ..Config::default()
    });
    assert_eq!(share.mkdir(ROOT, "d").map(drop), Err(Errno::ROFS));
    assert_eq!(share.fs.syncfs(&by(&GUEST_ROOT, ROOT)), Ok(()));
    assert_eq!(recorded::syncs(), []);
}
