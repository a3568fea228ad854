//! A small system of Debian's, for guests that want one: systemd, sudo, git; and
//! sysvinit, to be installed in systemd's place.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The release, and what is in it beside the essential packages.
const RELEASE: &str = "bookworm";
const PACKAGES: &str = "systemd-sysv,sudo,git,kmod,passwd";
/// The packages of the other init, which lie in [`SYSVINIT`].
const OTHER_INIT: &str = "sysvinit-core sysvinit-utils initscripts sysv-rc insserv startpar";
/// Where they are in the system.
pub const SYSVINIT: &str = "/opt/sysvinit";
/// Nobody reads there.
const LEFT_OUT: [&str; 4] = ["doc", "man", "locale", "info"];
/// Counts changes of how it is made.
const EDITION: u32 = 2;

/// The archive (tar) of it, made when the cache does not have it: a minute.
///
/// # Errors
///
/// When it cannot be made.
pub fn archive() -> Result<PathBuf> {
    let cache = crate::lab::debian::cache_directory()?;
    let archive = cache.join(format!("{RELEASE}-{EDITION}.tar"));
    if archive.is_file() {
        return Ok(archive);
    }
    eprintln!("e2e: making a system of Debian {RELEASE} with {PACKAGES}");
    let scratch = tempfile::Builder::new()
        .prefix("system-")
        .tempdir_in(&cache)
        .context("cannot make a directory in the cache")?;
    let made = scratch.path().join("system.tar");
    let mut command = Command::new("mmdebstrap");
    command
        .arg("--variant=essential")
        .arg(format!("--include={PACKAGES}"));
    for directory in LEFT_OUT {
        command.arg(format!("--dpkgopt=path-exclude=/usr/share/{directory}/*"));
    }
    command.arg(format!(
        "--customize-hook=mkdir -p \"$1{SYSVINIT}\" && cd \"$1{SYSVINIT}\" && \
         APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get download {OTHER_INIT}"
    ));
    let output = command
        .arg(RELEASE)
        .arg(&made)
        .output()
        .context("cannot run mmdebstrap; try apt-get install mmdebstrap")?;
    if !output.status.success() {
        bail!("mmdebstrap: {}", String::from_utf8_lossy(&output.stderr));
    }
    fs::rename(&made, &archive).context("cannot keep the system in the cache")?;
    Ok(archive)
}
