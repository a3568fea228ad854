//! A process that really runs out of descriptors. The limit belongs to the
//! whole process, so the test runs itself again in one of its own.

use std::process::Command;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, setrlimit};

use super::fixture::operations::*;
use super::fixture::{GUEST_ROOT, Page, Share, by, names};
use crate::filesystem::ROOT;
use crate::passthrough::Config;

const INSIDE: &str = "PASSTHROUGH_TEST_LIMITED";

#[test]
fn nothing_vanishes_when_the_host_is_out_of_descriptors() {
    if std::env::var_os(INSIDE).is_some() {
        return starve();
    }
    let test =
        "passthrough::tests::exhaustion::nothing_vanishes_when_the_host_is_out_of_descriptors";

    let run = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
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

fn starve() {
    let limit = Rlimit {
        current: Some(64),
        maximum: Some(64),
    };
    // A budget the limit cannot honour: only EMFILE says when to let go.
    let share = Share::with(Config {
        fd_budget: Some(100_000),
        ..Config::default()
    });
    setrlimit(Resource::Nofile, limit).unwrap();
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
            Err(_) if share.fs.evict_one() => {}
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
        share.fs.flush(&by(&GUEST_ROOT, ROOT), opened.handle),
        Ok(())
    );
    drop(taken);
    assert!(share.lookup(ROOT, "7").is_ok());
    assert!(share.create(ROOT, "new").is_ok());
    println!("starved");
}
