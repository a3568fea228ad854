//! The directory that `depmod` works in, with a lock for as long as somebody wants it.
//! One without is left of a process that was killed, and goes when the next one is made.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::process::geteuid;
use tempfile::TempDir;

/// What the names of all begin with.
const PREFIX: &str = "vmm-modules-";

/// Removed when it is dropped.
#[derive(Debug)]
pub(super) struct Workplace {
    directory: TempDir,
    _lock: File,
}

impl Workplace {
    /// Makes one below `top`, and removes what is left there.
    pub(super) fn below(top: &Path) -> io::Result<Self> {
        remove_left(top);
        loop {
            let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(top)?;
            // Another process may have found it without a lock, and removes it.
            let lock = match open(directory.path()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                lock => lock?,
            };
            // Where nothing can be locked, nothing is removed.
            let _ = flock(&lock, FlockOperation::LockExclusive);
            if directory.path().exists() {
                return Ok(Self {
                    directory,
                    _lock: lock,
                });
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// The directory itself, and not what a link leads to.
fn open(directory: &Path) -> io::Result<File> {
    let flags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW);
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(directory)
}

/// Removes those below `top` that are this user's and nobody wants. One that cannot be
/// removed stays.
fn remove_left(top: &Path) {
    for entry in fs::read_dir(top).into_iter().flatten().flatten() {
        let is_one = |name: &str| name.starts_with(PREFIX);
        if !entry.file_name().to_str().is_some_and(is_one) {
            continue;
        }
        let Ok(directory) = open(&entry.path()) else {
            continue;
        };
        let own = directory.metadata().map(|metadata| metadata.uid());
        if own.is_ok_and(|uid| uid == geteuid().as_raw())
            && flock(&directory, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_goes_and_what_is_in_use_stays() {
        let top = tempfile::tempdir().unwrap();
        let path = |name: &str| top.path().join(name);
        fs::create_dir_all(path("vmm-modules-left/lib/modules")).unwrap();
        fs::create_dir(path("other")).unwrap();
        std::os::unix::fs::symlink("other", path("vmm-modules-link")).unwrap();
        fs::write(path("vmm-modules-file"), "").unwrap();
        let used = Workplace::below(top.path()).unwrap();
        assert!(!path("vmm-modules-left").exists());

        let second = Workplace::below(top.path()).unwrap();

        assert!(used.path().exists() && second.path().exists());
        drop((used, second));
        let mut names: Vec<_> = fs::read_dir(top.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["other", "vmm-modules-file", "vmm-modules-link"]);
    }
}
