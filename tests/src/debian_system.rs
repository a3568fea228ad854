//! Small systems of Debian's, for guests that want one: with systemd, sudo and git, and
//! sysvinit to be installed in systemd's place; and with what suites of others run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::lab::debian::cache_directory;

const RELEASE: &str = "bookworm";
/// What is in the first beside the essential packages.
const PACKAGES: &str = "systemd-sysv,sudo,git,kmod,passwd";
/// The packages of the other init, which lie in [`SYSVINIT`].
const OTHER_INIT: &str = "sysvinit-core sysvinit-utils initscripts sysv-rc insserv startpar";
/// Where they are in the system.
pub const SYSVINIT: &str = "/opt/sysvinit";
/// The programs of the suites. What unpacks and installs is essential.
const SUITES: &str = "dbench,e2fsprogs,fio,git,mount,rsync,sqlite3,stress-ng";
/// Nobody reads there.
const LEFT_OUT: [&str; 4] = ["doc", "man", "locale", "info"];
/// Count changes of how they are made.
const EDITION: u32 = 2;
const SUITES_EDITION: u32 = 1;

/// The archive (tar) of the first, made when the cache does not have it: a minute.
///
/// # Errors
///
/// When it cannot be made.
pub fn archive() -> Result<PathBuf> {
    let archive = cache_directory()?.join(format!("{RELEASE}-{EDITION}.tar"));
    if archive.is_file() {
        return Ok(archive);
    }
    let hook = format!(
        "mkdir -p \"$1{SYSVINIT}\" && cd \"$1{SYSVINIT}\" && \
         APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get download {OTHER_INIT}"
    );
    let scratch = scratch()?;
    let made = make(scratch.path(), PACKAGES, Some(&hook))?;
    fs::rename(&made, &archive).context("cannot keep the system in the cache")?;
    Ok(archive)
}

/// The directory of the one for suites, made when the cache does not have it: a minute.
/// Its files are root's if root makes it, and have no devices among them.
///
/// # Errors
///
/// When it cannot be made.
pub fn for_suites() -> Result<PathBuf> {
    let directory = cache_directory()?.join(format!("suites-{RELEASE}-{SUITES_EDITION}"));
    if directory.is_dir() {
        return Ok(directory);
    }
    let scratch = scratch()?;
    let archive = make(scratch.path(), SUITES, None)?;
    let unpacked = scratch.path().join("system");
    fs::create_dir_all(unpacked.join("dev")).context("cannot make a directory in the cache")?;
    let output = Command::new("tar")
        .args(["--exclude=./dev/*", "-xf"])
        .arg(&archive)
        .arg("-C")
        .arg(&unpacked)
        .output()
        .context("cannot run tar")?;
    if !output.status.success() {
        bail!("tar: {}", String::from_utf8_lossy(&output.stderr));
    }
    fs::rename(&unpacked, &directory).context("cannot keep the system in the cache")?;
    Ok(directory)
}

/// Goes when it is dropped, with what has not been moved away.
fn scratch() -> Result<TempDir> {
    let scratch = tempfile::Builder::new()
        .prefix("system-")
        .tempdir_in(cache_directory()?);
    scratch.context("cannot make a directory in the cache")
}

/// Makes an archive in `scratch` of a system with `packages`; `hook` is a command of
/// mmdebstrap's for what it has beside them.
fn make(scratch: &Path, packages: &str, hook: Option<&str>) -> Result<PathBuf> {
    eprintln!("e2e: making a system of Debian {RELEASE} with {packages}");
    let made = scratch.join("system.tar");
    let mut command = Command::new("mmdebstrap");
    command
        .arg("--variant=essential")
        .arg(format!("--include={packages}"));
    for directory in LEFT_OUT {
        command.arg(format!("--dpkgopt=path-exclude=/usr/share/{directory}/*"));
    }
    command.args(hook.map(|hook| format!("--customize-hook={hook}")));
    let output = command
        .arg(RELEASE)
        .arg(&made)
        .output()
        .context("cannot run mmdebstrap; try apt-get install mmdebstrap")?;
    if !output.status.success() {
        bail!("mmdebstrap: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(made)
}
