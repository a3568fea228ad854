//! More files than descriptors.

use rustix::io::Errno;

use super::fixture::operations::*;
use super::fixture::{GUEST_ROOT, Share, by, few_descriptors, moved_to, name, names};
use crate::filesystem::{NodeId, ROOT};

const BUDGET: usize = 32;
const FILES: usize = 500;

/// A share with few descriptors and a tree of `FILES` files in ten
/// directories, each holding its own path.
fn crowded(handles: bool) -> Share {
    let share = Share::cramped(handles);
    for d in 0..10 {
        std::fs::create_dir(share.path(&format!("d{d}"))).unwrap();
        for f in 0..FILES / 10 {
            let path = format!("d{d}/f{f}");
            std::fs::write(share.path(&path), &path).unwrap();
        }
    }
    share
}

/// Every path of [`crowded`] with its inode, all referenced at once.
fn everything(share: &Share) -> Vec<(String, NodeId)> {
    let mut found = Vec::new();
    for top in share.list(ROOT, true, 4096).unwrap() {
        let Some(directory) = top.entry else { continue };
        for leaf in share.list(directory.inode, true, 4096).unwrap() {
            if let Some(entry) = leaf.entry {
                found.push((format!("{}/{}", top.name, leaf.name), entry.inode));
            }
        }
    }
    found
}

#[test]
fn a_tree_far_over_the_budget_lists_and_reads_whole() {
    for handles in [true, false] {
        let share = crowded(handles);

        let found = everything(&share);

        assert_eq!(found.len(), FILES, "with handles: {handles}");
        assert!(share.fs.descriptor_count() <= BUDGET + 2);
        for (path, inode) in &found {
            assert_eq!(share.contents(*inode).unwrap(), path.as_bytes());
        }
        assert!(share.fs.descriptor_count() <= BUDGET + 2);
    }
}

#[test]
fn forgetting_a_crowd_leaves_only_the_root() {
    let share = crowded(true);
    everything(&share);
    let top = share.list(ROOT, true, 4096).unwrap();

    for (_, inode) in everything(&share) {
        share.fs.forget(inode, 2);
    }
    // Each listing of the root took a reference: three in all.
    for entry in top.iter().filter_map(|l| l.entry) {
        share.fs.forget(entry.inode, 3);
    }

    assert_eq!(share.fs.inode_count(), 0);
    assert_eq!(share.fs.descriptor_count(), 1);
}

#[test]
fn an_unlinked_inode_is_kept_although_it_had_been_let_go() {
    for handles in [true, false] {
        let share = crowded(handles);
        let found = everything(&share);
        let directory = share.walk("d3").unwrap();
        let (_, victim) = found.iter().find(|(path, _)| path == "d3/f7").unwrap();

        share
            .fs
            .unlink(&by(&GUEST_ROOT, directory), &name("f7"))
            .unwrap();
        everything(&share);

        let told = share.attributes(*victim).unwrap();
        assert_eq!((told.nlink, told.size), (0, 5), "with handles: {handles}");
        assert_eq!(share.contents(*victim).unwrap(), b"d3/f7");
    }
}

#[test]
fn a_replaced_and_a_moved_inode_are_kept_too() {
    for handles in [true, false] {
        let share = crowded(handles);
        let found = everything(&share);
        let inode = |path: &str| found.iter().find(|(p, _)| p == path).unwrap().1;
        let (from, to) = (share.walk("d1").unwrap(), share.walk("d2").unwrap());
        let rename = |parent, old: &str, new_parent, new: &str, flags| {
            let (old, new) = (name(old), name(new));
            share
                .fs
                .rename(
                    &by(&GUEST_ROOT, parent),
                    &old,
                    moved_to(new_parent, &new, flags),
                )
                .unwrap();
        };

        rename(from, "f1", to, "f2", 0);
        rename(from, "f3", to, "f4", libc::RENAME_EXCHANGE);
        rename(ROOT, "d5", to, "moved", 0);
        everything(&share);

        assert_eq!(share.contents(inode("d1/f1")).unwrap(), b"d1/f1");
        assert_eq!(share.contents(inode("d2/f2")).unwrap(), b"d2/f2");
        assert_eq!(share.contents(inode("d1/f3")).unwrap(), b"d1/f3");
        assert_eq!(share.contents(inode("d2/f4")).unwrap(), b"d2/f4");
        assert_eq!(share.contents(inode("d5/f9")).unwrap(), b"d5/f9");
    }
}

#[test]
fn a_let_go_inode_moved_by_the_host_is_found_by_handle_and_stale_by_name() {
    for handles in [true, false] {
        let share = crowded(handles);
        let found = everything(&share);
        let (_, inode) = found.iter().find(|(path, _)| path == "d0/f0").unwrap();
        share.let_all_go();
        std::fs::rename(share.path("d0/f0"), share.path("d0/other")).unwrap();

        share.let_all_go();

        let outcome = share.attributes(*inode).map(|told| told.size);

        let by_name: Result<_, Errno> = Err(Errno::STALE);
        let by_handle = Ok(5);
        // An unprivileged process has names only, whatever it asks for.
        let root = share.fs.inodes.get(ROOT).unwrap();
        let has_handles = root.mount.handles().is_some();
        assert_eq!(has_handles, handles && share.fs.keeps_owners());
        assert_eq!(outcome, if has_handles { by_handle } else { by_name });
    }
}

#[test]
fn a_number_used_again_by_the_host_is_another_inode() {
    let share = crowded(false);
    let found = everything(&share);
    let (_, old) = found.iter().find(|(path, _)| path == "d0/f0").unwrap();
    share.let_all_go();
    let path = share.path("d0/f0");
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, b"new").unwrap();

    let directory = share.walk("d0").unwrap();
    let new = share.lookup(directory, "f0").unwrap().inode;

    assert_ne!(new, *old);
    assert_eq!(share.contents(*old), Err(Errno::STALE));
    assert_eq!(share.contents(new).unwrap(), b"new");
}

#[test]
fn deep_paths_come_back() {
    let share = Share::large(few_descriptors(false));
    let mut at = ROOT;
    let mut chain = Vec::new();
    for _ in 0..500 {
        at = share.mkdir(at, "d").unwrap().inode;
        chain.push(at);
    }
    let (file, _) = share.create(at, "f").unwrap();
    for n in 0..100 {
        share.create(ROOT, &n.to_string()).unwrap();
    }

    assert!(share.attributes(file.inode).is_ok());
    assert!(chain.iter().all(|inode| share.attributes(*inode).is_ok()));
    assert!(share.fs.descriptor_count() <= BUDGET + 2);
}

#[test]
fn a_listing_of_unreachable_entries_still_names_them() {
    let share = Share::new();
    for n in 0..10 {
        std::fs::write(share.path(&n.to_string()), b"").unwrap();
    }
    let opened = share.fs.opendir(&by(&GUEST_ROOT, ROOT)).unwrap();
    let read = |offset, room| {
        let mut page = super::fixture::Page::new(true, room);
        share
            .fs
            .readdir(&by(&GUEST_ROOT, ROOT), opened.handle, offset, &mut page)
            .unwrap();
        page.entries
    };
    let mut all = read(0, 200);
    for n in 0..10 {
        std::fs::remove_file(share.path(&n.to_string())).unwrap();
    }

    while let Some(last) = all.last() {
        let more = read(last.next_offset, 4096);
        if more.is_empty() {
            break;
        }
        all.extend(more);
    }

    assert_eq!(names(&all).len(), 10);
    assert!(all.iter().filter(|l| l.entry.is_none()).count() > 5);
}
