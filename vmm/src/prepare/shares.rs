//! Shares as the machine needs them: with a tag of their own and a place in
//! the guest.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use guest_init::protocol::{SESSION_TAG, Text};
use serde_json::{Value, json};

use vmm_options::share::{
    IdMap, IdMaps, IdRange, MAX_TAG, Service, ShareArgument, is_refused_in_tag, share, shown,
};
use vmm_options::size::Size;
use vmm_owners::{Plan, Wish};

/// A share as the machine needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// The virtio-fs tag, unique within the machine.
    pub tag: String,
    pub directory: PathBuf,
    /// Where the built-in init mounts it; `None` where it has no place.
    pub at: Option<PathBuf>,
    pub service: Service,
    /// With `owners=map`: as given, and in full once they are planned.
    pub maps: IdMaps,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("two shares have the tag '{0}': give one of them another tag=")]
    TagTwice(String),
    #[error(
        "overlay-size={size} is more than the guest's memory ({memory}): give a smaller one, or \
         raise --memory"
    )]
    OverlaySize { size: Size, memory: Size },
    #[error(
        "with writeback no other share may write to {}, and {} may: leave writeback out, or \
         make the other ro",
        written.display(), other.display()
    )]
    WrittenTwice { written: PathBuf, other: PathBuf },
    #[error("the root file system is always at /: leave at= out")]
    RootAt,
    #[error("at= is for the built-in init, which --initramfs replaces: leave at= out")]
    NobodyMounts,
    #[error("the directory {} to share does not exist{hint}", path.display())]
    Missing { path: PathBuf, hint: String },
    #[error("{} is not a directory: only directories can be shared", .0.display())]
    NotADirectory(PathBuf),
    #[error("cannot open the directory {} to share", path.display())]
    Unusable { path: PathBuf, source: io::Error },
}

impl Share {
    /// For `--dry-run`.
    pub(super) fn json(&self) -> Value {
        let mut json = shown(&self.service);
        json.insert("tag".into(), self.tag.clone().into());
        for (name, path) in [
            ("directory", Some(&self.directory)),
            ("at", self.at.as_ref()),
        ] {
            json.insert(name.into(), json!(path.map(Text::from)));
        }
        for (name, map) in [("uid_map", &self.maps.uids), ("gid_map", &self.maps.gids)] {
            json.insert(name.into(), ranges(map));
        }
        json.into()
    }
}

/// As they are written.
fn ranges(map: &IdMap) -> Value {
    let ranges = map.ranges().iter().map(IdRange::to_string);
    ranges.collect::<Vec<_>>().into()
}

/// Plans what the owners of `shares` take, and completes what was left open.
pub(super) fn plan_owners(shares: &mut [Share]) -> Result<Plan, vmm_owners::Error> {
    let wishes = shares.iter().map(|share| Wish {
        directory: &share.directory,
        owners: share.service.server.owners,
        maps: &share.maps,
    });
    let plan = Plan::make(&wishes.collect::<Vec<_>>())?;
    for (share, planned) in shares.iter_mut().zip(&plan.shares) {
        share.service.server.owners = planned.owners;
        share.maps = planned.maps.clone().unwrap_or_default();
    }
    Ok(plan)
}

/// Gives every share its tag and its place, and checks that the directories
/// are there. The root, if any, is the first of the result.
pub(crate) fn resolve(
    root: Option<&ShareArgument>,
    shares: &[ShareArgument],
) -> Result<Vec<Share>, Error> {
    if root.is_some_and(|root| root.at.is_some()) {
        return Err(Error::RootAt);
    }
    let mut tags = HashSet::from([SESSION_TAG.to_owned()]);
    for tag in root
        .iter()
        .copied()
        .chain(shares)
        .filter_map(|share| share.tag.as_ref())
    {
        if !tags.insert(tag.clone()) {
            return Err(Error::TagTwice(tag.clone()));
        }
    }
    let mut resolved = Vec::new();
    if let Some(root) = root {
        let tag = root.tag.clone();
        resolved.push(Share {
            tag: tag.unwrap_or_else(|| unique("root", &mut tags)),
            directory: directory(&root.directory)?,
            at: Some("/".into()),
            service: root.service,
            maps: root.maps.clone(),
        });
    }
    for argument in shares {
        let directory = directory(&argument.directory)?;
        let tag = match &argument.tag {
            Some(tag) => tag.clone(),
            None => unique(&default_tag(&directory), &mut tags),
        };
        resolved.push(Share {
            at: argument.at.clone().or_else(|| default_place(&tag)),
            tag,
            directory,
            service: argument.service,
            maps: argument.maps.clone(),
        });
    }
    refuse_two_writers(&resolved)?;
    Ok(resolved)
}

/// Nobody but the guest may write below a share with write-back, and the guest
/// through no other share: each has a cache of its own.
fn refuse_two_writers(shares: &[Share]) -> Result<(), Error> {
    for (index, share) in shares.iter().enumerate() {
        let overlaps = |other: &Share| {
            other.directory.starts_with(&share.directory)
                || share.directory.starts_with(&other.directory)
        };
        let other = shares.iter().enumerate().find(|(place, other)| {
            *place != index && !other.service.server.read_only && overlaps(other)
        });
        if let Some((_, other)) = other
            && share.service.server.writeback
        {
            return Err(Error::WrittenTwice {
                written: share.directory.clone(),
                other: other.directory.clone(),
            });
        }
    }
    Ok(())
}

/// Where a share is mounted if the user does not say it.
fn default_place(tag: &str) -> Option<PathBuf> {
    let name = tag.replace('/', "-");
    let is_name = !matches!(name.as_str(), "." | "..");
    is_name.then(|| Path::new("/mnt").join(name))
}

/// Takes the shares' places: a foreign initramfs mounts them, or does not.
pub(super) fn leave_unmounted(
    shares: &mut [Share],
    arguments: &[ShareArgument],
) -> Result<(), Error> {
    if arguments.iter().any(|argument| argument.at.is_some()) {
        return Err(Error::NobodyMounts);
    }
    for share in shares {
        share.at = None;
    }
    Ok(())
}

/// The sizes in bytes of the windows that the guest has into `shares`.
pub(crate) fn windows(shares: &[Share]) -> Vec<u64> {
    let sizes = shares.iter().filter_map(|share| share.service.window);
    sizes.map(Size::bytes).collect()
}

/// How much an overlay over `root` may take of the guest's `memory`, if the
/// user says it.
pub(super) fn overlay_size(
    root: Option<&ShareArgument>,
    memory: Size,
) -> Result<Option<Size>, Error> {
    match root.and_then(|root| root.overlay_size) {
        Some(size) if size > memory => Err(Error::OverlaySize { size, memory }),
        size => Ok(size),
    }
}

/// The directory to share, by its one true path.
fn directory(path: &Path) -> Result<PathBuf, Error> {
    let unusable = |source| Error::Unusable {
        path: path.to_owned(),
        source,
    };
    let metadata = path.metadata().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::Missing {
            path: path.to_owned(),
            hint: colon_hint(path).unwrap_or_default(),
        },
        _ => unusable(error),
    })?;
    if !metadata.is_dir() {
        return Err(Error::NotADirectory(path.to_owned()));
    }
    std::fs::read_dir(path).map_err(unusable)?;
    path.canonicalize().map_err(unusable)
}

/// What `DIR:/place:ro`, which other tools take, is written as here.
fn colon_hint(path: &Path) -> Option<String> {
    let mut words = path.to_str()?.split(':');
    let directory = words.next().filter(|word| Path::new(word).is_dir())?;
    let mut written = vec![directory.to_owned()];
    written.extend(words.map(|word| match word {
        place if place.starts_with('/') => format!("at={place}"),
        option => option.to_owned(),
    }));
    let written = written.join(",");
    match share(OsStr::new(&written)) {
        Ok(_) => Some(format!(": write {written}")),
        Err(_) => Some(": options follow the directory after commas".to_owned()),
    }
}

/// The directory's name, as far as it makes a tag.
fn default_tag(directory: &Path) -> String {
    let name = directory.file_name().map(OsStr::to_string_lossy);
    match name.as_deref() {
        None | Some("") => "root".to_owned(),
        Some(name) => shortened(&name.replace(is_refused_in_tag, "-"), MAX_TAG).to_owned(),
    }
}

/// `name`, or `name-2`, `name-3` ... where it is taken already.
fn unique(name: &str, tags: &mut HashSet<String>) -> String {
    let mut tag = name.to_owned();
    let mut number = 1_u32;
    while !tags.insert(tag.clone()) {
        number += 1;
        let suffix = format!("-{number}");
        tag = format!("{}{suffix}", shortened(name, MAX_TAG - suffix.len()));
    }
    tag
}

/// The longest prefix of whole characters within `length` bytes.
fn shortened(text: &str, length: usize) -> &str {
    let mut end = length.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
