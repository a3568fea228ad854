//! A kernel of Debian with the few of its modules that a guest loads, laid out as
//! `guest-kernel/build` lays out its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::lab::debian::{KernelPackage, read_module};

/// A module of more than 8 MiB: the kernel's own `dummy` with a section of 9 MiB,
/// so that the tables that make it a module lie behind those.
pub const LARGE_MODULE: &str = "large.ko";
/// The modules that a guest needs to see a share, one that needs another, and an NFS
/// server with its client.
const MODULES: [&str; 7] = [
    "virtio_mmio",
    "fuse",
    "virtiofs",
    "overlay",
    "bonding",
    "nfsd",
    "nfsv4",
];
/// What `vmm` and `modprobe` read of a directory of modules.
const LISTS: [&str; 4] = [
    "modules.dep",
    "modules.builtin",
    "modules.builtin.modinfo",
    "modules.order",
];
const PADDING: u64 = 9 << 20;

/// Fills `to`, unless it is.
pub(super) fn assemble(package: &KernelPackage, to: &Path) -> Result<()> {
    let release = to.join("kernelrelease");
    let modules = modules(package, &to.join("modules").join(package.release()))?;
    // Modules may be asked for that it had not before.
    if release.is_file() && modules.iter().all(|(_, copy)| copy.is_file()) {
        return Ok(());
    }
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    copy(&package.image(), &to.join("bzImage"))?;
    modules.iter().try_for_each(|(from, to)| copy(from, to))?;
    make_large_module(package, to)?;
    // Last: it says that the rest is there.
    fs::write(&release, format!("{}\n", package.release()))
        .with_context(|| format!("cannot write {}", release.display()))
}

/// What is copied of the modules, and where it goes below `to`.
fn modules(package: &KernelPackage, to: &Path) -> Result<Vec<(PathBuf, PathBuf)>> {
    let from = package.modules();
    let mut files = package.resolve(&MODULES)?;
    files.extend(LISTS.map(|list| from.join(list)));
    let place = |file: PathBuf| {
        let copy = to.join(file.strip_prefix(&from).unwrap_or(&file));
        (file, copy)
    };
    Ok(files.into_iter().map(place).collect())
}

fn make_large_module(package: &KernelPackage, to: &Path) -> Result<()> {
    let files = package.resolve(&["dummy"])?;
    let [file] = files.as_slice() else {
        bail!("the module dummy of {} is not one file", package.release());
    };
    let scratch = tempfile::tempdir()?;
    let (module, padding) = (
        scratch.path().join("dummy.ko"),
        scratch.path().join("padding"),
    );
    fs::write(&module, read_module(file)?)?;
    File::create(&padding)?.set_len(PADDING)?;
    let target = to.join(LARGE_MODULE);
    let mut section = PathBuf::from("vmm.padding=").into_os_string();
    section.push(&padding);
    let status = Command::new("objcopy")
        .arg("--add-section")
        .arg(section)
        .args([&module, &target])
        .status()
        .context("cannot run objcopy; try apt-get install binutils")?;
    ensure!(status.success(), "objcopy: {status}");
    let size = fs::metadata(&target)?.len();
    ensure!(size > PADDING, "{} has {size} bytes", target.display());
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    to.parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::copy(from, to).map(drop))
        .with_context(|| format!("cannot copy {}", from.display()))
}
