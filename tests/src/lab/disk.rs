//! Directories that are too large for the lab's memory: each goes in as an ext4
//! file system on a drive of its own.
//!
//! `mke2fs -d` fills it without being root and without a mount. It keeps owners,
//! modes, extended attributes and ACLs, hard links, holes and device nodes, and of
//! times the seconds.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::drive::attributes_of;
use super::machine::path_of;

/// From this size on a directory gets a disk without being asked for, in bytes.
pub(super) const LARGE: u64 = 256 << 20;
/// What a disk can take, in bytes. Sparse: it costs what is written.
const CAPACITY: u64 = 256 << 30;
/// How many files may be added to those it has.
const SPARE_INODES: u64 = 1 << 20;

/// A drive with a file system, to appear as a directory.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) image: File,
    pub(super) mount: lab_init::Disk,
}

impl Disk {
    /// Makes disk number `index` of the directory `from`, to be mounted at `to`.
    pub(super) fn new(index: usize, from: &Path, to: &Path) -> Result<Self> {
        let context = || format!("cannot make a disk of {}", from.display());
        let metadata = fs::metadata(from).with_context(context)?;
        let size = Size::of(from).with_context(context)?;
        let image = tempfile::tempfile().context("cannot create a temporary file")?;
        let capacity = CAPACITY.max(size.bytes.saturating_mul(2));
        make_file_system(from, &image, capacity, size.files + SPARE_INODES)?;
        let mount = lab_init::Disk {
            serial: format!("lab-disk{index}"),
            to: to.as_os_str().to_owned(),
            attributes: attributes_of(&metadata),
            has_lost_found: fs::symlink_metadata(from.join("lost+found")).is_ok(),
        };
        Ok(Self { image, mount })
    }
}

/// What there is in a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    /// Bytes its files take. A file with several names counts once, a hole not.
    pub(super) bytes: u64,
    /// Files of any type.
    pub(super) files: u64,
}

impl Size {
    /// Looks at everything below `directory`. What goes away meanwhile counts
    /// for nothing.
    pub(super) fn of(directory: &Path) -> io::Result<Self> {
        let mut size = Self::default();
        let mut linked = HashSet::new();
        let mut pending: Vec<PathBuf> = vec![directory.to_owned()];
        while let Some(path) = pending.pop() {
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                let metadata = match entry.metadata() {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    result => result?,
                };
                size.files += 1;
                if metadata.is_dir() {
                    pending.push(entry.path());
                } else if metadata.nlink() == 1 || linked.insert((metadata.dev(), metadata.ino())) {
                    size.bytes = size.bytes.saturating_add(metadata.blocks() * 512);
                }
            }
        }
        Ok(size)
    }
}

fn make_file_system(from: &Path, image: &File, capacity: u64, inodes: u64) -> Result<()> {
    image
        .set_len(capacity)
        .context("cannot create a sparse temporary file")?;
    let output = Command::new("mke2fs")
        // What is shared may be files with verity.
        .args(["-q", "-F", "-t", "ext4", "-O", "verity", "-m", "0"])
        .args(["-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"])
        .args(["-N", &inodes.to_string()])
        .arg("-d")
        .arg(from)
        .arg(path_of(image))
        .arg(format!("{}k", capacity / 1024))
        .stdin(Stdio::null())
        .output()
        .context("cannot run mke2fs; try apt-get install e2fsprogs")?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!(
            "cannot make a disk of {}: mke2fs: {}",
            from.display(),
            text.trim()
        );
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_two_names_counts_once_and_a_hole_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::create_dir(path("inner")).unwrap();
        fs::write(path("inner/file"), vec![1; 1 << 20]).unwrap();
        fs::hard_link(path("inner/file"), path("again")).unwrap();
        File::create(path("hole"))
            .unwrap()
            .set_len(1 << 30)
            .unwrap();
        let size = Size::of(directory.path()).unwrap();
        assert_eq!(size.files, 4);
        assert!((1 << 20..1 << 21).contains(&size.bytes), "{size:?}");
    }

    #[test]
    fn a_disk_has_what_the_directory_has() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("inner")).unwrap();
        fs::write(directory.path().join("inner/file"), "content").unwrap();
        let disk = Disk::new(3, directory.path(), Path::new("/there")).unwrap();
        assert_eq!(disk.mount.serial, "lab-disk3");
        assert!(!disk.mount.has_lost_found);
        let debugfs = Command::new("debugfs")
            .args(["-R", "cat /inner/file"])
            .arg(path_of(&disk.image))
            .output()
            .unwrap();
        assert_eq!(debugfs.stdout, b"content");
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let missing = Path::new("/nowhere/at/all");
        let error = format!("{:#}", Disk::new(0, missing, missing).unwrap_err());
        assert!(error.contains("/nowhere/at/all"), "{error}");
    }
}
