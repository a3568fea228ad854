//! The modules of a tree that a kernel was built in, laid out as
//! `make modules_install` does, but as links into the tree.
//!
//! In the guest the tree itself is at `/lib/modules/RELEASE/build`, where a
//! module's own build looks for it, too; the links lead there.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::initramfs::modules::{self, Modules, Needs};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot lay out the modules of {}", path.display())]
    Lay { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Modules(#[from] modules::Error),
}

/// The tool that knows which module needs which.
pub(super) const DEPMOD: &str = "depmod";
/// Where the tree is in the directory of its modules.
pub(super) const BUILD: &str = "build";

/// The modules of a tree, laid out for as long as this lives.
#[derive(Debug)]
pub(super) struct BuildTree {
    pub(super) tree: PathBuf,
    /// What the guest has to do without, on one line.
    pub(super) note: Option<String>,
    _directory: TempDir,
}

/// Lays out the modules of `tree` for a kernel of this `release`. `None` where
/// it has none.
pub(super) fn lay_out(
    tree: &Path,
    release: &str,
    depmod: &OsStr,
) -> Result<Option<(Modules, BuildTree)>, Error> {
    let lay = |source| Error::Lay {
        path: tree.to_owned(),
        source,
    };
    let tree = tree.canonicalize().map_err(lay)?;
    let order = match fs::read_to_string(tree.join("modules.order")) {
        Ok(order) => order,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(lay(error)),
    };
    let files: Vec<PathBuf> = order
        .lines()
        .filter_map(|line| module_file(&tree, line))
        .collect();
    let top = tempfile::Builder::new()
        .prefix("vmm-modules-")
        .tempdir()
        .map_err(lay)?;
    let directory = top.path().join("lib/modules").join(release);
    link(&tree, &directory, &files).map_err(lay)?;
    let failure = complete(&tree, top.path(), &directory, release, depmod).map_err(lay)?;
    let modules = Modules::laid_out(&directory, &tree)?;
    if failure.is_some() {
        let lines = lines(&modules.own_needs()?, &tree);
        fs::write(directory.join("modules.dep"), lines).map_err(lay)?;
    }
    let build = BuildTree {
        note: failure.map(|reason| {
            format!("{reason}: modprobe of the guest finds modules by their names only, if at all")
        }),
        tree,
        _directory: top,
    };
    Ok(Some((modules, build)))
}

/// The file of a line of `modules.order`, below the tree: the lines begin with
/// `kernel/` before Linux 6.2 and end in `.o` since 6.3.
fn module_file(tree: &Path, line: &str) -> Option<PathBuf> {
    let object = line.strip_suffix(".o").map(|name| format!("{name}.ko"));
    let line = object.as_deref().unwrap_or(line);
    let is_below = |path: &Path| {
        (path.components()).all(|component| matches!(component, Component::Normal(_)))
    };
    [line.strip_prefix("kernel/"), Some(line)]
        .into_iter()
        .flatten()
        .map(PathBuf::from)
        .find(|path| is_below(path) && tree.join(path).is_file())
}

/// Makes the links, and the lists that a build leaves in the tree.
fn link(tree: &Path, directory: &Path, files: &[PathBuf]) -> io::Result<()> {
    fs::create_dir_all(directory.join(BUILD))?;
    let mut order = String::new();
    for file in files {
        let place = Path::new("kernel").join(file);
        let link = directory.join(&place);
        let parent = place.parent().unwrap_or(&place);
        fs::create_dir_all(directory.join(parent))?;
        let mut target: PathBuf = parent.components().map(|_| "..").collect();
        target.push(BUILD);
        symlink(target.join(file), link)?;
        order.push_str(&format!("{}\n", place.display()));
    }
    fs::write(directory.join("modules.order"), order)?;
    for list in ["modules.builtin", "modules.builtin.modinfo"] {
        if tree.join(list).is_file() {
            fs::copy(tree.join(list), directory.join(list))?;
        }
    }
    Ok(())
}

/// Has depmod add what it knows. Says why it could not, if it could not.
fn complete(
    tree: &Path,
    top: &Path,
    directory: &Path,
    release: &str,
    depmod: &OsStr,
) -> io::Result<Option<String>> {
    // What is a directory in the guest, which the tree is mounted at, has to
    // lead to the tree while depmod reads the modules.
    let build = directory.join(BUILD);
    fs::remove_dir(&build)?;
    symlink(tree, &build)?;
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new(depmod)
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .arg("-b")
        .args([top, Path::new(release)])
        .stdin(Stdio::null())
        .output();
    fs::remove_file(&build)?;
    fs::create_dir(&build)?;
    Ok(match output {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.lines().next().unwrap_or_default().to_owned();
            Some(format!("depmod failed ({said})"))
        }
        Err(error) => Some(format!("no depmod (package kmod): {error}")),
    })
}

/// The lines of `modules.dep`, from what each module of `tree` needs itself.
fn lines(needs: &BTreeMap<String, Needs>, tree: &Path) -> String {
    let place = |file: &Path| Path::new("kernel").join(file.strip_prefix(tree).unwrap_or(file));
    let mut text = String::new();
    for (name, own) in needs {
        let mut all = Vec::new();
        collect(name, needs, &mut HashSet::from([name.as_str()]), &mut all);
        text.push_str(&format!("{}:", place(&own.file).display()));
        for file in all {
            text.push_str(&format!(" {}", place(file).display()));
        }
        text.push('\n');
    }
    text
}

/// What `name` needs, each after those that need it.
fn collect<'a>(
    name: &str,
    needs: &'a BTreeMap<String, Needs>,
    seen: &mut HashSet<&'a str>,
    all: &mut Vec<&'a Path>,
) {
    let direct = needs.get(name).into_iter().flat_map(|own| &own.modules);
    for need in direct {
        if let Some(own) = needs.get(need)
            && seen.insert(need)
        {
            all.push(&own.file);
            collect(need, needs, seen, all);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const NO_DEPMOD: &str = "no-such-depmod";

    /// A tree with `virtiofs`, which needs `fuse`, listed as in `order`.
    fn tree(order: &str) -> TempDir {
        let top = tempfile::tempdir().unwrap();
        let file = |path: &str, contents: &[u8]| {
            let path = top.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, contents).unwrap();
        };
        file("modules.order", order.as_bytes());
        file("modules.builtin", b"kernel/fs/overlayfs/overlay.ko\n");
        file("fs/fuse/virtiofs.ko", b"\0depends=fuse\0name=virtiofs\0");
        file("fs/fuse/fuse.ko", b"\0depends=\0");
        top
    }

    #[test]
    fn modules_are_links_into_the_tree_at_build() {
        for order in [
            "kernel/fs/fuse/fuse.ko\nkernel/fs/fuse/virtiofs.ko\n",
            "fs/fuse/fuse.ko\nfs/fuse/virtiofs.ko\n",
            "fs/fuse/fuse.o\nfs/fuse/virtiofs.o\nfs/not-built.o\n../../etc/passwd\n",
        ] {
            let tree = tree(order);
            let (modules, build) = lay_out(tree.path(), "6.1.0", NO_DEPMOD.as_ref())
                .unwrap()
                .unwrap();
            let directory = modules.directory();
            assert!(directory.ends_with("lib/modules/6.1.0"));
            let link = fs::read_link(directory.join("kernel/fs/fuse/virtiofs.ko")).unwrap();
            assert_eq!(link, Path::new("../../../build/fs/fuse/virtiofs.ko"));
            // A place for the tree.
            assert!(
                fs::symlink_metadata(directory.join(BUILD))
                    .unwrap()
                    .is_dir()
            );
            assert_eq!(build.tree, tree.path().canonicalize().unwrap());
            let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap();
            assert_eq!(
                read("modules.order"),
                "kernel/fs/fuse/fuse.ko\nkernel/fs/fuse/virtiofs.ko\n"
            );
            assert!(read("modules.builtin").contains("overlay"));
        }
    }

    #[test]
    fn without_depmod_modules_are_found_by_their_names() {
        let tree = tree("fs/fuse/fuse.o\nfs/fuse/virtiofs.o\n");
        let (modules, build) = lay_out(tree.path(), "6.1.0", NO_DEPMOD.as_ref())
            .unwrap()
            .unwrap();
        assert!(build.note.is_some_and(|note| note.contains("package kmod")));
        assert_eq!(
            fs::read_to_string(modules.directory().join("modules.dep")).unwrap(),
            "kernel/fs/fuse/fuse.ko:\nkernel/fs/fuse/virtiofs.ko: kernel/fs/fuse/fuse.ko\n"
        );
        // And the initramfs gets what they are.
        let order = modules.load_order(&["virtiofs"]).unwrap();
        let names: Vec<_> = order.iter().map(|module| module.name.as_str()).collect();
        assert_eq!(names, ["fuse", "virtiofs"]);
        assert_eq!(order[0].contents, b"\0depends=\0");
    }

    #[test]
    fn what_depmod_says_is_told_and_a_tree_may_have_no_modules() {
        let tree = tree("fs/fuse/fuse.o\n");
        let (_, build) = lay_out(tree.path(), "6.1.0", "false".as_ref())
            .unwrap()
            .unwrap();
        assert!(
            build
                .note
                .is_some_and(|note| note.contains("depmod failed"))
        );
        let (_, build) = lay_out(tree.path(), "6.1.0", "true".as_ref())
            .unwrap()
            .unwrap();
        assert_eq!(build.note, None);
        fs::remove_file(tree.path().join("modules.order")).unwrap();
        assert!(
            lay_out(tree.path(), "6.1.0", "true".as_ref())
                .unwrap()
                .is_none()
        );
    }
}
