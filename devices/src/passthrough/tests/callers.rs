//! For whom an operation is done, where only one thing of theirs differs from
//! what the process is.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use rustix::fs::Gid;
use rustix::thread::{capabilities, set_thread_groups};

use super::fixture::operations::*;
use super::fixture::{GUEST_ROOT, Share, by, name, node, opening};
use crate::filesystem::{Caller, ROOT};

/// What tells the calling thread from others.
fn itself() -> (u32, u32, Vec<Gid>, rustix::thread::CapabilitySets) {
    (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
        rustix::process::getgroups().unwrap(),
        capabilities(None).unwrap(),
    )
}

/// Owner, group and mode of what `caller` makes in a directory that anybody
/// may write to, with the set-group-ID bit and the group `group`.
fn made_by(caller: Caller, group: u32) -> (u32, u32, u32) {
    let share = Share::new();
    chown(share.path(""), None, Some(group)).unwrap();
    let mode = |bits| std::fs::Permissions::from_mode(bits);
    std::fs::set_permissions(share.path(""), mode(0o2777)).unwrap();
    let before = itself();
    let flags = libc::O_RDWR.cast_unsigned();
    let made = share.fs.create(
        &by(&caller, ROOT),
        &name("f"),
        &node(0o2711),
        opening(flags, false),
    );
    made.unwrap();
    share
        .fs
        .mkdir(&by(&caller, ROOT), &name("d"), &node(0o755))
        .unwrap();
    assert_eq!(itself(), before, "{caller:?}");
    assert_eq!(
        std::fs::metadata(share.path("d")).unwrap().uid(),
        caller.uid
    );
    let host = std::fs::metadata(share.path("f")).unwrap();
    (host.uid(), host.gid(), host.mode() & 0o7777)
}

#[test]
fn a_caller_of_whom_one_thing_is_the_processs_own_is_somebody_else() {
    let own = GUEST_ROOT;
    let user = Caller { uid: 1234, ..own };
    let group = Caller { gid: 2345, ..own };
    let both = Caller { gid: 2345, ..user };
    let member = Caller {
        supplementary_gid: Some(777),
        ..user
    };
    // Owner and group: of a directory without the bit.
    let privileged = Share::new().fs.keeps_owners();
    for caller in [own, user, group, both] {
        let share = Share::new();
        let made = share
            .fs
            .mkdir(&by(&caller, ROOT), &name("d"), &node(0o755))
            .unwrap();
        let told = (made.attributes.uid, made.attributes.gid);
        let expected = match privileged {
            true => (caller.uid, caller.gid),
            false => (itself().0, itself().1),
        };
        assert_eq!(told, expected);
    }
    if !privileged {
        return;
    }
    // Who may give the bit on is in the group, or root.
    assert_eq!(made_by(own, 777), (0, 777, 0o2711));
    assert_eq!(made_by(user, 777), (1234, 777, 0o711));
    assert_eq!(made_by(user, 0), (1234, 0, 0o2711));
    assert_eq!(made_by(both, 0), (1234, 0, 0o711));
    assert_eq!(made_by(both, 2345), (1234, 2345, 0o2711));
    assert_eq!(made_by(member, 777), (1234, 777, 0o2711));
    assert_eq!(made_by(member, 778), (1234, 778, 0o711));
}

#[test]
fn the_groups_of_the_process_are_not_the_callers() {
    let check = || {
        let own = [100, 777].map(Gid::from_raw);
        set_thread_groups(&own).unwrap();
        let user = Caller {
            uid: 1234,
            gid: 2345,
            ..GUEST_ROOT
        };
        let member = Caller {
            supplementary_gid: Some(777),
            ..user
        };
        // That the thread has them again is seen to in there.
        assert_eq!(made_by(user, 777), (1234, 777, 0o711));
        assert_eq!(made_by(member, 777), (1234, 777, 0o2711));
        assert_eq!(made_by(member, 100), (1234, 100, 0o711));
        assert_eq!(rustix::process::getgroups().unwrap(), own);
    };
    // Others have no groups to take on or to give up.
    if Share::new().fs.keeps_owners() {
        std::thread::spawn(check).join().unwrap();
    }
}
