//! A process that really runs out of descriptors. The limit belongs to the
//! whole process, so the test runs itself again in one of its own.

use std::process::Command;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, setrlimit};

use super::fixture::operations::*;
use super::fixture::{GUEST_ROOT, Page, Share, by, name, names};
use crate::filesystem::ROOT;
use crate::passthrough::Config;
use crate::passthrough::descriptors::Eviction;

const INSIDE: &str = "PASSTHROUGH_TEST_LIMITED";

/// Runs `body` by running the test called `test` again in a process of its
/// own.
fn alone(test: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        body();
        println!("starved");
        return;
    }
    let run = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg(format!("passthrough::tests::exhaustion::{test}"))
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{said}");
    assert!(
        said.contains("1 passed") && said.contains("starved"),
        "{said}"
    );
}

fn limit_descriptors(to: u64) {
    let limit = Rlimit {
        current: Some(to),
        maximum: Some(to),
    };
    setrlimit(Resource::Nofile, limit).unwrap();
}

#[test]
fn nothing_vanishes_when_the_host_is_out_of_descriptors() {
    alone(
        "nothing_vanishes_when_the_host_is_out_of_descriptors",
        starve,
    );
}

#[test]
fn links_made_and_removed_do_not_use_descriptors_up() {
    alone("links_made_and_removed_do_not_use_descriptors_up", || {
        limit_descriptors(190);
        let share = Share::large(Config {
            file_handles: false,
            ..Config::default()
        });
        let (from, to) = (
            share.mkdir(ROOT, "from").unwrap().inode,
            share.mkdir(ROOT, "to").unwrap().inode,
        );
        for n in 0..3000 {
            let file = name(&n.to_string());
            let (entry, opened) = share.create(from, &n.to_string()).unwrap();
            share.release(entry.inode, &opened);
            let to = by(&GUEST_ROOT, to);
            share.fs.link(&to, &file, entry.inode).unwrap();
            share.fs.unlink(&to, &file).unwrap();
        }
        assert_eq!(share.fs.inode_count(), 3002);
    });
}

fn starve() {
    // A budget the limit cannot honour: only EMFILE says when to let go.
    let share = Share::with(Config {
        fd_budget: Some(100_000),
        ..Config::default()
    });
    limit_descriptors(64);
    for n in 0..500 {
        std::fs::write(share.path(&n.to_string()), n.to_string()).unwrap();
    }

    let listed = share.list(ROOT, true, 4096).unwrap();

    assert_eq!(names(&listed).len(), 500);
    for entry in listed.iter().filter(|l| !l.name.starts_with('.')) {
        let inode = entry.entry.expect("attributes of every entry").inode;
        assert_eq!(share.contents(inode).unwrap(), entry.name.as_bytes());
    }
    // With not one descriptor left, names are still listed.
    let opened = share.fs.opendir(&by(&GUEST_ROOT, ROOT)).unwrap();
    let mut taken = Vec::new();
    loop {
        match std::fs::File::open("/dev/null") {
            Ok(file) => taken.push(file),
            Err(_) if share.fs.evict_one().0 == Eviction::Done => {}
            Err(_) => break,
        }
    }
    let mut page = Page::new(true, 1 << 20);
    share
        .fs
        .readdir(&by(&GUEST_ROOT, ROOT), opened.handle, 0, &mut page)
        .unwrap();
    assert_eq!(names(&page.entries).len(), 500);
    assert!(page.entries.iter().all(|l| l.entry.is_none()));
    assert_eq!(share.lookup(ROOT, "7").map(drop), Err(Errno::NFILE));
    assert_eq!(share.create(ROOT, "new").map(drop), Err(Errno::NFILE));
    assert!(!share.path("new").exists());
    assert_eq!(
        share.fs.flush(&by(&GUEST_ROOT, ROOT), opened.handle, 0),
        Ok(())
    );
    drop(taken);
    assert!(share.lookup(ROOT, "7").is_ok());
    assert!(share.create(ROOT, "new").is_ok());
}
