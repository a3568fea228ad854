//! Modules that are not installed, as a build or a package leaves them, with the
//! lists that `modprobe` reads.
//!
//! In the guest the lists are files of the initramfs, beside links to the modules;
//! the links lead into the share of the directory that the modules are in, which is
//! mounted below. So nothing is written on the host but what `depmod` needs, for as
//! long as it runs.

mod depmod;
mod workplace;

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::initramfs::modules::{self, Modules};
use super::input;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot read the modules in {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("no modules were built in {}: run make modules there", .0.display())]
    NotBuilt(PathBuf),
    #[error("there are no kernel modules in {}", .0.display())]
    None(PathBuf),
    #[error(transparent)]
    Modules(#[from] modules::Error),
}

/// The tool that makes the lists.
const DEPMOD: &str = "depmod";
/// Where a tree is in the directory of its modules: who builds a module looks for it
/// there, too.
const BUILD: &str = "build";
/// Where other modules are.
const FILES: &str = "files";
/// What a build leaves of these.
const ORDER: &str = "modules.order";
const LEFT: [&str; 2] = ["modules.builtin", "modules.builtin.modinfo"];
/// The largest of them that is read.
const LARGEST: u64 = 64 << 20;

/// Modules with their lists.
#[derive(Debug)]
pub(super) struct Listing {
    /// Where the modules are.
    pub(super) root: PathBuf,
    /// Where `root` is to be in the directory of the modules.
    pub(super) mount: &'static str,
    /// The lists, by name.
    pub(super) lists: BTreeMap<String, Vec<u8>>,
    /// The links below the directory, and where they lead.
    pub(super) links: Vec<(String, String)>,
    pub(super) modules: Modules,
    /// What the guest has to do without, on a line each.
    pub(super) notes: Vec<String>,
}

/// A module.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Module {
    /// Where it is, below the directory that all are in.
    file: String,
    /// Where it is listed, below the directory of a kernel's modules.
    place: String,
}

/// Those of the build tree `tree`, for a kernel of this `release`.
pub(super) fn of_tree(tree: &Path, release: &str) -> Result<Listing, Error> {
    let order = tree.join(ORDER);
    let order = match input::read(&order, LARGEST) {
        Ok(order) => order,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::NotBuilt(tree.to_owned()));
        }
        Err(source) => {
            return Err(Error::Read {
                path: order,
                source,
            });
        }
    };
    let lines: Vec<&[u8]> = order
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .collect();
    let mut seen = HashSet::new();
    let mut modules = Vec::new();
    let mut missing = 0_usize;
    for line in lines {
        match module_file(tree, line) {
            Some(file) if seen.insert(file.clone()) => modules.push(Module {
                place: format!("kernel/{file}"),
                file,
            }),
            // Twice.
            Some(_) => {}
            None => missing += 1,
        }
    }
    let mut listing = list(tree, BUILD, &modules, release, OsStr::new(DEPMOD))?;
    if missing > 0 {
        listing.notes.push(format!(
            "{missing} of the modules in {} are not there: run make modules",
            tree.join(ORDER).display()
        ));
    }
    Ok(listing)
}

/// Those that are anywhere in `directory`, which no list tells of.
pub(super) fn of_directory(directory: &Path, release: &str) -> Result<Listing, Error> {
    let mut files = Vec::new();
    search(directory, "", &mut files).map_err(|source| Error::Read {
        path: directory.to_owned(),
        source,
    })?;
    if files.is_empty() {
        return Err(Error::None(directory.to_owned()));
    }
    files.sort();
    let place = |file: &String| match file.split_once('/') {
        // As it would be installed.
        Some(("kernel" | "updates" | "extra", _)) => file.clone(),
        _ => format!("kernel/{file}"),
    };
    let modules: Vec<Module> = files
        .into_iter()
        .map(|file| Module {
            place: place(&file),
            file,
        })
        .collect();
    list(directory, FILES, &modules, release, OsStr::new(DEPMOD))
}

/// Whether there are modules right in `directory`.
pub(super) fn has_modules(directory: &Path) -> bool {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name());
    names.any(|name| name.to_str().is_some_and(modules::is_module))
}

/// The file of a line of `modules.order`, below the tree: the lines begin with
/// `kernel/` before Linux 6.2 and end in `.o` since 6.3.
fn module_file(tree: &Path, line: &[u8]) -> Option<String> {
    let line = std::str::from_utf8(line).ok()?;
    let object = line.strip_suffix(".o").map(|name| format!("{name}.ko"));
    let line = object.as_deref().unwrap_or(line);
    let is_below = |path: &str| {
        let mut steps = Path::new(path).components();
        !path.contains(char::is_control) && steps.all(|step| matches!(step, Component::Normal(_)))
    };
    [line.strip_prefix("kernel/"), Some(line)]
        .into_iter()
        .flatten()
        .filter(|path| is_below(path) && tree.join(path).is_file())
        .map(str::to_owned)
        .next()
}

/// Adds the modules in `directory`, which is `below` the one that was named. Who
/// may not look into a part of it does without.
fn search(directory: &Path, below: &str, files: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name
            .to_str()
            .filter(|name| !name.contains(char::is_control))
        else {
            continue;
        };
        let path = format!("{below}{name}");
        if entry.file_type()?.is_dir() {
            let _ = search(&entry.path(), &format!("{path}/"), files);
        } else if modules::is_module(name) {
            files.push(path);
        }
    }
    Ok(())
}

/// Lists `modules`, which are below `root`.
fn list(
    root: &Path,
    mount: &'static str,
    listed: &[Module],
    release: &str,
    program: &OsStr,
) -> Result<Listing, Error> {
    let root = root.canonicalize().map_err(|source| Error::Read {
        path: root.to_owned(),
        source,
    })?;
    let mut lists = BTreeMap::new();
    for name in LEFT {
        // Who has none of them does without.
        if let Ok(contents) = input::read(&root.join(name), LARGEST) {
            lists.insert(name.to_owned(), contents);
        }
    }
    let order: String = listed
        .iter()
        .map(|module| format!("{}\n", module.place))
        .collect();
    lists.insert(ORDER.to_owned(), order.into_bytes());
    let mut notes = Vec::new();
    let made = depmod::run(program, &root, release, listed, &lists);
    let built_in = lists.get("modules.builtin");
    let built_in = built_in.map(|text| String::from_utf8_lossy(text));
    let files = listed.iter().map(|module| module.file.as_str());
    let modules = Modules::listed(&root, files, built_in.as_deref());
    match made {
        Ok(made) => lists.extend(made),
        Err(reason) => {
            notes.push(format!(
                "{reason}: modprobe in the guest knows modules by name only, if at all"
            ));
            let dependencies = depmod::dependencies(listed, &modules);
            lists.insert("modules.dep".to_owned(), dependencies.into_bytes());
        }
    }
    let links = listed
        .iter()
        .map(|module| {
            let depth = module.place.matches('/').count();
            let target = format!("{}{mount}/{}", "../".repeat(depth), module.file);
            (module.place.clone(), target)
        })
        .collect();
    Ok(Listing {
        modules,
        root,
        mount,
        lists,
        links,
        notes,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
