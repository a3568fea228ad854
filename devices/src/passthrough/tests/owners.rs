//! Who owns what the guest makes, with and without the privilege to say so.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use rustix::fs::{Gid, Uid};
use rustix::io::Errno;
use rustix::thread::capabilities;

use super::fixture::operations::*;
use super::fixture::{GUEST_ROOT, Share, by, name, node, opening, unshared};
use super::unprivileged::give_everything_up;
use crate::filesystem::{Caller, ROOT, SetAttributes};

const ALICE: Caller = Caller {
    uid: 1234,
    gid: 2345,
    pid: 7,
    supplementary_gid: None,
};

/// The credentials of the calling thread.
fn itself() -> (Uid, Gid, Vec<Gid>, rustix::thread::CapabilitySets) {
    (
        rustix::process::geteuid(),
        rustix::process::getegid(),
        rustix::process::getgroups().unwrap(),
        capabilities(None).unwrap(),
    )
}

#[test]
fn what_a_guest_user_makes_is_the_users() {
    let share = Share::new();
    let before = itself();
    let fs = &share.fs;
    let flags = libc::O_RDWR.cast_unsigned();

    fs.mkdir(&by(&ALICE, ROOT), &name("d"), &node(0o755))
        .unwrap();
    fs.mknod(&by(&ALICE, ROOT), &name("n"), &node(0o644))
        .unwrap();
    fs.symlink(&by(&ALICE, ROOT), &name("l"), &name("t"))
        .unwrap();
    fs.create(
        &by(&ALICE, ROOT),
        &name("f"),
        &node(0o600),
        opening(flags, false),
    )
    .unwrap();
    let failed = fs.mkdir(&by(&ALICE, ROOT), &name("d"), &node(0o755));

    // Squashed onto our own user when we may not be anybody else.
    let own = (before.0.as_raw(), before.1.as_raw());
    let owner = if fs.keeps_owners() { (1234, 2345) } else { own };
    for child in ["d", "n", "l", "f"] {
        let host = share.path(child).symlink_metadata().unwrap();
        assert_eq!((host.uid(), host.gid()), owner, "of {child}");
    }
    assert_eq!(failed.map(drop), Err(Errno::EXIST));
    assert_eq!(itself(), before);
}

#[test]
fn permissions_are_left_to_the_guest() {
    // Only root may write to the directory: the guest's kernel let Alice
    // through, by a group or a capability that the host knows nothing of.
    let share = Share::new();
    let permissions = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(share.path(""), permissions).unwrap();

    let made = share.fs.mkdir(&by(&ALICE, ROOT), &name("d"), &node(0o755));

    assert!(made.is_ok());
}

#[test]
fn the_group_that_matters_keeps_set_group_id() {
    let share = Share::new();
    let make = |child: &str, caller| {
        let flags = libc::O_RDWR.cast_unsigned();
        let made = share.fs.create(
            &by(caller, ROOT),
            &name(child),
            &node(0o2755),
            opening(flags, false),
        );
        made.unwrap().0.attributes
    };
    if !share.fs.keeps_owners() {
        return assert_eq!(make("f", &ALICE).mode & 0o777, 0o755);
    }
    std::os::unix::fs::chown(share.path(""), Some(0), Some(777)).unwrap();
    let permissions = std::fs::Permissions::from_mode(0o2777);
    std::fs::set_permissions(share.path(""), permissions).unwrap();
    let member = Caller {
        supplementary_gid: Some(777),
        ..ALICE
    };

    let outsider = make("outsider", &ALICE);
    let insider = make("insider", &member);

    assert_eq!((outsider.gid, outsider.mode & 0o7777), (777, 0o755));
    assert_eq!((insider.gid, insider.mode & 0o7777), (777, 0o2755));
}

#[test]
fn the_user_minus_one_is_nobody() {
    let share = Share::new();
    let uid = Caller {
        uid: u32::MAX,
        ..ALICE
    };
    let gid = Caller {
        gid: u32::MAX,
        ..ALICE
    };
    let make = |caller| share.fs.mkdir(&by(caller, ROOT), &name("d"), &node(0o755));

    assert_eq!(make(&uid).map(drop), Err(Errno::INVAL));
    assert_eq!(make(&gid).map(drop), Err(Errno::INVAL));
    assert!(!share.path("d").exists());
}

#[test]
fn owners_are_changed_as_far_as_the_host_allows() {
    let share = Share::new();
    let (file, _) = share.create(ROOT, "f").unwrap();
    let chown = SetAttributes {
        uid: Some(1234),
        gid: Some(2345),
        ..SetAttributes::default()
    };

    let set = share.fs.setattr(&by(&GUEST_ROOT, file.inode), None, &chown);

    // As the user is root in the guest, the same.
    if share.fs.keeps_owners() {
        let told = set.unwrap().0;
        assert_eq!((told.uid, told.gid), (1234, 2345));
    } else {
        assert_eq!(set.map(drop), Err(Errno::PERM));
    }
}

#[test]
fn users_that_our_namespace_lacks_are_squashed() {
    // Only root is mapped, and setgroups(2) is forbidden: what rootless
    // containers look like.
    unshared(
        "-r",
        "owners::users_that_our_namespace_lacks_are_squashed",
        || {
            let share = Share::new();
            let before = itself();
            let member = Caller {
                supplementary_gid: Some(777),
                ..ALICE
            };

            for (caller, child) in [
                (&ALICE, "alice"),
                (&GUEST_ROOT, "root"),
                (&member, "member"),
            ] {
                share
                    .fs
                    .mkdir(&by(caller, ROOT), &name(child), &node(0o755))
                    .unwrap();
            }

            assert!(share.fs.keeps_owners());
            for child in ["alice", "root", "member"] {
                assert_eq!(std::fs::metadata(share.path(child)).unwrap().uid(), 0);
            }
            assert_eq!(itself(), before);
        },
    );
}

#[test]
fn a_thread_that_lost_the_privilege_finds_inodes_by_name() {
    let share = Share::cramped(true);
    let found = ["stays", "goes"].map(|child| share.create(ROOT, child).unwrap());
    let [stays, goes] = found.map(|(entry, opened)| {
        share.release(entry.inode, &opened);
        entry.inode
    });
    std::fs::rename(share.path("goes"), share.path("gone")).unwrap();
    share.let_all_go();
    let served = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                give_everything_up();
                let told = [stays, goes].map(|inode| share.attributes(inode).map(drop));
                let walked = share.walk("gone").map(|inode| inode == goes);
                (told, walked, share.attributes(goes).map(drop))
            })
            .join()
            .unwrap()
    });

    assert_eq!(served, ([Ok(()), Err(Errno::STALE)], Ok(true), Ok(())));
}
