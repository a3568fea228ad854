//! POSIX ACLs of a share that keeps owners in attributes.

use rustix::io::Errno;

use super::fixture::operations::*;
use super::fixture::{GUEST_ROOT, Share, attribute, by, name, opening};
use super::unprivileged::{directory, unprivileged};
use crate::filesystem::{
    Agreement, Caller, NewNode, NodeId, ROOT, Request, Result, SetAttributes, SetXattrArgs,
};
use crate::passthrough::{Config, Owners};

const ACCESS: &std::ffi::CStr = c"system.posix_acl_access";
const DEFAULT: &std::ffi::CStr = c"system.posix_acl_default";

const ALICE: Caller = Caller {
    uid: 1234,
    gid: 2345,
    pid: 7,
    supplementary_gid: None,
};

fn share() -> Share {
    let share = Share::with(Config {
        owners: Owners::Xattr,
        posix_acl: true,
        ..Config::default()
    });
    share.fs.init(Agreement {
        posix_acl: true,
        dont_mask: true,
        ..Agreement::default()
    });
    share
}

fn root(node: NodeId) -> Request<'static> {
    by(&GUEST_ROOT, node)
}

/// Of the owner, user 1234, the group, the mask and others.
fn acl([owner, alice, group, mask, other]: [u8; 5]) -> Vec<u8> {
    let mut value = vec![2, 0, 0, 0];
    let none = u32::MAX;
    for (tag, permissions, id) in [
        (0x01_u16, owner, none),
        (0x02, alice, 1234),
        (0x04, group, none),
        (0x10, mask, none),
        (0x20, other, none),
    ] {
        value.extend(tag.to_le_bytes());
        value.extend(u16::from(permissions).to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    value
}

/// One that says what the mode `0o640` does.
fn plain() -> Vec<u8> {
    let whole = acl([6, 0, 4, 0, 0]);
    [&whole[..12], &whole[20..28], &whole[36..]].concat()
}

fn set(share: &Share, node: NodeId, called: &std::ffi::CStr, value: &[u8]) -> Result<()> {
    (share.fs).setxattr(&root(node), called, &attribute(value, 0, false))
}

fn get(share: &Share, node: NodeId, called: &std::ffi::CStr) -> Result<Vec<u8>> {
    share.fs.getxattr(&root(node), called, 4096)
}

fn listed(share: &Share, node: NodeId) -> String {
    String::from_utf8(share.fs.listxattr(&root(node), 4096).unwrap()).unwrap()
}

fn mode(share: &Share, node: NodeId) -> u32 {
    share.attributes(node).unwrap().mode & 0o7777
}

fn chmod(share: &Share, node: NodeId, mode: u32) {
    let changes = SetAttributes {
        mode: Some(mode),
        ..SetAttributes::default()
    };
    share.fs.setattr(&root(node), None, &changes).unwrap();
}

fn new(mode: u32, umask: u32) -> NewNode {
    NewNode {
        mode,
        umask,
        rdev: 0,
    }
}

fn make(share: &Share, directory: NodeId, child: &str, node: &NewNode) -> NodeId {
    let open = opening(libc::O_RDWR.cast_unsigned(), false);
    let made = share
        .fs
        .create(&root(directory), &name(child), node, open)
        .unwrap();
    share.release(made.0.inode, &made.1);
    assert_eq!(made.0.attributes.mode & 0o7777, mode(share, made.0.inode));
    made.0.inode
}

#[test]
fn an_acl_is_kept_and_is_one_with_the_mode() {
    let share = share();
    let file = make(&share, ROOT, "f", &new(0o100_640, 0));
    assert_eq!(get(&share, file, ACCESS), Err(Errno::NODATA));
    set(&share, file, ACCESS, &acl([7, 5, 6, 4, 1])).unwrap();
    assert_eq!(mode(&share, file), 0o741);
    assert_eq!(get(&share, file, ACCESS).unwrap(), acl([7, 5, 6, 4, 1]));
    assert_eq!(listed(&share, file), "system.posix_acl_access\0");
    // The host knows of none, and lets nobody in.
    let path = share.path("f");
    let on_host = rustix::fs::getxattr(&path, ACCESS, &mut [0; 99][..]);
    assert_eq!(on_host, Err(Errno::NODATA));
    let host = std::os::unix::fs::MetadataExt::mode(&path.metadata().unwrap());
    assert_eq!(host & 0o7777, 0o700);

    chmod(&share, file, 0o4623);
    assert_eq!(get(&share, file, ACCESS).unwrap(), acl([6, 5, 6, 2, 3]));
    assert_eq!(mode(&share, file), 0o4623);
    // The same twice, and one that says no more than a mode.
    set(&share, file, ACCESS, &acl([7, 5, 6, 4, 1])).unwrap();
    set(&share, file, ACCESS, &plain()).unwrap();
    assert_eq!(
        (mode(&share, file), listed(&share, file)),
        (0o4640, String::new())
    );
    assert_eq!(share.fs.removexattr(&root(file), ACCESS), Ok(()));
    assert_eq!(mode(&share, file), 0o4640);

    let mut args: SetXattrArgs<'_> = attribute(&[], 0, true);
    let value = acl([7, 5, 6, 4, 1]);
    args.value = &value;
    chmod(&share, file, 0o2755);
    share.fs.setxattr(&root(file), ACCESS, &args).unwrap();
    assert_eq!(mode(&share, file), 0o741);
    assert_eq!(share.fs.removexattr(&root(file), ACCESS), Ok(()));
    assert_eq!(get(&share, file, ACCESS), Err(Errno::NODATA));
    assert_eq!(mode(&share, file), 0o741);
}

#[test]
fn the_length_of_an_acl_is_told_and_room_for_it_wanted() {
    let share = share();
    let file = make(&share, ROOT, "f", &new(0o100_640, 0));
    set(&share, file, ACCESS, &acl([7, 5, 6, 4, 1])).unwrap();
    let asked = |size| {
        let value = share.fs.getxattr(&root(file), ACCESS, size);
        value.map(|value| value.len())
    };
    assert_eq!([0, 44, 45].map(asked), [Ok(44); 3]);
    assert_eq!(asked(43), Err(Errno::RANGE));
    // More than fits into a kilobyte.
    let named = (0..200_u32).flat_map(|id| {
        let entry = [2_u16.to_le_bytes(), 4_u16.to_le_bytes()].concat();
        [entry, id.to_le_bytes().to_vec()].concat()
    });
    let short = acl([7, 5, 6, 4, 1]);
    let long: Vec<u8> = [&short[..12], &named.collect::<Vec<_>>(), &short[20..]].concat();
    set(&share, file, ACCESS, &long).unwrap();
    assert_eq!(get(&share, file, ACCESS).unwrap(), long);
}

#[test]
fn what_is_made_in_a_directory_begins_with_its_default() {
    let share = share();
    let directory = share.mkdir(ROOT, "d").unwrap().inode;
    chmod(&share, directory, 0o777);
    set(&share, directory, DEFAULT, &acl([7, 6, 5, 7, 1])).unwrap();
    assert_eq!(mode(&share, directory), 0o777);
    assert_eq!(
        get(&share, directory, DEFAULT).unwrap(),
        acl([7, 6, 5, 7, 1])
    );
    assert_eq!(get(&share, directory, ACCESS), Err(Errno::NODATA));

    // In place of the umask.
    let file = make(&share, directory, "f", &new(0o100_666, 0o077));
    assert_eq!(mode(&share, file), 0o660);
    assert_eq!(get(&share, file, ACCESS).unwrap(), acl([6, 6, 5, 6, 0]));
    assert_eq!(get(&share, file, DEFAULT), Err(Errno::NODATA));
    let request = root(directory);
    let made = share
        .fs
        .mkdir(&request, c"below", &new(0o775, 0o777))
        .unwrap();
    let below = made.inode;
    assert_eq!(made.attributes.mode & 0o7777, 0o771);
    assert_eq!(get(&share, below, DEFAULT).unwrap(), acl([7, 6, 5, 7, 1]));
    assert_eq!(get(&share, below, ACCESS).unwrap(), acl([7, 6, 5, 7, 1]));
    let pipe = share
        .fs
        .mknod(&request, c"p", &new(libc::S_IFIFO | 0o644, 0o777));
    let pipe = pipe.unwrap().inode;
    assert_eq!(get(&share, pipe, ACCESS).unwrap(), acl([6, 6, 5, 4, 0]));
    let link = share.fs.symlink(&request, c"l", c"f").unwrap().inode;
    assert_eq!(get(&share, link, ACCESS), Err(Errno::NODATA));
    let open = opening(libc::O_RDWR.cast_unsigned(), false);
    let unnamed = share
        .fs
        .tmpfile(&request, &new(0o100_600, 0o777), open)
        .unwrap();
    assert_eq!(
        get(&share, unnamed.0.inode, ACCESS).unwrap(),
        acl([6, 6, 5, 0, 0])
    );

    // One that is a mode gives a mode, and none lets the umask count.
    set(&share, directory, DEFAULT, &plain()).unwrap();
    let file = make(&share, directory, "g", &new(0o100_604, 0o777));
    assert_eq!(
        (mode(&share, file), listed(&share, file)),
        (0o600, String::new())
    );
    share.fs.removexattr(&root(directory), DEFAULT).unwrap();
    let file = make(&share, directory, "h", &new(0o100_666, 0o4027));
    assert_eq!(mode(&share, file), 0o640);
}

#[test]
fn what_is_no_acl_or_has_no_room_for_one_is_refused() {
    let share = share();
    let file = make(&share, ROOT, "f", &new(0o100_640, 0));
    for wrong in [
        &b""[..],
        &[2, 0, 0, 0],
        &acl([8, 5, 6, 4, 1]),
        &plain()[..20],
    ] {
        assert_eq!(set(&share, file, ACCESS, wrong), Err(Errno::INVAL));
    }
    let default = set(&share, file, DEFAULT, &acl([7, 5, 6, 4, 1]));
    assert_eq!(default, Err(Errno::ACCESS));
    assert_eq!(
        (mode(&share, file), listed(&share, file)),
        (0o640, String::new())
    );
    let link = share.fs.symlink(&root(ROOT), c"l", c"f").unwrap().inode;
    assert_eq!(set(&share, link, ACCESS, &plain()), Err(Errno::OPNOTSUPP));
    // Where they were not agreed on there are none.
    set(&share, file, ACCESS, &acl([7, 5, 6, 4, 1])).unwrap();
    share.fs.init(Agreement::default());
    let file = share.walk("f").unwrap();
    assert_eq!(get(&share, file, ACCESS), Err(Errno::OPNOTSUPP));
    assert_eq!(listed(&share, file), "");
}

#[test]
fn access_goes_by_an_acl() {
    let share = share();
    let file = make(&share, ROOT, "f", &new(0o100_600, 0));
    let access = |caller: &Caller, mask| share.fs.access(&by(caller, file), mask);
    assert_eq!(access(&ALICE, 4), Err(Errno::ACCESS));
    set(&share, file, ACCESS, &acl([6, 6, 0, 4, 0])).unwrap();
    assert_eq!(access(&ALICE, 4), Ok(()));
    assert_eq!(access(&ALICE, 2), Err(Errno::ACCESS));
    chmod(&share, file, 0o600);
    assert_eq!(access(&ALICE, 4), Err(Errno::ACCESS));
    assert_eq!(access(&GUEST_ROOT, 6), Ok(()));
}

#[test]
fn what_the_host_made_unwritable_or_unreadable_can_have_one() {
    let config = Config {
        owners: Owners::Xattr,
        posix_acl: true,
        ..Config::default()
    };
    for mode in [0o444, 0o000] {
        let place = directory(65_534, mode);
        unprivileged(place.path(), config, |fs| {
            fs.init(Agreement {
                posix_acl: true,
                dont_mask: true,
                ..Agreement::default()
            });
            let file = fs.lookup(&root(ROOT), c"f").unwrap().inode;
            let get = || fs.getxattr(&root(file), ACCESS, 99);
            let set = |value: &[u8]| fs.setxattr(&root(file), ACCESS, &attribute(value, 0, false));
            assert_eq!(get(), Err(Errno::NODATA));
            assert_eq!(set(&acl([7, 5, 6, 4, 1])), Ok(()));
            assert_eq!(get().unwrap(), acl([7, 5, 6, 4, 1]));
            assert_eq!(set(&plain()), Ok(()));
            assert_eq!(get(), Err(Errno::NODATA));
        });
    }
}
