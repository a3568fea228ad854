//! Directories that the host moved out of the share.
//!
//! A descriptor goes with its directory wherever that is moved, so a guest
//! that holds one could follow it out of the share. Before a directory is used
//! to reach anything, it is therefore checked that the share's root is still
//! above it. How far above is remembered, which makes the check one system
//! call; after a move it is found out anew, one level at a time.
//!
//! This is the only place where the host is ever handed `..`, and nothing
//! found that way is shown to the guest. A move between the check and the use
//! is not noticed until the next use.

use std::ffi::CStr;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::Passthrough;
use super::inode::Inode;
use super::stat::{Identity, Stat};
use super::sys::count_call;
use crate::filesystem::{ROOT, Result};

/// Levels that one system call can go up: a path is shorter than `PATH_MAX`
/// (4096 bytes).
const LEVELS: usize = 1365;

/// `../` as often as that, and the NUL.
static UP: [u8; LEVELS * 3 + 1] = {
    let mut path = [0; LEVELS * 3 + 1];
    let mut level = 0;
    while level < LEVELS {
        path[level * 3] = b'.';
        path[level * 3 + 1] = b'.';
        path[level * 3 + 2] = b'/';
        level += 1;
    }
    path
};

/// The path that goes up `levels` directories: a tail of [`UP`].
fn up(levels: usize) -> Option<&'static CStr> {
    let start = LEVELS.checked_sub(levels)?.checked_mul(3)?;
    CStr::from_bytes_with_nul(UP.get(start..)?).ok()
}

impl Passthrough {
    /// Makes sure that the directory open as `fd` is under the share's root.
    pub(super) fn confine(&self, inode: &Inode, fd: impl AsFd) -> Result<()> {
        if inode.number == ROOT {
            return Ok(());
        }
        let root = self.inodes.get(ROOT)?;
        let identity = |status: Stat| root.mount.identity(&status);
        let levels = inode.depth.load(Ordering::Relaxed);
        if levels > 0
            && let Some(path) = up(levels)
            && identity(Stat::above(&fd, path)?) == root.identity
        {
            return Ok(());
        }
        let levels = self.climb(fd, &root.identity, identity)?;
        inode.depth.store(levels, Ordering::Relaxed);
        Ok(())
    }

    /// How many levels the share's root is above a directory; `ESTALE` when
    /// it is not.
    fn climb(
        &self,
        fd: impl AsFd,
        root: &Identity,
        identity: impl Fn(Stat) -> Identity,
    ) -> Result<usize> {
        let parent = |of: &dyn Fn() -> Result<_>| self.with_descriptors(of);
        let open = |fd: std::os::fd::BorrowedFd<'_>| {
            count_call();
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::openat(fd, c"..", flags, Mode::empty())
        };
        let mut before = identity(Stat::of(&fd)?);
        let mut at = parent(&|| open(fd.as_fd()))?;
        let mut levels = 1;
        loop {
            let here = identity(Stat::of(&at)?);
            if here == *root {
                return Ok(levels);
            }
            // The top of everything is its own parent.
            if here == before {
                return Err(Errno::STALE);
            }
            before = here;
            at = parent(&|| open(at.as_fd()))?;
            levels = levels.saturating_add(1);
        }
    }
}
