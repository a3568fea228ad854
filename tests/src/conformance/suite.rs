//! The suites.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::mode::{OWNERS, Owners, User};

/// A script in `tests/conformance/suites`, which says what it does.
#[derive(Debug)]
pub struct Suite {
    /// The script's name.
    pub name: &'static str,
    /// What it checks.
    pub about: &'static str,
    /// Its crate's version, where it is one.
    pub version: Option<&'static str>,
    /// Who can run it.
    pub users: &'static [User],
    /// After which time it is stuck.
    pub limit: Duration,
}

/// Those that are about whose files are, and what they may do with them.
const ABOUT_OWNERS: [&str; 4] = ["pjdfstest", "git", "copies", "dpkg"];

/// The version of [`virtiofsd`].
const VIRTIOFSD: &str = "1.14.0";

const BOTH: &[User] = &[User::Root, User::Ordinary];
const ROOT: &[User] = &[User::Root];

/// All of them.
pub const SUITES: &[Suite] = &[
    suite("fsx", "data of one file, at random", Some("0.3.2"), BOTH),
    suite("pjdfstest", "POSIX, call by call", Some("0.2.2"), BOTH),
    suite("stress-ng", "every kind of call, in a hurry", None, BOTH),
    suite("sqlite3", "locks and journals of three writers", None, BOTH),
    suite("git", "a repository's life", None, BOTH),
    suite("copies", "trees by cp, tar and rsync", None, BOTH),
    suite("fio", "data of many kinds of I/O", None, BOTH),
    suite("dbench", "the calls of a file server", None, BOTH),
    suite("dpkg", "packages of a root file system", None, ROOT),
    suite("cargo", "a build of a small program", None, ROOT),
];

const fn suite(
    name: &'static str,
    about: &'static str,
    version: Option<&'static str>,
    users: &'static [User],
) -> Suite {
    Suite {
        name,
        about,
        version,
        users,
        limit: Duration::from_secs(900),
    }
}

impl Suite {
    /// The one called `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        SUITES.iter().find(|suite| suite.name == name)
    }

    /// Who serves what `user` runs it on.
    #[must_use]
    pub fn owners(&self, user: User) -> &'static [Owners] {
        match user == User::Root && ABOUT_OWNERS.contains(&self.name) {
            true => OWNERS,
            false => &OWNERS[..1],
        }
    }

    /// Its script.
    #[must_use]
    pub fn script(&self) -> PathBuf {
        let suites = concat!(env!("CARGO_MANIFEST_DIR"), "/conformance/suites");
        Path::new(suites).join(self.name)
    }

    /// Where its program is, once it is installed; nowhere for one of the
    /// system's. It needs no libraries, so that a guest can run it as well.
    ///
    /// # Errors
    ///
    /// When cargo cannot install it.
    pub fn install(&self) -> Result<Option<PathBuf>> {
        let Some(version) = self.version else {
            return Ok(None);
        };
        let root = cache()?.join(format!("{}-{version}-static", self.name));
        // With a target named, the flag is not for what runs while it is built.
        let flags = ["--target", "x86_64-unknown-linux-gnu"];
        install(self.name, version, &root, |cargo| {
            cargo
                .args(flags)
                .env("RUSTFLAGS", "-C target-feature=+crt-static");
        })?;
        Ok(Some(root.join("bin")))
    }
}

/// The `virtiofsd` that our server is compared with, once it is installed.
///
/// # Errors
///
/// When there is no place for it.
pub fn virtiofsd() -> Result<PathBuf> {
    Ok(virtiofsd_root()?.join("bin/virtiofsd"))
}

fn virtiofsd_root() -> Result<PathBuf> {
    Ok(cache()?.join(format!("virtiofsd-{VIRTIOFSD}")))
}

/// Installs [`virtiofsd`].
///
/// # Errors
///
/// When cargo cannot.
pub fn install_virtiofsd() -> Result<()> {
    install("virtiofsd", VIRTIOFSD, &virtiofsd_root()?, |_| ())
}

/// Installs the program of a crate below `root`, unless it is there; `adapt` says
/// what is particular.
fn install(name: &str, version: &str, root: &Path, adapt: impl FnOnce(&mut Command)) -> Result<()> {
    if root.join("bin").join(name).exists() {
        return Ok(());
    }
    eprintln!("conformance: installing {name} {version}");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["install", "--quiet", "--locked", "--version", version]);
    adapt(&mut cargo);
    let status = cargo
        .arg("--root")
        .args([root.as_os_str(), name.as_ref()])
        .env_remove("CARGO_TARGET_DIR")
        .status()
        .context("cannot run cargo")?;
    ensure!(
        status.success(),
        "cannot install {name} {version}: {status}"
    );
    Ok(())
}

/// `$XDG_CACHE_HOME/vmm/suites`.
fn cache() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    Ok(base.join("vmm/suites"))
}
