//! Turns of those who change what is kept of one node: it is read, changed and
//! written, and another server of the same tree does so as well (`kept_owners`).
//!
//! The lock is on a byte of a file in memory that all processes of a user share:
//! one on the node itself would be in the way of programs that lock it. A server
//! that is stopped in its turn holds the others up for a tenth of a second, and no
//! longer. Who takes no turns, as `fuse-overlayfs` and other hosts do not, may
//! undo a change that is made at the same moment.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{CWD, FileType, MemfdFlags, Mode, OFlags};
use rustix::io::Errno;

use super::Passthrough;
use super::budget::{Descriptor, Purpose};
use super::stat::Stat;
use super::sys;
use crate::filesystem::{LockKind, LockRange, Result};

/// How often a turn is asked for, and how long it is waited for in between.
const TRIES: u32 = 100;
const BETWEEN: Duration = Duration::from_millis(1);

/// The file with the locks.
#[derive(Debug)]
pub(super) struct Turns(OwnedFd);

impl Turns {
    /// Those of the process's user, or of this share alone where there is no place
    /// for them.
    pub(super) fn new() -> Result<Self> {
        let of_user = path().ok_or(Errno::NOENT).and_then(|path| open(&path));
        let file = of_user.or_else(|error| {
            log::info!("other servers of this user take no turns with this one: {error}");
            rustix::fs::memfd_create(c"turns", MemfdFlags::CLOEXEC)
        })?;
        Ok(Self(file))
    }

    /// The file.
    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Opens the file at `path`, or makes it; `EPERM` where somebody else has put one
/// there, as anybody may.
fn open(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(CWD, path, flags, Mode::RUSR | Mode::WUSR)?;
    let status = rustix::fs::fstat(&file)?;
    let ours = status.st_uid == rustix::process::geteuid().as_raw()
        && FileType::from_raw_mode(status.st_mode) == FileType::RegularFile
        && status.st_mode & 0o077 == 0;
    ours.then_some(file).ok_or(Errno::PERM)
}

/// Where the file is for all processes of the user, by whatever number they have in
/// a user namespace.
fn path() -> Option<PathBuf> {
    let map = std::fs::read_to_string("/proc/self/uid_map").ok()?;
    let user = outside(&map, rustix::process::geteuid().as_raw())?;
    Some(format!("/dev/shm/vmm-owners-{user}").into())
}

/// Who `id` is outside of the user namespace with this map.
fn outside(map: &str, id: u32) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut numbers = line.split_whitespace().map(|number| number.parse().ok());
        let mut next = || -> Option<u32> { numbers.next()? };
        let (inside, outside, count) = (next()?, next()?, next()?);
        let nth = id.checked_sub(inside).filter(|nth| *nth < count)?;
        outside.checked_add(nth)
    })
}

impl Passthrough {
    /// Waits for a turn with the node open as `fd`, which is over when what this
    /// gives is dropped.
    pub(super) fn turn(&self, fd: impl AsFd) -> Result<Option<Descriptor<OwnedFd>>> {
        let Some(turns) = &self.turns else {
            return Ok(None);
        };
        let status = Stat::of(fd)?;
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let byte = hasher.hash_one((status.device, status.raw.stx_ino)) >> 2;
        let range = LockRange {
            start: byte,
            end: byte,
        };
        // Locks are an open file's: one for each turn keeps threads apart, too.
        let open = || self.root.reopen(&turns.0, OFlags::RDWR);
        let file = self.hold(Purpose::Work, open)?;
        for _ in 0..TRIES {
            match sys::lock(&file, LockKind::Write, range) {
                Err(Errno::AGAIN | Errno::ACCESS) => thread::sleep(BETWEEN),
                outcome => return outcome.map(|()| Some(file)),
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    #[test]
    fn a_file_that_another_user_may_have_made_is_not_taken() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("turns");
        open(&path).unwrap();
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        assert!(open(&path).is_ok());
        for mode in [0o606, 0o640] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(open(&path).map(drop), Err(Errno::PERM));
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let link = top.path().join("link");
        symlink(&path, &link).unwrap();
        assert_eq!(open(&link).map(drop), Err(Errno::LOOP));
        if rustix::process::geteuid().is_root() {
            chown(&path, Some(1), None).unwrap();
            assert_eq!(open(&path).map(drop), Err(Errno::PERM));
        }
    }

    #[test]
    fn a_user_is_the_same_in_every_namespace() {
        let all = "         0          0 4294967295\n";
        assert_eq!(outside(all, 1000), Some(1000));
        let own = "         0       1000          1\n         1     100000      65536\n";
        assert_eq!(outside(own, 0), Some(1000));
        assert_eq!(outside(own, 65_536), Some(165_535));
        assert_eq!(outside(own, 65_537), None);
        assert_eq!(outside("x", 0), None);
    }
}
