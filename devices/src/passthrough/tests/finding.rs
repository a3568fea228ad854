//! Inodes that were let go are found again, on shares without file handles.

use rustix::io::Errno;

use super::fixture::operations::*;
use super::fixture::{GUEST_ROOT, Share, by, few_descriptors, host_calls, moved_to, name};
use crate::filesystem::{NodeId, ROOT, SetAttributes};
use crate::passthrough::{CachePolicy, Config};

const BUDGET: usize = 32;

fn link(share: &Share, node: NodeId, parent: NodeId, new: &str) {
    let entry = share.fs.link(&by(&GUEST_ROOT, parent), &name(new), node);
    assert_eq!(entry.unwrap().inode, node);
}

fn unlink(share: &Share, parent: NodeId, old: &str) {
    let gone = share.fs.unlink(&by(&GUEST_ROOT, parent), &name(old));
    assert_eq!(gone, Ok(()), "for {old}");
}

#[test]
fn links_made_and_removed_hold_nothing_back() {
    let share = Share::large(few_descriptors(false));
    let from = share.mkdir(ROOT, "from").unwrap().inode;
    let to = share.mkdir(ROOT, "to").unwrap().inode;
    let mut costs = Vec::new();
    for n in 0..3000 {
        let file = format!("f{n}");
        let (entry, opened) = share.create(from, &file).unwrap();
        share.release(entry.inode, &opened);
        link(&share, entry.inode, to, &file);
    }

    for n in 0..3000 {
        let (cost, ()) = host_calls(|| unlink(&share, to, &format!("f{n}")));
        costs.push(cost);
    }

    assert!(share.fs.descriptor_count() <= BUDGET + 2);
    let (first, last) = costs.split_at(1500);
    let most = |costs: &[usize]| costs.iter().copied().max().unwrap();
    assert!(most(last) <= most(first), "{} {}", most(first), most(last));
    for n in [0, 1000, 2999] {
        let inode = share.lookup(from, &format!("f{n}")).unwrap().inode;
        share.let_all_go();
        assert_eq!(share.attributes(inode).unwrap().nlink, 1);
    }
}

#[test]
fn any_name_that_is_still_true_serves() {
    let share = Share::cramped(false);
    let directory = share.mkdir(ROOT, "d").unwrap().inode;
    for (gone, by_host) in [("a", true), ("b", true), ("c", true), ("a", false)] {
        let (entry, opened) = share.create(ROOT, "a").unwrap();
        share.release(entry.inode, &opened);
        link(&share, entry.inode, directory, "b");
        link(&share, entry.inode, ROOT, "c");
        let parent = if gone == "b" { directory } else { ROOT };
        if by_host {
            let path = if gone == "b" { "d/b" } else { gone };
            std::fs::remove_file(share.path(path)).unwrap();
        } else {
            unlink(&share, parent, gone);
        }
        share.let_all_go();

        assert_eq!(share.attributes(entry.inode).unwrap().nlink, 2);
        for left in ["a", "c", "d/b"] {
            let _ = std::fs::remove_file(share.path(left));
        }
        share.fs.forget(entry.inode, u64::MAX);
    }
}

#[test]
fn what_cannot_be_found_is_looked_up_again() {
    let share = Share::cramped(false);
    std::fs::write(share.path("f"), b"f").unwrap();
    let inode = share.walk("f").unwrap();
    std::fs::rename(share.path("f"), share.path("g")).unwrap();
    share.let_all_go();

    assert_eq!(share.fs.descriptor_count(), 1);
    assert_eq!(share.attributes(inode), Err(Errno::STALE));
    assert_eq!(share.walk("g"), Ok(inode));
    assert_eq!(share.attributes(inode).unwrap().size, 1);
}

#[test]
fn an_open_file_is_found_by_what_is_open() {
    for handles in [false, true] {
        for unlinked in [false, true] {
            let share = Share::cramped(handles);
            let (entry, opened) = share.create(ROOT, "f").unwrap();
            if unlinked {
                unlink(&share, ROOT, "f");
            } else {
                std::fs::rename(share.path("f"), share.outside().join("g")).unwrap();
            }
            share.let_all_go();
            assert_eq!(share.fs.descriptor_count(), 1);

            let mode = SetAttributes {
                mode: Some(0o711),
                ..SetAttributes::default()
            };
            let request = by(&GUEST_ROOT, entry.inode);
            let set = share.fs.setattr(&request, None, &mode).unwrap().0;

            let nlink = u32::from(!unlinked);
            assert_eq!((set.mode & 0o7777, set.nlink), (0o711, nlink));
            let told = share.attributes(entry.inode).unwrap();
            assert_eq!(told.mode & 0o7777, 0o711);
            share.release(entry.inode, &opened);
        }
    }
}

#[test]
fn an_unlinked_file_that_is_not_open_is_not_let_go() {
    for handles in [false, true] {
        let share = Share::cramped(handles);
        let (entry, opened) = share.create(ROOT, "f").unwrap();
        share.release(entry.inode, &opened);
        unlink(&share, ROOT, "f");
        share.let_all_go();

        assert_eq!(share.attributes(entry.inode).unwrap().nlink, 0);
    }
}

#[test]
fn a_deep_way_is_one_call_however_deep() {
    let share = Share::large(Config {
        cache: CachePolicy::Never,
        ..few_descriptors(false)
    });
    let mut at = ROOT;
    let mut costs = Vec::new();
    for level in 1..=2000 {
        at = share.mkdir(at, "d").unwrap().inode;
        if level % 500 == 0 {
            share.let_all_go();
            let (cost, told) = host_calls(|| share.attributes(at));
            assert!(told.is_ok());
            costs.push(cost);
        }
    }
    // "d/" 2000 times is 4000 bytes: one path. Longer names make more of
    // them, one for 4095 bytes. From 1366 levels on it takes another call to
    // see that the root is above.
    let one = costs[0];
    assert_eq!(costs, [one, one, one + 1, one + 1]);
    let long = "n".repeat(250);
    for _ in 0..100 {
        at = share.mkdir(at, &long).unwrap().inode;
    }
    share.let_all_go();
    let (cost, told) = host_calls(|| share.attributes(at));
    assert!(told.is_ok());
    assert!(cost <= one + 8, "{cost}");
    let mut rm = std::process::Command::new("rm");
    let removed = rm.arg("-rf").arg(share.path("d")).status();
    assert!(removed.unwrap().success());
}

#[test]
fn a_way_does_not_follow_a_link_put_into_it() {
    let share = Share::cramped(false);
    std::fs::create_dir_all(share.path("a/b")).unwrap();
    std::fs::write(share.path("a/b/f"), b"f").unwrap();
    let inode = share.walk("a/b/f").unwrap();
    std::fs::rename(share.path("a"), share.outside().join("a")).unwrap();
    std::os::unix::fs::symlink("../a", share.path("a")).unwrap();
    share.let_all_go();

    assert_eq!(share.attributes(inode), Err(Errno::STALE));
}

#[test]
fn names_that_lead_in_a_circle_lead_nowhere() {
    let share = Share::cramped(false);
    std::fs::create_dir_all(share.path("b/a")).unwrap();
    let (outer, inner) = (share.walk("b").unwrap(), share.walk("b/a").unwrap());
    std::fs::rename(share.path("b/a"), share.path("x")).unwrap();
    std::fs::rename(share.path("b"), share.path("x/b")).unwrap();
    assert_eq!(share.lookup(inner, "b").unwrap().inode, outer);
    share.let_all_go();

    assert_eq!(share.attributes(inner), Err(Errno::STALE));
    assert_eq!(share.walk("x"), Ok(inner));
    assert!(share.attributes(outer).is_ok());
}

#[test]
fn a_rename_onto_another_link_of_the_same_file_changes_nothing() {
    let share = Share::cramped(false);
    let (entry, opened) = share.create(ROOT, "a").unwrap();
    share.release(entry.inode, &opened);
    link(&share, entry.inode, ROOT, "b");
    let to = name("b");
    let renamed = share
        .fs
        .rename(&by(&GUEST_ROOT, ROOT), &name("a"), moved_to(ROOT, &to, 0));
    assert_eq!(renamed, Ok(()));
    std::fs::remove_file(share.path("b")).unwrap();
    share.let_all_go();

    assert_eq!(share.attributes(entry.inode).unwrap().nlink, 1);
}

#[test]
fn a_way_begins_at_the_nearest_directory_that_is_held() {
    let share = Share::cramped(false);
    std::fs::create_dir_all(share.path("a/b")).unwrap();
    std::fs::write(share.path("a/b/f"), b"f").unwrap();
    let file = share.walk("a/b/f").unwrap();
    let directory = share.walk("a/b").unwrap();
    let held = share.fs.inodes.get(directory).unwrap().descriptor();
    share.let_all_go();
    // What is above it is called otherwise by now.
    std::fs::rename(share.path("a"), share.path("z")).unwrap();

    assert_eq!(share.attributes(file).unwrap().size, 1);
    drop(held);
    share.let_all_go();
    assert_eq!(share.attributes(file), Err(Errno::STALE));
}
