//! Close-to-open: what is opened is what is there, although the guest may use
//! names and attributes for a while without asking.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;

use super::fixture::operations::*;
use super::fixture::{
    Data, GUEST_ROOT, Share, by, host_calls, moved_to, name, node, opening, with_mounts, writing,
};
use crate::filesystem::{Caller, NodeId, ROOT, Result, SetAttributes};
use crate::passthrough::sys::at_next_close;
use crate::passthrough::{CachePolicy, Config};

fn task(pid: u32) -> Caller {
    Caller { pid, ..GUEST_ROOT }
}

/// OPEN by a task, with a CLOSE after it.
fn open(share: &Share, pid: u32, inode: NodeId, flags: i32) -> Result<()> {
    let caller = task(pid);
    let args = opening(flags.cast_unsigned(), false);
    let opened = share.fs.open(&by(&caller, inode), args)?;
    share.release(inode, &opened);
    Ok(())
}

fn look(share: &Share, pid: u32, parent: NodeId, child: &str) -> Result<NodeId> {
    let entry = share.fs.lookup(&by(&task(pid), parent), &name(child));
    entry.map(|entry| entry.inode)
}

/// What a program sees of an open of `child` in `parent`, by a guest that has
/// `cached` for it: the second attempt asks.
fn open_by_path(
    share: &Share,
    pid: u32,
    parent: NodeId,
    child: &str,
    cached: NodeId,
) -> Result<NodeId> {
    match open(share, pid, cached, libc::O_RDONLY) {
        Err(Errno::STALE) => {
            let found = look(share, pid, parent, child)?;
            open(share, pid, found, libc::O_RDONLY).map(|()| found)
        }
        outcome => outcome.map(|()| cached),
    }
}

fn append(path: &Path, text: &str) {
    let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn with_file(child: &str) -> (Share, NodeId) {
    let share = Share::new();
    std::fs::write(share.path(child), b"old").unwrap();
    let inode = share.walk(child).unwrap();
    (share, inode)
}

#[test]
fn a_file_that_was_replaced_is_looked_up_again_before_anything_is_done_to_it() {
    let (share, old) = with_file("f");
    std::fs::rename(share.path("f"), share.path("aside")).unwrap();
    std::fs::write(share.path("f"), b"new one").unwrap();

    let flags = libc::O_WRONLY | libc::O_TRUNC;
    assert_eq!(open(&share, 7, old, flags), Err(Errno::STALE));
    let new = look(&share, 7, ROOT, "f").unwrap();
    assert_ne!(new, old);
    assert_eq!(open(&share, 7, new, flags), Ok(()));
    assert_eq!(std::fs::read(share.path("aside")).unwrap(), b"old");
    assert_eq!(std::fs::read(share.path("f")).unwrap(), b"");
    assert_eq!(open_by_path(&share, 8, ROOT, "f", old), Ok(new));
}

#[test]
fn a_file_that_was_removed_or_changed_its_type_is_not_opened() {
    let (share, old) = with_file("f");
    std::fs::remove_file(share.path("f")).unwrap();
    assert_eq!(open_by_path(&share, 7, ROOT, "f", old), Err(Errno::NOENT));

    let (share, old) = with_file("f");
    std::fs::remove_file(share.path("f")).unwrap();
    std::fs::create_dir(share.path("f")).unwrap();
    assert_eq!(open_by_path(&share, 7, ROOT, "f", old), Err(Errno::ISDIR));
    let directory = share.walk("f").unwrap();
    std::fs::remove_dir(share.path("f")).unwrap();
    std::fs::write(share.path("f"), b"file").unwrap();
    let opened = share.fs.opendir(&by(&task(7), directory));
    assert_eq!(opened.map(drop), Err(Errno::STALE));
    assert!(open(&share, 7, share.walk("f").unwrap(), 0).is_ok());
}

#[test]
fn new_attributes_refuse_each_task_once() {
    for change in ["append", "rewrite", "mode"] {
        let (share, inode) = with_file("f");
        let path = share.path("f");
        match change {
            "append" => append(&path, "more"),
            "rewrite" => {
                let past = std::time::SystemTime::UNIX_EPOCH;
                std::fs::write(&path, b"new").unwrap();
                std::fs::File::open(&path)
                    .unwrap()
                    .set_modified(past)
                    .unwrap();
            }
            _ => rustix::fs::chmod(&path, 0o600.into()).unwrap(),
        }

        assert_eq!(open(&share, 7, inode, 0), Err(Errno::STALE), "{change}");
        assert_eq!(open(&share, 8, inode, 0), Err(Errno::STALE), "{change}");
        // By /proc/self/fd: without a LOOKUP.
        assert_eq!(open(&share, 8, inode, 0), Ok(()), "{change}");
        assert_eq!(look(&share, 7, ROOT, "f"), Ok(inode));
        for pid in [7, 8, 9] {
            assert_eq!(open(&share, pid, inode, 0), Ok(()), "{change}");
        }
    }
}

#[test]
fn a_file_that_changes_all_the_time_is_opened_at_the_second_attempt() {
    let (share, inode) = with_file("log");
    for _ in 0..3 {
        append(&share.path("log"), "a line");
        assert_eq!(open(&share, 7, inode, 0), Err(Errno::STALE));
        append(&share.path("log"), "a line");
        assert_eq!(look(&share, 7, ROOT, "log"), Ok(inode));
        append(&share.path("log"), "a line");
        assert_eq!(open(&share, 7, inode, 0), Ok(()));
    }
}

#[test]
fn what_the_guest_has_to_ask_for_anyway_is_not_checked() {
    let (share, inode) = with_file("f");
    append(&share.path("f"), "more");
    share.fs.clock.put_forward(Duration::from_secs(3));
    assert_eq!(open(&share, 7, inode, 0), Ok(()));

    // Open, and then moved away: by /proc/self/fd the guest gets it again.
    let held = share.open(inode, 0).unwrap();
    std::fs::rename(share.path("f"), share.path("g")).unwrap();
    assert_eq!(open(&share, 7, inode, 0), Ok(()));
    share.release(inode, &held);
    assert_eq!(open(&share, 7, inode, 0), Err(Errno::STALE));
}

#[test]
fn the_timeouts_are_within_what_is_checked() {
    let (share, inode) = with_file("f");
    share.fs.clock.put_forward(Duration::from_millis(1500));
    append(&share.path("f"), "more");
    assert_eq!(open(&share, 7, inode, 0), Err(Errno::STALE));
    let entry = share.lookup(ROOT, "f").unwrap();
    assert_eq!(entry.entry_timeout, Duration::from_secs(1));
    assert_eq!(entry.attr_timeout, Duration::from_secs(1));
}

#[test]
fn what_the_guest_did_itself_is_no_reason() {
    let share = Share::new();
    let (entry, opened) = share.create(ROOT, "f").unwrap();
    let inode = entry.inode;
    let request = by(&GUEST_ROOT, inode);
    let write = |text: &[u8]| {
        let args = writing(opened.handle, 0, text, 0);
        share.fs.write(&request, &args, &mut Data(text)).unwrap();
    };
    assert_eq!(open(&share, 7, inode, 0), Ok(()));
    write(b"written");
    assert_eq!(open(&share, 7, inode, 0), Ok(()));
    share.fs.flush(&request, opened.handle, 0).unwrap();
    assert_eq!(open(&share, 7, inode, 0), Ok(()));
    let to = name("g");
    let root = by(&GUEST_ROOT, ROOT);
    share
        .fs
        .rename(&root, &name("f"), moved_to(ROOT, &to, 0))
        .unwrap();
    assert_eq!(open(&share, 7, inode, 0), Ok(()));
    share.fs.link(&root, &name("h"), inode).unwrap();
    assert_eq!(open(&share, 7, inode, 0), Ok(()));
    assert_eq!(
        open(&share, 7, inode, libc::O_WRONLY | libc::O_TRUNC),
        Ok(())
    );
    assert_eq!(open(&share, 7, inode, 0), Ok(()));
    share.fs.unlink(&root, &name("g")).unwrap();
    share.fs.unlink(&root, &name("h")).unwrap();
    assert_eq!(open(&share, 7, inode, 0), Ok(()));
}

#[test]
fn after_a_close_the_guest_is_held_to_know_what_it_wrote_and_no_more() {
    let share = Share::new();
    let (entry, opened) = share.create(ROOT, "f").unwrap();
    let request = by(&GUEST_ROOT, entry.inode);
    let args = writing(opened.handle, 0, b"mine", 0);
    share.fs.write(&request, &args, &mut Data(b"mine")).unwrap();
    share.fs.flush(&request, opened.handle, 0).unwrap();
    append(&share.path("f"), "more");

    assert_eq!(open(&share, 7, entry.inode, 0), Err(Errno::STALE));
}

#[test]
fn what_the_close_itself_changes_is_no_reason() {
    let test = "coherence::what_the_close_itself_changes_is_no_reason";
    with_mounts(test, || {
        let share = Share::layered(Config::default());
        let (entry, opened) = share.create(ROOT, "f").unwrap();
        let request = by(&GUEST_ROOT, entry.inode);
        let args = writing(opened.handle, 0, b"mine", 0);
        share.fs.write(&request, &args, &mut Data(b"mine")).unwrap();
        // As NFS, whose server has its own clock.
        let path = share.path("f");
        at_next_close(move || append(&path, "more"));
        share.fs.flush(&request, opened.handle, 0).unwrap();
        assert_eq!(std::fs::read(share.path("f")).unwrap(), b"minemore");

        assert_eq!(open(&share, 7, entry.inode, 0), Ok(()));
    });
}

#[test]
fn a_directory_that_was_replaced_is_not_used_for_the_new_one() {
    for deep in [false, true] {
        let share = Share::new();
        let top = if deep { "a/b/d" } else { "d" };
        std::fs::create_dir_all(share.path(top)).unwrap();
        std::fs::write(share.path(top).join("f"), b"old").unwrap();
        let directory = share.walk(top).unwrap();
        let file = share.walk(&format!("{top}/f")).unwrap();
        // Above the one that is used, if there is anything.
        let replaced = if deep { "a" } else { "d" };
        std::fs::rename(share.path(replaced), share.path("aside")).unwrap();
        std::fs::create_dir_all(share.path(top)).unwrap();
        std::fs::write(share.path(top).join("f"), b"new").unwrap();
        std::fs::write(share.path(top).join("other"), b"new").unwrap();
        let fs = &share.fs;
        // Linux does not look again for MKDIR then.
        let absent = look(&share, 9, directory, "absent");
        assert_eq!(absent, Err(Errno::NOENT), "deep: {deep}");

        let pids = 10..;
        let mut attempts = pids.map(|pid| {
            let caller = task(pid);
            let request = by(&caller, directory);
            [
                open(&share, pid, file, 0),
                fs.opendir(&request).map(drop),
                look(&share, pid + 100, directory, "other").map(drop),
                fs.create(
                    &by(&task(pid + 200), directory),
                    c"new",
                    &node(0o644),
                    opening(2, false),
                )
                .map(drop),
                fs.mkdir(&by(&task(pid + 300), directory), c"new", &node(0o755))
                    .map(drop),
                fs.unlink(&by(&task(pid + 400), directory), c"f"),
            ]
        });

        let refused = attempts.next().unwrap();
        let stale = Err(Errno::STALE);
        // Above the used one, one refusal excuses the task for all of it.
        let again = if deep { Ok(()) } else { stale };
        assert_eq!(refused[0], stale, "deep: {deep}");
        assert_eq!(refused[1], if deep { again } else { Ok(()) });
        assert_eq!(refused[2..], [stale; 4], "deep: {deep}");
        assert!(!share.path("aside/new").exists() && share.path(top).join("f").exists());
        let new = share.walk(top).unwrap();
        assert_ne!(new, directory);
        assert_eq!(
            open(&share, 50, share.lookup(new, "f").unwrap().inode, 0),
            Ok(())
        );
    }
}

/// A LOOKUP may have been for `stat`, and comes before MKDIR, too.
#[test]
fn a_refused_lookup_does_not_excuse_what_is_made_next() {
    let share = Share::new();
    std::fs::create_dir(share.path("d")).unwrap();
    std::fs::write(share.path("d/f"), b"f").unwrap();
    let old = share.walk("d").unwrap();
    let file = share.walk("d/f").unwrap();
    std::fs::rename(share.path("d"), share.path("d.old")).unwrap();
    std::fs::create_dir_all(share.path("d/x")).unwrap();
    let fs = &share.fs;
    type Maker<'m> = &'m dyn Fn(&Caller) -> Result<()>;
    let makers: [Maker<'_>; 6] = [
        &|who| fs.mkdir(&by(who, old), c"x", &node(0o755)).map(drop),
        &|who| fs.mknod(&by(who, old), c"x", &node(0o644)).map(drop),
        &|who| fs.symlink(&by(who, old), c"x", c"to").map(drop),
        &|who| fs.link(&by(who, old), c"x", file).map(drop),
        &|who| {
            let args = opening(libc::O_RDWR.cast_unsigned(), false);
            let created = fs.create(&by(who, old), c"x", &node(0o644), args);
            created.map(drop)
        },
        &|who| fs.rename(&by(who, ROOT), c"aside", moved_to(old, c"x", 0)),
    ];
    std::fs::write(share.path("aside"), b"").unwrap();

    for (make, pid) in makers.iter().zip(10..) {
        assert_eq!(look(&share, pid, old, "x"), Err(Errno::STALE), "{pid}");
        assert_eq!(look(&share, pid, old, "x"), Err(Errno::NOENT), "{pid}");
        assert_eq!(make(&task(pid)), Err(Errno::STALE), "{pid}");
        assert!(!share.path("d.old/x").exists(), "{pid}");
    }
    // Linux looks again, and the name is there.
    let new = look(&share, 10, ROOT, "d").unwrap();
    let made = fs.mkdir(&by(&task(10), new), c"x", &node(0o755));
    assert_eq!(made.map(drop), Err(Errno::EXIST));
}

#[test]
fn a_task_that_works_in_a_directory_moved_meanwhile_goes_on_there() {
    let share = Share::new();
    std::fs::create_dir_all(share.path("d/sub")).unwrap();
    std::fs::write(share.path("d/sub/f"), b"f").unwrap();
    std::os::unix::fs::symlink("f", share.path("d/sub/l")).unwrap();
    let directory = share.walk("d/sub").unwrap();
    let (file, link) = (
        share.walk("d/sub/f").unwrap(),
        share.walk("d/sub/l").unwrap(),
    );
    std::fs::rename(share.path("d"), share.path("e")).unwrap();
    let caller = task(7);

    let readlink = |pid| share.fs.readlink(&by(&task(pid), link)).map(drop);
    assert_eq!(readlink(7), Err(Errno::STALE));
    assert_eq!(readlink(7), Ok(()));
    assert_eq!(open(&share, 7, file, 0), Ok(()));
    assert_eq!(look(&share, 7, directory, "absent"), Err(Errno::NOENT));
    let made = share
        .fs
        .mkdir(&by(&caller, directory), c"new", &node(0o755));
    assert!(made.is_ok() && share.path("e/sub/new").exists());
    // But not for another, and not once the guest was told where it is.
    assert_eq!(readlink(8), Err(Errno::STALE));
    share.walk("e/sub").unwrap();
    assert_eq!(readlink(9), Ok(()));
}

#[test]
fn a_file_known_by_two_names_has_to_be_there_by_both() {
    let share = Share::new();
    std::fs::write(share.path("f"), b"old").unwrap();
    std::fs::hard_link(share.path("f"), share.path("g")).unwrap();
    let inode = share.walk("f").unwrap();
    assert_eq!(share.walk("g"), Ok(inode));
    for child in ["f", "g"] {
        std::fs::remove_file(share.path(child)).unwrap();
        std::fs::write(share.path(child), child).unwrap();
    }

    // One program after the other: what it learned of `f` is no excuse for `g`.
    let f = open_by_path(&share, 7, ROOT, "f", inode).unwrap();
    let g = open_by_path(&share, 7, ROOT, "g", inode).unwrap();
    assert!(f != g && ![f, g].contains(&inode));
    std::fs::remove_file(share.path("f")).unwrap();
    std::fs::remove_file(share.path("g")).unwrap();
    assert_eq!(open_by_path(&share, 7, ROOT, "f", f), Err(Errno::NOENT));
    assert_eq!(open_by_path(&share, 7, ROOT, "g", g), Err(Errno::NOENT));
}

#[test]
fn a_file_that_the_host_renamed_is_opened_by_the_name_it_has_now() {
    // As rotated logs, and what is written beside and then put in its place: the
    // guest has just seen it by the name it had.
    for above in ["", "d/"] {
        let (f, g) = (format!("{above}f"), format!("{above}g"));
        let share = Share::new();
        std::fs::create_dir(share.path("d")).unwrap();
        std::fs::write(share.path(&f), b"f").unwrap();
        std::fs::write(share.path(&g), b"g").unwrap();
        let (old_f, old_g) = (share.walk(&f).unwrap(), share.walk(&g).unwrap());
        let directory = match above {
            "" => ROOT,
            _ => share.walk("d").unwrap(),
        };
        std::fs::rename(share.path(&f), share.path("aside")).unwrap();
        std::fs::rename(share.path(&g), share.path(&f)).unwrap();
        std::fs::rename(share.path("aside"), share.path(&g)).unwrap();

        let open = |child, cached| open_by_path(&share, 7, directory, child, cached);
        assert_eq!(open("f", old_f), Ok(old_g), "{f}");
        assert_eq!(open("g", old_g), Ok(old_f), "{g}");
        // By a name that is not true, nothing.
        std::fs::remove_file(share.path(&g)).unwrap();
        assert_eq!(open("g", old_f), Err(Errno::NOENT), "{g}");
    }
}

/// `open(2)` with `O_TRUNC`, for which Linux truncates after OPEN and names no
/// handle, and `truncate(2)`.
#[test]
fn a_file_that_the_host_renamed_is_truncated_by_the_name_it_has_now() {
    let size = SetAttributes {
        size: Some(0),
        ..SetAttributes::default()
    };
    for opens in [true, false] {
        let (share, old) = with_file("f");
        std::fs::write(share.path("g"), b"g").unwrap();
        let g = share.walk("g").unwrap();
        std::fs::rename(share.path("g"), share.path("f")).unwrap();
        let truncate = |node| {
            let request = by(&GUEST_ROOT, node);
            share.fs.setattr(&request, None, &size).map(drop)
        };
        let open = |node| {
            let args = opening(libc::O_WRONLY.cast_unsigned(), false);
            share.fs.open(&by(&GUEST_ROOT, node), args)
        };

        match opens {
            true => assert_eq!(open(old).map(drop), Err(Errno::STALE)),
            false => assert_eq!(truncate(old), Err(Errno::STALE)),
        }
        assert_eq!(look(&share, GUEST_ROOT.pid, ROOT, "f"), Ok(g));
        let opened = opens.then(|| open(g).unwrap());
        assert_eq!(truncate(g), Ok(()), "{opens}");
        assert_eq!(std::fs::read(share.path("f")).unwrap(), b"");
        // Nobody else, and no longer.
        let other = by(&task(8), g);
        let outcome = share.fs.setattr(&other, None, &size);
        assert_eq!(outcome.map(drop), Err(Errno::STALE));
        if let Some(opened) = opened {
            share.release(g, &opened);
        }
        assert_eq!(truncate(g), Err(Errno::STALE), "{opens}");
    }
}

#[test]
fn a_file_of_more_names_than_are_remembered_is_looked_up_again() {
    let share = Share::new();
    std::fs::write(share.path("0"), b"old").unwrap();
    for n in 1..40 {
        std::fs::hard_link(share.path("0"), share.path(&n.to_string())).unwrap();
    }
    let inode = share.walk("0").unwrap();
    for n in 1..40 {
        share.walk(&n.to_string()).unwrap();
    }
    std::fs::remove_file(share.path("0")).unwrap();
    std::fs::write(share.path("0"), b"new").unwrap();

    assert_eq!(open(&share, 7, inode, 0), Err(Errno::STALE));
    assert_eq!(open(&share, 7, inode, 0), Ok(()));
    share.fs.clock.put_forward(Duration::from_secs(3));
    share.walk("39").unwrap();
    assert_eq!(open(&share, 7, inode, 0), Ok(()));
}

#[test]
fn links_and_truncation_by_path_are_checked_too() {
    let (share, old) = with_file("f");
    std::fs::rename(share.path("f"), share.path("aside")).unwrap();
    std::fs::write(share.path("f"), b"new").unwrap();
    let size = SetAttributes {
        size: Some(0),
        ..SetAttributes::default()
    };

    let truncated = share.fs.setattr(&by(&task(7), old), None, &size);
    assert_eq!(truncated.map(drop), Err(Errno::STALE));
    assert_eq!(std::fs::read(share.path("aside")).unwrap(), b"old");
    let linked = share.fs.link(&by(&task(8), ROOT), c"link", old);
    assert_eq!(linked.map(drop), Err(Errno::STALE));
    assert!(!share.path("link").exists());
}

#[test]
fn a_link_is_made_at_the_second_attempt_although_its_name_was_looked_for() {
    let share = Share::new();
    std::fs::write(share.path("a"), b"").unwrap();
    std::fs::hard_link(share.path("a"), share.path("b")).unwrap();
    let inode = share.walk("a").unwrap();
    share.walk("b").unwrap();
    std::fs::remove_file(share.path("b")).unwrap();
    let link = |name| share.fs.link(&by(&task(7), ROOT), name, inode).map(drop);

    assert_eq!(link(c"new"), Err(Errno::STALE));
    // As Linux comes back, by both paths.
    assert_eq!(look(&share, 7, ROOT, "a"), Ok(inode));
    assert_eq!(look(&share, 7, ROOT, "new"), Err(Errno::NOENT));
    assert_eq!(link(c"new"), Ok(()));
    // That was it: whoever uses the file now is told.
    assert_eq!(open(&share, 7, inode, 0), Err(Errno::STALE));
}

#[test]
fn a_link_of_what_is_gone_excuses_nothing_that_is_opened_later() {
    let (share, gone) = with_file("f");
    std::fs::remove_file(share.path("f")).unwrap();
    let linked = share.fs.link(&by(&task(7), ROOT), c"new", gone);
    assert_eq!(linked.map(drop), Err(Errno::STALE));
    assert_eq!(look(&share, 7, ROOT, "f"), Err(Errno::NOENT));

    std::fs::write(share.path("f"), b"another").unwrap();
    let another = look(&share, 7, ROOT, "f").unwrap();
    append(&share.path("f"), " and more");
    assert_eq!(open(&share, 7, another, 0), Err(Errno::STALE));
}

#[test]
fn what_the_guest_opens_by_itself_it_asks_for_every_time() {
    let share = Share::new();
    let fifo = rustix::fs::FileType::Fifo;
    let path = share.path("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, path, fifo, 0o644.into(), 0).unwrap();

    assert!(share.lookup(ROOT, "fifo").unwrap().entry_timeout.is_zero());
}

#[test]
fn nothing_is_promised_of_attributes_where_the_guest_always_or_never_asks() {
    for cache in [
        CachePolicy::Never,
        CachePolicy::Metadata,
        CachePolicy::Always,
    ] {
        let share = Share::with(Config {
            cache,
            ..Config::default()
        });
        std::fs::write(share.path("f"), b"f").unwrap();
        let inode = share.walk("f").unwrap();
        append(&share.path("f"), "more");

        assert_eq!(open(&share, 7, inode, 0), Ok(()), "{cache:?}");
    }
    let share = Share::with(Config {
        writeback: true,
        ..Config::default()
    });
    std::fs::write(share.path("f"), b"f").unwrap();
    let inode = share.walk("f").unwrap();
    append(&share.path("f"), "more");
    assert_eq!(open(&share, 7, inode, 0), Ok(()));
}

#[test]
fn what_it_costs_does_not_grow_with_depth() {
    let costs = |cache, levels: usize, within_a_tick: bool| {
        let share = Share::large(Config {
            cache,
            ..Config::default()
        });
        if within_a_tick {
            share.fs.clock.stop_ticking();
        }
        let mut at = ROOT;
        for _ in 0..levels {
            at = share.mkdir(at, "d").unwrap().inode;
        }
        share.create(at, "f").unwrap();
        // The first of a directory is opened.
        look(&share, 7, at, "f").unwrap();
        let (lookup, inode) = host_calls(|| look(&share, 7, at, "f").unwrap());
        let (missing, _) = host_calls(|| look(&share, 7, at, "g"));
        let (open, outcome) = host_calls(|| share.open(inode, 0));
        outcome.unwrap();
        let (create, outcome) = host_calls(|| share.create(at, "new"));
        outcome.unwrap();
        let mut rm = std::process::Command::new("rm");
        let removed = rm.arg("-rf").arg(share.path("d")).status();
        assert!(removed.unwrap().success());
        [lookup, missing, open, create]
    };
    let auto = |levels| costs(CachePolicy::Auto, levels, false);
    assert_eq!(auto(0), [1, 1, 2, 2]);
    assert_eq!(auto(1), [2, 3, 3, 3]);
    assert_eq!(auto(2), [2, 4, 3, 4]);
    assert_eq!(auto(200), auto(2));
    // For what is missing, the directory is not looked for a second time.
    let within_a_tick = |levels| costs(CachePolicy::Auto, levels, true);
    assert_eq!(within_a_tick(1), [2, 2, 3, 3]);
    assert_eq!(within_a_tick(2), [2, 2, 3, 4]);
    assert_eq!(within_a_tick(200), within_a_tick(2));
    let never = |levels| costs(CachePolicy::Never, levels, false);
    assert_eq!(never(0), [1, 1, 2, 2]);
    assert_eq!(never(1), [2, 2, 3, 3]);
    assert_eq!(never(200), never(1));
}

#[test]
fn a_node_that_the_guest_knows_takes_little_memory() {
    // With its place in the tables, a name of 20 bytes and what the allocator
    // adds, up to 300 bytes.
    let inode = size_of::<crate::passthrough::inode::Inode>();
    assert!(inode <= 152, "{inode}");
}
