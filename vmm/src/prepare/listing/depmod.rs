//! `depmod`, which knows what each module needs. It reads and writes a directory.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};

use super::workplace::Workplace;
use super::{LARGEST, Module};
use crate::prepare::initramfs::modules::Modules;
use crate::prepare::input;

/// What ends this process, and can be held back.
const ENDS: [Signal; 4] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
];

/// The signals that end this process come later, as long as this lives: what it
/// has made in the meantime is gone by then.
struct Deferred(Option<SigSet>);

impl Deferred {
    fn new() -> Self {
        let signals: SigSet = ENDS.into_iter().collect();
        Self(signals.thread_swap_mask(SigmaskHow::SIG_BLOCK).ok())
    }
}

impl Drop for Deferred {
    fn drop(&mut self) {
        if let Some(before) = self.0 {
            let _ = before.thread_set_mask();
        }
    }
}

/// The lists that `depmod`, the `program`, makes of `listed`, which are below
/// `root`, and of `lists`. Otherwise the reason.
pub(super) fn run(
    program: &OsStr,
    root: &Path,
    release: &str,
    listed: &[Module],
    lists: &BTreeMap<String, Vec<u8>>,
) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let _deferred = Deferred::new();
    let failed =
        |error: io::Error| format!("cannot run {} in a directory: {error}", program.display());
    // Removed on every way out of here, and that before a signal comes.
    let top = Workplace::below(&std::env::temp_dir()).map_err(failed)?;
    let directory = lay_out(top.path(), root, release, listed, lists).map_err(failed)?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut search = path.clone();
    search.push(":/usr/sbin:/sbin");
    // The child has no signals blocked: Ctrl-C ends it at once.
    let output = Command::new(program)
        .env("PATH", search)
        .arg("-b")
        .args([top.path(), Path::new(release)])
        .stdin(Stdio::null())
        .output();
    let output = output.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "there is no depmod (apt-get install kmod)".to_owned(),
        _ => failed(error),
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().next().unwrap_or_default();
        return Err(format!("{} failed ({said})", program.display()));
    }
    read_back(&directory).map_err(failed)
}

/// Makes what `depmod` reads, below `top`; names the directory of the lists.
fn lay_out(
    top: &Path,
    root: &Path,
    release: &str,
    listed: &[Module],
    lists: &BTreeMap<String, Vec<u8>>,
) -> io::Result<std::path::PathBuf> {
    let directory = top.join("lib/modules").join(release);
    fs::create_dir_all(&directory)?;
    // Some look there.
    fs::create_dir(top.join("usr"))?;
    symlink("../lib", top.join("usr/lib"))?;
    for module in listed {
        let link = directory.join(&module.place);
        fs::create_dir_all(link.parent().unwrap_or(&directory))?;
        symlink(root.join(&module.file), link)?;
    }
    for (name, contents) in lists {
        fs::write(directory.join(name), contents)?;
    }
    Ok(directory)
}

fn read_back(directory: &Path) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut lists = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if let (true, Ok(name)) = (
            entry.file_type()?.is_file(),
            entry.file_name().into_string(),
        ) {
            lists.insert(name, input::read(&entry.path(), LARGEST)?);
        }
    }
    Ok(lists)
}

/// The lines of `modules.dep`, from what each module says itself.
pub(super) fn dependencies(listed: &[Module], modules: &Modules) -> String {
    let places: BTreeMap<String, &str> = listed
        .iter()
        .map(|module| (Modules::name_of(&module.file), module.place.as_str()))
        .collect();
    let needs: BTreeMap<&str, Vec<String>> = places
        .keys()
        .map(|name| (name.as_str(), modules.own_needs(name)))
        .collect();
    let mut text = String::new();
    for (name, place) in &places {
        text.push_str(&format!("{place}:"));
        let mut all = Vec::new();
        collect(name, &needs, &mut HashSet::from([name.as_str()]), &mut all);
        for need in all {
            if let Some(place) = places.get(need) {
                text.push_str(&format!(" {place}"));
            }
        }
        text.push('\n');
    }
    text
}

/// What `name` needs, each after those that need it.
fn collect<'a>(
    name: &str,
    needs: &'a BTreeMap<&str, Vec<String>>,
    seen: &mut HashSet<&'a str>,
    all: &mut Vec<&'a str>,
) {
    for need in needs.get(name).into_iter().flatten() {
        if seen.insert(need) {
            all.push(need);
            collect(need, needs, seen, all);
        }
    }
}
