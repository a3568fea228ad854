//! TMPFILE, and LINK of what it made.

use std::os::unix::fs::MetadataExt;

use rustix::io::Errno;

use super::fixture::operations::*;
use super::fixture::{GUEST_ROOT, Share, by, name, node, opening};
use crate::filesystem::{Caller, Entry, NodeId, Opened, ROOT, Result};
use crate::passthrough::Config;

fn made(share: &Share, directory: NodeId, flags: i32) -> Result<(Entry, Opened)> {
    let open = opening(flags.cast_unsigned(), false);
    let request = by(&GUEST_ROOT, directory);
    share.fs.tmpfile(&request, &node(0o100_640), open)
}

fn link(share: &Share, file: NodeId, called: &str) -> Result<Entry> {
    share.fs.link(&by(&GUEST_ROOT, ROOT), &name(called), file)
}

#[test]
fn a_file_without_a_name_is_used_as_any_other_and_may_get_one() {
    for file_handles in [true, false] {
        let share = Share::cramped(file_handles);
        let directory = share.mkdir(ROOT, "d").unwrap().inode;
        let (entry, opened) = made(&share, directory, libc::O_RDWR).unwrap();
        let file = entry.inode;
        assert_eq!(
            (entry.attributes.mode, entry.attributes.nlink),
            (0o100_640, 0)
        );
        assert_eq!(std::fs::read_dir(share.path("d")).unwrap().count(), 0);

        // Also when descriptors were scarce in between.
        share.let_all_go();
        assert_eq!(share.write(file, opened.handle, 0, b"text"), Ok(4));
        assert_eq!(share.attributes(file).unwrap().size, 4);
        assert_eq!(share.contents(file).unwrap(), b"text");
        let named = link(&share, file, "named").unwrap();
        assert_eq!((named.inode, named.attributes.nlink), (file, 1));
        assert_eq!(std::fs::read(share.path("named")).unwrap(), b"text");
        assert_eq!(share.lookup(ROOT, "named").unwrap().inode, file);
    }
}

#[test]
fn it_is_gone_with_its_last_handle() {
    let share = Share::new();
    let (entry, opened) = made(&share, ROOT, libc::O_WRONLY).unwrap();

    share.release(entry.inode, &opened);
    share.fs.forget(entry.inode, 1);
    assert_eq!((share.fs.inode_count(), share.fs.open_count()), (0, 0));
    assert_eq!(link(&share, entry.inode, "f").map(drop), Err(Errno::STALE));
}

#[test]
fn an_exclusive_one_never_gets_a_name() {
    let share = Share::new();
    let (entry, _) = made(&share, ROOT, libc::O_RDWR | libc::O_EXCL).unwrap();

    assert_eq!(link(&share, entry.inode, "f").map(drop), Err(Errno::NOENT));
    assert!(!share.path("f").exists());
}

#[test]
fn a_name_that_was_lost_again_is_none_to_link_by() {
    let share = Share::new();
    let (entry, _) = made(&share, ROOT, libc::O_RDWR).unwrap();
    link(&share, entry.inode, "f").unwrap();
    share.fs.unlink(&by(&GUEST_ROOT, ROOT), &name("f")).unwrap();

    assert_eq!(link(&share, entry.inode, "g").map(drop), Err(Errno::NOENT));
}

#[test]
fn only_a_directory_has_one_made_in_it_and_only_for_writing() {
    let share = Share::new();
    std::fs::write(share.path("f"), "").unwrap();
    let file = share.walk("f").unwrap();

    assert_eq!(
        made(&share, file, libc::O_RDWR).map(drop),
        Err(Errno::NOTDIR)
    );
    assert_eq!(
        made(&share, u64::MAX, libc::O_RDWR).map(drop),
        Err(Errno::STALE)
    );
    assert_eq!(
        made(&share, ROOT, libc::O_RDONLY).map(drop),
        Err(Errno::INVAL)
    );
    assert_eq!(
        made(&share, ROOT, libc::O_ACCMODE).map(drop),
        Err(Errno::INVAL)
    );
    // What it is to be opened with besides changes nothing.
    let odd = libc::O_RDWR | libc::O_TRUNC | libc::O_CREAT | libc::O_PATH | libc::O_DIRECTORY;
    let (entry, opened) = made(&share, ROOT, odd).unwrap();
    assert_eq!(share.write(entry.inode, opened.handle, 0, b"x"), Ok(1));
    let share = Share::with(Config {
        read_only: true,
        ..Config::default()
    });
    assert_eq!(made(&share, ROOT, libc::O_RDWR).map(drop), Err(Errno::ROFS));
}

#[test]
fn it_belongs_to_who_asked() {
    let share = Share::new();
    let user = Caller {
        uid: 1234,
        gid: 5678,
        ..GUEST_ROOT
    };
    let open = opening(libc::O_RDWR.cast_unsigned(), false);
    let made = share.fs.tmpfile(&by(&user, ROOT), &node(0o600), open);
    let attributes = made.unwrap().0.attributes;

    let own = share.path("").metadata().unwrap();
    let expected = match share.fs.keeps_owners() {
        true => (1234, 5678),
        false => (own.uid(), own.gid()),
    };
    assert_eq!((attributes.uid, attributes.gid), expected);
}
