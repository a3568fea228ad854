//! Shares as users write them, `DIR[,option[=value]]...`, and as the machine
//! needs them: with a tag of their own and a place in the guest.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use devices::virtio::fs::{MAX_REQUEST_QUEUES, QUEUE_SIZES, Queues};
use guest_init::protocol::SESSION_TAG;
use serde::Serialize;

/// Bytes that a tag may have (virtio 1.2, 5.11.4).
pub(crate) const MAX_TAG: usize = 36;

/// What the guest may keep in its caches, and for how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Cache {
    /// Nothing: every access asks the host, and data bypasses the page cache.
    Never,
    /// Names and attributes, but no data.
    Metadata,
    /// Everything for a moment; data until the file is opened again and
    /// found changed.
    #[default]
    Auto,
    /// Everything for ever: for trees that only this guest changes.
    Always,
}

/// A `--share` or `--root` as the user wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ShareArgument {
    pub directory: PathBuf,
    pub tag: Option<String>,
    pub at: Option<PathBuf>,
    pub read_only: Option<bool>,
    pub cache: Cache,
    pub writeback: bool,
    pub xattr: bool,
    pub queues: Option<u16>,
    pub queue_size: Option<u16>,
}

/// A share as the machine needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Share {
    /// The virtio-fs tag, unique within the machine.
    pub tag: String,
    pub directory: PathBuf,
    /// Where the built-in init mounts it.
    pub at: PathBuf,
    /// The server refuses every change.
    pub read_only: bool,
    /// What the guest may cache.
    pub cache: Cache,
    /// The guest caches writes and sends them later.
    pub writeback: bool,
    /// Extended attributes are served.
    pub xattr: bool,
    pub queues: u16,
    /// Elements of each queue.
    pub queue_size: u16,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub(crate) enum Error {
    #[error("name a directory before the options, for example ./dir,ro")]
    NoDirectory,
    #[error(
        "unknown option '{0}': there are tag=, at=, ro, rw, cache=, writeback, queues=, \
         queue-size= and xattr; \
         a directory with a comma in its name goes last, as path=DIR"
    )]
    UnknownOption(String),
    #[error("the option '{0}' is not supported yet: leave it out")]
    NotSupported(String),
    #[error("the option '{0}' needs a value, as in {0}={1}")]
    NoValue(&'static str, &'static str),
    #[error("the option '{0}' takes no value")]
    SurplusValue(String),
    #[error("the options ro and rw exclude each other")]
    BothAccesses,
    #[error("cache={0} is none of never, auto, always and metadata")]
    Cache(String),
    #[error("queues={0} is not a number from 1 to {MAX_REQUEST_QUEUES}")]
    Queues(String),
    #[error("queue-size={0} is not a power of two from 16 to 1024")]
    QueueSize(String),
    #[error("the tag '{tag}' has {length} bytes, and at most {MAX_TAG} fit: give a shorter tag=")]
    TagTooLong { tag: String, length: usize },
    #[error("the tag is empty: give it a name, or leave tag= out")]
    EmptyTag,
    #[error("the tag '{0}' is not UTF-8 text or has a NUL in it")]
    TagNotText(String),
    #[error("the tag '{SESSION_TAG}' is reserved: give another tag=")]
    ReservedTag,
    #[error("two shares have the tag '{0}': give one of them another tag=")]
    TagTwice(String),
    #[error("at={} is not an absolute path in the guest, such as /mnt/dir", .0.display())]
    NotAbsolute(PathBuf),
    #[error("at=/ would hide the guest's root: use --root for a root file system")]
    AtRoot,
    #[error("two shares are mounted at {}: give one of them another at=", .0.display())]
    AtTwice(PathBuf),
    #[error("the root file system is always at /: leave at= out")]
    RootAt,
    #[error("the directory {} to share does not exist", .0.display())]
    Missing(PathBuf),
    #[error("{} is not a directory: only directories can be shared", .0.display())]
    NotADirectory(PathBuf),
    #[error("cannot open the directory {} to share: {reason}", path.display())]
    Unusable { path: PathBuf, reason: String },
}

impl ShareArgument {
    /// Reads `DIR[,option[=value]]...`, or `option...,path=DIR` for a
    /// directory with a comma in its name.
    pub(crate) fn parse(text: &OsStr) -> Result<Self, Error> {
        let mut share = Self::default();
        let mut rest = Some(text.as_bytes());
        let mut first = true;
        while let Some(bytes) = rest {
            if let Some(path) = bytes.strip_prefix(b"path=") {
                if !share.directory.as_os_str().is_empty() {
                    return Err(Error::UnknownOption(lossy(bytes)));
                }
                share.directory = path_of(path);
                break;
            }
            let end = bytes.iter().position(|byte| *byte == b',');
            let option = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
            rest = end.and_then(|end| bytes.get(end + 1..));
            // A directory comes first; where the options come first, so must
            // path= come last. `./tag=x` names a directory like that.
            if first && !is_option(option) {
                share.directory = path_of(option);
            } else {
                share.set(option)?;
            }
            first = false;
        }
        if share.directory.as_os_str().is_empty() {
            return Err(Error::NoDirectory);
        }
        Ok(share)
    }

    fn set(&mut self, option: &[u8]) -> Result<(), Error> {
        let mut parts = option.splitn(2, |byte| *byte == b'=');
        let name = parts.next().unwrap_or_default();
        let value = parts.next();
        let flag = || match value {
            None => Ok(true),
            Some(_) => Err(Error::SurplusValue(lossy(name))),
        };
        match name {
            b"tag" => self.tag = Some(tag(value.ok_or(Error::NoValue("tag", "NAME"))?)?),
            b"at" => {
                let at = path_of(value.ok_or(Error::NoValue("at", "/mnt/dir"))?);
                if !at.is_absolute() {
                    return Err(Error::NotAbsolute(at));
                }
                self.at = Some(at);
            }
            b"ro" | b"rw" => {
                let read_only = flag()? && name == b"ro";
                if self.read_only.is_some_and(|other| other != read_only) {
                    return Err(Error::BothAccesses);
                }
                self.read_only = Some(read_only);
            }
            b"cache" => {
                self.cache = match value.ok_or(Error::NoValue("cache", "auto"))? {
                    b"never" => Cache::Never,
                    b"metadata" => Cache::Metadata,
                    b"auto" => Cache::Auto,
                    b"always" => Cache::Always,
                    other => return Err(Error::Cache(lossy(other))),
                }
            }
            b"writeback" => self.writeback = flag()?,
            b"xattr" => self.xattr = flag()?,
            b"queues" => {
                let value = lossy(value.ok_or(Error::NoValue("queues", "2"))?);
                let queues = value.parse().ok();
                self.queues = Some(
                    queues
                        .filter(|number| (1..=MAX_REQUEST_QUEUES).contains(number))
                        .ok_or(Error::Queues(value))?,
                );
            }
            b"queue-size" => {
                let value = lossy(value.ok_or(Error::NoValue("queue-size", "256"))?);
                let size: Option<u16> = value.parse().ok();
                self.queue_size = Some(
                    size.filter(|size| size.is_power_of_two() && QUEUE_SIZES.contains(size))
                        .ok_or(Error::QueueSize(value))?,
                );
            }
            b"dax" | b"acl" | b"uid-map" | b"gid-map" | b"thread-pool" => {
                return Err(Error::NotSupported(lossy(name)));
            }
            _ => return Err(Error::UnknownOption(lossy(option))),
        }
        Ok(())
    }
}

/// Whether a first word is meant as an option.
fn is_option(word: &[u8]) -> bool {
    let name = word.split(|byte| *byte == b'=').next().unwrap_or_default();
    match name {
        b"tag" | b"at" | b"cache" | b"queues" | b"queue-size" | b"dax" | b"uid-map"
        | b"gid-map" | b"thread-pool" => name.len() < word.len(),
        // A directory named `ro` is likelier than nothing at all.
        _ => false,
    }
}

fn tag(bytes: &[u8]) -> Result<String, Error> {
    let Some(tag) = std::str::from_utf8(bytes)
        .ok()
        .filter(|tag| !tag.contains('\0'))
    else {
        return Err(Error::TagNotText(lossy(bytes)));
    };
    match tag.len() {
        0 => Err(Error::EmptyTag),
        1..=MAX_TAG if tag == SESSION_TAG => Err(Error::ReservedTag),
        1..=MAX_TAG => Ok(tag.to_owned()),
        length => Err(Error::TagTooLong {
            tag: tag.to_owned(),
            length,
        }),
    }
}

fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes.to_vec()))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Gives every share its tag and its place, and checks that the directories
/// are there. The root, if any, is the first of the result.
pub(crate) fn settle(
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
    let mut places = HashSet::new();
    let mut settled = Vec::new();
    if let Some(root) = root {
        let tag = root.tag.clone();
        settled.push(Share {
            tag: tag.unwrap_or_else(|| unique("root", &mut tags)),
            at: "/".into(),
            // The tree of a system is easily spoilt; its changes go to an
            // overlay unless the user asks otherwise.
            read_only: root.read_only.unwrap_or(true),
            ..share(root)?
        });
    }
    for argument in shares {
        let mut share = share(argument)?;
        share.tag = match &argument.tag {
            Some(tag) => tag.clone(),
            None => unique(&default_tag(&share.directory), &mut tags),
        };
        share.at = match &argument.at {
            Some(at) => normal(at),
            None => Path::new("/mnt").join(share.tag.replace('/', "-")),
        };
        if share.at == Path::new("/") {
            return Err(Error::AtRoot);
        }
        if !places.insert(share.at.clone()) {
            return Err(Error::AtTwice(share.at));
        }
        settled.push(share);
    }
    Ok(settled)
}

/// A share with everything but its tag and place.
fn share(argument: &ShareArgument) -> Result<Share, Error> {
    let path = &argument.directory;
    let metadata = path.metadata().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::Missing(path.clone()),
        _ => unusable(path, &error),
    })?;
    if !metadata.is_dir() {
        return Err(Error::NotADirectory(path.clone()));
    }
    std::fs::read_dir(path).map_err(|error| unusable(path, &error))?;
    let queues = Queues::default();
    Ok(Share {
        tag: String::new(),
        directory: path
            .canonicalize()
            .map_err(|error| unusable(path, &error))?,
        at: PathBuf::new(),
        read_only: argument.read_only.unwrap_or(false),
        cache: argument.cache,
        writeback: argument.writeback,
        xattr: argument.xattr,
        queues: argument.queues.unwrap_or(queues.requests),
        queue_size: argument.queue_size.unwrap_or(queues.size),
    })
}

fn unusable(path: &Path, error: &std::io::Error) -> Error {
    Error::Unusable {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

/// The directory's name, as far as it fits into a tag.
fn default_tag(directory: &Path) -> String {
    let name = directory.file_name().map(OsStr::to_string_lossy);
    match name.as_deref() {
        None | Some("") => "root".to_owned(),
        Some(name) => shortened(name, MAX_TAG).to_owned(),
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

/// The path without doubled and trailing slashes, so that two ways of writing
/// one place are seen to be one.
fn normal(path: &Path) -> PathBuf {
    path.components().collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
