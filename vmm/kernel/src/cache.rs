//! A directory with what is known of kernels that were seen before. It only ever
//! saves time: whatever is wrong with it, the kernel's own file is asked.
//!
//! An entry is named by device and inode of the kernel's file, so that a kernel
//! that is built again in its place takes the place of the old one. It is made
//! under another name and renamed: who reads has the whole of one, whoever else
//! writes. What a crash leaves of that is shown by the checksums.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{Timespec, Timestamps};

use crate::elf::ElfImage;
use crate::entry::{self, Facts, Kept, Unusable};
use crate::identity::Identity;

/// How much is kept.
const MOST_ENTRIES: usize = 16;
const MOST_BYTES: u64 = 512 << 20;
/// What an entry is called while it is written.
const UNFINISHED: &str = ".unfinished-";
/// Nobody writes for that long.
const ABANDONED: Duration = Duration::from_secs(3600);

/// Where it is kept what was learned of kernels.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    directory: Option<PathBuf>,
    is_read_only: bool,
}

impl Cache {
    /// No cache.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// The cache in `directory`, which need not exist, nor be possible to make.
    #[must_use]
    pub fn at(directory: PathBuf) -> Self {
        Self {
            directory: Some(directory),
            is_read_only: false,
        }
    }

    /// The same, with nothing changed in it.
    #[must_use]
    pub fn read_only(self) -> Self {
        Self {
            is_read_only: true,
            ..self
        }
    }

    /// What is known of the file that `identity` is of.
    pub(crate) fn find(&self, identity: &Identity) -> Option<(Facts, Option<Kept>)> {
        let directory = self.directory.as_deref()?;
        let path = directory.join(identity.name());
        match look(directory, &path, identity) {
            Ok(Ok(found)) => {
                if !self.is_read_only {
                    // The one that was used last goes last. Where root has made it: so be
                    // it.
                    let now = Timespec {
                        tv_sec: 0,
                        tv_nsec: rustix::fs::UTIME_NOW,
                    };
                    let times = Timestamps {
                        last_access: now,
                        last_modification: now,
                    };
                    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
                    let _ = rustix::fs::utimensat(rustix::fs::CWD, &path, &times, flags);
                }
                Some(found)
            }
            Ok(Err(why)) => {
                log::debug!("{}: not used, {why:?}", path.display());
                self.forget(identity);
                None
            }
            Err(error) => {
                log::debug!("{}: {error}", path.display());
                None
            }
        }
    }

    /// Drops what is known of the file that `identity` is of.
    pub(crate) fn forget(&self, identity: &Identity) {
        if let Some(directory) = self.directory.as_deref().filter(|_| !self.is_read_only) {
            // Refused where it is not ours; then it is refused again.
            let _ = fs::remove_file(directory.join(identity.name()));
        }
    }

    /// Keeps what is known of the file that `identity` is of.
    pub(crate) fn keep(
        &self,
        identity: &Identity,
        facts: &Facts,
        image: Option<(&ElfImage, &[u8])>,
    ) {
        let Some(directory) = self.directory.as_deref().filter(|_| !self.is_read_only) else {
            return;
        };
        let name = identity.name();
        let kept = store(directory, &name, |file| {
            entry::write(file, identity, facts, image)
        })
        .and_then(|()| bound(directory, &name, MOST_ENTRIES, MOST_BYTES));
        if let Err(error) = kept {
            log::debug!("{}: {error}", directory.display());
        }
    }
}

/// Whether nobody else can have written it.
fn is_ours(metadata: &Metadata) -> bool {
    let user = rustix::process::geteuid().as_raw();
    belongs(user, metadata.uid(), metadata.permissions().mode())
}

/// Whether only `user` and root can write what `owner` has.
fn belongs(user: u32, owner: u32, mode: u32) -> bool {
    const OTHERS_WRITE: u32 = 0o022;
    [user, 0].contains(&owner) && mode & OTHERS_WRITE == 0
}

fn foreign() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, "others can write it")
}

fn look(
    directory: &Path,
    path: &Path,
    identity: &Identity,
) -> io::Result<Result<(Facts, Option<Kept>), Unusable>> {
    if !is_ours(&fs::metadata(directory)?) {
        return Err(foreign());
    }
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || !is_ours(&metadata) {
        return Err(foreign());
    }
    entry::read(file, identity)
}

fn store(
    directory: &Path,
    name: &str,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(directory)?;
    // To others' caches nothing is added, by root either.
    let metadata = fs::metadata(directory)?;
    if !is_ours(&metadata) || metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(foreign());
    }
    let mut file = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .tempfile_in(directory)?;
    write(file.as_file_mut())?;
    file.persist(directory.join(name))?;
    Ok(())
}

/// Removes what was not used for the longest time until the rest is within bounds,
/// and what nobody finished. `newest` stays.
fn bound(directory: &Path, newest: &str, entries: usize, bytes: u64) -> io::Result<()> {
    let now = SystemTime::now();
    let mut kept = Vec::new();
    for item in fs::read_dir(directory)? {
        let item = item?;
        let metadata = item.metadata()?;
        let used = metadata.modified()?;
        let name = item.file_name();
        let is_unfinished = name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes());
        if is_unfinished {
            if now.duration_since(used).is_ok_and(|age| age > ABANDONED) {
                fs::remove_file(item.path())?;
            }
        } else if metadata.is_file() {
            kept.push((name != newest, used, metadata.len(), item.path()));
        }
    }
    kept.sort_by(|one, other| (one.0, other.1).cmp(&(other.0, one.1)));
    let mut total = 0;
    for (index, (is_other, _, size, path)) in kept.into_iter().enumerate() {
        total += size;
        if is_other && (index >= entries || total > bytes) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
