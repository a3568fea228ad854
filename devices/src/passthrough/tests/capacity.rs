//! What a guest can make us remember is bounded.

use std::os::unix::fs::MetadataExt;

use rustix::io::Errno;

use super::fixture::operations::*;
use super::fixture::{GUEST_ROOT, Share, by, name, names, node};
use crate::filesystem::ROOT;
use crate::passthrough::Config;

/// What may be remembered besides the root.
const FEW: usize = 10;

fn forgetful() -> Share {
    Share::with(Config {
        max_inodes: FEW,
        ..Config::default()
    })
}

#[test]
fn how_many_inodes_are_remembered_is_bounded() {
    let share = forgetful();
    let known: Vec<_> = (0..FEW)
        .map(|n| share.mkdir(ROOT, &n.to_string()).unwrap().inode)
        .collect();
    std::fs::write(share.path("unknown"), b"").unwrap();
    let (fs, root) = (&share.fs, by(&GUEST_ROOT, ROOT));

    let outcomes = [
        share.mkdir(ROOT, "new").map(drop),
        fs.mknod(&root, c"new", &node(0o644)).map(drop),
        fs.symlink(&root, c"new", c"to").map(drop),
        share.create(ROOT, "new").map(drop),
        share.lookup(ROOT, "unknown").map(drop),
    ];
    assert_eq!(outcomes, [Err(Errno::NOMEM); 5]);
    assert!(!share.path("new").exists());
    // What is known is served, and everything is listed.
    assert_eq!(share.lookup(ROOT, "3").map(|e| e.inode), Ok(known[3]));
    share.fs.forget(known[3], 1);
    assert!(share.attributes(ROOT).is_ok() && share.attributes(known[9]).is_ok());
    let listed = share.list(ROOT, true, 4096).unwrap();
    let unknown = listed.iter().find(|l| l.name == "unknown").unwrap();
    assert!(unknown.entry.is_none() && names(&listed).len() == FEW + 1);
    for entry in listed.iter().filter_map(|l| l.entry) {
        share.fs.forget(entry.inode, 1);
    }

    share.fs.forget(known[0], 1);
    assert!(share.lookup(ROOT, "unknown").is_ok());
    assert_eq!(share.mkdir(ROOT, "new").map(drop), Err(Errno::NOMEM));
    share.fs.destroy();
    assert_eq!(share.fs.capacity.left(), FEW);
    share.mkdir(ROOT, "new").unwrap();
}

#[test]
fn names_beyond_the_first_are_inodes_in_this_respect() {
    let share = forgetful();
    std::fs::write(share.path("f"), b"f").unwrap();
    let (fs, root) = (&share.fs, by(&GUEST_ROOT, ROOT));
    let file = share.walk("f").unwrap();
    for n in 1..FEW {
        fs.link(&root, &name(&n.to_string()), file).unwrap();
    }
    assert_eq!(fs.capacity.left(), 0);
    // It has another name, which is not remembered.
    fs.link(&root, c"more", file).unwrap();
    assert_eq!(share.path("f").metadata().unwrap().nlink(), FEW as u64 + 1);
    assert_eq!(share.contents(file), Err(Errno::STALE));
    assert_eq!(share.contents(file), Ok(b"f".to_vec()));

    fs.unlink(&root, c"7").unwrap();
    assert_eq!(fs.capacity.left(), 1);
    fs.forget(file, u64::MAX);
    assert_eq!(fs.capacity.left(), FEW);
}

#[test]
fn a_guest_may_hold_more_inodes_than_it_has_memory_for() {
    let of = Config::inodes_for;
    assert_eq!(of(0), 65_536);
    assert_eq!(of(32 << 20), 65_536);
    assert_eq!(of(1 << 30), 2 << 20);
}
