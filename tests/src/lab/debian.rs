//! The lab's kernel: Debian's cloud kernel, fetched as a package and unpacked
//! into the cache, never installed.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// An unpacked kernel package.
#[derive(Clone, Debug)]
pub struct Kernel {
    root: PathBuf,
    release: String,
}

impl Kernel {
    /// The kernel that the meta package `package` depends on. Fetched when the
    /// cache does not have it; once it is there no network is needed.
    ///
    /// # Errors
    ///
    /// When the package cannot be found, fetched or unpacked.
    pub fn from_package(package: &str) -> Result<Self> {
        let cache = cache_directory()?;
        let image = match dependency(package) {
            Ok(image) => image,
            // Without package lists whatever was fetched before will do.
            Err(error) => match last_used(&cache, package) {
                Some(root) => return Self::unpacked(root),
                None => return Err(error),
            },
        };
        let root = cache.join(&image);
        if !root.is_dir() {
            eprintln!("lab: fetching {image}");
            if let Err(error) = fetch(&image, &cache, &root) {
                let error = error.context(format!(
                    "cannot fetch {image}; if the package lists are old, try apt-get update"
                ));
                // Lists that are newer than what was fetched before, and no
                // network: the one before will do, too.
                let Some(root) = last_used(&cache, package) else {
                    return Err(error);
                };
                eprintln!("lab: note: {error:#}; going on with {}", root.display());
                return Self::unpacked(root);
            }
        }
        // Where the next run looks when there are no package lists.
        let _ = fs::write(cache.join(format!("{package}.last")), &image);
        Self::unpacked(root)
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

fn cache_directory() -> Result<PathBuf> {
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

/// The package that a meta package stands for.
fn dependency(package: &str) -> Result<String> {
    let output = Command::new("apt-cache")
        .args(["show", "--no-all-versions", package])
        .stderr(Stdio::null())
        .output()
        .context("cannot run apt-cache; the lab takes its kernel from Debian")?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .find_map(|line| line.strip_prefix("Depends: "))
        .and_then(|line| line.split([' ', ',']).next())
        .map(str::to_owned)
        .with_context(|| format!("apt does not know the package {package}; try apt-get update"))
}

/// Unpacks beside `root` and renames, so that a cut run leaves nothing that
/// could be taken for a kernel.
fn fetch(image: &str, cache: &Path, root: &Path) -> Result<()> {
    let scratch = tempfile::tempdir_in(cache).context("cannot create a directory in the cache")?;
    run(Command::new("apt-get")
        .args(["--quiet", "download", image])
        .current_dir(&scratch))?;
    let package = fs::read_dir(&scratch)?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("apt-get did not fetch {image}"))?;
    let tree = scratch.path().join("tree");
    run(Command::new("dpkg-deb")
        .arg("--extract")
        .arg(&package)
        .arg(&tree))?;
    // The package's own installation scripts would do this.
    let kernel = Kernel::unpacked(tree.clone())?;
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

/// Runs a tool whose output is only of interest when it fails.
fn run(command: &mut Command) -> Result<()> {
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
pub(super) fn read_module(path: &Path) -> Result<Vec<u8>> {
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
}
