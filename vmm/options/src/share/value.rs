//! Values of options: how they are read, and what is said of a wrong one.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, PathBuf};

use super::error::Error;

pub(super) fn wrong(name: &'static str, value: &[u8], expected: String) -> Error {
    Error::Value {
        name,
        value: lossy(value),
        expected,
    }
}

pub(super) fn number(value: &[u8]) -> Option<u16> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// What the guest's kernel and programs find there whatever is shared.
const SYSTEM_TREES: [&str; 3] = ["/proc", "/sys", "/dev"];

/// The most bytes of a name, and of a path with its NUL (`linux/limits.h`).
const NAME_MAX: usize = 255;
const PATH_MAX: usize = 4096;

pub(super) fn mount_point(value: &[u8]) -> Result<PathBuf, Error> {
    let written = path_of(value);
    let mut steps = written.components();
    if !written.is_absolute() || steps.any(|step| step == Component::ParentDir) {
        let expected = "an absolute path in the guest without '..', such as /mnt/dir";
        return Err(wrong("at", value, expected.to_owned()));
    }
    // Without doubled and trailing slashes: two ways of writing one place are
    // seen to be one.
    let at: PathBuf = written.components().collect();
    if at.parent().is_none() {
        return Err(Error::AtRoot);
    }
    let longest = at.iter().map(OsStr::len).max();
    if at.as_os_str().len() >= PATH_MAX || longest > Some(NAME_MAX) {
        let expected = format!(
            "a path that Linux can have, of names of up to {NAME_MAX} bytes and under {PATH_MAX} \
             in all"
        );
        return Err(wrong("at", value, expected));
    }
    match SYSTEM_TREES.into_iter().find(|tree| at.starts_with(tree)) {
        Some(tree) => Err(Error::AtSystem {
            at: lossy(value),
            tree,
        }),
        None => Ok(at),
    }
}

pub(super) fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes.to_vec()))
}

pub(super) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
