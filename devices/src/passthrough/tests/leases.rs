//! Files of which somebody on the host has a lease.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::fixture::operations::*;
use super::fixture::{GUEST_ROOT, Share, by, opening};
use crate::filesystem::{Lock, LockArgs, LockKind, LockRange, ROOT, SetAttributes, WOULD_WAIT};
use crate::passthrough::Config;

/// `F_SETSIG` of fcntl(2), which the libc crate lacks.
const F_SETSIG: i32 = 10;

/// Takes a lease that is in the way of everybody who writes. The signal that
/// asks for it back is one that does nothing.
fn lease(file: &File) {
    let fd = file.as_raw_fd();
    // SAFETY: changes the descriptor of `file`, and touches no memory.
    let signal = unsafe { libc::fcntl(fd, F_SETSIG, libc::SIGURG) };
    // SAFETY: as above.
    let lease = unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK) };
    assert_eq!(
        (signal, lease),
        (0, 0),
        "{}",
        std::io::Error::last_os_error()
    );
}

#[test]
fn whoever_keeps_others_waiting_does_not_wait_for_a_lease() {
    let share = Share::new();
    std::fs::write(share.path("f"), b"text").unwrap();
    let node = share.walk("f").unwrap();
    let file = File::open(share.path("f")).unwrap();
    lease(&file);
    let request = by(&GUEST_ROOT, node);
    let truncating = opening((libc::O_WRONLY | libc::O_TRUNC).cast_unsigned(), true);
    let size = SetAttributes {
        size: Some(1),
        ..SetAttributes::default()
    };

    assert!(
        share
            .fs
            .open(&request.in_a_hurry(), opening(0, false))
            .is_ok()
    );
    for _ in 0..2 {
        let opened = share.fs.open(&request.in_a_hurry(), truncating);
        assert_eq!(opened, Err(WOULD_WAIT));
        let set = share.fs.setattr(&request.in_a_hurry(), None, &size);
        assert_eq!(set.map(drop), Err(WOULD_WAIT));
        let made = share.fs.create(
            &by(&GUEST_ROOT, ROOT).in_a_hurry(),
            c"f",
            &super::fixture::node(0o644),
            truncating,
        );
        assert_eq!(made.map(drop), Err(WOULD_WAIT));
    }
    assert_eq!(std::fs::read(share.path("f")).unwrap(), b"text");
    assert_eq!(share.fs.open_count(), 1);

    // The same when it may wait.
    let (sender, opened) = mpsc::channel();
    thread::scope(|scope| {
        let (share, request) = (&share, &request);
        scope.spawn(move || sender.send(share.fs.open(request, truncating)));
        let early = opened.recv_timeout(Duration::from_millis(200));
        assert!(early.is_err(), "{early:?}");
        drop(file);
        assert!(opened.recv().unwrap().is_ok());
    });
    assert_eq!(std::fs::read(share.path("f")).unwrap(), b"");
}

#[test]
fn a_lock_that_waits_for_a_lease_keeps_no_other_waiting() {
    let share = Share::with(Config {
        locks: true,
        ..Config::default()
    });
    std::fs::write(share.path("f"), b"text").unwrap();
    let node = share.walk("f").unwrap();
    let handle = share.open(node, libc::O_RDONLY).unwrap().handle;
    let file = File::open(share.path("f")).unwrap();
    lease(&file);
    let request = by(&GUEST_ROOT, node);
    let lock = |owner| LockArgs {
        handle,
        owner,
        lock: Lock {
            range: LockRange { start: 0, end: 0 },
            kind: LockKind::Read,
            pid: 1,
        },
        flock: false,
        wait: false,
    };
    let (sender, locked) = mpsc::channel();
    thread::scope(|scope| {
        let (share, request) = (&share, &request);
        scope.spawn(move || sender.send(share.fs.setlk(request, &lock(1))));
        let early = locked.recv_timeout(Duration::from_millis(200));
        assert!(early.is_err(), "{early:?}");
        let hurry = share.fs.setlk(&request.in_a_hurry(), &lock(2));
        assert_eq!(hurry, Err(WOULD_WAIT));
        drop(file);
        assert_eq!(locked.recv().unwrap(), Ok(()));
    });
    assert_eq!(share.fs.setlk(&request.in_a_hurry(), &lock(2)), Ok(()));
}
