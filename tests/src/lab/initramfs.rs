//! The lab's first root: its first process, the modules it loads, GNU tar and
//! the plan.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use lab_init::{PLAN_PATH, Plan, TOOLS_PATH};

use super::archive::Archive;
use super::{debian, libraries};

const LAB_INIT: &[u8] = include_bytes!(env!("LAB_INIT"));

/// Writes the initramfs into a file without a name. `modules` are the files
/// behind the plan's modules, in the same order.
pub(super) fn build(plan: &Plan, modules: &[PathBuf]) -> Result<File> {
    let file = tempfile::tempfile().context("cannot create a temporary file")?;
    let mut archive = Archive::new(BufWriter::new(file));
    let mut made = BTreeSet::new();
    let tools = format!("{TOOLS_PATH}/lib");
    for directory in ["/dev", "/proc", "/sys", "/root", "/modules", &tools] {
        make_parents(
            &mut archive,
            &mut made,
            Path::new(directory).join("x").as_path(),
        )?;
    }
    // What the first process has as standard output until devtmpfs is there.
    archive.device("dev/console", (5, 1))?;
    archive.file("init", 0o755, LAB_INIT)?;
    archive.file(relative(&format!("{TOOLS_PATH}/init")), 0o755, LAB_INIT)?;
    let tar = find_program("tar").context("GNU tar is not installed")?;
    archive.file(relative(&format!("{TOOLS_PATH}/tar")), 0o755, &read(&tar)?)?;
    for library in libraries::of(&tar)? {
        let data = read(&library)?;
        let name = if libraries::is_loader(&library) {
            format!("{TOOLS_PATH}/loader")
        } else {
            let name = library.file_name().unwrap_or_default();
            format!("{tools}/{}", name.display())
        };
        archive.file(relative(&name), 0o755, &data)?;
    }
    for (module, file) in plan.modules.iter().zip(modules) {
        archive.file(relative(&module.path), 0o644, &debian::read_module(file)?)?;
    }
    archive.file(relative(PLAN_PATH), 0o600, &serde_json::to_vec(plan)?)?;
    let mut file = archive.finish()?;
    file.flush().context("cannot write the initramfs")?;
    file.into_inner().context("cannot write the initramfs")
}

/// Looks `name` up in `PATH`.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}

fn make_parents<W: Write>(
    archive: &mut Archive<W>,
    made: &mut BTreeSet<PathBuf>,
    path: &Path,
) -> Result<()> {
    let parents: Vec<&Path> = path.ancestors().skip(1).collect();
    for parent in parents.into_iter().rev().skip(1) {
        if made.insert(parent.to_owned()) {
            archive.directory(relative(&parent.to_string_lossy()))?;
        }
    }
    Ok(())
}

fn relative(path: &str) -> &str {
    path.trim_start_matches('/')
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
