//! Which way was taken: behind each fast one is a slow one with the same
//! answer, so the calls of the host are counted.

use super::fixture::operations::*;
use super::fixture::{GUEST_ROOT, Share, by, host_calls, node};
use crate::filesystem::{Agreement, NewNode, NodeId, ROOT};
use crate::passthrough::{CachePolicy, Config};

/// A share on which nothing is asked for coherence's sake.
fn plain(file_handles: bool) -> Share {
    Share::with(Config {
        cache: CachePolicy::Never,
        file_handles,
        ..Config::default()
    })
}

/// `count` files below the directory `d`, and their directory.
fn files(share: &Share, count: usize) -> (NodeId, Vec<NodeId>) {
    std::fs::create_dir(share.path("d")).unwrap();
    for n in 0..count {
        std::fs::write(share.path(&format!("d/{n}")), b"").unwrap();
    }
    let directory = share.walk("d").unwrap();
    let node = |n: usize| share.lookup(directory, &n.to_string()).unwrap().inode;
    (directory, (0..count).map(node).collect())
}

fn cost<T>(act: impl FnOnce() -> T) -> usize {
    host_calls(act).0
}

#[test]
fn what_is_known_is_looked_up_by_one_call_and_one_for_where_it_is() {
    let share = plain(true);
    std::fs::write(share.path("f"), b"").unwrap();
    let (directory, _) = files(&share, 1);
    let at = |parent, child| cost(|| share.lookup(parent, child).unwrap());

    // Another was opened here before.
    assert_eq!([at(ROOT, "f"), at(ROOT, "f"), at(ROOT, "f")], [2, 2, 1]);
    assert_eq!([at(directory, "0"), at(directory, "0")], [3, 2]);
    assert_eq!(cost(|| share.lookup(ROOT, "none").unwrap_err()), 1);
    assert_eq!(cost(|| share.lookup(directory, "none").unwrap_err()), 2);
}

#[test]
fn what_is_not_known_is_opened_at_once_where_the_last_was_not_either() {
    let share = plain(true);
    for name in ["a", "b", "c", "d", "e"] {
        std::fs::write(share.path(name), b"").unwrap();
    }
    let at = |child| cost(|| share.lookup(ROOT, child).map(drop));

    assert_eq!([at("a"), at("b")], [2, 2]);
    // In vain, and not again.
    assert_eq!([at("a"), at("b"), at("a")], [2, 1, 1]);
    assert_eq!([at("c"), at("d")], [3, 2]);
    // What is not there is not opened twice in vain.
    assert_eq!([at("none"), at("none"), at("e")], [1, 1, 3]);
}

#[test]
fn a_descriptor_is_kept_for_the_next_operation() {
    for file_handles in [false, true] {
        let share = plain(file_handles);
        let (directory, nodes) = files(&share, 300);
        for node in &nodes {
            assert_eq!(cost(|| share.attributes(*node).unwrap()), 1);
        }
        assert_eq!(cost(|| share.attributes(directory).unwrap()), 2);
        assert_eq!(cost(|| share.attributes(ROOT).unwrap()), 1);
        // Let go, it is found and examined once, and kept again. By its name it
        // is below a directory that has to be found first.
        share.let_all_go();
        let first = cost(|| share.attributes(nodes[0]).unwrap());
        assert_eq!(
            first,
            4 - usize::from(file_handles),
            "with handles: {file_handles}"
        );
        assert_eq!(cost(|| share.attributes(nodes[0]).unwrap()), 1);
    }
}

#[test]
fn reading_and_writing_ask_for_no_node() {
    let share = plain(true);
    let (entry, opened) = share.create(ROOT, "f").unwrap();
    let (node, handle) = (entry.inode, opened.handle);
    assert_eq!(cost(|| share.write(node, handle, 0, b"text").unwrap()), 0);
    assert_eq!(cost(|| share.read(node, handle, 0, 9).unwrap()), 0);
    let file = by(&GUEST_ROOT, node);
    assert_eq!(cost(|| share.fs.fsync(&file, handle, true).unwrap()), 0);
}

#[test]
fn a_file_of_a_file_system_with_nothing_to_tell_is_not_closed_for_flush() {
    let share = Share::large(Config::default());
    let (file, opened) = share.create(ROOT, "f").unwrap();
    let node = by(&GUEST_ROOT, file.inode);
    let flush = || cost(|| share.fs.flush(&node, opened.handle, 0).unwrap());
    assert_eq!(flush(), 0);
    // What the guest has of a file that it wrote to is told when it is closed.
    share.write(file.inode, opened.handle, 0, b"text").unwrap();
    assert_eq!([flush(), flush()], [1, 0]);
}

#[test]
fn a_thread_takes_an_umask_once_for_all_that_it_makes() {
    let share = Share::large(Config::default());
    share.fs.init(Agreement {
        dont_mask: true,
        ..Agreement::default()
    });
    let make = |name: &str, umask| {
        let new = NewNode {
            umask,
            ..node(0o666)
        };
        let name = super::fixture::name(name);
        let entry = share.fs.mkdir(&by(&GUEST_ROOT, ROOT), &name, &new).unwrap();
        entry.attributes.mode & 0o777
    };
    let other = 0o027;
    let (first, mode) = host_calls(|| make("a", 0o022));
    assert_eq!(mode, 0o644);
    let (again, mode) = host_calls(|| make("b", 0o022));
    assert_eq!((again, mode), (first - 1, 0o644));
    let (changed, mode) = host_calls(|| make("c", other));
    assert_eq!((changed, mode), (first, 0o640));
}

#[test]
fn a_listing_with_attributes_opens_what_is_not_known() {
    let share = plain(true);
    let (directory, nodes) = files(&share, 100);
    let list = |plus| cost(|| share.list(directory, plus, 1 << 20).unwrap());
    let names = list(false);
    assert!(names < 10, "{names}");
    // Seen, since they are known; the first one is opened as well, since the last of those
    // that were looked up was not.
    assert_eq!(list(true), names + nodes.len() + 1);
    assert_eq!(list(true), names + nodes.len());
    for node in &nodes {
        share.fs.forget(*node, 100);
    }
    // Opened and examined, the first one seen before.
    assert_eq!(list(true), names + 2 * nodes.len() + 1);
}

#[test]
fn nodes_and_handles_are_spread_over_all_shards() {
    let share = plain(true);
    let (_, nodes) = files(&share, 300);
    let mut shards = [0; 16];
    for node in &nodes {
        // The lowest bits of a number are its shard's.
        shards[usize::try_from(node % 16).unwrap()] += 1;
    }
    assert!(shards.iter().all(|count| *count > 0), "{shards:?}");
    let open: Vec<_> = (nodes.iter())
        .map(|node| share.open(*node, libc::O_RDONLY).unwrap())
        .collect();
    for (node, opened) in nodes.iter().zip(&open) {
        assert_eq!(share.read(*node, opened.handle, 0, 1), Ok(vec![]));
    }
}
