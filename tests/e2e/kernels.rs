//! Kernels and modules that are found: `modprobe` in the guest, and the host's files
//! as they were.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tests::fixtures::Fixtures;
use tests::kernels::{Kernel, Stock};

use crate::shares;
use crate::theme::{PATCHED, Test, Theme};
use crate::vm::{Vm, below, directory};

/// One of Debian's, with modules that need others.
const DEBIAN: Kernel = Kernel::Debian(Stock::Host);

pub(crate) fn theme() -> Theme {
    Theme::new(
        "kernels",
        [
            Test::new("of_make_kernel_have_modules", PATCHED, made),
            Test::new("of_a_package_have_modules", [DEBIAN], |fixtures| {
                packaged(fixtures, false)
            }),
            Test::new(
                "of_a_package_have_modules_below_a_root",
                [DEBIAN],
                |fixtures| packaged(fixtures, true),
            ),
            Test::new("of_a_tree_have_modules", PATCHED, in_a_tree),
            Test::new(
                "of_a_tree_leave_a_root_on_the_host_as_it_is",
                PATCHED,
                below_a_writable_root,
            ),
            Test::new(
                "whose_modules_have_no_place_run_unless_these_were_asked_for",
                PATCHED,
                without_a_place,
            ),
        ],
    )
}

fn made(fixtures: &Fixtures) -> Result<()> {
    let run = Vm::new(fixtures, fixtures.kernel(Kernel::PATCHED)?)?
        .script(
            "modprobe bonding && modprobe dummy && grep -c -E '^(bonding|dummy) ' /proc/modules",
        )
        .run()?
        .expect_success()?;
    ensure!(run.text()? == "2\n", "{}", run.account());
    Ok(())
}

/// As `dpkg-deb -x` leaves it: nobody has run depmod.
fn package(fixtures: &Fixtures) -> Result<TempDir> {
    let kernel = fixtures.kernel(DEBIAN)?;
    let release = fs::read_to_string(kernel.join("kernelrelease"))?;
    let release = release.trim();
    let package = tempfile::tempdir()?;
    fs::create_dir(below(&package, "boot"))?;
    let image = below(&package, &format!("boot/vmlinuz-{release}"));
    fs::copy(kernel.join("bzImage"), image)?;
    let modules = below(&package, "usr/lib/modules");
    copy_tree(&kernel.join("modules"), &modules)?;
    fs::remove_file(modules.join(release).join("modules.dep"))?;
    Ok(package)
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

/// It needs its modules to reach anything, and `bonding` needs `tls`.
fn packaged(fixtures: &Fixtures, rooted: bool) -> Result<()> {
    let package = package(fixtures)?;
    let tree = shares::tree(fixtures)?;
    let vm = Vm::new(fixtures, package.path())?;
    let vm = if rooted {
        vm.option("--root", tree.path())
    } else {
        vm
    };
    let run = vm
        .script("busybox modprobe bonding && busybox grep -c -E '^(bonding|tls) ' /proc/modules")
        .run()?
        .expect_success()?;
    ensure!(run.text()? == "2\n", "{}", run.account());
    Ok(())
}

/// A tree as `make` leaves it, with what a tree of this project made.
fn build_tree(fixtures: &Fixtures) -> Result<TempDir> {
    let made = fixtures.kernel(Kernel::PATCHED)?;
    let tree = directory(&[
        (".config", b""),
        ("include/config/kernel.release", b""),
        ("modules.order", b"drivers/net/dummy.o\n"),
    ])?;
    for (from, to) in [
        ("bzImage", "arch/x86/boot/bzImage"),
        ("modules/dummy.ko", "drivers/net/dummy.ko"),
    ] {
        let to = below(&tree, to);
        fs::create_dir_all(to.parent().context("no parent")?)?;
        fs::copy(made.join(from), to)?;
    }
    Ok(tree)
}

fn in_a_tree(fixtures: &Fixtures) -> Result<()> {
    let tree = build_tree(fixtures)?;
    let run = Vm::new(fixtures, tree.path())?
        .script(
            "modprobe dummy && grep -c '^dummy ' /proc/modules
             cd /lib/modules/$(uname -r)/build && ls arch/x86/boot
             echo > no || echo read-only",
        )
        .run()?
        .expect_success()?;
    ensure!(
        run.text()? == "1\nbzImage\nread-only\n",
        "{}",
        run.account()
    );
    Ok(())
}

/// Everything below a directory: paths, kinds, modes, times and contents.
pub(crate) fn account(directory: &Path) -> Result<String> {
    let script = "find . -exec stat -c '%N %F %a %u:%g %s %Y %Z %i' {} + | sort
                  find . -type f -exec cksum {} + | sort";
    let output = std::process::Command::new("sh")
        .args(["-ec", script])
        .current_dir(directory)
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(
        output.status.success() && text.lines().count() > 4,
        "cannot list {}: {}",
        directory.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}

fn below_a_writable_root(fixtures: &Fixtures) -> Result<()> {
    let kernel = build_tree(fixtures)?;
    let release = fs::read_to_string(fixtures.kernel(Kernel::PATCHED)?.join("kernelrelease"))?;
    let release = release.trim();
    // A directory for every kernel's, and one for this kernel's own, below a merged /usr.
    for own in [None, Some(release)] {
        let tree = shares::tree(fixtures)?;
        let modules = below(&tree, "usr/lib/modules");
        fs::create_dir_all(modules.join("other"))?;
        for directory in ["dev", "sys"] {
            fs::create_dir(below(&tree, directory))?;
        }
        symlink("usr/lib", below(&tree, "lib"))?;
        if let Some(own) = own {
            fs::create_dir(modules.join(own))?;
            fs::write(modules.join(own).join("modules.dep"), "own")?;
        }
        let before = account(tree.path())?;
        let mut root = tree.path().as_os_str().to_owned();
        root.push(",rw");
        let run = Vm::new(fixtures, kernel.path())?
            .option("--root", root)
            .script(
                "busybox modprobe dummy && busybox grep -c '^dummy ' /proc/modules
                 busybox cat /lib/modules/$(busybox uname -r)/modules.dep",
            )
            .run()?
            .expect_success()?;
        let text = "1\nkernel/drivers/net/dummy.ko:\n";
        ensure!(run.text()? == text, "{}", run.account());
        let after = account(tree.path())?;
        ensure!(before == after, "before:\n{before}\nafter:\n{after}");
    }
    Ok(())
}

fn without_a_place(fixtures: &Fixtures) -> Result<()> {
    let kernel = build_tree(fixtures)?;
    let tree = shares::tree(fixtures)?;
    for directory in ["dev", "sys"] {
        fs::create_dir(below(&tree, directory))?;
    }
    let before = account(tree.path())?;
    let mut root = tree.path().as_os_str().to_owned();
    root.push(",rw");
    let rooted =
        || Ok::<Vm, anyhow::Error>(Vm::new(fixtures, kernel.path())?.option("--root", &root));
    let run = rooted()?.script("echo ran").run()?.expect_success()?;
    ensure!(run.text()? == "ran\n", "{}", run.account());
    ensure!(
        run.console.contains("the guest has no modules"),
        "{}",
        run.account()
    );
    let run = rooted()?
        .option("--modules", kernel.path())
        .script("echo ran")
        .run()?
        .expect(125, "setup-failed")?;
    ensure!(run.text()?.is_empty() && run.stderr.contains("make it, or leave rw out"));
    ensure!(before == account(tree.path())?);
    Ok(())
}
