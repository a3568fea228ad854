//! The two drives that carry files: one brings what the command needs, the
//! other takes back what it changed.
//!
//! Both are sparse files without a name, so nothing is left to remove.

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use lab_init::{Attributes, Collection, Content, Delivery, Region};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, openat2, unlinkat};

/// What the drive out can take, in bytes. Sparse: it costs what is written.
const CAPACITY_OUT: u64 = 256 << 30;
/// virtio-blk drives are made of sectors of this size.
const SECTOR: u64 = 512;

/// The drive that brings files in.
#[derive(Debug)]
pub(super) struct DriveIn {
    file: File,
    deliveries: Vec<Delivery>,
    /// Bytes that unpacking will take, roughly.
    size: u64,
}

impl DriveIn {
    pub(super) fn new() -> Result<Self> {
        let file = tempfile::tempfile().context("cannot create a temporary file")?;
        Ok(Self {
            file,
            deliveries: Vec::new(),
            size: 0,
        })
    }

    /// Puts the file or directory `from` on the drive, to appear as `to`.
    pub(super) fn add(&mut self, from: &Path, to: &Path) -> Result<()> {
        let metadata =
            fs::metadata(from).with_context(|| format!("cannot read {}", from.display()))?;
        let offset = self.file.stream_position()?;
        let content = if metadata.is_dir() {
            pack(from, &self.file)?;
            Content::Tree
        } else if metadata.is_file() {
            let mut source =
                File::open(from).with_context(|| format!("cannot open {}", from.display()))?;
            io::copy(&mut source, &mut self.file)
                .with_context(|| format!("cannot copy {}", from.display()))?;
            Content::File(attributes_of(&metadata))
        } else {
            bail!("{} is neither a file nor a directory", from.display());
        };
        let length = self.file.stream_position()? - offset;
        self.size += length;
        let to = to.as_os_str().to_owned();
        self.deliveries.push(Delivery {
            to,
            content,
            region: Region { offset, length },
        });
        Ok(())
    }

    /// Bytes on the drive.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The finished drive and the list of what is on it.
    pub(super) fn finish(self) -> Result<(File, Vec<Delivery>)> {
        let length = self.file.metadata()?.len();
        self.file.set_len(length.max(1).next_multiple_of(SECTOR))?;
        Ok((self.file, self.deliveries))
    }
}

/// What is told of a file or directory apart from its content.
pub(super) fn attributes_of(metadata: &Metadata) -> Attributes {
    Attributes {
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        modified: (
            metadata.mtime(),
            u32::try_from(metadata.mtime_nsec()).unwrap_or(0),
        ),
    }
}

/// Archives the content of `directory` as it is: GNU tar keeps nanoseconds,
/// owners, extended attributes and ACLs, hard links, holes and device nodes.
fn pack(directory: &Path, drive: &File) -> Result<()> {
    let mut command = tar();
    command.args(["--create", "--format=posix", "--sparse"]);
    command
        .args(["--pax-option=delete=atime,delete=ctime", "--directory"])
        .arg(directory)
        .arg(".");
    command.stdin(Stdio::null()).stdout(drive.try_clone()?);
    let status = command.status().context("cannot run tar")?;
    if !status.success() {
        bail!("tar cannot pack {}: {status}", directory.display());
    }
    Ok(())
}

fn tar() -> Command {
    let mut command = Command::new("tar");
    command.args([
        "--numeric-owner",
        "--xattrs",
        "--xattrs-include=*",
        "--acls",
    ]);
    command.args(["--warning=no-file-ignored"]);
    command
}

/// The drive that takes files out.
#[derive(Debug)]
pub(super) struct DriveOut(File);

impl DriveOut {
    pub(super) fn new() -> Result<Self> {
        let file = tempfile::tempfile().context("cannot create a temporary file")?;
        file.set_len(CAPACITY_OUT)
            .context("cannot create a sparse temporary file")?;
        Ok(Self(file))
    }

    pub(super) fn file(&self) -> &File {
        &self.0
    }

    /// Makes `to` what the lab says it has become.
    pub(super) fn apply(&mut self, collection: &Collection, to: &Path) -> Result<()> {
        self.try_apply(collection, to)
            .with_context(|| format!("cannot bring back {}", to.display()))
    }

    fn try_apply(&mut self, collection: &Collection, to: &Path) -> Result<()> {
        match collection {
            Collection::Missing | Collection::Unchanged => Ok(()),
            Collection::File { region, mode } => {
                let mut file = if to.exists() {
                    fs::OpenOptions::new().write(true).truncate(true).open(to)?
                } else {
                    let file = File::create(to)?;
                    file.set_permissions(fs::Permissions::from_mode(*mode))?;
                    file
                };
                self.copy(*region, &mut file)
            }
            Collection::Tree { removed, region } => {
                fs::create_dir_all(to)?;
                for path in removed {
                    remove(to, path)?;
                }
                if region.length == 0 {
                    return Ok(());
                }
                let mut command = tar();
                command
                    .args(["--extract", "--preserve-permissions", "--directory"])
                    .arg(to);
                let mut child = command
                    .stdin(Stdio::piped())
                    .spawn()
                    .context("cannot run tar")?;
                let mut sink = child.stdin.take().context("tar has no input")?;
                let copied = self.copy(*region, &mut sink);
                drop(sink);
                let status = child.wait()?;
                if !status.success() {
                    bail!("tar: {status}");
                }
                copied
            }
        }
    }

    fn copy(&mut self, region: Region, sink: &mut impl Write) -> Result<()> {
        self.0.seek(SeekFrom::Start(region.offset))?;
        let copied = io::copy(&mut (&self.0).take(region.length), sink)?;
        if copied != region.length {
            bail!("the drive ends after {copied} of {} bytes", region.length);
        }
        Ok(())
    }
}

/// Removes `path` below `root`, whatever it is. A guest had its hands on the
/// names: no component may lead elsewhere.
fn remove(root: &Path, path: &OsString) -> Result<()> {
    let path = PathBuf::from(path);
    let (Some(name), parent) = (path.file_name(), path.parent().unwrap_or(Path::new(""))) else {
        bail!("{} cannot be removed", path.display());
    };
    if !path
        .components()
        .all(|part| matches!(part, Component::Normal(_)))
    {
        bail!("{} cannot be removed", path.display());
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, flags, Mode::empty())?;
    let parent = if parent.as_os_str().is_empty() {
        root
    } else {
        let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        openat2(&root, parent, flags, Mode::empty(), inside)?
    };
    let removed = match unlinkat(&parent, name, AtFlags::empty()) {
        Err(rustix::io::Errno::ISDIR | rustix::io::Errno::PERM) => {
            unlinkat(&parent, name, AtFlags::REMOVEDIR)
        }
        result => result,
    };
    match removed {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot remove {}", path.display())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_the_tree_is_removed() {
        let outer = tempfile::tempdir().unwrap();
        let tree = outer.path().join("tree");
        fs::create_dir_all(tree.join("inner")).unwrap();
        fs::write(outer.path().join("precious"), "x").unwrap();
        std::os::unix::fs::symlink("..", tree.join("up")).unwrap();
        for bad in [
            "../precious",
            "up/precious",
            "inner/../../precious",
            "/etc/passwd",
            "",
        ] {
            assert!(remove(&tree, &bad.into()).is_err(), "{bad}");
        }
        assert!(outer.path().join("precious").exists());
        remove(&tree, &"up".into()).unwrap();
        remove(&tree, &"inner".into()).unwrap();
        remove(&tree, &"inner".into()).unwrap();
        assert_eq!(fs::read_dir(&tree).unwrap().count(), 0);
    }
}
