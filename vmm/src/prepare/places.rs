//! The places in the guest where shares are mounted: no two are one, none
//! hides what every command needs, and each can be made.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::shares::Share;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the tag '{0}' makes no place below /mnt: say with at= where to mount the share")]
    NoPlace(String),
    #[error("two shares are mounted at {}: give one of them another at=", .0.display())]
    Twice(PathBuf),
    #[error(
        "at={} would hide the guest's shell, its tools or their libraries: give another place, \
         or use --root for a system of your own", .0.display()
    )]
    Shell(PathBuf),
    #[error("at={} is no place for a directory: {} is a file there", at.display(), file.display())]
    File { at: PathBuf, file: PathBuf },
    #[error(
        "at={} cannot be made, since the share it is in is read-only: make the directory {} \
         first", at.display(), missing.display()
    )]
    ReadOnly { at: PathBuf, missing: PathBuf },
}

/// Whether the shell is not to be had without this file of the built-in initramfs:
/// all tools are links into `/bin`, and libraries are wherever the host has them.
fn is_for_shell(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or(file);
    file.starts_with("bin/") || name.contains(".so")
}

/// Checks where the built-in init is to mount the shares. `initramfs` has the
/// files of the built-in initramfs as paths without a leading slash, and is
/// empty where a root file system takes its place.
pub(super) fn check(shares: &[Share], initramfs: &[String]) -> Result<(), Error> {
    for (index, share) in shares.iter().enumerate() {
        let at = share.at.as_deref();
        let at = at.ok_or_else(|| Error::NoPlace(share.tag.clone()))?;
        let before = shares.get(..index).unwrap_or_default();
        if before.iter().any(|other| other.at.as_deref() == Some(at)) {
            return Err(Error::Twice(at.to_owned()));
        }
        let hides = |file: &&String| {
            let file = Path::new("/").join(file);
            file.starts_with(at) && file != at
        };
        if initramfs
            .iter()
            .filter(hides)
            .any(|file| is_for_shell(file))
        {
            return Err(Error::Shell(at.to_owned()));
        }
        match ground(shares, at) {
            Some((below, rest)) => check_on_host(at, below, rest)?,
            None => check_in_initramfs(at, initramfs)?,
        }
    }
    Ok(())
}

/// The share that a place is in, the innermost, and the way from there.
fn ground<'a>(shares: &'a [Share], at: &'a Path) -> Option<(&'a Share, &'a Path)> {
    let depth = |path: &Path| path.components().count();
    shares
        .iter()
        .filter_map(|share| {
            let rest = at.strip_prefix(share.at.as_deref()?).ok()?;
            (rest != Path::new("")).then_some((share, rest))
        })
        .min_by_key(|(_, rest)| depth(rest))
}

/// As far as it can be seen from here: what a link leads to, the guest knows.
fn check_on_host(at: &Path, below: &Share, rest: &Path) -> Result<(), Error> {
    // The root has an overlay then.
    let read_only = below.service.server.read_only && below.at.as_deref() != Some(Path::new("/"));
    let mut path = below.directory.clone();
    for step in rest {
        path.push(step);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(metadata) if metadata.is_symlink() => return Ok(()),
            Ok(_) => {
                return Err(Error::File {
                    at: at.to_owned(),
                    file: path,
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && read_only => {
                return Err(Error::ReadOnly {
                    at: at.to_owned(),
                    missing: below.directory.join(rest),
                });
            }
            Err(_) => return Ok(()),
        }
    }
    Ok(())
}

fn check_in_initramfs(at: &Path, initramfs: &[String]) -> Result<(), Error> {
    let file = initramfs
        .iter()
        .map(|file| Path::new("/").join(file))
        .find(|file| at.starts_with(file));
    match file {
        Some(file) => Err(Error::File {
            at: at.to_owned(),
            file,
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use vmm_options::share::{IdMaps, Service};

    fn share(directory: &Path, at: &str, read_only: bool) -> Share {
        let mut service = Service::default();
        service.server.read_only = read_only;
        Share {
            tag: "t".into(),
            directory: directory.to_owned(),
            at: Some(at.into()),
            service,
            maps: IdMaps::default(),
        }
    }

    fn message(shares: &[Share], initramfs: &[&str]) -> String {
        let initramfs: Vec<String> = initramfs.iter().map(|&file| file.into()).collect();
        match check(shares, &initramfs) {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn one_place_has_one_share() {
        let nowhere = Path::new("/nowhere");
        let shares = [share(nowhere, "/a", false), share(nowhere, "/a/.", false)];
        assert!(message(&shares, &[]).contains("two shares are mounted at /a"));
        let mut shares = shares;
        shares[1].at = None;
        assert!(message(&shares, &[]).contains("say with at="));
    }

    #[test]
    fn what_the_initramfs_has_is_not_mounted_over() {
        let tools = ["init", "bin/busybox", "usr/bin/env", "etc/passwd"];
        let at = |place: &str| message(&[share(Path::new("/nowhere"), place, false)], &tools);
        assert!(at("/bin").contains("hide the guest's shell"));
        for place in ["/init", "/init/x", "/bin/busybox", "/etc/passwd"] {
            assert!(at(place).contains("is a file there"), "{place}");
        }
        for place in ["/binary", "/bin/x", "/usr", "/usr/bin", "/lib", "/etc/x"] {
            assert_eq!(at(place), "", "{place}");
        }
        // With a root, and with a command of one's own, there is no shell there.
        let shares = [share(Path::new("/nowhere"), "/bin", false)];
        assert_eq!(message(&shares, &["init"]), "");
        // A busybox that is not static is nothing without its libraries.
        let tools = ["bin/busybox", "lib/x86/libc.so.6", "lib64/ld.so"];
        let at = |place: &str| message(&[share(Path::new("/nowhere"), place, false)], &tools);
        for place in ["/lib", "/lib/x86", "/lib64"] {
            assert!(at(place).contains("hide the guest's shell"), "{place}");
        }
        for place in ["/lib/modules", "/lib32", "/usr/lib"] {
            assert_eq!(at(place), "", "{place}");
        }
    }

    #[test]
    fn a_place_on_a_share_must_be_there_or_be_made() {
        let top = tempfile::tempdir().unwrap();
        let top = top.path();
        fs::create_dir_all(top.join("there/deep")).unwrap();
        fs::write(top.join("file"), "").unwrap();
        std::os::unix::fs::symlink("nowhere", top.join("link")).unwrap();
        let below = |place: &str, read_only| {
            // The order of the options is not that of the mounts.
            let inner = share(top, &format!("/x/{place}"), false);
            message(&[inner, share(top, "/x", read_only)], &["init"])
        };
        for read_only in [false, true] {
            assert_eq!(below("there/deep", read_only), "");
            assert_eq!(below("link", read_only), "");
            assert!(below("file/y", read_only).contains("is a file there"));
        }
        assert_eq!(below("there/new", false), "");
        let error = below("there/new/er", true);
        let missing = top.join("there/new/er");
        assert!(error.contains(missing.to_str().unwrap()), "{error}");

        // A root has an overlay; the innermost share counts.
        let root = share(top, "/", true);
        assert_eq!(message(&[root.clone(), share(top, "/new", false)], &[]), "");
        assert!(message(&[root, share(top, "/file", false)], &[]).contains("is a file there"));
        let shares = [
            share(top, "/x", true),
            share(top, "/x/there", false),
            share(top, "/x/there/new", false),
        ];
        assert_eq!(message(&shares, &[]), "");
    }
}
