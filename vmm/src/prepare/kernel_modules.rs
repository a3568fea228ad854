//! The modules of a run: named by the user, found beside the kernel, or
//! installed on the host.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::build_tree::{self, BUILD, BuildTree, DEPMOD};
use super::initramfs::modules::{self, Modules};
use super::place::{self, Beside};
use super::shares::Share;
use vmm_options::share::Service;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Modules(#[from] modules::Error),
    #[error(transparent)]
    Tree(#[from] build_tree::Error),
    #[error("the kernel does not say its release, by which modules are found: leave --modules out")]
    NoRelease,
}

/// The modules of a run.
#[derive(Debug)]
pub(super) struct KernelModules {
    pub(super) modules: Modules,
    /// The guest is to have them in `/lib/modules`.
    pub(super) wanted: bool,
    /// The tree that they are in, if they are not installed.
    pub(super) build: Option<BuildTree>,
}

/// Finds the modules of a kernel of this `release`: those `named`, or those that
/// lie `beside` it, or the host's.
pub(super) fn find(
    named: Option<&Path>,
    beside: Option<Beside>,
    release: Option<&str>,
) -> Result<Option<KernelModules>, Error> {
    let source = match named {
        Some(path) if place::is_tree(path) => Some(Beside::Tree(path.to_owned())),
        Some(path) => Some(Beside::Installed(path.to_owned())),
        None => beside,
    };
    let installed = |path: Option<&Path>| {
        let modules = Modules::find(path, release)?;
        Ok(modules.map(|modules| KernelModules {
            modules,
            wanted: path.is_some(),
            build: None,
        }))
    };
    match source {
        None => installed(None),
        Some(Beside::Installed(path)) => installed(Some(&path)),
        Some(Beside::Tree(tree)) => {
            let release = release.ok_or(Error::NoRelease)?;
            let laid_out = build_tree::lay_out(&tree, release, OsStr::new(DEPMOD))?;
            Ok(laid_out.map(|(modules, build)| KernelModules {
                modules,
                wanted: true,
                build: Some(build),
            }))
        }
    }
}

impl KernelModules {
    /// The modules, where `modprobe` in the guest looks, and the tree that they
    /// are in.
    pub(super) fn shares(&self, others: &[Share], release: Option<&str>) -> Vec<Share> {
        let directory = self.modules.directory();
        let release = release.map(OsStr::new).or_else(|| directory.file_name());
        let at = Path::new("/lib/modules").join(release.unwrap_or_default());
        let mut shares = Vec::new();
        if let Some(build) = &self.build {
            shares.push(share("build", &build.tree, at.join(BUILD), others));
        }
        shares.push(share("modules", directory, at, others));
        shares
    }
}

/// A read-only share with a tag that no other has.
fn share(tag: &str, directory: &Path, at: PathBuf, others: &[Share]) -> Share {
    let mut tag = tag.to_owned();
    while others.iter().any(|share| share.tag == tag) {
        tag.push('+');
    }
    let mut service = Service::default();
    service.server.read_only = true;
    Share {
        tag,
        directory: directory.to_owned(),
        at: Some(at),
        service,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_tree_is_one_whether_it_is_named_or_found() {
        let top = tempfile::tempdir().unwrap();
        let tree = top.path();
        fs::create_dir_all(tree.join("include/config")).unwrap();
        fs::write(tree.join("modules.order"), "m.o\n").unwrap();
        fs::write(tree.join("m.ko"), "\0depends=\0").unwrap();
        let beside = Some(Beside::Tree(tree.to_owned()));
        for (named, beside) in [(Some(tree), None), (None, beside)] {
            let found = find(named, beside, Some("6.1.0")).unwrap().unwrap();
            let shares = found.shares(&[], Some("6.1.0"));
            let places: Vec<_> = shares
                .iter()
                .map(|share| share.at.clone().unwrap())
                .collect();
            assert_eq!(
                places,
                [
                    Path::new("/lib/modules/6.1.0/build"),
                    Path::new("/lib/modules/6.1.0")
                ]
            );
            assert!(shares.iter().all(|share| share.service.server.read_only));
            let again = found.shares(&shares, Some("6.1.0"));
            assert_eq!(
                (again[0].tag.as_str(), again[1].tag.as_str()),
                ("build+", "modules+")
            );
        }
        assert!(matches!(
            find(Some(tree), None, None),
            Err(Error::NoRelease)
        ));
    }
}
