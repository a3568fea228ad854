//! The kernel modules that the guest needs to reach its shares: a
//! distribution's kernel has virtio-mmio and virtiofs as modules.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::prepare::input;

/// Modules and their kernel's releases on the host.
const INSTALLED: &str = "/lib/modules";

/// The largest module that is unpacked, and list of modules that is read.
const LARGEST: u64 = 256 << 20;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "{} holds no kernel modules{}: name /lib/modules/RELEASE, the directory it is in, or a \
         build tree",
        path.display(),
        release.as_ref().map(|release| format!(" for {release}")).unwrap_or_default()
    )]
    NoModules {
        path: PathBuf,
        /// The kernel's release, where it is known.
        release: Option<String>,
    },
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the module {module} needs {dependency}, which {} does not have", path.display())]
    Dependency {
        module: String,
        dependency: String,
        path: PathBuf,
    },
    #[error("cannot unpack {}: {tool} is needed for it (apt-get install {package})", path.display())]
    Unpack {
        path: PathBuf,
        tool: &'static str,
        package: &'static str,
    },
    #[error("the module {} is larger than {} MiB", .0.display(), LARGEST >> 20)]
    TooLarge(PathBuf),
}

/// Where a module is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// In the kernel itself.
    BuiltIn,
    /// In a file.
    File,
    /// Nowhere.
    Absent,
    /// Not in a file, and what is built in nobody has written down.
    Unknown,
}

/// The modules of one kernel: a `/lib/modules/RELEASE`.
#[derive(Debug)]
pub(crate) struct Modules {
    directory: PathBuf,
    /// Where that is written down.
    built_in: Option<HashSet<String>>,
    /// Below the directory.
    files: HashMap<String, PathBuf>,
    /// From `modules.dep`; without one, each module is read for what it needs.
    dependencies: Option<HashMap<String, Vec<String>>>,
}

/// A module to pack.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Module {
    /// The name, with `_`.
    pub name: String,
    /// The contents, unpacked.
    pub contents: Vec<u8>,
}

impl Modules {
    /// The modules that the user named, or those installed on the host for
    /// the kernel's release. `Ok(None)` when there are none to be found and
    /// none were named.
    pub(crate) fn find(named: Option<&Path>, release: Option<&str>) -> Result<Option<Self>, Error> {
        let Some(named) = named else {
            let installed = release.map(|release| Path::new(INSTALLED).join(release));
            return match installed {
                Some(path) if looks_right(&path) => Self::open(&path).map(Some),
                _ => Ok(None),
            };
        };
        let mut candidates = vec![named.to_owned()];
        if let Some(release) = release {
            candidates.push(named.join(release));
            // What `make modules_install INSTALL_MOD_PATH=` makes.
            candidates.push(named.join("lib/modules").join(release));
        }
        match candidates.into_iter().find(|path| looks_right(path)) {
            Some(path) => Self::open(&path).map(Some),
            None => Err(Error::NoModules {
                path: named.to_owned(),
                release: release.map(str::to_owned),
            }),
        }
    }

    /// The modules in `files` below `directory`, which say themselves what they need.
    pub(crate) fn listed<'a>(
        directory: &Path,
        files: impl Iterator<Item = &'a str>,
        built_in: Option<&str>,
    ) -> Self {
        Self {
            directory: directory.to_owned(),
            built_in: built_in.map(names),
            files: files.map(|file| (module_name(file), file.into())).collect(),
            dependencies: None,
        }
    }

    fn open(directory: &Path) -> Result<Self, Error> {
        let built_in = read_optional(&directory.join("modules.builtin"))?;
        let mut modules = Self {
            directory: directory.to_owned(),
            built_in: built_in.as_deref().map(names),
            files: HashMap::new(),
            dependencies: None,
        };
        match read_optional(&directory.join("modules.dep"))? {
            Some(text) => modules.read_dependencies(&text),
            // Not installed but unpacked: nobody has run depmod.
            None => modules.search(&directory.join("kernel"))?,
        }
        Ok(modules)
    }

    /// Where `name` is.
    #[must_use]
    pub(crate) fn presence(&self, name: &str) -> Presence {
        if self.files.contains_key(name) {
            Presence::File
        } else {
            match &self.built_in {
                Some(names) if names.contains(name) => Presence::BuiltIn,
                Some(_) => Presence::Absent,
                None => Presence::Unknown,
            }
        }
    }

    /// The name of the module in `file`.
    pub(crate) fn name_of(file: &str) -> String {
        module_name(file)
    }

    /// What the module `name` itself says that it needs; nothing where it cannot be
    /// read.
    pub(crate) fn own_needs(&self, name: &str) -> Vec<String> {
        let file = self.files.get(name);
        let contents = file.and_then(|file| read_module(&self.directory.join(file)).ok());
        contents
            .as_deref()
            .map(own_dependencies)
            .unwrap_or_default()
    }

    /// The release of the kernel that they were built for, as the first of them says it;
    /// `None` where it does not.
    pub(crate) fn built_for(&self) -> Option<String> {
        let file = self.files.values().min()?;
        let contents = read_module(&self.directory.join(file)).ok()?;
        let magic = entries(&contents, b"vermagic=").next()?;
        let release = magic.split(|byte| *byte == b' ').next()?;
        let is_plain = release.iter().all(u8::is_ascii_graphic);
        is_plain.then(|| String::from_utf8_lossy(release).into_owned())
    }

    /// Whether `depmod` has run over them.
    pub(crate) fn are_listed(&self) -> bool {
        self.dependencies.is_some()
    }

    /// The directory they are in.
    #[must_use]
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Those of `names` that are files, with all that they need, in the order
    /// in which they have to be loaded.
    pub(crate) fn load_order(&self, names: &[&str]) -> Result<Vec<Module>, Error> {
        let mut order = Vec::new();
        let mut seen = HashSet::new();
        for name in names {
            if self.files.contains_key(*name) {
                self.visit(name, &mut seen, &mut order)?;
            }
        }
        Ok(order)
    }

    /// Appends `name` after what it needs.
    fn visit(
        &self,
        name: &str,
        seen: &mut HashSet<String>,
        order: &mut Vec<Module>,
    ) -> Result<(), Error> {
        if !seen.insert(name.to_owned()) {
            return Ok(());
        }
        let Some(path) = self.files.get(name) else {
            return Ok(());
        };
        let contents = read_module(&self.directory.join(path))?;
        let needs = match &self.dependencies {
            Some(all) => all.get(name).cloned().unwrap_or_default(),
            None => own_dependencies(&contents),
        };
        for dependency in needs {
            if self.presence(&dependency) == Presence::Absent {
                return Err(Error::Dependency {
                    module: name.to_owned(),
                    dependency,
                    path: self.directory.clone(),
                });
            }
            self.visit(&dependency, seen, order)?;
        }
        order.push(Module {
            name: name.to_owned(),
            contents,
        });
        Ok(())
    }

    /// Lines of `path: path path ...`; what comes last is needed first.
    fn read_dependencies(&mut self, text: &str) {
        let mut dependencies = HashMap::new();
        for line in text.lines() {
            let Some((path, needs)) = line.split_once(':') else {
                continue;
            };
            let name = module_name(path);
            let needs = needs.split_whitespace().rev().map(module_name).collect();
            dependencies.insert(name.clone(), needs);
            self.files.insert(name, path.into());
        }
        self.dependencies = Some(dependencies);
    }

    fn search(&mut self, directory: &Path) -> Result<(), Error> {
        let read = |source| Error::Read {
            path: directory.to_owned(),
            source,
        };
        for entry in fs::read_dir(directory).map_err(read)? {
            let entry = entry.map_err(read)?;
            let path = entry.path();
            if entry.file_type().map_err(read)?.is_dir() {
                self.search(&path)?;
                continue;
            }
            let file = entry.file_name();
            let file = file.to_string_lossy();
            if is_module(&file) {
                let name = module_name(&file);
                let path = path.strip_prefix(&self.directory).unwrap_or(&path);
                self.files.insert(name, path.to_owned());
            }
        }
        Ok(())
    }
}

fn looks_right(path: &Path) -> bool {
    path.join("modules.dep").is_file()
        || path.join("modules.builtin").is_file()
        || path.join("kernel").is_dir()
}

/// Whether a file of this name is a module.
pub(crate) fn is_module(file: &str) -> bool {
    let packed = [".gz", ".xz", ".zst"];
    let name = packed.iter().find_map(|suffix| file.strip_suffix(suffix));
    name.unwrap_or(file).ends_with(".ko")
}

/// The names in a list of files.
fn names(list: &str) -> HashSet<String> {
    list.lines().map(module_name).collect()
}

/// `kernel/fs/fuse/virtiofs.ko.xz` is `virtiofs`; `-` and `_` are the same.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    let name = file.split(".ko").next().unwrap_or(file);
    name.replace('-', "_")
}

/// The modules that this one says it needs.
fn own_dependencies(module: &[u8]) -> Vec<String> {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-,".contains(byte);
    entries(module, b"depends=")
        .filter(|names| names.iter().all(is_name))
        .flat_map(|names| names.split(|byte| *byte == b','))
        .filter(|name| !name.is_empty())
        .map(|name| module_name(&String::from_utf8_lossy(name)))
        .collect()
}

/// What follows `key` in a module's `.modinfo` section, whose entries end in NUL.
fn entries<'a>(module: &'a [u8], key: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    module
        .windows(key.len())
        .enumerate()
        .filter(move |(_, window)| *window == key)
        .filter_map(move |(at, _)| {
            let rest = module.get(at + key.len()..)?;
            rest.get(..rest.iter().position(|byte| *byte == 0)?)
        })
}

fn read_optional(path: &Path) -> Result<Option<String>, Error> {
    match input::read(path, LARGEST) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

/// A module's contents. Unpacked here, because not every kernel can.
fn read_module(path: &Path) -> Result<Vec<u8>, Error> {
    let read = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let file = input::open(path).map_err(read)?;
    let contents = match path.extension().and_then(|extension| extension.to_str()) {
        Some("gz") => up_to_limit(flate2::read::GzDecoder::new(file)).map_err(read)?,
        Some("xz") => unpack(path, file, "xz", "xz-utils")?,
        Some("zst") => unpack(path, file, "zstd", "zstd")?,
        _ => up_to_limit(file).map_err(read)?,
    };
    if contents.len() as u64 > LARGEST {
        return Err(Error::TooLarge(path.to_owned()));
    }
    Ok(contents)
}

fn up_to_limit(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut contents = Vec::new();
    reader.take(LARGEST + 1).read_to_end(&mut contents)?;
    Ok(contents)
}

fn unpack(
    path: &Path,
    file: fs::File,
    tool: &'static str,
    package: &'static str,
) -> Result<Vec<u8>, Error> {
    let failed = || Error::Unpack {
        path: path.to_owned(),
        tool,
        package,
    };
    let mut child = Command::new(tool)
        .arg("-dc")
        .stdin(file)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|_| failed())?;
    let output = child.stdout.take().map(up_to_limit);
    // Whoever is stopped by the limit gets a SIGPIPE.
    let status = child.wait();
    match (output, status) {
        (Some(Ok(contents)), Ok(status)) if status.success() || contents.len() as u64 > LARGEST => {
            Ok(contents)
        }
        _ => Err(failed()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
