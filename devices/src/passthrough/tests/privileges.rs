//! Set-ID bits go when the guest says so, and only then. A process without
//! privileges is no judge of that: its kernel takes them away unasked.

use std::os::unix::fs::PermissionsExt;

use rustix::io::Errno;

use super::fixture::operations::*;
use super::fixture::{GUEST_ROOT, Share, by, opening, writing};
use crate::filesystem::{
    Agreement, Caller, CopyFileRangeArgs, FallocateArgs, NodeId, ROOT, SetAttributes, WriteArgs,
};

const USER: Caller = Caller {
    uid: 7,
    ..GUEST_ROOT
};

/// The mode of a file with both bits after `act`.
fn after(act: impl FnOnce(&Share, NodeId)) -> u32 {
    let share = Share::new();
    std::fs::write(share.path("f"), b"text").unwrap();
    let bits = std::fs::Permissions::from_mode(0o6755);
    std::fs::set_permissions(share.path("f"), bits).unwrap();
    let node = share.walk("f").unwrap();
    act(&share, node);
    // INIT may have made the guest forget it.
    let node = share.walk("f").unwrap();
    let mode = share.attributes(node).unwrap().mode & 0o7777;
    match share.fs.keeps_owners() {
        true => mode,
        false => mode & 0o777,
    }
}

/// What is expected of a file that keeps its bits, or does not.
fn mode(kept: bool) -> u32 {
    match kept && Share::new().fs.keeps_owners() {
        true => 0o6755,
        false => 0o755,
    }
}

#[test]
fn opening_clears_them_where_it_truncates_and_is_asked_to() {
    for truncates in [false, true] {
        for asked in [false, true] {
            let flags = libc::O_WRONLY | if truncates { libc::O_TRUNC } else { 0 };
            let args = opening(flags.cast_unsigned(), asked);
            let file = |share: &Share, node| {
                share.fs.open(&by(&GUEST_ROOT, node), args).unwrap();
            };
            let name = |share: &Share, _| {
                let root = by(&GUEST_ROOT, ROOT);
                let new = super::fixture::node(0o644);
                share.fs.create(&root, c"f", &new, args).unwrap();
            };
            let expected = mode(!(truncates && asked));
            assert_eq!(after(file), expected, "{truncates} {asked}");
            assert_eq!(after(name), expected, "{truncates} {asked}");
        }
    }
}

#[test]
fn a_change_of_the_size_clears_them_when_asked_to() {
    for asked in [false, true] {
        let size = SetAttributes {
            size: Some(2),
            kill_privileges: asked,
            ..SetAttributes::default()
        };
        let act = |share: &Share, node| {
            share
                .fs
                .setattr(&by(&GUEST_ROOT, node), None, &size)
                .unwrap();
        };
        assert_eq!(after(act), mode(!asked));
    }
}

#[test]
fn a_size_that_a_file_cannot_have_leaves_them() {
    let size = SetAttributes {
        size: Some(1 << 63),
        kill_privileges: true,
        ..SetAttributes::default()
    };
    let act = |share: &Share, node| {
        let refused = share.fs.setattr(&by(&GUEST_ROOT, node), None, &size);
        refused.unwrap_err();
    };
    assert_eq!(after(act), mode(true));
}

#[test]
fn preallocation_clears_them_where_the_server_is_to_see_to_it() {
    for agreed in [false, true] {
        for uid in [0, 7] {
            let act = |share: &Share, _| {
                share.fs.init(Agreement {
                    kill_privileges: agreed,
                    ..Agreement::default()
                });
                let node = share.walk("f").unwrap();
                let opened = share.open(node, libc::O_WRONLY).unwrap();
                let args = FallocateArgs {
                    handle: opened.handle,
                    mode: 0,
                    offset: 0,
                    length: 8192,
                };
                let caller = Caller { uid, ..GUEST_ROOT };
                share.fs.fallocate(&by(&caller, node), &args).unwrap();
            };
            assert_eq!(after(act), mode(!agreed || uid == 0), "{agreed} {uid}");
        }
    }
}

#[test]
fn preallocation_that_the_host_refuses_leaves_them() {
    let act = |share: &Share, _| {
        share.fs.init(Agreement {
            kill_privileges: true,
            ..Agreement::default()
        });
        let node = share.walk("f").unwrap();
        let opened = share.open(node, libc::O_WRONLY).unwrap();
        let args = FallocateArgs {
            handle: opened.handle,
            mode: 0x8000,
            offset: 0,
            length: 8192,
        };
        let refused = share.fs.fallocate(&by(&USER, node), &args);
        assert_eq!(refused, Err(Errno::OPNOTSUPP));
    };
    assert_eq!(after(act), mode(true));
}

#[test]
fn what_cannot_be_a_part_of_a_file_takes_nothing_away() {
    const LAST: u64 = i64::MAX.cast_unsigned();
    for (offset, length) in [(0, 0), (LAST, 1), (1 << 63, 1), (u64::MAX, 4)] {
        let preallocate = |share: &Share, node| {
            let opened = share.open(node, libc::O_WRONLY).unwrap();
            let args = FallocateArgs {
                handle: opened.handle,
                mode: 0,
                offset,
                length,
            };
            let outcome = share.fs.fallocate(&by(&USER, node), &args);
            assert!(outcome.is_err(), "{offset} {length}");
        };
        let write = |share: &Share, node| {
            let opened = share.open(node, libc::O_WRONLY).unwrap();
            let data = &b"data"[..usize::try_from(length).unwrap()];
            let args = WriteArgs {
                kill_privileges: true,
                ..writing(opened.handle, offset, data, 0)
            };
            let outcome = share.write_with(node, data, &args);
            assert_eq!(outcome.unwrap_or(0), 0, "{offset} {length}");
        };
        let copy = |share: &Share, node| {
            let opened = share.open(node, libc::O_RDWR).unwrap();
            let args = CopyFileRangeArgs {
                handle: opened.handle,
                offset: 0,
                to_node: node,
                to_handle: opened.handle,
                to_offset: offset,
                length,
                flags: 0,
            };
            let outcome = share.fs.copy_file_range(&by(&USER, node), &args);
            assert_eq!(outcome.unwrap_or(0), 0, "{offset} {length}");
        };
        assert_eq!(after(preallocate), mode(true), "{offset} {length}");
        assert_eq!(after(write), mode(true), "{offset} {length}");
        assert_eq!(after(copy), mode(true), "{offset} {length}");
    }
}
