//! Guests that open nothing.

use std::path::Path;

use rustix::io::Errno;

use super::fixture::operations::*;
use super::fixture::{GUEST_ROOT, Page, Share, by, names, opening, unshared};
use crate::filesystem::{Agreement, LseekArgs, ROOT};
use crate::passthrough::{CachePolicy, Config, Passthrough};

/// Of a tree that is only read.
fn config() -> Config {
    Config {
        read_only: true,
        cache: CachePolicy::Always,
        ..Config::default()
    }
}

fn agreed() -> Agreement {
    Agreement {
        no_open: true,
        ..Agreement::default()
    }
}

/// A share in a session without opening.
fn share() -> Share {
    let share = Share::with(config());
    share.fs.init(agreed());
    share
}

#[test]
fn only_a_tree_that_nobody_changes_is_not_opened() {
    let offers = |config| Share::with(config).fs.capabilities().agreement.no_open;
    assert!(offers(config()));
    let others = [
        Config {
            read_only: false,
            ..config()
        },
        Config {
            cache: CachePolicy::Auto,
            ..config()
        },
        Config {
            locks: true,
            ..config()
        },
    ];
    for other in others {
        assert!(!offers(other), "{other:?}");
    }
    let made_up = Passthrough::new(Path::new("/proc/sys"), config()).unwrap();
    assert!(!made_up.capabilities().agreement.no_open);
}

#[test]
fn what_was_looked_up_is_read() {
    let share = share();
    std::fs::create_dir(share.path("d")).unwrap();
    for number in 0..300 {
        std::fs::write(share.path(&format!("d/file-{number}")), "text of a file").unwrap();
    }
    let file = share.walk("d/file-7").unwrap();
    assert_eq!(share.open(file, libc::O_RDONLY).unwrap_err(), Errno::NOSYS);
    assert_eq!(share.read(file, 0, 0, 100).unwrap(), b"text of a file");
    assert_eq!(share.read(file, 0, 8, 100).unwrap(), b"a file");
    let request = by(&GUEST_ROOT, file);
    let end = LseekArgs {
        handle: 0,
        offset: 2,
        whence: 4,
    };
    assert_eq!(share.fs.lseek(&request, &end), Ok(14));

    let directory = share.walk("d").unwrap();
    let request = by(&GUEST_ROOT, directory);
    assert_eq!(share.fs.opendir(&request).unwrap_err(), Errno::NOSYS);
    let (mut listed, mut offset) = (Vec::new(), 0);
    loop {
        let mut page = Page::new(true, 4096);
        share.fs.readdir(&request, 0, offset, &mut page).unwrap();
        let Some(last) = page.entries.last() else {
            break;
        };
        offset = last.next_offset;
        listed.append(&mut page.entries);
    }
    let mut found = names(&listed);
    found.retain(|name| name.starts_with("file-"));
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), 300);

    // What a close and a sync would tell there is not.
    let request = by(&GUEST_ROOT, file);
    assert_eq!(share.fs.flush(&request, 0, 1), Err(Errno::NOSYS));
    assert_eq!(share.fs.fsync(&request, 0, false), Err(Errno::NOSYS));
    assert_eq!(share.fs.fsyncdir(&request, 0, false), Err(Errno::NOSYS));
    assert_eq!(share.read(directory, 0, 0, 100), Err(Errno::ISDIR));
    assert_eq!(share.fs.open_count(), 0);
}

#[test]
fn a_file_that_was_moved_out_is_gone() {
    let share = share();
    std::fs::write(share.path("file"), "text").unwrap();
    let file = share.walk("file").unwrap();
    std::fs::rename(share.path("file"), share.outside().join("moved")).unwrap();
    assert_eq!(share.read(file, 0, 0, 100), Err(Errno::STALE));
}

#[test]
fn a_guest_that_opens_has_a_handle() {
    let share = Share::with(config());
    std::fs::write(share.path("file"), "text").unwrap();
    share.fs.init(Agreement::default());
    let file = share.walk("file").unwrap();
    assert_eq!(share.read(file, 0, 0, 100), Err(Errno::BADF));
    let opened = share.open(file, libc::O_RDONLY).unwrap();
    assert_eq!(share.read(file, opened.handle, 0, 100).unwrap(), b"text");
    share.fs.init(agreed());
    let file = share.walk("file").unwrap();
    assert_eq!(share.read(file, opened.handle, 0, 100), Err(Errno::BADF));
    let request = by(&GUEST_ROOT, file);
    let open = share.fs.open(&request, opening(0, false));
    assert_eq!(open.unwrap_err(), Errno::NOSYS);
}

#[test]
fn a_tree_with_a_file_system_in_it_is_opened() {
    let test = "a_tree_with_a_file_system_in_it_is_opened";
    let root = rustix::process::geteuid().is_root();
    let how = if root { "-m" } else { "-rm" };
    unshared(how, &format!("without_open::{test}"), || {
        let place = tempfile::tempdir().unwrap();
        let below = place.path().join("a place");
        std::fs::create_dir(&below).unwrap();
        let fs = Passthrough::new(place.path(), config()).unwrap();
        assert!(fs.capabilities().agreement.no_open);
        fs.init(agreed());
        let mount = std::process::Command::new("mount")
            .args(["--bind", "/proc/sys/kernel"])
            .arg(&below)
            .status();
        assert!(mount.unwrap().success());
        // Files that would be empty are none: this one came too late.
        let entry = fs.lookup(&by(&GUEST_ROOT, ROOT), c"a place").unwrap();
        let request = by(&GUEST_ROOT, entry.inode);
        assert_eq!(fs.lookup(&request, c"ostype").unwrap_err(), Errno::IO);
        let directory = fs.lookup(&request, c"random").unwrap();
        assert!(directory.inode > 0);
        // From the beginning it is known.
        let fs = Passthrough::new(place.path(), config()).unwrap();
        assert!(!fs.capabilities().agreement.no_open);
    });
}
