//! Packages of Debian, from the host's own sources or, beside them, from those of
//! another release. Nothing is installed, and the host's lists are not touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::debian::run;

/// Debian's own keys, of all its releases.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Where Debian is when the host's sources do not say.
const MIRRORS: [(&str, &str); 2] = [
    ("Debian", "http://deb.debian.org/debian"),
    ("Debian-Security", "http://deb.debian.org/debian-security"),
];
/// How old lists of packages of ours may be.
const FRESH: Duration = Duration::from_secs(24 * 3600);

/// A set of sources.
#[derive(Debug)]
pub(super) struct Apt {
    /// Options of every command.
    options: Vec<String>,
    /// Our own directory; the host's have none.
    root: Option<PathBuf>,
}

impl Apt {
    /// What the host itself uses.
    pub(super) fn of_host() -> Self {
        Self {
            options: Vec::new(),
            root: None,
        }
    }

    /// `suites` of `release`, each with its archive's label, from the mirrors that
    /// the host uses. Lists and sources are kept in `cache`.
    pub(super) fn of_release(cache: &Path, release: &str, suites: &[(&str, &str)]) -> Result<Self> {
        let root = cache.join(format!("apt-{release}"));
        for directory in ["lists/partial", "archives/partial"] {
            let path = root.join(directory);
            fs::create_dir_all(&path)
                .with_context(|| format!("cannot create {}", path.display()))?;
        }
        let mirrors = host_mirrors();
        let mut sources = String::new();
        for (label, suite) in suites {
            let known = mirrors.iter().find(|(found, _)| found == label);
            let default = MIRRORS.iter().find(|(found, _)| found == label);
            let mirror = (known.map(|(_, uri)| uri.as_str()))
                .or(default.map(|(_, uri)| *uri))
                .with_context(|| format!("nobody knows a mirror of {label}"))?;
            sources.push_str(&format!(
                "deb [signed-by={KEYRING}] {mirror} {suite} main\n"
            ));
        }
        let list = root.join("sources.list");
        if fs::read_to_string(&list).unwrap_or_default() != sources {
            // Lists of other sources are not fresh.
            let _ = fs::remove_file(root.join("updated"));
            fs::write(&list, sources)
                .with_context(|| format!("cannot write {}", list.display()))?;
        }
        let options = [
            format!("Dir::Etc::sourcelist={}", list.display()),
            "Dir::Etc::sourceparts=-".to_owned(),
            format!("Dir::State::lists={}", root.join("lists").display()),
            format!("Dir::Cache={}", root.display()),
            // What the host has installed is none of ours.
            "Dir::State::status=/dev/null".to_owned(),
            "Acquire::Languages=none".to_owned(),
        ];
        Ok(Self {
            options: options.into(),
            root: Some(root),
        })
    }

    /// Fetches our own lists when they are old; the host's are the host's.
    pub(super) fn refresh(&self) -> Result<()> {
        let Some(root) = &self.root else {
            return Ok(());
        };
        let mark = root.join("updated");
        let age = fs::metadata(&mark)
            .and_then(|metadata| metadata.modified())
            .ok()
            .and_then(|modified| modified.elapsed().ok());
        if age.is_some_and(|age| age < FRESH) {
            return Ok(());
        }
        run(self.command("apt-get").args(["--quiet", "update"]))
            .context("cannot fetch the lists of packages")?;
        fs::write(&mark, "").with_context(|| format!("cannot write {}", mark.display()))
    }

    /// The names of the packages that match a regular expression.
    pub(super) fn names(&self, pattern: &str) -> Result<Vec<String>> {
        let output = self
            .command("apt-cache")
            .args(["search", "--names-only", pattern])
            .output()
            .context("cannot run apt-cache")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let name = |line: &str| line.split(' ').next().map(str::to_owned);
        Ok(text.lines().filter_map(name).collect())
    }

    /// The package that a meta package stands for.
    pub(super) fn dependency(&self, package: &str) -> Result<String> {
        let dependencies = self.dependencies(package)?;
        (dependencies.into_iter().next())
            .with_context(|| format!("{package} stands for no other package"))
    }

    /// The image and the packages that belong to it alone: since 6.19 the kernel
    /// and its modules are not in the image's own.
    pub(super) fn parts(&self, image: &str) -> Result<Vec<String>> {
        let release = image.strip_prefix("linux-image").unwrap_or(image);
        let dependencies = self.dependencies(image)?.into_iter();
        // Some are only names that another part provides.
        let parts =
            dependencies.filter(|name| name.ends_with(release) && self.dependencies(name).is_ok());
        Ok([image.to_owned()].into_iter().chain(parts).collect())
    }

    /// Fetches a package into `directory` and names the file.
    pub(super) fn download(&self, package: &str, directory: &Path) -> Result<PathBuf> {
        run(self
            .command("apt-get")
            .args(["--quiet", "download", package])
            .current_dir(directory))?;
        fs::read_dir(directory)?
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .find(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with(&format!("{package}_")) && name.ends_with(".deb")
            })
            .with_context(|| format!("apt-get did not fetch {package}"))
    }

    /// The first choice of each dependency.
    fn dependencies(&self, package: &str) -> Result<Vec<String>> {
        let output = self
            .command("apt-cache")
            .args(["show", "--no-all-versions", package])
            .stderr(Stdio::null())
            .output()
            .context("cannot run apt-cache; kernels are Debian's packages")?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !text.lines().any(|line| line.starts_with("Package: ")) {
            bail!("apt does not know the package {package}; try apt-get update");
        }
        let line = (text.lines()).find_map(|line| line.strip_prefix("Depends: "));
        Ok(names_of(line.unwrap_or_default()))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for option in &self.options {
            command.args(["-o", option]);
        }
        command
    }
}

/// The names in a `Depends` field: `a (= 1) | b, c`.
fn names_of(field: &str) -> Vec<String> {
    field
        .split(',')
        .filter_map(|choice| choice.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

/// The archives of Debian that the host uses: (label, address).
fn host_mirrors() -> Vec<(String, String)> {
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)"])
        .arg("Created-By: Packages")
        .output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    parse_mirrors(&String::from_utf8_lossy(&text))
}

fn parse_mirrors(text: &str) -> Vec<(String, String)> {
    text.lines()
        .filter_map(|line| line.strip_prefix("Debian|")?.split_once('|'))
        .map(|(label, uri)| (label.to_owned(), uri.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_with_their_first_choice() {
        assert_eq!(names_of("a | b (>= 2), c (= 1.0),d"), ["a", "c", "d"]);
        assert!(names_of("").is_empty());
    }

    #[test]
    fn only_the_archives_of_debian_are_mirrors_of_it() {
        let text = "Debian|Debian|http://mirror/debian/\nNode|Node|https://node/\n\
                    Debian|Debian-Security|http://mirror/security/\n";
        let found = parse_mirrors(text);
        assert_eq!(found.len(), 2);
        assert_eq!(found[1].1, "http://mirror/security/");
    }

    #[test]
    fn the_sources_of_another_release_are_kept_apart_from_the_hosts() {
        let cache = tempfile::tempdir().expect("a directory");
        let suites = [("Debian", "one"), ("Debian-Security", "one-security")];
        let apt = Apt::of_release(cache.path(), "one", &suites).expect("sources");
        let list = cache.path().join("apt-one/sources.list");
        let text = fs::read_to_string(list).expect("a list");
        assert_eq!(text.lines().count(), 2);
        assert!(text.lines().all(|line| line.contains(KEYRING)), "{text}");
        let output = apt
            .command("apt-cache")
            .args(["show", "coreutils"])
            .output()
            .expect("apt");
        assert!(!output.status.success(), "the host's lists were read");
        assert!(Apt::of_release(cache.path(), "one", &[("Nobody", "one")]).is_err());
    }
}
