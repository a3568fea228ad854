//! Locks of byte ranges, for which no safe wrapper exists.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use rustix::io::Errno;

/// What to do, by its number in `fcntl.h`, with a lock of which kind.
#[derive(Clone, Copy)]
pub(crate) struct Command(i32, i32);

/// Locks that belong to the process.
pub(crate) const READ: Command = Command(libc::F_SETLK, libc::F_RDLCK);
pub(crate) const WRITE: Command = Command(libc::F_SETLK, libc::F_WRLCK);
#[allow(dead_code)] // of locker
pub(crate) const UNLOCK: Command = Command(libc::F_SETLK, libc::F_UNLCK);
/// Locks that belong to the open file.
pub(crate) const OWN_READ: Command = Command(libc::F_OFD_SETLK, libc::F_RDLCK);
pub(crate) const OWN_WRITE: Command = Command(libc::F_OFD_SETLK, libc::F_WRLCK);
pub(crate) const OWN_UNLOCK: Command = Command(libc::F_OFD_SETLK, libc::F_UNLCK);
pub(crate) const OWN_WAIT: Command = Command(libc::F_OFD_SETLKW, libc::F_WRLCK);

fn call(
    file: &File,
    Command(command, kind): Command,
    at: i64,
    len: i64,
) -> Result<libc::flock, Errno> {
    let mut lock = libc::flock {
        l_type: i16::try_from(kind).unwrap(),
        l_whence: 0,
        l_start: at,
        l_len: len,
        l_pid: 0,
    };
    // SAFETY: `lock` is a whole `struct flock`, exclusively borrowed while the
    // kernel reads and writes it.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut lock) } {
        -1 => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap()),
        _ => Ok(lock),
    }
}

/// Carries `command` out for `len` bytes at `at`; 0 are all to the end.
pub(crate) fn lock(file: &File, command: Command, at: i64, len: i64) -> Result<(), Errno> {
    call(file, command, at, len).map(drop)
}

/// What keeps this process from locking: where it begins, its length and its
/// process.
pub(crate) fn find(file: &File, at: i64, len: i64) -> Option<(i64, i64, i32)> {
    let found = call(file, Command(libc::F_GETLK, libc::F_WRLCK), at, len).unwrap();
    (i32::from(found.l_type) != libc::F_UNLCK).then_some((found.l_start, found.l_len, found.l_pid))
}

/// What keeps this open file from a lock like the one that `command` asks for:
/// its kind, where it begins and its length.
#[allow(dead_code)] // of tests/differential
pub(crate) fn find_other(
    file: &File,
    Command(_, kind): Command,
    at: i64,
    len: i64,
) -> Option<(i16, i64, i64)> {
    let found = call(file, Command(libc::F_OFD_GETLK, kind), at, len).unwrap();
    (i32::from(found.l_type) != libc::F_UNLCK).then_some((found.l_type, found.l_start, found.l_len))
}
