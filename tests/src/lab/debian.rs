//! Debian's cloud kernels, fetched as packages and unpacked into the cache, never
//! installed: the lab's own, and some that guests boot.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::apt::Apt;

/// The release of Debian after the one this runs on.
const RELEASE: &str = "trixie";
/// Where its kernels are: the label of the archive and the suite.
const SUITES: [(&str, &str); 3] = [
    ("Debian", "trixie"),
    ("Debian", "trixie-backports"),
    ("Debian-Security", "trixie-security"),
];

/// An unpacked kernel package.
#[derive(Clone, Debug)]
pub struct KernelPackage {
    root: PathBuf,
    release: String,
}

impl KernelPackage {
    /// The kernel that the meta package `package` depends on. Fetched when the
    /// cache does not have it; once it is there no network is needed.
    ///
    /// # Errors
    ///
    /// When the package cannot be found, fetched or unpacked.
    pub fn from_package(package: &str) -> Result<Self> {
        Self::fetched(package, &Apt::of_host(), |apt| apt.dependency(package))
    }

    /// The newest cloud kernel of Debian 13 and its backports, of one series (as in
    /// `6.12`) or of all. The host's own sources of packages stay as they are.
    ///
    /// # Errors
    ///
    /// When the package cannot be found, fetched or unpacked.
    pub fn newest(series: Option<&str>) -> Result<Self> {
        let name = format!("{RELEASE}-{}", series.unwrap_or("newest"));
        let apt = Apt::of_release(&cache_directory()?, RELEASE, &SUITES)?;
        Self::fetched(&name, &apt, |apt| {
            apt.refresh()?;
            let images = apt.names("^linux-image-[0-9].*-cloud-amd64$")?;
            newest(&images, series).with_context(|| {
                let which = series.unwrap_or("any version");
                format!("Debian {RELEASE} and its backports have no cloud kernel of {which}")
            })
        })
    }

    /// Fetches the image that `find` names, unless the cache has it. When that is
    /// not possible the one that was last used as `name` will do.
    fn fetched(name: &str, apt: &Apt, find: impl FnOnce(&Apt) -> Result<String>) -> Result<Self> {
        let cache = cache_directory()?;
        let fetched = find(apt).and_then(|image| {
            let root = cache.join(&image);
            if !root.is_dir() {
                eprintln!("lab: fetching {image}");
                fetch(apt, &image, &cache, &root).with_context(|| {
                    format!(
                        "cannot fetch {image}; if the package lists are old, try apt-get update"
                    )
                })?;
            }
            Ok((image, root))
        });
        match (fetched, last_used(&cache, name)) {
            (Ok((image, root)), _) => {
                // Where the next run looks when there is no network.
                let _ = fs::write(cache.join(format!("{name}.last")), &image);
                Self::unpacked(root)
            }
            (Err(error), Some(root)) => {
                eprintln!("lab: note: {error:#}; going on with {}", root.display());
                Self::unpacked(root)
            }
            (Err(error), None) => Err(error),
        }
    }

    /// The kernel in `root`, which has `boot` and `lib/modules`.
    ///
    /// # Errors
    ///
    /// When it has not.
    pub fn unpacked(root: PathBuf) -> Result<Self> {
        let modules = root.join("lib/modules");
        let release = fs::read_dir(&modules)
            .ok()
            .and_then(|mut entries| entries.next()?.ok())
            .with_context(|| format!("no kernel in {}", root.display()))?
            .file_name()
            .into_string()
            .map_err(|name| anyhow::anyhow!("a strange kernel release {}", name.display()))?;
        Ok(Self { root, release })
    }

    /// The bzImage.
    #[must_use]
    pub fn image(&self) -> PathBuf {
        self.root.join(format!("boot/vmlinuz-{}", self.release))
    }

    /// What `uname -r` says under this kernel.
    #[must_use]
    pub fn release(&self) -> &str {
        &self.release
    }

    /// The directory `/lib/modules/RELEASE` would be.
    #[must_use]
    pub fn modules(&self) -> PathBuf {
        self.root.join("lib/modules").join(&self.release)
    }

    /// The files to load, in order, so that each of `names` is loaded. A name
    /// that is built in needs none.
    ///
    /// # Errors
    ///
    /// When the kernel does not have a module of this name.
    pub fn resolve(&self, names: &[&str]) -> Result<Vec<PathBuf>> {
        let directory = self.modules();
        let read = |name: &str| {
            let path = directory.join(name);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let dependencies = Dependencies::parse(&read("modules.dep")?);
        let builtin = read("modules.builtin")?;
        let mut order = Vec::new();
        for name in names {
            if let Some(path) = dependencies.path_of(name) {
                dependencies.append(path, &mut order);
            } else if !builtin
                .lines()
                .any(|path| module_name(path) == module_name(name))
            {
                bail!("{} has no module {name}", self.release);
            }
        }
        Ok(order.into_iter().map(|path| directory.join(path)).collect())
    }
}

/// `modules.dep`: what each module file needs.
struct Dependencies(HashMap<String, Vec<String>>);

impl Dependencies {
    fn parse(text: &str) -> Self {
        Self(
            text.lines()
                .filter_map(|line| line.split_once(':'))
                .map(|(path, needs)| {
                    let needs = needs.split_whitespace().map(str::to_owned).collect();
                    (path.to_owned(), needs)
                })
                .collect(),
        )
    }

    fn path_of(&self, name: &str) -> Option<&str> {
        let wanted = module_name(name);
        self.0
            .keys()
            .map(String::as_str)
            .find(|path| module_name(path) == wanted)
    }

    /// depmod lists every dependency of a module, the deepest last.
    fn append(&self, path: &str, order: &mut Vec<String>) {
        let needs = self.0.get(path).into_iter().flatten().rev();
        for file in needs.map(String::as_str).chain([path]) {
            if !order.iter().any(|known| known == file) {
                order.push(file.to_owned());
            }
        }
    }
}

/// `kvm-amd` of `kernel/arch/x86/kvm/kvm-amd.ko.xz`; `-` and `_` are the same.
fn module_name(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.split('.').next().unwrap_or(name).replace('-', "_")
}

pub(crate) fn cache_directory() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()) {
        Some(base) => PathBuf::from(base),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    let cache = base.join("vmm/lab");
    fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    Ok(cache)
}

fn last_used(cache: &Path, package: &str) -> Option<PathBuf> {
    let image = fs::read_to_string(cache.join(format!("{package}.last"))).ok()?;
    Some(cache.join(image)).filter(|root| root.is_dir())
}

/// The newest of `images`, by the numbers in their names.
fn newest(images: &[String], series: Option<&str>) -> Option<String> {
    let numbers = |image: &&String| -> Vec<u32> {
        // The number of the architecture would be one more.
        let version = image.split("-cloud-").next().unwrap_or_default();
        let digits = version.split(|letter: char| !letter.is_ascii_digit());
        digits.filter_map(|digits| digits.parse().ok()).collect()
    };
    let of_series = |image: &&String| {
        series.is_none_or(|series| image.starts_with(&format!("linux-image-{series}.")))
    };
    images.iter().filter(of_series).max_by_key(numbers).cloned()
}

/// Unpacks beside `root` and renames, so that a cut run leaves nothing that
/// could be taken for a kernel.
fn fetch(apt: &Apt, image: &str, cache: &Path, root: &Path) -> Result<()> {
    let scratch = tempfile::tempdir_in(cache).context("cannot create a directory in the cache")?;
    let tree = scratch.path().join("tree");
    for package in apt.parts(image)? {
        let file = apt.download(&package, scratch.path())?;
        run(Command::new("dpkg-deb")
            .arg("--extract")
            .arg(file)
            .arg(&tree))?;
    }
    put_in_order(&tree)?;
    // The package's own installation scripts would do this.
    let kernel = KernelPackage::unpacked(tree.clone())?;
    run(Command::new("/sbin/depmod")
        .arg("--basedir")
        .arg(&tree)
        .arg(kernel.release()))?;
    match fs::rename(&tree, root) {
        // Somebody else was quicker.
        Err(_) if root.is_dir() => Ok(()),
        result => result.with_context(|| format!("cannot create {}", root.display())),
    }
}

/// Puts everything where packages had it before Debian 13: modules below `/usr`
/// then, and since 6.19 the image with them.
fn put_in_order(tree: &Path) -> Result<()> {
    let moved = tree.join("usr/lib/modules");
    if moved.is_dir() {
        fs::create_dir_all(tree.join("lib"))?;
        fs::rename(moved, tree.join("lib/modules"))?;
    }
    let kernel = KernelPackage::unpacked(tree.to_owned())?;
    let image = kernel.modules().join("vmlinuz");
    if image.is_file() {
        fs::create_dir_all(tree.join("boot"))?;
        fs::rename(image, kernel.image())?;
    }
    Ok(())
}

/// Runs a tool whose output is only of interest when it fails.
pub(super) fn run(command: &mut Command) -> Result<()> {
    let program: OsString = command.get_program().to_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let reason = text
            .lines()
            .rfind(|line| !line.trim().is_empty())
            .unwrap_or_default();
        bail!("{}: {}: {reason}", program.display(), output.status);
    }
    Ok(())
}

/// The module itself, out of the compression Debian 13 and later use.
pub(crate) fn read_module(path: &Path) -> Result<Vec<u8>> {
    let compressed = path.extension().is_some_and(|extension| extension == "xz");
    if !compressed {
        return fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    }
    let output = Command::new("xz")
        .args(["--decompress", "--stdout"])
        .arg(path)
        .output();
    let output = output.context("cannot run xz")?;
    if !output.status.success() {
        bail!("cannot decompress {}", path.display());
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_come_before_what_needs_them_and_only_once() {
        let dependencies = Dependencies::parse(
            "kernel/kvm-amd.ko.xz: kernel/kvm.ko.xz kernel/irqbypass.ko.xz\n\
             kernel/kvm.ko.xz: kernel/irqbypass.ko.xz\nkernel/irqbypass.ko.xz:\n",
        );
        let mut order = Vec::new();
        for name in ["irqbypass", "kvm_amd", "kvm"] {
            let path = dependencies.path_of(name).unwrap_or_default().to_owned();
            dependencies.append(&path, &mut order);
        }
        assert_eq!(
            order,
            [
                "kernel/irqbypass.ko.xz",
                "kernel/kvm.ko.xz",
                "kernel/kvm-amd.ko.xz"
            ]
        );
        assert_eq!(dependencies.path_of("kvm_intel"), None);
    }

    #[test]
    fn the_newest_is_that_with_the_highest_numbers() {
        let images = [
            "linux-image-6.12.90+deb13-cloud-amd64",
            "linux-image-6.12.115+deb13.1-cloud-amd64",
            "linux-image-6.12.115+deb13-cloud-amd64",
            "linux-image-6.1.170+deb13-cloud-amd64",
            "linux-image-10.0.1+deb13-cloud-amd64",
        ]
        .map(str::to_owned);
        let found = |series| newest(&images, series).unwrap_or_default();
        assert_eq!(found(Some("6.12")), images[1]);
        assert_eq!(found(Some("6.1")), images[3]);
        assert_eq!(found(None), images[4]);
        assert_eq!(newest(&images, Some("6.18")), None);
    }
}
