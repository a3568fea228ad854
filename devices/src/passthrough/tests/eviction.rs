//! Which descriptors are let go, and what is said when none can be.

use super::fixture::operations::*;
use super::fixture::{GUEST_ROOT, Share, by};
use crate::filesystem::ROOT;
use crate::passthrough::descriptors::Eviction;

#[test]
fn what_an_operation_has_is_waited_for_and_what_nobody_has_is_not() {
    for handles in [false, true] {
        let share = Share::cramped(handles);
        std::fs::write(share.path("f"), b"f").unwrap();
        let inode = share.fs.inodes.get(share.walk("f").unwrap()).unwrap();
        let used = inode.descriptor();
        for _ in 0..3 {
            assert_eq!(share.fs.evict_one().0, Eviction::Busy);
        }
        drop(used);
        assert_eq!(share.fs.evict_one().0, Eviction::Done);
        for _ in 0..3 {
            assert_eq!(share.fs.evict_one().0, Eviction::Vain);
        }
        assert_eq!(share.fs.descriptor_count(), 1, "that of the root");
        // What an operation opened for itself alone comes back, too.
        let permit = share.fs.permit(crate::passthrough::budget::Purpose::Work);
        assert_eq!(share.fs.evict_one().0, Eviction::Busy);
        drop(permit);
        assert_eq!(share.fs.evict_one().0, Eviction::Vain);
    }
}

#[test]
fn what_was_used_since_is_spared_once() {
    let share = Share::cramped(true);
    for child in ["a", "b", "c"] {
        std::fs::write(share.path(child), b"").unwrap();
    }
    let nodes = ["a", "b", "c"].map(|child| share.walk(child).unwrap());
    let held = || {
        nodes.map(|node| {
            let inode = share.fs.inodes.get(node).unwrap();
            let place = inode.place();
            place.descriptor.is_some()
        })
    };
    // All have just been used: the oldest goes, in the second round.
    assert_eq!(share.fs.evict_one().0, Eviction::Done);
    assert_eq!(held(), [false, true, true]);
    share.attributes(nodes[1]).unwrap();
    assert_eq!(share.fs.evict_one().0, Eviction::Done);
    assert_eq!(held(), [false, true, false]);
}

#[test]
fn a_file_without_a_name_is_not_let_go_for_another() {
    let share = Share::cramped(true);
    let (unlinked, opened) = share.create(ROOT, "unlinked").unwrap();
    share.release(unlinked.inode, &opened);
    let root = by(&GUEST_ROOT, ROOT);
    share.fs.unlink(&root, c"unlinked").unwrap();
    std::fs::write(share.path("f"), b"").unwrap();
    share.walk("f").unwrap();

    assert_eq!(share.fs.evict_one().0, Eviction::Done);
    let (outcome, lost) = share.fs.evict_one();
    assert_ne!(outcome, Eviction::Done);
    assert!(lost.is_some(), "it goes when nothing else can");
    assert_eq!(share.attributes(unlinked.inode).unwrap().nlink, 0);
}
