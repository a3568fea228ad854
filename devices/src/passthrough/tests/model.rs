//! Random operations, done through the file system on the share and by the
//! standard library on a directory beside it: both must end up the same.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rustix::io::Errno;

use super::fixture::operations::*;
use super::fixture::{GUEST_ROOT, Share, by, closing, moved_to, name, node, opening};
use crate::filesystem::{NodeId, ROOT, Result, SetAttributes};

/// Where things happen: few places, so that operations meet.
const PLACES: [&str; 9] = ["a", "b", "d", "e", "d/a", "d/b", "e/a", "d/e", "d/e/a"];

#[derive(Clone, Debug)]
enum Deed {
    Create(&'static str),
    Write(&'static str, u64, Vec<u8>),
    Truncate(&'static str, u64),
    Mkdir(&'static str),
    Unlink(&'static str),
    Rmdir(&'static str),
    Rename(&'static str, &'static str),
    Link(&'static str, &'static str),
    Symlink(&'static str),
    Chmod(&'static str, u32),
    List(&'static str),
}

fn place() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&PLACES[..])
}

fn step() -> impl Strategy<Value = Deed> {
    let data = prop::collection::vec(any::<u8>(), 1..64);
    prop_oneof![
        3 => place().prop_map(Deed::Create),
        3 => (place(), 0..200u64, data).prop_map(|(p, at, data)| Deed::Write(p, at, data)),
        1 => (place(), 0..300u64).prop_map(|(p, size)| Deed::Truncate(p, size)),
        4 => place().prop_map(Deed::Mkdir),
        1 => place().prop_map(Deed::Unlink),
        1 => place().prop_map(Deed::Rmdir),
        3 => (place(), place()).prop_map(|(a, b)| Deed::Rename(a, b)),
        1 => (place(), place()).prop_map(|(a, b)| Deed::Link(a, b)),
        1 => place().prop_map(Deed::Symlink),
        // Not set-group-ID, which a new directory inherits: std cannot make
        // one with a mode and keep that.
        1 => (place(), 0..0o7777u32).prop_map(|(p, mode)| Deed::Chmod(p, mode & !0o2000 | 0o700)),
        1 => place().prop_map(Deed::List),
    ]
}

impl Deed {
    /// Through the file system under test.
    fn through(&self, share: &Share) -> Result<()> {
        let fs = &share.fs;
        let who = &GUEST_ROOT;
        let at = |path: &str| -> Result<(NodeId, std::ffi::CString)> {
            match path.rsplit_once('/') {
                Some((parent, leaf)) => Ok((share.walk(parent)?, name(leaf))),
                None => Ok((ROOT, name(path))),
            }
        };
        match self {
            Self::Create(path) => {
                let (parent, leaf) = at(path)?;
                let flags = (libc::O_RDWR | libc::O_EXCL).cast_unsigned();
                let (entry, opened) =
                    fs.create(&by(who, parent), &leaf, &node(0o640), opening(flags, false))?;
                fs.release(&by(who, entry.inode), closing(opened.handle))
            }
            Self::Write(path, offset, data) => {
                let inode = share.walk(path)?;
                let opened = share.open(inode, libc::O_WRONLY)?;
                let wrote = share.write(inode, opened.handle, *offset, data);
                share.release(inode, &opened);
                assert_eq!(wrote, Ok(data.len()));
                Ok(())
            }
            Self::Truncate(path, size) => {
                let changes = SetAttributes {
                    size: Some(*size),
                    ..SetAttributes::default()
                };
                fs.setattr(&by(who, share.walk(path)?), None, &changes)
                    .map(drop)
            }
            Self::Mkdir(path) => {
                let (parent, leaf) = at(path)?;
                fs.mkdir(&by(who, parent), &leaf, &node(0o750)).map(drop)
            }
            Self::Unlink(path) => {
                at(path).and_then(|(parent, leaf)| fs.unlink(&by(who, parent), &leaf))
            }
            Self::Rmdir(path) => {
                at(path).and_then(|(parent, leaf)| fs.rmdir(&by(who, parent), &leaf))
            }
            Self::Rename(from, to) => {
                let ((parent, leaf), (new_parent, new)) = (at(from)?, at(to)?);
                fs.rename(&by(who, parent), &leaf, moved_to(new_parent, &new, 0))
            }
            Self::Link(from, to) => {
                let inode = share.walk(from)?;
                let (parent, leaf) = at(to)?;
                fs.link(&by(who, parent), &leaf, inode).map(drop)
            }
            Self::Symlink(path) => {
                let (parent, leaf) = at(path)?;
                fs.symlink(&by(who, parent), &leaf, c"nowhere").map(drop)
            }
            Self::Chmod(path, mode) => {
                let changes = SetAttributes {
                    mode: Some(*mode),
                    ..SetAttributes::default()
                };
                fs.setattr(&by(who, share.walk(path)?), None, &changes)
                    .map(drop)
            }
            Self::List(path) => share.list(share.walk(path)?, true, 512).map(drop),
        }
    }

    /// The same by the standard library below `root`.
    fn plainly(&self, root: &Path) -> std::io::Result<()> {
        let at = |path: &str| root.join(path);
        let mut options = File::options();
        options.write(true).custom_flags(libc::O_NOFOLLOW);
        match self {
            Self::Create(path) => options
                .create_new(true)
                .mode(0o600)
                .open(at(path))?
                .set_permissions(std::fs::Permissions::from_mode(0o640)),
            Self::Write(path, offset, data) => options.open(at(path))?.write_all_at(data, *offset),
            Self::Truncate(path, size) => options.open(at(path))?.set_len(*size),
            Self::Mkdir(path) => {
                std::fs::create_dir(at(path))?;
                std::fs::set_permissions(at(path), std::fs::Permissions::from_mode(0o750))
            }
            Self::Unlink(path) => std::fs::remove_file(at(path)),
            Self::Rmdir(path) => std::fs::remove_dir(at(path)),
            Self::Rename(from, to) => std::fs::rename(at(from), at(to)),
            Self::Link(from, to) => std::fs::hard_link(at(from), at(to)),
            Self::Symlink(path) => std::os::unix::fs::symlink("nowhere", at(path)),
            Self::Chmod(path, mode) => {
                std::fs::set_permissions(at(path), std::fs::Permissions::from_mode(*mode))
            }
            Self::List(path) => std::fs::read_dir(at(path)).map(drop),
        }
    }
}

/// Everything below a directory that does not depend on when it was made.
fn picture(root: &Path) -> Vec<(PathBuf, u32, u64, u64, Vec<u8>)> {
    let mut all = Vec::new();
    let mut left = vec![root.to_path_buf()];
    while let Some(at) = left.pop() {
        let about = at.symlink_metadata().unwrap();
        let contents = if about.is_dir() {
            left.extend(std::fs::read_dir(&at).unwrap().map(|e| e.unwrap().path()));
            Vec::new()
        } else if about.is_symlink() {
            std::fs::read_link(&at)
                .unwrap()
                .into_os_string()
                .into_encoded_bytes()
        } else {
            std::fs::read(&at).unwrap()
        };
        let below = at.strip_prefix(root).unwrap().to_path_buf();
        let size = if about.is_dir() { 0 } else { about.size() };
        all.push((below, about.mode(), about.nlink(), size, contents));
    }
    all.sort();
    all
}

/// What the guest sees of every place, against what the host has.
fn compare(share: &Share) {
    for path in PLACES {
        let Ok(host) = share.path(path).symlink_metadata() else {
            assert!(share.walk(path).is_err(), "{path} is not on the host");
            continue;
        };
        let inode = share.walk(path).unwrap();
        let told = share.attributes(inode).unwrap();
        assert_eq!(
            (told.ino, told.mode, told.size, u64::from(told.nlink)),
            (host.ino(), host.mode(), host.size(), host.nlink()),
            "{path}"
        );
        if host.is_file() {
            let host = std::fs::read(share.path(path)).unwrap();
            // Refused once if it is not everywhere any more where it was.
            let contents = share.contents(inode).or_else(|_| share.contents(inode));
            assert_eq!(contents.unwrap(), host, "{path}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Some steps are done on the host, behind the file system's back.
    #[test]
    fn a_share_ends_up_as_a_plain_directory_would(
        steps in prop::collection::vec((step(), prop::bool::weighted(0.25)), 1..60),
        handles in any::<bool>(),
    ) {
        let share = Share::cramped(handles);
        let plain = tempfile::tempdir().unwrap();
        std::fs::set_permissions(plain.path(), PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::set_permissions(share.path(""), PermissionsExt::from_mode(0o755)).unwrap();
        for (step, behind) in &steps {
            let done = if *behind {
                step.plainly(&share.path("")).is_ok()
            } else {
                match step.through(&share) {
                    // A guest looks the path up again, once.
                    Err(Errno::STALE) => step.through(&share).is_ok(),
                    outcome => outcome.is_ok(),
                }
            };
            let expected = step.plainly(plain.path()).is_ok();
            prop_assert_eq!(done, expected, "{:?}", step);
        }
        prop_assert_eq!(picture(&share.path("")), picture(plain.path()));
        compare(&share);
    }
}
