//! Where it is kept what was learned of kernels, and unpacked of them.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::options::RunArguments;
use vmm_kernel::{Cache, Kernel};

const SWITCH: &str = "VMM_KERNEL_CACHE";

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{SWITCH}={}: it is on or off", .0.display())]
    Switch(OsString),
    #[error(transparent)]
    Kernel(#[from] vmm_kernel::Error),
}

/// Opens the kernel for the run.
pub(super) fn open(path: &Path, arguments: &RunArguments) -> Result<Kernel, Error> {
    let is_on = match std::env::var_os(SWITCH) {
        Some(value) if value == "off" => false,
        Some(value) if value != "on" && !value.is_empty() => return Err(Error::Switch(value)),
        _ => true,
    };
    if !is_on {
        return Ok(Kernel::open(path)?);
    }
    let directory = directory(
        std::env::var_os("XDG_CACHE_HOME").as_deref(),
        std::env::var_os("HOME").as_deref(),
    );
    let cache = directory.map_or_else(Cache::none, Cache::at);
    // A dry run changes nothing. And under gdb a kernel starts where it says.
    Ok(match (arguments.dry_run, arguments.gdb.is_some()) {
        (true, _) => Kernel::open_known(path, &cache.read_only())?.packed(),
        (false, true) if arguments.host => Kernel::open_known(path, &cache.read_only())?.packed(),
        (false, true) => Kernel::open_known(path, &cache)?.packed(),
        // What is run on the host's own root writes to the current directory alone.
        (false, false) if arguments.host => Kernel::open_known(path, &cache.read_only())?,
        (false, false) => Kernel::open_known(path, &cache)?,
    })
}

/// The directory, by the XDG Base Directory Specification: a relative path is none.
fn directory(cache: Option<&OsStr>, home: Option<&OsStr>) -> Option<PathBuf> {
    let absolute = |path: &&OsStr| Path::new(path).is_absolute();
    let home = home
        .filter(absolute)
        .map(|home| Path::new(home).join(".cache"));
    let cache = cache.filter(absolute).map(PathBuf::from).or(home)?;
    Some(cache.join("vmm/boot"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_where_caches_are() {
        let is = |cache: Option<&str>, home: Option<&str>| {
            directory(cache.map(OsStr::new), home.map(OsStr::new))
        };
        let path = |path: &str| Some(PathBuf::from(path));
        assert_eq!(is(Some("/c"), Some("/h")), path("/c/vmm/boot"));
        for none in [None, Some(""), Some("relative")] {
            assert_eq!(is(none, Some("/h")), path("/h/.cache/vmm/boot"));
            assert_eq!(is(none, none), None);
        }
    }
}
