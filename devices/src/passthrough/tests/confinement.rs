//! What the host moved out of the share.

use rustix::io::Errno;

use super::fixture::operations::*;
use super::fixture::{GUEST_ROOT, Share, attribute, by, host_calls, moved_to, name};
use crate::filesystem::{NodeId, ROOT, SetAttributes};
use crate::passthrough::{CachePolicy, Config};

fn policies() -> impl Iterator<Item = Share> {
    let all = [
        CachePolicy::Never,
        CachePolicy::Metadata,
        CachePolicy::Auto,
        CachePolicy::Always,
    ];
    all.into_iter().map(|cache| {
        Share::with(Config {
            cache,
            ..Config::default()
        })
    })
}

/// Every way to act on a node itself but to read it.
fn changes(share: &Share, node: NodeId) -> [Result<(), Errno>; 4] {
    let fs = &share.fs;
    let request = by(&GUEST_ROOT, node);
    let mode = SetAttributes {
        mode: Some(0o700),
        ..SetAttributes::default()
    };
    let times = SetAttributes {
        mtime: Some(crate::filesystem::SetTime::Now),
        ..SetAttributes::default()
    };
    [
        fs.setattr(&request, None, &mode).map(drop),
        fs.setattr(&request, None, &times).map(drop),
        fs.setxattr(&request, c"user.x", &attribute(b"1", 0, false)),
        fs.removexattr(&request, c"user.x"),
    ]
}

#[test]
fn a_directory_moved_out_is_not_acted_on() {
    for share in policies() {
        std::fs::create_dir(share.path("d")).unwrap();
        let directory = share.walk("d").unwrap();
        let fs = &share.fs;
        let request = by(&GUEST_ROOT, directory);
        let opened = fs.opendir(&request).unwrap();
        std::fs::rename(share.path("d"), share.outside().join("d")).unwrap();
        let before = std::fs::metadata(share.outside().join("d")).unwrap();

        assert_eq!(changes(&share, directory), [Err(Errno::STALE); 4]);
        let outcomes = [
            fs.getattr(&request, None).map(drop),
            fs.getattr(&request, Some(opened.handle)).map(drop),
            fs.access(&request, 0),
            fs.statfs(&request).map(drop),
            fs.getxattr(&request, c"user.x", 100).map(drop),
            fs.listxattr(&request, 100).map(drop),
        ];
        assert_eq!(outcomes, [Err(Errno::STALE); 6]);
        let after = std::fs::metadata(share.outside().join("d")).unwrap();
        assert_eq!(after.permissions(), before.permissions());
        assert_eq!(after.modified().unwrap(), before.modified().unwrap());
        // Back in, it is served again.
        std::fs::rename(share.outside().join("d"), share.path("e")).unwrap();
        assert!(fs.getattr(&request, None).is_ok());
    }
}

#[test]
fn a_file_moved_out_is_not_opened_changed_or_linked_back_in() {
    for share in policies() {
        std::fs::create_dir(share.path("d")).unwrap();
        std::fs::write(share.path("d/f"), b"f").unwrap();
        let file = share.walk("d/f").unwrap();
        let outside = share.outside().join("f");
        std::fs::rename(share.path("d/f"), &outside).unwrap();

        assert_eq!(changes(&share, file), [Err(Errno::STALE); 4]);
        // A handle that is none makes it no better.
        let mode = SetAttributes {
            mode: Some(0o700),
            ..SetAttributes::default()
        };
        let invented = share.fs.setattr(&by(&GUEST_ROOT, file), Some(4711), &mode);
        assert_eq!(invented.map(drop), Err(Errno::STALE));
        // The second attempt is no better.
        for _ in 0..2 {
            assert_eq!(share.open(file, 0).map(drop), Err(Errno::STALE));
            let linked = share.fs.link(&by(&GUEST_ROOT, ROOT), c"link", file);
            assert_eq!(linked.map(drop), Err(Errno::STALE));
        }
        // In the share, but elsewhere: as soon as the guest has found it.
        std::fs::rename(&outside, share.path("g")).unwrap();
        assert_eq!(share.walk("g"), Ok(file));
        let open = || share.open(file, 0);
        assert!(open().or_else(|_| open()).is_ok());
        assert_eq!(changes(&share, file)[0], Ok(()));
        let link = || share.fs.link(&by(&GUEST_ROOT, ROOT), c"link", file);
        // Refused once where the guest may still use the old name.
        assert!(link().or_else(|_| link()).is_ok());
    }
}

#[test]
fn what_is_open_is_used_and_opened_again_but_not_linked_back_in() {
    for share in policies() {
        let (entry, opened) = share.create(ROOT, "f").unwrap();
        std::fs::rename(share.path("f"), share.outside().join("f")).unwrap();
        let file = entry.inode;

        assert_eq!(share.write(file, opened.handle, 0, b"f"), Ok(1));
        assert_eq!(changes(&share, file)[0], Ok(()));
        let again = share.open(file, 0);
        // The first time the guest is made to look, where it may not have.
        let again = again.or_else(|_| share.open(file, 0));
        share.release(file, &again.unwrap());
        for _ in 0..2 {
            let linked = share.fs.link(&by(&GUEST_ROOT, ROOT), c"link", file);
            assert_eq!(linked.map(drop), Err(Errno::STALE));
        }
        share.release(file, &opened);
        assert_eq!(share.open(file, 0).map(drop), Err(Errno::STALE));
    }
}

#[test]
fn what_the_guest_removed_itself_is_linked_while_there_is_another_name() {
    let link = |share: &Share, file| share.fs.link(&by(&GUEST_ROOT, ROOT), c"link", file);
    let cramped = [true, false].map(Share::cramped);
    for share in policies().chain(cramped) {
        std::fs::write(share.path("f"), b"f").unwrap();
        std::fs::hard_link(share.path("f"), share.outside().join("g")).unwrap();
        let file = share.walk("f").unwrap();
        share.fs.unlink(&by(&GUEST_ROOT, ROOT), c"f").unwrap();

        // Also when descriptors were scarce in between.
        share.let_all_go();
        assert_eq!(share.attributes(file).unwrap().nlink, 1);
        assert_eq!(link(&share, file).map(|entry| entry.inode), Ok(file));
        assert_eq!(share.contents(share.walk("link").unwrap()).unwrap(), b"f");
        // Without any there is nothing to link.
        share.fs.unlink(&by(&GUEST_ROOT, ROOT), c"link").unwrap();
        std::fs::remove_file(share.outside().join("g")).unwrap();
        assert_eq!(link(&share, file).map(drop), Err(Errno::NOENT));
    }
}

#[test]
fn a_file_moved_out_is_not_linked_for_what_took_its_place() {
    for share in policies() {
        std::fs::write(share.path("f"), b"f").unwrap();
        let file = share.walk("f").unwrap();
        std::fs::rename(share.path("f"), share.outside().join("f")).unwrap();
        let (other, opened) = share.create(ROOT, "f").unwrap();
        share.release(other.inode, &opened);
        share.fs.unlink(&by(&GUEST_ROOT, ROOT), c"f").unwrap();

        for _ in 0..2 {
            let linked = share.fs.link(&by(&GUEST_ROOT, ROOT), c"link", file);
            assert_eq!(linked.map(drop), Err(Errno::STALE));
        }
    }
}

#[test]
fn a_file_in_a_directory_moved_out_is_moved_out() {
    for share in policies() {
        std::fs::create_dir_all(share.path("a/b")).unwrap();
        std::fs::write(share.path("a/b/f"), b"f").unwrap();
        let file = share.walk("a/b/f").unwrap();
        std::fs::rename(share.path("a"), share.outside().join("a")).unwrap();

        for _ in 0..2 {
            assert_eq!(share.open(file, 0).map(drop), Err(Errno::STALE));
            assert_eq!(changes(&share, file), [Err(Errno::STALE); 4]);
        }
    }
}

#[test]
fn forgetting_the_directory_does_not_free_the_file() {
    for share in policies() {
        std::fs::create_dir(share.path("d")).unwrap();
        std::fs::write(share.path("d/f"), b"f").unwrap();
        let (directory, file) = (share.walk("d").unwrap(), share.walk("d/f").unwrap());
        std::fs::rename(share.path("d/f"), share.outside().join("f")).unwrap();
        share.fs.forget(directory, u64::MAX);

        assert_eq!(share.open(file, 0).map(drop), Err(Errno::STALE));
        let linked = share.fs.link(&by(&GUEST_ROOT, ROOT), c"link", file);
        assert_eq!(linked.map(drop), Err(Errno::STALE));
    }
}

/// A chain of directories called `d`.
fn chain(share: &Share, levels: usize) -> Vec<NodeId> {
    let mut at = ROOT;
    let deeper = (0..levels).map(|_| {
        at = share.mkdir(at, "d").unwrap().inode;
        at
    });
    deeper.collect()
}

#[test]
fn what_a_check_costs_is_bounded_at_any_depth() {
    let share = Share::large(Config {
        cache: CachePolicy::Never,
        ..Config::default()
    });
    let chain = chain(&share, 3000);
    let cost = |level: usize| {
        let node = chain.get(level - 1).copied().unwrap();
        // The first of a directory is opened.
        let [_, (cost, outcome)] = [(); 2].map(|()| host_calls(|| share.lookup(node, "d")));
        outcome.unwrap();
        cost
    };
    // One call for the node, and one for every 1365 levels above it.
    assert_eq!([1, 1365, 1366, 2730, 2731].map(cost), [2, 2, 3, 3, 4]);

    // After a move each directory finds out anew where it is: the first asks
    // at every level, the others ask the one above.
    let other = share.mkdir(ROOT, "e").unwrap().inode;
    let to = name("d");
    let root = by(&GUEST_ROOT, ROOT);
    share
        .fs
        .rename(&root, &name("d"), moved_to(other, &to, 0))
        .unwrap();
    let first = |level: usize| {
        let node = chain.get(level - 1).copied().unwrap();
        host_calls(|| share.lookup(node, "d").map(drop)).0
    };
    assert!(first(2000) >= 2000);
    let next = first(2001);
    assert!(next <= 9, "{next}");
    assert_eq!([1, 1000, 1999, 2000].map(cost), [2, 2, 3, 3]);
    let mut rm = std::process::Command::new("rm");
    let removed = rm.arg("-rf").arg(share.path("e")).status();
    assert!(removed.unwrap().success());
}

#[test]
fn a_directory_is_changed_whatever_the_host_calls_it() {
    for share in policies() {
        std::fs::create_dir_all(share.path("d/below")).unwrap();
        let directory = share.walk("d/below").unwrap();
        std::fs::rename(share.path("d/below"), share.path("other")).unwrap();

        assert_eq!(changes(&share, directory)[..3], [Ok(()); 3]);
        let mode = share.attributes(directory).unwrap().mode & 0o7777;
        assert_eq!(mode, 0o700);
    }
}

#[test]
fn what_the_guest_removed_itself_is_changed_for_as_long_as_it_knows_it() {
    for share in policies() {
        let (entry, opened) = share.create(ROOT, "f").unwrap();
        share.release(entry.inode, &opened);
        share.fs.unlink(&by(&GUEST_ROOT, ROOT), c"f").unwrap();

        assert_eq!(changes(&share, entry.inode)[..3], [Ok(()); 3]);
        let opened = share.open(entry.inode, libc::O_RDWR);
        share.release(entry.inode, &opened.unwrap());
    }
}
