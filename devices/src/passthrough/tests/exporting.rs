//! Nodes of which the guest has the number alone.

use rustix::io::Errno;

use super::fixture::operations::*;
use super::fixture::{GUEST_ROOT, Share, by, name, node, opening};
use crate::filesystem::{Entry, Label, NodeId, ROOT, Result};
use crate::passthrough::Config;

fn share(remembered: usize, file_handles: bool) -> Share {
    Share::with(Config {
        remembered,
        file_handles,
        ..Config::default()
    })
}

fn itself(share: &Share, node: NodeId) -> Result<Entry> {
    share.fs.lookup_itself(&by(&GUEST_ROOT, node))
}

fn above(share: &Share, node: NodeId) -> Result<Entry> {
    share.fs.lookup_parent(&by(&GUEST_ROOT, node))
}

#[test]
fn what_the_guest_forgot_is_found_by_its_number() {
    for file_handles in [true, false] {
        let share = share(100, file_handles);
        std::fs::create_dir(share.path("d")).unwrap();
        std::fs::write(share.path("d/f"), "text").unwrap();
        let directory = share.lookup(ROOT, "d").unwrap();
        let file = share.lookup(directory.inode, "f").unwrap();
        for entry in [file, directory] {
            share.fs.forget(entry.inode, 1);
        }
        // What is kept has no descriptor; the root has one.
        assert_eq!(share.fs.descriptor_count(), 1);

        let found = itself(&share, file.inode).unwrap();
        assert_eq!(
            (found.inode, found.generation),
            (file.inode, file.generation)
        );
        assert_eq!(share.contents(file.inode).unwrap(), b"text");
        assert_eq!(
            itself(&share, directory.inode).unwrap().inode,
            directory.inode
        );
        // By its name it is still the same.
        let again = share.lookup(directory.inode, "f").unwrap();
        assert_eq!(again.inode, file.inode);
    }
}

#[test]
fn as_many_are_kept_as_were_asked_for() {
    for remembered in [0, 2] {
        let share = share(remembered, true);
        let nodes: Vec<NodeId> = (0..4)
            .map(|n| {
                std::fs::write(share.path(&n.to_string()), "").unwrap();
                share.walk(&n.to_string()).unwrap()
            })
            .collect();
        for node in &nodes {
            // Once too often changes nothing.
            share.fs.forget(*node, 1);
            share.fs.forget(*node, 1);
        }
        assert_eq!(share.fs.inode_count(), remembered);
        for (index, node) in nodes.iter().enumerate() {
            let expected = match index >= nodes.len() - remembered {
                true => Ok(*node),
                false => Err(Errno::STALE),
            };
            assert_eq!(itself(&share, *node).map(|e| e.inode), expected, "{index}");
        }
    }
}

#[test]
fn what_the_guest_knows_again_is_not_dropped_for_another() {
    let share = share(1, true);
    for name in ["a", "b", "c"] {
        std::fs::write(share.path(name), "").unwrap();
    }
    let [a, b, c] = ["a", "b", "c"].map(|name| share.walk(name).unwrap());
    share.fs.forget(a, 1);
    assert_eq!(share.walk("a"), Ok(a));
    share.fs.forget(b, 1);
    share.fs.forget(c, 1);

    assert_eq!(itself(&share, a).map(|entry| entry.inode), Ok(a));
    assert_eq!(
        itself(&share, b).map(|entry| entry.inode),
        Err(Errno::STALE)
    );
    assert_eq!(itself(&share, c).map(|entry| entry.inode), Ok(c));
}

#[test]
fn what_is_removed_is_not_kept() {
    for file_handles in [true, false] {
        let share = share(100, file_handles);
        std::fs::write(share.path("guest"), "").unwrap();
        std::fs::write(share.path("host"), "").unwrap();
        let removed = ["guest", "host"].map(|name| share.walk(name).unwrap());
        let unlinked = share.fs.unlink(&by(&GUEST_ROOT, ROOT), &name("guest"));
        unlinked.unwrap();
        for node in removed {
            share.fs.forget(node, 1);
        }
        std::fs::remove_file(share.path("host")).unwrap();

        for node in removed {
            assert_eq!(itself(&share, node).map(drop), Err(Errno::STALE));
        }
        assert_eq!(share.fs.descriptor_count(), 1);
    }
}

/// What an operation that fails has looked up by then.
#[test]
fn what_the_guest_is_not_told_of_after_all_keeps_no_descriptor() {
    let share = share(100, true);
    let fs = &share.fs;
    std::fs::create_dir(share.path("d")).unwrap();
    let flags = libc::O_RDWR.cast_unsigned();
    let created = fs.create(
        &by(&GUEST_ROOT, ROOT),
        &name("d"),
        &node(0o644),
        opening(flags, false),
    );
    assert_eq!(created.map(drop), Err(Errno::ISDIR));
    assert_eq!(fs.descriptor_count(), 1);

    // Longer than any file system takes.
    let value = vec![b'x'; 70_000];
    let label = Label {
        name: c"security.selinux",
        value: &value,
    };
    let labelled = by(&GUEST_ROOT, ROOT).labelled(Some(label));
    let made = fs.mkdir(&labelled, &name("labelled"), &node(0o755));
    assert_eq!(made.map(drop), Err(Errno::TOOBIG));
    assert_eq!(fs.descriptor_count(), 1);
    // It cannot be found again.
    assert_eq!(fs.inode_count(), 1);
}

#[test]
fn a_session_ends_for_what_it_forgot() {
    let share = share(100, true);
    std::fs::write(share.path("f"), "").unwrap();
    let node = share.walk("f").unwrap();
    share.fs.forget(node, 1);
    share.fs.destroy();

    assert_eq!(itself(&share, node).map(drop), Err(Errno::STALE));
}

#[test]
fn above_a_directory_is_what_it_is_in_and_above_the_root_nothing() {
    for remembered in [0, 100] {
        let share = share(remembered, true);
        std::fs::create_dir_all(share.path("a/b/c")).unwrap();
        std::fs::write(share.path("a/f"), "").unwrap();
        let [a, b, c] = ["a", "a/b", "a/b/c"].map(|path| share.walk(path).unwrap());
        let file = share.walk("a/f").unwrap();

        assert_eq!(above(&share, c).unwrap().inode, b);
        assert_eq!(above(&share, b).unwrap().inode, a);
        assert_eq!(above(&share, a).unwrap().inode, ROOT);
        assert_eq!(above(&share, ROOT).unwrap().inode, ROOT);
        assert_eq!(above(&share, file).map(drop), Err(Errno::NOTDIR));
        assert_eq!(above(&share, 1 << 60).map(drop), Err(Errno::STALE));

        // Also where the guest has forgotten it.
        share.fs.forget(b, u64::MAX);
        let found = above(&share, c).unwrap().inode;
        assert_eq!(found == b, remembered > 0);
        assert_eq!(share.lookup(found, "c").unwrap().inode, c);
        assert_eq!(above(&share, found).unwrap().inode, a);
    }
}

#[test]
fn nothing_above_the_share_is_found() {
    let share = share(100, true);
    std::fs::create_dir_all(share.path("a/b")).unwrap();
    let b = share.walk("a/b").unwrap();
    let known = share.fs.inode_count();
    std::fs::rename(share.path("a"), share.outside().join("a")).unwrap();

    assert_eq!(above(&share, b).map(drop), Err(Errno::STALE));
    assert_eq!(itself(&share, b).map(drop), Err(Errno::STALE));
    assert_eq!(share.fs.inode_count(), known);
}

#[test]
fn a_share_has_a_generation_of_its_own_and_its_root_has_none() {
    let generations: Vec<u64> = (0..2)
        .map(|_| {
            let share = share(1, true);
            assert_eq!(itself(&share, ROOT).unwrap().generation, 0);
            share.mkdir(ROOT, "d").unwrap().generation
        })
        .collect();

    // Linux keeps 32 bits.
    assert!(
        generations
            .iter()
            .all(|g| *g != 0 && u32::try_from(*g).is_ok())
    );
    assert_ne!(generations[0], generations[1]);
}

#[test]
fn what_is_remembered_leaves_room_for_what_the_guest_knows() {
    let share = Share::with(Config {
        remembered: 100,
        max_inodes: 4,
        ..Config::default()
    });
    for n in 0..12 {
        std::fs::write(share.path(&n.to_string()), "").unwrap();
    }
    for n in 0..8 {
        let node = share.walk(&n.to_string()).unwrap();
        share.fs.forget(node, 1);
    }
    for n in 8..12 {
        share.walk(&n.to_string()).unwrap();
    }
    let made = share.mkdir(ROOT, "d").map(drop);
    assert_eq!(made, Err(Errno::NOMEM));
    assert_eq!(share.fs.inode_count(), 4);
}
