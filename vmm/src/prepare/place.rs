//! Where the kernel and its modules are: a file, or a directory that has them,
//! as `make` and packages leave it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "there is no kernel in {}: it has no arch/x86/boot/bzImage as a build tree has, nor \
         boot/vmlinuz-* or lib/modules/*/vmlinuz as an unpacked package, nor a bzImage; name one \
         with --kernel", path.display()
    )]
    NoKernel { path: PathBuf },
    #[error("the kernel in {} is not built: run make there", .0.display())]
    NotBuilt(PathBuf),
    #[error("there are several kernels in {}: name one of {names} with --kernel", path.display())]
    Several { path: PathBuf, names: String },
}

/// A kernel, and what was found beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) image: PathBuf,
    pub(super) modules: Option<Beside>,
}

/// Modules that belong to a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Beside {
    /// A `/lib/modules/RELEASE`.
    Installed(PathBuf),
    /// The tree that it was built in.
    Tree(PathBuf),
}

/// Where a kernel is in a build tree.
const BUILT: &str = "arch/x86/boot/bzImage";
const MODULES: [&str; 2] = ["lib/modules", "usr/lib/modules"];

/// Finds the kernel that `named` is or has. `output` is where `make` puts what it
/// makes from a source tree (`KBUILD_OUTPUT`).
pub(super) fn find(named: &Path, output: Option<&OsStr>) -> Result<Place, Error> {
    if !named.is_dir() {
        return Ok(Place {
            image: named.to_owned(),
            modules: tree_of(named).map(Beside::Tree),
        });
    }
    let output = output.map(|output| named.join(output));
    let is_source = named.join("Kbuild").is_file() && named.join("MAINTAINERS").is_file();
    let output = output.filter(|_| is_source);
    for tree in std::iter::once(named.to_owned()).chain(output.clone()) {
        let image = tree.join(BUILT);
        if image.is_file() {
            let modules = is_tree(&tree).then_some(Beside::Tree(tree));
            return Ok(Place { image, modules });
        }
    }
    let mut places = packaged(named);
    for name in ["vmlinuz", "bzImage"] {
        let image = named.join(name);
        if places.is_empty() && image.is_file() {
            let is_installed = named.join("modules.dep").is_file();
            let modules = is_installed.then(|| Beside::Installed(named.to_owned()));
            places.push(Place { image, modules });
        }
    }
    if places.len() > 1 {
        let names: Vec<String> = places
            .iter()
            .map(|place| place.image.display().to_string())
            .collect();
        return Err(Error::Several {
            path: named.to_owned(),
            names: names.join(", "),
        });
    }
    places.pop().ok_or_else(|| {
        if is_source || is_tree(named) {
            Error::NotBuilt(output.unwrap_or_else(|| named.to_owned()))
        } else {
            Error::NoKernel {
                path: named.to_owned(),
            }
        }
    })
}

/// The kernels of an unpacked package, with their modules: Debian has them in
/// `boot`, Fedora with the modules.
fn packaged(top: &Path) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    let modules_of = |release: &OsStr| {
        let mut candidates = MODULES
            .iter()
            .map(|modules| top.join(modules).join(release));
        let found = candidates.find(|modules| modules.is_dir());
        found.map(Beside::Installed)
    };
    for entry in names_in(&top.join("boot")) {
        let release = entry
            .to_str()
            .and_then(|name| name.strip_prefix("vmlinuz-"));
        if let Some(release) = release {
            places.push(Place {
                image: top.join("boot").join(&entry),
                modules: modules_of(OsStr::new(release)),
            });
        }
    }
    if places.is_empty() {
        // One of the two may be a link to the other.
        let mut parents = MODULES.iter().map(|modules| top.join(modules));
        let parent = parents.find(|parent| parent.is_dir()).unwrap_or_default();
        for release in names_in(&parent) {
            let image = parent.join(&release).join("vmlinuz");
            if image.is_file() {
                let modules = modules_of(&release);
                places.push(Place { image, modules });
            }
        }
    }
    places
}

/// In order, so that the same is said every time.
fn names_in(directory: &Path) -> Vec<std::ffi::OsString> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
    names.sort();
    names
}

/// The tree that an image lies in, where `make` has put it.
fn tree_of(image: &Path) -> Option<PathBuf> {
    let image = std::path::absolute(image).ok()?;
    let above_boot = || image.ancestors().nth(4);
    let tree = match image.file_name()?.to_str()? {
        "bzImage" if image.parent()?.file_name()? == "boot" => above_boot()?,
        "vmlinux" => image.parent()?,
        _ => return None,
    };
    is_tree(tree).then(|| tree.to_owned())
}

/// Whether a kernel was built in the directory.
pub(super) fn is_tree(directory: &Path) -> bool {
    directory.join("include/config/kernel.release").is_file()
        || directory.join("modules.order").is_file() && directory.join("include/config").is_dir()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A directory with these files.
    fn directory(files: &[&str]) -> tempfile::TempDir {
        let top = tempfile::tempdir().unwrap();
        for file in files {
            let path = top.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        top
    }

    #[test]
    fn a_build_tree_has_its_kernel_and_modules() {
        let tree = directory(&[BUILT, "include/config/kernel.release", "vmlinux"]);
        let tree = tree.path();
        let place = Place {
            image: tree.join(BUILT),
            modules: Some(Beside::Tree(tree.to_owned())),
        };
        assert_eq!(find(tree, None).unwrap(), place);
        assert_eq!(find(&tree.join(BUILT), None).unwrap(), place);
        let modules = find(&tree.join("vmlinux"), None).unwrap().modules;
        assert_eq!(modules, place.modules);
        // A copy of the image is no tree's.
        let copy = directory(&["bzImage"]);
        let image = copy.path().join("bzImage");
        let place = Place {
            image: image.clone(),
            modules: None,
        };
        assert_eq!(find(&image, None).unwrap(), place);
        assert_eq!(find(copy.path(), None).unwrap(), place);
    }

    #[test]
    fn a_source_tree_is_built_elsewhere_or_not_yet() {
        let source = directory(&["Kbuild", "MAINTAINERS"]);
        let output = directory(&[BUILT, "include/config/kernel.release"]);
        let found = find(source.path(), Some(output.path().as_os_str())).unwrap();
        assert_eq!(found.modules, Some(Beside::Tree(output.path().to_owned())));
        let error = find(source.path(), None).unwrap_err();
        assert!(matches!(error, Error::NotBuilt(_)), "{error}");
        // What the variable names is for trees of a kernel's sources.
        let other = directory(&[]);
        let error = find(other.path(), Some(output.path().as_os_str())).unwrap_err();
        assert!(matches!(error, Error::NoKernel { .. }), "{error}");
    }

    #[test]
    fn an_unpacked_package_has_its_kernel_and_modules() {
        let debian = directory(&[
            "boot/vmlinuz-6.1.0-1",
            "usr/lib/modules/6.1.0-1/modules.order",
        ]);
        let found = find(debian.path(), None).unwrap();
        assert_eq!(found.image, debian.path().join("boot/vmlinuz-6.1.0-1"));
        let modules = debian.path().join("usr/lib/modules/6.1.0-1");
        assert_eq!(found.modules, Some(Beside::Installed(modules)));

        let fedora = directory(&["lib/modules/6.9.1.fc40/vmlinuz"]);
        let found = find(fedora.path(), None).unwrap();
        let modules = fedora.path().join("lib/modules/6.9.1.fc40");
        assert_eq!(found.image, modules.join("vmlinuz"));
        assert_eq!(found.modules, Some(Beside::Installed(modules)));

        let installed = directory(&["vmlinuz", "modules.dep"]);
        let modules = find(installed.path(), None).unwrap().modules;
        assert_eq!(
            modules,
            Some(Beside::Installed(installed.path().to_owned()))
        );
    }

    #[test]
    fn several_kernels_are_named() {
        let both = directory(&["boot/vmlinuz-2", "boot/vmlinuz-1"]);
        let error = find(both.path(), None).unwrap_err().to_string();
        let (one, two) = (error.find("vmlinuz-1"), error.find("vmlinuz-2"));
        assert!(one.is_some() && one < two, "{error}");
    }
}
