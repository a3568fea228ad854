//! Hands back what the command left behind.
//!
//! Only what changed goes back. Every change of an inode, whatever it is,
//! updates its change time, so the command's traces are the inodes whose
//! change time is not the one noted before it started.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lab_init::{Collection, Region};

use crate::tar;

/// What tells an inode's states apart.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    kind: u32,
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            kind: metadata.mode() & 0o170_000,
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// A path to hand back, as it was before the command.
pub(crate) struct Collector {
    path: PathBuf,
    /// By path below `path`; the path itself is the empty one.
    before: HashMap<PathBuf, Stamp>,
}

impl Collector {
    /// Notes the state of `path`, which need not exist.
    pub(crate) fn new(path: &OsString) -> Result<Self> {
        let path = PathBuf::from(path);
        let before = survey(&path)
            .with_context(|| format!("cannot list {}", path.display()))?
            .into_iter()
            .collect();
        // Change times move in clock ticks of at most 10 ms; what the command
        // does must not fall into the tick of what unpacking did.
        thread::sleep(Duration::from_millis(20));
        Ok(Self { path, before })
    }

    /// Writes what changed to `drive`, at its position.
    pub(crate) fn collect(&self, drive: &mut File) -> Result<Collection> {
        self.try_collect(drive)
            .with_context(|| format!("cannot hand back {}", self.path.display()))
    }

    fn try_collect(&self, drive: &mut File) -> Result<Collection> {
        let after = survey(&self.path)?;
        let Some((_, root)) = after.first() else {
            return Ok(Collection::Missing);
        };
        let changed: Vec<&Path> = after
            .iter()
            .filter(|(path, stamp)| self.before.get(path) != Some(stamp))
            .map(|(path, _)| path.as_path())
            .collect();
        let now: HashMap<&Path, u32> = after
            .iter()
            .map(|(path, stamp)| (path.as_path(), stamp.kind))
            .collect();
        let mut removed: Vec<&Path> = self
            .before
            .iter()
            .filter(|(path, stamp)| now.get(path.as_path()) != Some(&stamp.kind))
            .map(|(path, _)| path.as_path())
            .collect();
        // A path sorts before what is below it.
        removed.sort_unstable_by(|a, b| b.cmp(a));
        if changed.is_empty() && removed.is_empty() {
            return Ok(Collection::Unchanged);
        }
        let offset = drive.stream_position()?;
        if root.kind == 0o100_000 {
            let mut source = File::open(&self.path)?;
            let length = io::copy(&mut source, drive)?;
            let mode = source.metadata()?.mode() & 0o7777;
            return Ok(Collection::File {
                region: Region { offset, length },
                mode,
            });
        }
        archive(&self.path, &changed, drive)?;
        let length = drive.stream_position()?.saturating_sub(offset);
        let removed = removed
            .into_iter()
            .map(|path| path.as_os_str().to_owned())
            .collect();
        Ok(Collection::Tree {
            removed,
            region: Region { offset, length },
        })
    }
}

/// Lists `root` and everything below it, a directory before its content.
/// Nothing at `root` is an empty list.
fn survey(root: &Path) -> io::Result<Vec<(PathBuf, Stamp)>> {
    let mut found = Vec::new();
    let mut pending = match fs::symlink_metadata(root) {
        Ok(metadata) => vec![(PathBuf::new(), metadata)],
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error),
    };
    while let Some((path, metadata)) = pending.pop() {
        if metadata.is_dir() {
            for entry in fs::read_dir(root.join(&path))? {
                let entry = entry?;
                pending.push((path.join(entry.file_name()), entry.metadata()?));
            }
        }
        found.push((path, Stamp::of(&metadata)));
    }
    Ok(found)
}

/// Appends an archive of exactly `paths` below `root` to `drive`.
fn archive(root: &Path, paths: &[&Path], drive: &File) -> Result<()> {
    let mut command = tar::command();
    command.args(["--create", "--format=posix", "--sparse", "--no-recursion"]);
    // Options of a list count for what comes after them only.
    command
        .args(["--pax-option=delete=atime,delete=ctime", "--directory"])
        .arg(root)
        .args(["--null", "--files-from=-"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(drive.try_clone()?)
        .spawn()
        .context("cannot run tar")?;
    let mut list = child.stdin.take().context("tar has no input")?;
    for path in paths {
        // `./` keeps a name that starts with a dash from being an option.
        list.write_all(b"./")?;
        list.write_all(path.as_os_str().as_bytes())?;
        list.write_all(OsStr::new("\0").as_bytes())?;
    }
    drop(list);
    let status = child.wait()?;
    if !status.success() {
        bail!("tar: {status}; its messages are on the lab's console");
    }
    Ok(())
}
