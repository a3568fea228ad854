//! The suites.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::mode::User;

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
        let programs = root.join("bin");
        if !programs.join(self.name).exists() {
            eprintln!("conformance: installing {} {version}", self.name);
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let status = Command::new(cargo)
                .args(["install", "--quiet", "--locked", "--version", version])
                // With a target named, the flag is not for what runs while it is built.
                .args(["--target", "x86_64-unknown-linux-gnu"])
                .env("RUSTFLAGS", "-C target-feature=+crt-static")
                .arg("--root")
                .args([root.as_os_str(), self.name.as_ref()])
                .env_remove("CARGO_TARGET_DIR")
                .status()
                .context("cannot run cargo")?;
            ensure!(
                status.success(),
                "cannot install {} {version}: {status}",
                self.name
            );
        }
        Ok(Some(programs))
    }
}

/// `$XDG_CACHE_HOME/vmm/suites`.
fn cache() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    Ok(base.join("vmm/suites"))
}
