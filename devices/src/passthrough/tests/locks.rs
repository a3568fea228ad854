//! Locks: between owners of one guest, between guests, and with the host.

use std::fs::File;
use std::os::fd::AsFd;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::fixture::operations::*;
use super::fixture::{GUEST_ROOT, Share, by, closing};
use crate::filesystem::{
    Agreement, Deferral, Handle, Lock, LockArgs, LockKind, LockOwner, LockRange, NodeId, ROOT,
    ReleaseArgs, Request, Result, WOULD_WAIT, Waiters,
};
use crate::passthrough::{Config, Passthrough, sys};

use LockKind::{Read, Unlock, Write};

fn config() -> Config {
    Config {
        locks: true,
        ..Config::default()
    }
}

/// A file that a guest has open to read and write, and to lock.
struct Locked<'f> {
    fs: &'f Passthrough,
    node: NodeId,
    handle: Handle,
}

fn range(start: u64, end: u64) -> LockRange {
    LockRange { start, end }
}

/// A request that can be deferred; its waiters are never freed.
fn waiters() -> &'static Waiters {
    let waiters = Box::leak(Box::new(Waiters::new()));
    waiters.limit_deferred(100);
    waiters
}

impl Locked<'_> {
    fn args(&self, owner: LockOwner, kind: LockKind, range: LockRange) -> LockArgs {
        LockArgs {
            handle: self.handle,
            owner,
            lock: Lock {
                range,
                kind,
                pid: u32::try_from(owner).unwrap() + 1000,
            },
            flock: false,
            wait: false,
        }
    }

    fn set(&self, owner: LockOwner, kind: LockKind, range: LockRange) -> Result<()> {
        let args = self.args(owner, kind, range);
        self.fs.setlk(&by(&GUEST_ROOT, self.node), &args)
    }

    fn get(&self, owner: LockOwner, kind: LockKind, range: LockRange) -> Option<Lock> {
        let args = self.args(owner, kind, range);
        self.fs.getlk(&by(&GUEST_ROOT, self.node), &args).unwrap()
    }

    fn flock(&self, kind: LockKind) -> Result<()> {
        let args = LockArgs {
            flock: true,
            ..self.args(9, kind, range(0, LockRange::END))
        };
        self.fs.setlk(&by(&GUEST_ROOT, self.node), &args)
    }

    /// One try of a SETLKW.
    fn wait(
        &self,
        waiters: &'static Waiters,
        deferral: &Deferral,
        owner: LockOwner,
        kind: LockKind,
        range: LockRange,
    ) -> Result<()> {
        let args = LockArgs {
            wait: true,
            ..self.args(owner, kind, range)
        };
        let request = Request::new(owner, self.node, GUEST_ROOT, waiters);
        self.fs.setlk(&request.deferrable(deferral), &args)
    }

    /// One try of a `flock(2)` to write that may wait.
    fn flock_wait(&self, waiters: &'static Waiters, deferral: &Deferral) -> Result<()> {
        let args = LockArgs {
            flock: true,
            wait: true,
            ..self.args(9, Write, range(0, LockRange::END))
        };
        let request = Request::new(self.handle, self.node, GUEST_ROOT, waiters);
        self.fs.setlk(&request.deferrable(deferral), &args)
    }

    fn flush(&self, owner: LockOwner) {
        let request = by(&GUEST_ROOT, self.node);
        self.fs.flush(&request, self.handle, owner).unwrap();
    }

    fn release(&self) {
        let request = by(&GUEST_ROOT, self.node);
        self.fs.release(&request, closing(self.handle)).unwrap();
    }
}

fn share() -> Share {
    let share = Share::with(config());
    std::fs::write(share.path("file"), b"text").unwrap();
    share
}

fn open(share: &Share) -> Locked<'_> {
    open_as(&share.fs, libc::O_RDWR).unwrap()
}

fn open_as(fs: &Passthrough, flags: i32) -> Result<Locked<'_>> {
    let node = fs.lookup(&by(&GUEST_ROOT, ROOT), c"file")?.inode;
    let args = super::fixture::opening(flags.cast_unsigned(), false);
    let handle = fs.open(&by(&GUEST_ROOT, node), args)?.handle;
    Ok(Locked { fs, node, handle })
}

/// Another guest with the same directory.
fn second(share: &Share, config: Config) -> Passthrough {
    let fs = Passthrough::new(&share.path(""), config).unwrap();
    fs.init(Agreement {
        locks: true,
        ..Agreement::default()
    });
    fs
}

/// A process of the host that has the file open.
fn host(share: &Share) -> File {
    let file = File::options()
        .read(true)
        .write(true)
        .open(share.path("file"));
    file.unwrap()
}

fn host_sets(file: &File, kind: LockKind, range: LockRange) -> Result<()> {
    sys::lock(file.as_fd(), kind, range)
}

#[test]
fn owners_of_one_guest_keep_each_other_out() {
    let share = share();
    let file = open(&share);
    file.set(1, Write, range(0, 9)).unwrap();
    assert_eq!(file.set(2, Write, range(9, 20)), Err(Errno::AGAIN));
    assert_eq!(file.set(2, Read, range(0, 0)), Err(Errno::AGAIN));
    file.set(2, Write, range(10, 20)).unwrap();
    file.set(1, Read, range(0, 9)).unwrap();
    file.set(2, Read, range(5, 20)).unwrap();
    assert_eq!(file.set(1, Write, range(0, 9)), Err(Errno::AGAIN));
    file.set(1, Write, range(0, 4)).unwrap();
    // One process of the guest with two files open is one owner.
    let again = open(&share);
    again.set(1, Write, range(0, 4)).unwrap();
}

#[test]
fn a_lock_that_is_asked_for_is_told_with_its_process() {
    let share = share();
    let file = open(&share);
    assert_eq!(file.get(1, Write, range(0, 9)), None);
    file.set(1, Write, range(3, 4)).unwrap();
    let found = Lock {
        range: range(3, 4),
        kind: Write,
        pid: 1001,
    };
    assert_eq!(file.get(2, Read, range(0, LockRange::END)), Some(found));
    assert_eq!(file.get(1, Write, range(0, 9)), None);
    assert_eq!(file.get(2, Write, range(5, 9)), None);
    // What touches it is the same lock, by whichever open file it came.
    open(&share).set(1, Write, range(5, 6)).unwrap();
    let both = file.get(2, Write, range(6, 9)).unwrap();
    assert_eq!(both.range, range(3, 6));
    file.set(1, Unlock, range(5, 6)).unwrap();
    // Of a process of the host the guest knows nothing.
    let host = host(&share);
    for end in [LockRange::END, 109, 100] {
        host_sets(&host, Unlock, range(0, LockRange::END)).unwrap();
        host_sets(&host, Read, range(100, end)).unwrap();
        let foreign = Lock {
            range: range(100, end),
            kind: Read,
            pid: 0,
        };
        for asked in [&file, &open(&share)] {
            assert_eq!(asked.get(2, Write, range(50, 100)), Some(foreign));
        }
    }
    assert_eq!(file.get(2, Read, range(50, 100)), None);
}

#[test]
fn the_host_has_each_byte_that_some_owner_has() {
    let share = share();
    let file = open(&share);
    let host = host(&share);
    let taken = |kind, at| host_sets(&host, kind, range(at, at)).is_err();
    file.set(1, Read, range(0, 9)).unwrap();
    file.set(2, Read, range(5, 14)).unwrap();
    file.set(2, Write, range(20, 29)).unwrap();
    assert!(taken(Write, 0) && taken(Write, 14) && !taken(Read, 14));
    assert!(taken(Read, 20) && !taken(Write, 15));
    host_sets(&host, Unlock, range(0, LockRange::END)).unwrap();
    file.set(1, Unlock, range(0, LockRange::END)).unwrap();
    assert!(!taken(Write, 4));
    assert!(taken(Write, 5) && taken(Write, 14));
    host_sets(&host, Unlock, range(0, LockRange::END)).unwrap();
    file.set(2, Unlock, range(8, 25)).unwrap();
    assert!(!taken(Write, 8) && !taken(Write, 25));
    assert!(taken(Write, 7) && taken(Read, 26));
    // A lock that is changed is so for the host as well.
    file.set(2, Read, range(26, 26)).unwrap();
    assert!(!taken(Read, 26) && taken(Write, 26) && taken(Read, 27));
    file.flush(2);
    assert!(!taken(Write, 7) && !taken(Write, 27));
    assert_eq!(share.fs.locked_files(), 0);
}

#[test]
fn a_process_of_the_host_keeps_the_guest_out() {
    let share = share();
    let file = open(&share);
    let host = host(&share);
    host_sets(&host, Write, range(0, 9)).unwrap();
    assert_eq!(file.set(1, Read, range(9, 9)), Err(Errno::AGAIN));
    assert_eq!(share.fs.locked_files(), 0);
    host_sets(&host, Read, range(0, 9)).unwrap();
    file.set(1, Read, range(9, 9)).unwrap();
    assert_eq!(file.set(1, Write, range(9, 9)), Err(Errno::AGAIN));
    // It has what it had.
    assert_eq!(host_sets(&host, Write, range(9, 9)), Err(Errno::AGAIN));
    drop(host);
    file.set(1, Write, range(9, 9)).unwrap();
}

#[test]
fn two_guests_keep_each_other_out() {
    let share = share();
    let other = second(&share, config());
    let (one, two) = (open(&share), open_as(&other, libc::O_RDWR).unwrap());
    // The same number, and yet not the same owner.
    one.set(1, Write, range(0, 9)).unwrap();
    assert_eq!(two.set(1, Write, range(5, 5)), Err(Errno::AGAIN));
    assert_eq!(two.get(1, Read, range(5, 5)).unwrap().pid, 0);
    one.flock(Write).unwrap();
    assert_eq!(two.flock(Read), Err(Errno::AGAIN));
    share.fs.destroy();
    two.set(1, Write, range(5, 5)).unwrap();
    two.flock(Write).unwrap();
}

#[test]
fn a_close_ends_the_locks_of_who_closed() {
    let share = share();
    let (file, again) = (open(&share), open(&share));
    file.set(1, Write, range(0, 0)).unwrap();
    file.set(2, Write, range(1, 1)).unwrap();
    again.flush(1);
    file.set(3, Write, range(0, 0)).unwrap();
    assert_eq!(file.set(3, Write, range(1, 1)), Err(Errno::AGAIN));
    // That the last one is closed ends all that were taken with it: those of
    // F_OFD_SETLK, of which no FLUSH tells.
    again.set(4, Write, range(5, 5)).unwrap();
    file.release();
    again.set(3, Write, range(1, 1)).unwrap();
    assert_eq!(again.set(3, Write, range(5, 5)), Err(Errno::AGAIN));
    again.release();
    assert_eq!(share.fs.locked_files(), 0);
    host_sets(&host(&share), Write, range(0, LockRange::END)).unwrap();
}

#[test]
fn a_file_that_is_only_read_says_when_it_is_closed() {
    for (locks, silent) in [(true, false), (false, true)] {
        let share = Share::with(Config { locks, ..config() });
        std::fs::write(share.path("file"), b"text").unwrap();
        let node = share.walk("file").unwrap();
        let opened = share.open(node, libc::O_RDONLY).unwrap();
        assert_eq!(opened.behaviour.no_flush, silent);
        assert!(!share.open(node, libc::O_RDWR).unwrap().behaviour.no_flush);
    }
}

#[test]
fn a_read_only_share_can_be_locked_for_reading() {
    let first = share();
    let config = Config {
        read_only: true,
        ..config()
    };
    let fs = second(&first, config);
    let file = open_as(&fs, libc::O_RDONLY).unwrap();
    file.set(1, Read, range(0, 9)).unwrap();
    assert_eq!(file.set(1, Write, range(0, 9)), Err(Errno::BADF));
    assert_eq!(
        host_sets(&host(&first), Write, range(0, 9)),
        Err(Errno::AGAIN)
    );
    file.flock(Write).unwrap();
    let other = host(&first);
    let shared = FlockOperation::NonBlockingLockShared;
    assert_eq!(flock(&other, shared), Err(Errno::AGAIN));
}

#[test]
fn a_lock_wants_a_file_that_is_open_for_it() {
    let share = share();
    let reads = open_as(&share.fs, libc::O_RDONLY).unwrap();
    let writes = open_as(&share.fs, libc::O_WRONLY).unwrap();
    assert_eq!(reads.set(1, Write, range(0, 0)), Err(Errno::BADF));
    assert_eq!(writes.set(1, Read, range(0, 0)), Err(Errno::BADF));
    reads.set(1, Read, range(0, 0)).unwrap();
    writes.set(1, Write, range(0, 0)).unwrap();
    reads.set(1, Read, range(0, 0)).unwrap();
    let bad = Locked {
        handle: 99,
        ..reads
    };
    assert_eq!(bad.set(1, Read, range(0, 0)), Err(Errno::BADF));
}

#[test]
fn without_the_option_there_are_no_locks() {
    let share = Share::new();
    std::fs::write(share.path("file"), b"text").unwrap();
    let file = open(&share);
    assert_eq!(file.set(1, Read, range(0, 0)), Err(Errno::NOSYS));
    assert_eq!(file.flock(Read), Err(Errno::NOSYS));
    assert!(!share.fs.capabilities().agreement.locks);
}

#[test]
fn flock_belongs_to_the_open_file() {
    let share = share();
    let (one, two) = (open(&share), open(&share));
    let host = host(&share);
    one.flock(Read).unwrap();
    two.flock(Read).unwrap();
    let exclusive = FlockOperation::NonBlockingLockExclusive;
    assert_eq!(flock(&host, exclusive), Err(Errno::AGAIN));
    // It knows nothing of locks of fcntl(2).
    two.set(1, Write, range(0, LockRange::END)).unwrap();
    assert_eq!(one.flock(Write), Err(Errno::AGAIN));
    two.flock(Unlock).unwrap();
    one.flock(Write).unwrap();
    assert_eq!(two.flock(Read), Err(Errno::AGAIN));
    let request = by(&GUEST_ROOT, one.node);
    let unlock = ReleaseArgs {
        handle: one.handle,
        unlock: true,
    };
    // Even while somebody is still at work with it.
    let copy = share.fs.handles.get(one.node, one.handle).unwrap();
    share.fs.release(&request, unlock).unwrap();
    flock(&host, exclusive).unwrap();
    drop(copy);
    assert_eq!(two.flock(Read), Err(Errno::AGAIN));
}

#[test]
fn who_waits_gets_the_lock_when_it_is_free() {
    let share = share();
    let file = open(&share);
    let (waiters, deferral) = (waiters(), Deferral::default());
    file.set(1, Write, range(0, 9)).unwrap();
    let all = range(0, LockRange::END);
    let change = waiters.change();
    let wait = || file.wait(waiters, &deferral, 2, Write, all);
    assert_eq!(wait(), Err(WOULD_WAIT));
    assert_eq!(wait(), Err(WOULD_WAIT));
    // Who must not wait is told so before anything is begun with.
    let args = LockArgs {
        wait: true,
        ..file.args(3, Write, all)
    };
    let hurry = Request::new(3, file.node, GUEST_ROOT, waiters).in_a_hurry();
    assert_eq!(share.fs.setlk(&hurry, &args), Err(WOULD_WAIT));
    assert_eq!(waiters.change(), change);
    // What ends the wait says so.
    let request = Request::new(7, file.node, GUEST_ROOT, waiters);
    share.fs.flush(&request, file.handle, 1).unwrap();
    assert_ne!(waiters.change(), change);
    wait().unwrap();
    assert_eq!(file.set(3, Read, range(0, 0)), Err(Errno::AGAIN));
}

#[test]
fn what_flock_gives_up_to_wait_is_told_once() {
    let share = share();
    let files = [(); 3].map(|()| open(&share));
    let [one, two, three] = &files;
    let waiters = waiters();
    let deferrals = [(); 2].map(|()| Deferral::default());
    for file in [one, two, three] {
        file.flock(Read).unwrap();
    }
    assert_eq!(two.flock_wait(waiters, &deferrals[0]), Err(WOULD_WAIT));
    let change = waiters.change();
    assert_eq!(three.flock_wait(waiters, &deferrals[1]), Err(WOULD_WAIT));
    // Nobody reads there any more, for which another may wait.
    let told = waiters.change();
    assert_ne!(told, change);
    assert_eq!(three.flock_wait(waiters, &deferrals[1]), Err(WOULD_WAIT));
    assert_eq!(two.flock_wait(waiters, &deferrals[0]), Err(WOULD_WAIT));
    assert_eq!(waiters.change(), told);
    one.flock(Unlock).unwrap();
    three.flock_wait(waiters, &deferrals[1]).unwrap();
}

#[test]
fn an_interrupt_ends_a_wait() {
    let share = share();
    let file = open(&share);
    let (waiters, deferral) = (waiters(), Deferral::default());
    file.set(1, Write, range(0, 9)).unwrap();
    let wait = || file.wait(waiters, &deferral, 2, Write, range(0, 0));
    assert_eq!(wait(), Err(WOULD_WAIT));
    assert!(waiters.interrupt(2));
    assert_eq!(wait(), Err(Errno::INTR));
    drop(deferral);
    assert!(!waiters.interrupt(2));
    file.flush(1);
    assert_eq!(share.fs.locked_files(), 0);
}

#[test]
fn who_would_wait_for_itself_is_told_so() {
    let share = share();
    let file = open(&share);
    let waiters = waiters();
    let bytes = [0, 1, 2].map(|at| range(at, at));
    for (owner, byte) in (1..).zip(bytes) {
        file.set(owner, Write, byte).unwrap();
    }
    let deferrals = [(); 3].map(|()| Deferral::default());
    let wait = |owner: usize, byte: usize| {
        let number = u64::try_from(owner).unwrap() + 1;
        file.wait(waiters, &deferrals[owner], number, Write, bytes[byte])
    };
    assert_eq!(wait(0, 1), Err(WOULD_WAIT));
    assert_eq!(wait(1, 2), Err(WOULD_WAIT));
    assert_eq!(wait(2, 0), Err(Errno::DEADLK));
    // It waits for nobody then.
    file.flush(3);
    wait(1, 2).unwrap();
    assert_eq!(wait(0, 1), Err(WOULD_WAIT));
}

#[test]
fn a_deadlock_over_two_files_is_one() {
    let share = share();
    std::fs::write(share.path("other"), b"text").unwrap();
    let one = open(&share);
    let node = share.walk("other").unwrap();
    let handle = share.open(node, libc::O_RDWR).unwrap().handle;
    let two = Locked {
        node,
        handle,
        ..open(&share)
    };
    let waiters = waiters();
    let (first, second) = (Deferral::default(), Deferral::default());
    one.set(1, Write, range(0, 0)).unwrap();
    two.set(2, Write, range(0, 0)).unwrap();
    assert_eq!(
        two.wait(waiters, &first, 1, Read, range(0, 0)),
        Err(WOULD_WAIT)
    );
    assert_eq!(
        one.wait(waiters, &second, 2, Read, range(0, 0)),
        Err(Errno::DEADLK)
    );
    // Gone with who waits.
    drop(first);
    assert_eq!(
        one.wait(waiters, &second, 2, Read, range(0, 0)),
        Err(WOULD_WAIT)
    );
}

#[test]
fn a_wait_that_cannot_be_served_again_is_eagain() {
    let share = share();
    let file = open(&share);
    let waiters = waiters();
    waiters.limit_deferred(1);
    file.set(1, Write, range(0, 0)).unwrap();
    let args = LockArgs {
        wait: true,
        ..file.args(2, Write, range(0, 0))
    };
    let request = Request::new(2, file.node, GUEST_ROOT, waiters);
    assert_eq!(share.fs.setlk(&request, &args), Err(Errno::AGAIN));
    let (first, second) = (Deferral::default(), Deferral::default());
    assert_eq!(
        file.wait(waiters, &first, 2, Write, range(0, 0)),
        Err(WOULD_WAIT)
    );
    assert_eq!(
        file.wait(waiters, &second, 3, Write, range(0, 0)),
        Err(Errno::AGAIN)
    );
    drop(first);
    assert_eq!(
        file.wait(waiters, &second, 3, Write, range(0, 0)),
        Err(WOULD_WAIT)
    );
}

#[test]
fn a_guest_has_no_more_locks_than_there_may_be() {
    let share = share();
    let file = open(&share);
    let mut at = 0;
    let refused = loop {
        // One in the middle of another makes three of it.
        match file.set(1, if at % 4 == 0 { Write } else { Read }, range(at, at)) {
            Ok(()) => at += 2,
            Err(error) => break error,
        }
        assert!(at < 20_000);
    };
    assert_eq!(refused, Errno::NOLCK);
    assert!(at > 16_000, "{at}");
    file.set(1, Unlock, range(0, LockRange::END)).unwrap();
    file.set(1, Write, range(0, 0)).unwrap();
}

#[test]
fn without_a_descriptor_there_is_no_lock() {
    let share = Share::with(Config {
        fd_budget: Some(32),
        ..config()
    });
    std::fs::write(share.path("file"), b"text").unwrap();
    let file = open(&share);
    // A lock takes one more for each file, not for each owner.
    let before = share.fs.open_count();
    for owner in 0..1000 {
        file.set(owner, Read, range(0, 9)).unwrap();
    }
    assert_eq!(
        (share.fs.open_count(), share.fs.locked_files()),
        (before, 1)
    );
}
