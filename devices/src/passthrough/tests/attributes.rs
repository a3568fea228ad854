//! Attributes set and asked for.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use rustix::io::Errno;

use super::fixture::operations::*;
use super::fixture::{GUEST_ROOT, Share, by, writing};
use crate::filesystem::{
    Attributes, Caller, FallocateArgs, NodeId, ROOT, Result, SetAttributes, SetTime, SetXattrArgs,
    Timestamp, WriteArgs,
};
use crate::passthrough::{CachePolicy, Config};

fn set(share: &Share, inode: NodeId, changes: &SetAttributes) -> Result<Attributes> {
    Ok(share.fs.setattr(&by(&GUEST_ROOT, inode), None, changes)?.0)
}

#[test]
fn times_are_set_to_the_nanosecond_before_and_after_the_epoch() {
    let share = Share::new();
    let (file, _) = share.create(ROOT, "f").unwrap();
    let at = |seconds, nanoseconds| Timestamp {
        seconds,
        nanoseconds,
    };
    let times = |atime, mtime| SetAttributes {
        atime,
        mtime,
        ..SetAttributes::default()
    };

    let both = times(
        Some(SetTime::At(at(-2, 700_000_001))),
        Some(SetTime::At(at(1 << 32, 5))),
    );
    let told = set(&share, file.inode, &both).unwrap();
    assert_eq!(
        (told.atime, told.mtime),
        (at(-2, 700_000_001), at(1 << 32, 5))
    );

    let now = set(&share, file.inode, &times(None, Some(SetTime::Now))).unwrap();
    assert_eq!(now.atime, at(-2, 700_000_001));
    let host = std::fs::metadata(share.path("f")).unwrap();
    assert_eq!(host.modified().unwrap().elapsed().unwrap().as_secs(), 0);
    // UTIME_NOW and UTIME_OMIT are nanoseconds too, to the system call.
    for special in [1_000_000_000, 0x3fff_ffff, 0x3fff_fffe, u32::MAX] {
        let wrong = times(Some(SetTime::At(at(0, special))), None);
        assert_eq!(set(&share, file.inode, &wrong), Err(Errno::INVAL));
    }
}

#[test]
fn a_mode_is_set_whole_also_with_owner_and_size() {
    let share = Share::new();
    let (file, _) = share.create(ROOT, "f").unwrap();
    let own = share.attributes(file.inode).unwrap();
    let all = SetAttributes {
        mode: Some(libc::S_IFREG | 0o6755),
        uid: Some(own.uid),
        gid: Some(own.gid),
        size: Some(100),
        kill_privileges: true,
        ..SetAttributes::default()
    };

    let told = set(&share, file.inode, &all).unwrap();

    assert_eq!((told.mode & 0o7777, told.size), (0o6755, 100));
}

#[test]
fn privileges_are_dropped_when_asked() {
    let share = Share::new();
    std::fs::write(share.path("f"), b"x").unwrap();
    let mode = |bits| std::fs::set_permissions(share.path("f"), PermissionsExt::from_mode(bits));
    mode(0o6755).unwrap();
    let inode = share.walk("f").unwrap();
    let kill = SetAttributes {
        kill_privileges: true,
        ..SetAttributes::default()
    };

    let told = set(&share, inode, &kill).unwrap();
    mode(0o2745).unwrap();
    // Without group-execute the bit means mandatory locking.
    mode(0o2705).unwrap();
    let locking = set(&share, inode, &kill).unwrap();

    assert_eq!(told.mode & 0o7777, 0o755);
    assert_eq!(locking.mode & 0o7777, 0o2705);
}

#[test]
fn an_owner_that_cannot_be_had_takes_nothing_away() {
    let share = Share::new();
    std::fs::write(share.path("f"), b"x").unwrap();
    let mode = |bits| std::fs::set_permissions(share.path("f"), PermissionsExt::from_mode(bits));
    mode(0o6755).unwrap();
    let inode = share.walk("f").unwrap();
    let owner = |uid| SetAttributes {
        uid: Some(uid),
        kill_privileges: true,
        ..SetAttributes::default()
    };
    let left = || share.attributes(inode).unwrap().mode & 0o7777;

    let refused = set(&share, inode, &owner(u32::MAX));
    assert_eq!(refused.map(drop), Err(Errno::INVAL));
    assert_eq!(left(), 0o6755);

    let own = share.attributes(inode).unwrap().uid;
    assert_eq!(
        set(&share, inode, &owner(own)).unwrap().mode & 0o7777,
        0o755
    );
    assert_eq!(left(), 0o755);
}

#[test]
fn the_owner_minus_one_is_nobody_to_change_to() {
    let share = Share::new();
    let (file, _) = share.create(ROOT, "f").unwrap();
    let uid = SetAttributes {
        uid: Some(u32::MAX),
        ..SetAttributes::default()
    };
    let gid = SetAttributes {
        gid: Some(u32::MAX),
        ..SetAttributes::default()
    };

    assert_eq!(set(&share, file.inode, &uid), Err(Errno::INVAL));
    assert_eq!(set(&share, file.inode, &gid), Err(Errno::INVAL));
}

#[test]
fn a_size_is_for_regular_files() {
    let share = Share::new();
    let directory = share.mkdir(ROOT, "d").unwrap();
    let size = |size| SetAttributes {
        size: Some(size),
        ..SetAttributes::default()
    };
    let (file, _) = share.create(ROOT, "f").unwrap();

    assert_eq!(set(&share, directory.inode, &size(0)), Err(Errno::ISDIR));
    assert_eq!(set(&share, file.inode, &size(u64::MAX)), Err(Errno::INVAL));
    assert_eq!(set(&share, file.inode, &size(77)).unwrap().size, 77);
    assert_eq!(std::fs::metadata(share.path("f")).unwrap().size(), 77);
}

#[test]
fn access_is_judged_for_the_caller() {
    let share = Share::new();
    std::fs::write(share.path("f"), b"").unwrap();
    std::fs::set_permissions(share.path("f"), PermissionsExt::from_mode(0o640)).unwrap();
    let inode = share.walk("f").unwrap();
    let other = Caller {
        uid: 4321,
        gid: 4321,
        ..GUEST_ROOT
    };
    let asked = |caller, mask| share.fs.access(&by(caller, inode), mask);

    assert_eq!(asked(&GUEST_ROOT, 6), Ok(()));
    assert_eq!(asked(&GUEST_ROOT, 1), Err(Errno::ACCESS));
    assert_eq!(asked(&GUEST_ROOT, 8), Err(Errno::INVAL));
    // A process that cannot be somebody else answers for itself.
    let strange = if share.fs.keeps_owners() {
        Err(Errno::ACCESS)
    } else {
        Ok(())
    };
    assert_eq!(asked(&other, 4), strange);
    assert_eq!(asked(&other, 0), Ok(()));
}

#[test]
fn timeouts_follow_the_cache_policy() {
    let timeout = |cache| {
        let share = Share::with(Config {
            cache,
            ..Config::default()
        });
        share.fs.getattr(&by(&GUEST_ROOT, ROOT), None).unwrap().1
    };

    assert_eq!(timeout(CachePolicy::Never), Duration::ZERO);
    assert_eq!(timeout(CachePolicy::Auto), Duration::from_secs(1));
    assert_eq!(timeout(CachePolicy::Metadata), Duration::from_secs(86_400));
    assert_eq!(timeout(CachePolicy::Always), Duration::from_secs(86_400));
}

#[test]
fn the_mode_of_a_file_with_set_id_bits_is_never_kept() {
    for cache in [
        CachePolicy::Never,
        CachePolicy::Metadata,
        CachePolicy::Auto,
        CachePolicy::Always,
    ] {
        for read_only in [false, true] {
            let share = Share::with(Config {
                cache,
                read_only,
                ..Config::default()
            });
            for (mode, kept) in [
                (0o4755, false),
                (0o2755, false),
                (0o2644, true),
                (0o755, true),
            ] {
                std::fs::write(share.path("f"), b"#!").unwrap();
                let bits = std::fs::Permissions::from_mode(mode);
                std::fs::set_permissions(share.path("f"), bits).unwrap();
                let expected = match kept {
                    true => cache.attribute_timeout(),
                    false => Duration::ZERO,
                };
                let entry = share.lookup(ROOT, "f").unwrap();
                assert_eq!(entry.attr_timeout, expected, "{mode:o} {cache:?}");
                assert_eq!(entry.entry_timeout, cache.entry_timeout());
                let request = by(&GUEST_ROOT, entry.inode);
                let (_, timeout) = share.fs.getattr(&request, None).unwrap();
                assert_eq!(timeout, expected, "{mode:o} {cache:?}");
            }
        }
    }
}

/// What overlayfs calls a file while it copies it up.
const COPY: &str = "#1f";

/// The mode after SETATTR of the mode by one caller and of the owner by
/// another, and whether a capability that the first set is still there.
fn after_a_new_owner(
    file: &str,
    giver: Caller,
    chowner: Caller,
    between: impl Fn(&Share, NodeId),
) -> (u32, bool) {
    let share = Share::new();
    std::fs::write(share.path(file), b"x").unwrap();
    let node = share.walk(file).unwrap();
    // Version 2, CAP_NET_RAW permitted.
    let capability = [0, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let set = SetXattrArgs {
        value: &capability,
        flags: 0,
        clear_set_gid: false,
    };
    let name = c"security.capability";
    let given = share.fs.setxattr(&by(&giver, node), name, &set).is_ok();
    let mode = SetAttributes {
        mode: Some(0o6755),
        ..SetAttributes::default()
    };
    share.fs.setattr(&by(&giver, node), None, &mode).unwrap();
    between(&share, node);
    let owner = SetAttributes {
        uid: Some(rustix::process::geteuid().as_raw()),
        gid: Some(rustix::process::getegid().as_raw()),
        kill_privileges: true,
        ..SetAttributes::default()
    };
    let told = share
        .fs
        .setattr(&by(&chowner, node), None, &owner)
        .unwrap()
        .0;
    let kept = share.fs.getxattr(&by(&giver, node), name, 100);
    (
        told.mode & 0o7777,
        !given || kept.is_ok_and(|value| value == capability),
    )
}

#[test]
fn an_owner_given_together_with_set_id_bits_leaves_them() {
    let nothing = |_: &Share, _: NodeId| {};
    let other = |pid, uid| Caller {
        pid,
        uid,
        ..GUEST_ROOT
    };
    assert_eq!(
        after_a_new_owner(COPY, GUEST_ROOT, GUEST_ROOT, nothing),
        (0o6755, true)
    );
    // A copy gets its size in between.
    let sized = |share: &Share, node| {
        let size = SetAttributes {
            size: Some(1),
            ..SetAttributes::default()
        };
        let request = by(&GUEST_ROOT, node);
        share.fs.setattr(&request, None, &size).unwrap();
    };
    assert_eq!(
        after_a_new_owner(COPY, GUEST_ROOT, GUEST_ROOT, sized),
        (0o6755, true)
    );
    // Nothing that is copied up.
    assert_eq!(
        after_a_new_owner("f", GUEST_ROOT, GUEST_ROOT, nothing).0,
        0o755
    );
    // Another task, as in `chmod; chown`.
    assert_eq!(
        after_a_new_owner(COPY, GUEST_ROOT, other(2, 0), nothing).0,
        0o755
    );
    // Not by root.
    assert_eq!(
        after_a_new_owner(COPY, other(1, 7), other(1, 7), nothing).0,
        0o755
    );
    // Once only.
    let twice = |share: &Share, node| {
        let owner = SetAttributes {
            uid: Some(rustix::process::geteuid().as_raw()),
            kill_privileges: true,
            ..SetAttributes::default()
        };
        share
            .fs
            .setattr(&by(&GUEST_ROOT, node), None, &owner)
            .unwrap();
    };
    assert_eq!(
        after_a_new_owner(COPY, GUEST_ROOT, GUEST_ROOT, twice).0,
        0o755
    );
    // What was taken away in between stays away.
    let written = |share: &Share, node| {
        let opened = share.open(node, libc::O_WRONLY).unwrap();
        let args = WriteArgs {
            kill_privileges: true,
            ..writing(opened.handle, 0, b"y", 0)
        };
        share.write_with(node, b"y", &args).unwrap();
    };
    assert_eq!(
        after_a_new_owner(COPY, GUEST_ROOT, GUEST_ROOT, written).0,
        0o755
    );
}

#[test]
fn a_copy_without_a_name_keeps_its_set_id_bits_until_it_has_one() {
    let share = Share::new();
    let (fs, root) = (&share.fs, by(&GUEST_ROOT, ROOT));
    let args = super::fixture::opening(libc::O_RDWR.cast_unsigned(), false);
    let made = fs.tmpfile(&root, &super::fixture::node(0o644), args);
    let inode = made.unwrap().0.inode;
    let request = by(&GUEST_ROOT, inode);
    let mode_after_a_new_owner = || {
        let mode = SetAttributes {
            mode: Some(0o6755),
            ..SetAttributes::default()
        };
        fs.setattr(&request, None, &mode).unwrap();
        let owner = SetAttributes {
            uid: Some(rustix::process::geteuid().as_raw()),
            kill_privileges: true,
            ..SetAttributes::default()
        };
        fs.setattr(&request, None, &owner).unwrap().0.mode & 0o7777
    };
    assert_eq!(mode_after_a_new_owner(), 0o6755);
    fs.link(&root, c"f", inode).unwrap();
    assert_eq!(mode_after_a_new_owner(), 0o755);
}

#[test]
fn preallocation_by_an_ordinary_user_clears_set_id_bits() {
    for (uid, expected) in [(0, 0o6755), (7, 0o755)] {
        let share = Share::new();
        std::fs::write(share.path("f"), b"x").unwrap();
        let bits = std::fs::Permissions::from_mode(0o6755);
        std::fs::set_permissions(share.path("f"), bits).unwrap();
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
        // The host does not ask unprivileged processes.
        let expected = match share.fs.keeps_owners() {
            true => expected,
            false => 0o755,
        };
        assert_eq!(share.attributes(node).unwrap().mode & 0o7777, expected);
    }
}
