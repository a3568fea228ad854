//! Where the kernel and its modules come from: a file, or a directory that has
//! them, as `make` and packages leave it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "there is no kernel in {}: it is no build tree with arch/x86/boot/bzImage or vmlinux, no \
         unpacked package with boot/vmlinuz-* or lib/modules/*/vmlinuz, and has no bzImage; name \
         a kernel with --kernel",
        shown(path)
    )]
    NoKernel { path: PathBuf },
    #[error("the kernel in {} is not built: run make there", shown(.0))]
    NotBuilt(PathBuf),
    #[error(
        "there are several kernels in {}: name one of them with --kernel: {names}",
        shown(path)
    )]
    Several { path: PathBuf, names: String },
}

fn shown(path: &Path) -> String {
    match path {
        path if path == Path::new(CURRENT) => "the current directory".to_owned(),
        path => path.display().to_string(),
    }
}

/// A kernel, and what was found beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) image: PathBuf,
    /// Never beside a file that was named: that would bring the guest a tree that
    /// nobody named.
    pub(super) modules: Option<Beside>,
}

/// Modules that belong to a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Beside {
    /// A `/lib/modules/RELEASE`, complete or as a package has it.
    Installed(PathBuf),
    /// The tree that they were built in.
    Tree(PathBuf),
    /// A directory with nothing but modules.
    Loose(PathBuf),
}

/// Where to look when nobody says it.
const CURRENT: &str = ".";
/// What a build leaves, the better first.
const BUILT: [&str; 2] = ["arch/x86/boot/bzImage", "vmlinux"];
const MODULES: [&str; 2] = ["lib/modules", "usr/lib/modules"];

/// Finds the kernel that `named`, or else the current directory, is or has.
/// `output` is where `make` puts what it makes of sources (`KBUILD_OUTPUT`).
pub(super) fn find(named: Option<&Path>, output: Option<&OsStr>) -> Result<Source, Error> {
    let named = named.unwrap_or(Path::new(CURRENT));
    if !named.is_dir() {
        return Ok(Source {
            image: named.to_owned(),
            modules: None,
        });
    }
    let is_source = named.join("Kbuild").is_file() && named.join("MAINTAINERS").is_file();
    let output = output.filter(|output| is_source && !output.is_empty());
    let output = output.map(|output| named.join(output));
    for tree in output.iter().map(PathBuf::as_path).chain([named]) {
        let mut images = BUILT.iter().map(|built| tree.join(built));
        let image = images.find(|image| image.is_file());
        if let Some(image) = image.filter(|_| is_source || is_tree(tree)) {
            let modules = is_tree(tree).then(|| Beside::Tree(tree.to_owned()));
            return Ok(Source { image, modules });
        }
    }
    let mut sources = packaged(named);
    if sources.is_empty() {
        sources.extend(single(named));
    }
    if sources.len() > 1 {
        let names: Vec<String> = sources
            .iter()
            .map(|source| source.image.display().to_string())
            .collect();
        return Err(Error::Several {
            path: named.to_owned(),
            names: names.join(", "),
        });
    }
    sources.pop().ok_or_else(|| {
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
/// `boot`, Fedora with the modules. In `boot` itself they are, too.
fn packaged(top: &Path) -> Vec<Source> {
    let modules_of = |release: &OsStr| {
        let mut found = MODULES
            .iter()
            .map(|modules| top.join(modules).join(release));
        found
            .find(|modules| modules.is_dir())
            .map(Beside::Installed)
    };
    let mut sources: Vec<Source> = Vec::new();
    for boot in [top.join("boot"), top.to_owned()] {
        for entry in names_in(&boot) {
            let release = entry
                .to_str()
                .and_then(|name| name.strip_prefix("vmlinuz-"));
            if let Some(release) = release {
                sources.push(Source {
                    image: boot.join(&entry),
                    modules: modules_of(OsStr::new(release)),
                });
            }
        }
    }
    if !sources.is_empty() {
        return sources;
    }
    let mut releases: Vec<OsString> = MODULES
        .iter()
        .flat_map(|modules| names_in(&top.join(modules)))
        .collect();
    // One of the two may be a link to the other.
    releases.sort();
    releases.dedup();
    for release in releases {
        let places = MODULES
            .iter()
            .map(|modules| top.join(modules).join(&release));
        for directory in places {
            let image = directory.join("vmlinuz");
            if image.is_file() {
                let modules = Some(Beside::Installed(directory));
                sources.push(Source { image, modules });
                break;
            }
        }
    }
    sources
}

/// The kernel of a directory that has one and is no tree: a `/lib/modules/RELEASE`
/// of Fedora, what this project's `make kernel` made, or what somebody kept of a tree.
fn single(directory: &Path) -> Option<Source> {
    let [packed, plain] = BUILT;
    let image = ["vmlinuz", "bzImage", packed, plain]
        .iter()
        .map(|name| directory.join(name))
        .find(|image| image.is_file())?;
    let loose = directory.join("modules");
    let modules = if image.ends_with(packed) {
        Some(Beside::Tree(directory.to_owned()))
    } else if ["modules.order", "modules.dep"]
        .iter()
        .any(|list| directory.join(list).is_file())
    {
        Some(Beside::Installed(directory.to_owned()))
    } else if directory.join("kernelrelease").is_file() && loose.is_dir() {
        Some(Beside::Loose(loose))
    } else {
        None
    };
    Some(Source { image, modules })
}

/// In order, so that the same is said every time.
fn names_in(directory: &Path) -> Vec<OsString> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
    names.sort();
    names
}

/// Whether a kernel was built in the directory.
pub(super) fn is_tree(directory: &Path) -> bool {
    directory.join("include/config").is_dir() && directory.join(".config").is_file()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
