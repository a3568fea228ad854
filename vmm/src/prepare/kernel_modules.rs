//! The modules of a run: named by the user, found beside the kernel, or
//! installed on the host.

use std::path::{Component, Path, PathBuf};

use guest_init::protocol::ModulesPlan;

use super::initramfs::modules::{self, Modules};
use super::listing::{self, Listing};
use super::shares::Share;
use super::source::{self, Beside};
use crate::outcome::line;
use crate::outcome::notes::Notes;
use vmm_options::share::{IdMaps, Service};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Modules(#[from] modules::Error),
    #[error(transparent)]
    Listing(#[from] listing::Error),
    #[error(
        "the kernel does not say its release, by which the guest finds modules: leave --modules out"
    )]
    NoRelease,
    #[error(
        "the modules of --modules are mounted at {}, and a share at {}: give the share another \
         at=, or leave --modules out", modules.display(), share.display()
    )]
    Place { modules: PathBuf, share: PathBuf },
}

/// The modules of a run.
#[derive(Debug)]
pub(super) struct KernelModules {
    found: Found,
    /// The user has named them: without them there is no run.
    asked: bool,
}

#[derive(Debug)]
enum Found {
    /// The host's, which the guest is not given.
    OfHost(Modules),
    Installed(Modules),
    Listed(Listing),
}

/// Finds the modules of a kernel of this `release`: those `named`, or those that
/// lie `beside` it, or the host's. What is wrong with modules that nobody named is
/// told and no error.
pub(super) fn find(
    named: Option<&Path>,
    beside: Option<&Beside>,
    release: Option<&str>,
    notes: &mut Notes,
) -> Result<Option<KernelModules>, Error> {
    let release = release.filter(|release| is_name(release));
    if let Some(named) = named {
        let beside = match named {
            tree if source::is_tree(tree) => Beside::Tree(tree.to_owned()),
            loose if listing::has_modules(loose) => Beside::Loose(loose.to_owned()),
            other => Beside::Installed(other.to_owned()),
        };
        let found = open(&beside, release, notes)?;
        tell_if_foreign(&found, release, notes);
        return Ok(Some(KernelModules { found, asked: true }));
    }
    let found = match beside.map(|beside| open(beside, release, notes)) {
        Some(Ok(found)) => {
            tell_if_foreign(&found, release, notes);
            Some(found)
        }
        // A kernel may have none.
        Some(Err(Error::Listing(listing::Error::NotBuilt(_)))) | None => None,
        Some(Err(error)) => {
            notes.tell(&format!("{}: the guest gets none", line::of_error(&error)));
            None
        }
    };
    let found = match found {
        Some(found) => Some(found),
        None => match Modules::find(None, release) {
            Ok(modules) => modules.map(Found::OfHost),
            Err(error) => {
                notes.tell(&line::of_error(&error));
                None
            }
        },
    };
    Ok(found.map(|found| KernelModules {
        found,
        asked: false,
    }))
}

fn open(beside: &Beside, release: Option<&str>, notes: &mut Notes) -> Result<Found, Error> {
    let of_release = || release.ok_or(Error::NoRelease);
    let listing = match beside {
        Beside::Tree(tree) => listing::of_tree(tree, of_release()?)?,
        Beside::Loose(directory) => listing::of_directory(directory, of_release()?)?,
        Beside::Installed(path) => {
            // With a name there is an answer, or an error.
            let modules = Modules::find(Some(path), release)?;
            match modules {
                Some(modules) if modules.are_listed() => return Ok(Found::Installed(modules)),
                Some(modules) => listing::of_directory(modules.directory(), of_release()?)?,
                None => listing::of_directory(path, of_release()?)?,
            }
        }
    };
    for note in &listing.notes {
        notes.tell(note);
    }
    Ok(Found::Listed(listing))
}

/// Tells of modules that were built for another release than the kernel's. Only told: with
/// `CONFIG_MODVERSIONS` a kernel may load them all the same.
fn tell_if_foreign(found: &Found, release: Option<&str>, notes: &mut Notes) {
    let modules = match found {
        Found::OfHost(modules) | Found::Installed(modules) => modules,
        Found::Listed(listing) => &listing.modules,
    };
    if let (Some(release), Some(other)) = (release, modules.built_for())
        && other != release
    {
        notes.tell(&format!(
            "the modules in {} were built for {other}, and the kernel is {release}: it may refuse \
             them",
            modules.directory().display()
        ));
    }
}

/// Whether a kernel's release is the name of a directory.
fn is_name(release: &str) -> bool {
    let mut steps = Path::new(release).components();
    matches!((steps.next(), steps.next()), (Some(Component::Normal(name)), None) if name == release)
}

impl KernelModules {
    pub(super) fn modules(&self) -> &Modules {
        match &self.found {
            Found::OfHost(modules) | Found::Installed(modules) => modules,
            Found::Listed(listing) => &listing.modules,
        }
    }

    /// What the initramfs is to have of them for `modprobe`.
    pub(super) fn listing(&self) -> Option<&Listing> {
        match &self.found {
            Found::Listed(listing) => Some(listing),
            _ => None,
        }
    }

    /// How the guest gets them: the share, and what its init does with it. `None`
    /// where it gets none, as where a share of the user's takes their place.
    pub(super) fn given(
        &self,
        others: &[Share],
        release: Option<&str>,
    ) -> Result<Option<(Share, ModulesPlan)>, Error> {
        let (directory, below) = match &self.found {
            Found::OfHost(_) => return Ok(None),
            Found::Installed(modules) => (modules.directory(), None),
            Found::Listed(listing) => (listing.root.as_path(), Some(listing.mount.to_owned())),
        };
        let own_name = || directory.file_name().and_then(|name| name.to_str());
        let release = release.filter(|release| is_name(release)).or_else(own_name);
        let place = Path::new("/lib/modules").join(release.unwrap_or_default());
        let is_in_the_way = |other: &&Share| {
            let at = other.at.as_deref().filter(|at| *at != Path::new("/"));
            at.is_some_and(|at| place.starts_with(at) || at.starts_with(&place))
        };
        if let Some(other) = others.iter().find(is_in_the_way) {
            return match self.asked {
                true => Err(Error::Place {
                    modules: place,
                    share: other.at.clone().unwrap_or_default(),
                }),
                false => Ok(None),
            };
        }
        let mut tag = "modules".to_owned();
        while others.iter().any(|share| share.tag == tag) {
            tag.push('+');
        }
        let mut service = Service::default();
        service.server.read_only = true;
        let plan = ModulesPlan {
            tag: tag.clone(),
            release: release.unwrap_or_default().to_owned(),
            below: below.clone(),
            asked: self.asked,
        };
        let share = Share {
            tag,
            directory: directory.to_owned(),
            at: Some(below.map_or_else(|| place.clone(), |below| place.join(below))),
            service,
            maps: IdMaps::default(),
        };
        Ok(Some((share, plan)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
