//! The programs of another revision. `device-bench` has its devices, and the driver of this
//! one, so that both are asked for the same.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{FlockOperation, flock};

/// The package in every revision.
const PACKAGE: &str = "tests/perf/device";

/// A revision of the repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    commit: String,
}

impl Revision {
    /// What `name` means in `repository`.
    ///
    /// # Errors
    ///
    /// When it means no commit.
    pub fn find(repository: &Path, name: &str) -> Result<Self> {
        let name = format!("{name}^{{commit}}");
        let arguments = [
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            &name,
        ];
        let commit = git(repository, &arguments)
            .with_context(|| format!("{name} is no revision of {}", repository.display()))?;
        Ok(Self { commit })
    }

    /// A short name of it.
    #[must_use]
    pub fn name(&self) -> String {
        self.commit.chars().take(12).collect()
    }
}

/// The name of what is checked out, with `-dirty` where files are others.
///
/// # Errors
///
/// When git cannot say it.
pub fn checked_out(repository: &Path) -> Result<String> {
    let mut name = Revision::find(repository, "HEAD")?.name();
    if !git(repository, &["status", "--porcelain"])?.is_empty() {
        name += "-dirty";
    }
    Ok(name)
}

/// A program that is built of a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `device-bench`: the devices of the revision, and the driver of this one.
    Bench,
    /// `vmm`.
    Vmm,
}

impl Program {
    /// What its package is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bench => "device-bench",
            Self::Vmm => "vmm",
        }
    }
}

/// Builds `program` of `revision`, changed by `patch`, in `cache`, if it is not there.
///
/// # Errors
///
/// When it cannot be built.
pub fn build(
    repository: &Path,
    cache: &Path,
    revision: &Revision,
    patch: Option<&Path>,
    what: Program,
) -> Result<PathBuf> {
    let inputs = inputs(repository, patch)?;
    let key = format!("{}-{}-{inputs:016x}", what.name(), revision.name());
    let program = cache.join("benches").join(key);
    fs::create_dir_all(cache.join("benches"))
        .with_context(|| format!("cannot make {}", cache.display()))?;
    let lock = File::create(cache.join("lock"))?;
    flock(&lock, FlockOperation::LockExclusive).context("cannot lock the cache")?;
    if program.is_file() {
        return Ok(program);
    }
    let tree = cache.join("tree");
    extract(repository, &tree, revision)?;
    overlay(repository, &tree)?;
    if let Some(patch) = patch {
        apply(patch, &tree)?;
    }
    let target = cache.join("target");
    // The program's packages only: features that other packages want change it. Not
    // locked, because the lock file need not have it.
    let status = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["build", "--quiet", "--release", "-p", what.name()])
        .current_dir(&tree)
        .env("CARGO_TARGET_DIR", &target)
        .stdin(Stdio::null())
        .status()
        .context("cannot run cargo")?;
    ensure!(
        status.success(),
        "{} of {} does not build",
        what.name(),
        revision.name()
    );
    let built = target.join("release").join(what.name());
    // In one step, so that no half of it is ever found.
    let part = program.with_extension("part");
    fs::copy(&built, &part).with_context(|| format!("cannot copy {}", built.display()))?;
    fs::rename(&part, &program)?;
    Ok(program)
}

/// Unpacks `revision`, with the present time on its files: by an older one cargo
/// would take them for what it has built of another revision.
fn extract(repository: &Path, tree: &Path, revision: &Revision) -> Result<()> {
    if tree.exists() {
        fs::remove_dir_all(tree)?;
    }
    fs::create_dir_all(tree)?;
    let mut archive = Command::new("git")
        .arg("-C")
        .arg(repository)
        .args(["archive", "--format=tar", &revision.commit])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run git")?;
    let output = archive.stdout.take().context("git has no output")?;
    let unpacked = (Command::new("tar")
        .args(["-xmC"])
        .arg(tree)
        .stdin(output)
        .status())
    .context("cannot run tar")?;
    let archived = archive.wait()?;
    ensure!(
        archived.success() && unpacked.success(),
        "cannot unpack {}",
        revision.name()
    );
    Ok(())
}

/// Puts this revision's program in place of the one of `tree`.
fn overlay(repository: &Path, tree: &Path) -> Result<()> {
    let (from, to) = (repository.join(PACKAGE), tree.join(PACKAGE));
    if to.exists() {
        fs::remove_dir_all(&to)?;
    } else {
        let manifest = tree.join("Cargo.toml");
        let text = fs::read_to_string(&manifest)?;
        let member = format!("\nmembers = [\"{PACKAGE}\", ");
        let with_it = text.replacen("\nmembers = [", &member, 1);
        if with_it == text {
            bail!("no list of members in its Cargo.toml");
        }
        fs::write(&manifest, with_it)?;
    }
    copy(&from, &to)
}

fn apply(patch: &Path, tree: &Path) -> Result<()> {
    let status = Command::new("git")
        .args(["apply", "--whitespace=nowarn"])
        .arg(std::path::absolute(patch)?)
        .current_dir(tree)
        // Not those of a repository that the cache may be in.
        .env("GIT_CEILING_DIRECTORIES", tree.parent().unwrap_or(tree))
        .stdin(Stdio::null())
        .status()
        .context("cannot run git")?;
    ensure!(status.success(), "{} does not apply", patch.display());
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for path in entries(from)? {
        let target = to.join(path.file_name().context("no name")?);
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            // Not its time: see `extract`.
            fs::write(&target, fs::read(&path)?)?;
        }
    }
    Ok(())
}

/// A number for what goes into the program beside the revision: the patch, the driver,
/// and the compiler with its flags.
fn inputs(repository: &Path, patch: Option<&Path>) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    if let Some(patch) = patch {
        let text = fs::read(patch);
        text.with_context(|| format!("cannot read {}", patch.display()))?
            .hash(&mut hasher);
    }
    compiler()?.hash(&mut hasher);
    std::env::var_os("RUSTFLAGS").hash(&mut hasher);
    hash(&repository.join(PACKAGE), &mut hasher)?;
    Ok(hasher.finish())
}

fn hash(directory: &Path, hasher: &mut DefaultHasher) -> Result<()> {
    for path in entries(directory)? {
        if path.is_dir() {
            hash(&path, hasher)?;
        } else {
            path.file_name().hash(hasher);
            fs::read(&path)?.hash(hasher);
        }
    }
    Ok(())
}

/// What is in a directory, always in the same order.
fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let list =
        fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut entries = list
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    entries.sort();
    Ok(entries)
}

/// Where what is built, and what was measured, is kept.
///
/// # Errors
///
/// When there is no place for it.
pub fn cache() -> Result<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.filter(|path| path.is_absolute()).or_else(home);
    Ok(cache
        .context("neither XDG_CACHE_HOME nor HOME is set")?
        .join("vmm/perf"))
}

/// The version of the compiler.
///
/// # Errors
///
/// When there is none.
pub fn compiler() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or("rustc".into());
    first_line(Command::new(rustc).arg("--version"))
}

/// The first line that a command prints.
///
/// # Errors
///
/// When it cannot be run, or fails.
pub fn first_line(command: &mut Command) -> Result<String> {
    let output = (command.stdin(Stdio::null()).output())
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or("").to_owned())
}

fn git(repository: &Path, arguments: &[&str]) -> Result<String> {
    first_line(
        Command::new("git")
            .arg("-C")
            .arg(repository)
            .args(arguments),
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn repository() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
    }

    #[test]
    fn what_is_no_revision_is_refused() {
        for name in ["no-such-revision", "--all", "HEAD:README.md", ""] {
            let error = Revision::find(repository(), name).unwrap_err();
            assert!(error.to_string().contains("is no revision"), "{name}");
        }
        assert_eq!(
            Revision::find(repository(), "HEAD").unwrap().name().len(),
            12
        );
    }

    #[test]
    fn a_tree_without_the_program_gets_it_and_one_with_it_the_present_one() {
        let tree = tempfile::tempdir().unwrap();
        let manifest = tree.path().join("Cargo.toml");
        fs::write(&manifest, "[workspace]\nmembers = [\"devices\"]\n").unwrap();
        overlay(repository(), tree.path()).unwrap();
        let members = fs::read_to_string(&manifest).unwrap();
        assert!(
            members.contains("[\"tests/perf/device\", \"devices\"]"),
            "{members}"
        );

        let source = tree.path().join(PACKAGE).join("src/main.rs");
        fs::write(&source, "").unwrap();
        let foreign = tree.path().join(PACKAGE).join("src/foreign.rs");
        fs::write(&foreign, "").unwrap();
        overlay(repository(), tree.path()).unwrap();
        assert!(fs::metadata(&source).unwrap().len() > 0);
        assert!(!foreign.exists());
        assert_eq!(fs::read_to_string(&manifest).unwrap(), members);
    }
}
