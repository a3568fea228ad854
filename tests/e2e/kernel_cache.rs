//! A kernel that was seen before starts without being unpacked, and cannot tell.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tests::fixtures::Fixtures;
use tests::kernels::{Kernel, Variant, Version};

use crate::vm::{Run, Vm, directory};

/// Which kernels these tests boot.
pub(crate) const BOOTED: [Kernel; 2] = [Kernel::PATCHED, NEWER];
const NEWER: Kernel = Kernel::Built(Version::V6_12, Variant::Patched);
/// What a kernel's file has to be left alone for until it is taken for what it was.
const SETTLED: Duration = Duration::from_millis(2500);

/// A kernel of one's own, and a cache.
struct Place {
    top: TempDir,
}

impl Place {
    fn new() -> Result<Self> {
        let top = directory(&[])?;
        Ok(Self { top })
    }

    fn kernel(&self) -> PathBuf {
        self.top.path().join("bzImage")
    }

    /// Builds the kernel, in place.
    fn build(&self, fixtures: &Fixtures, kernel: Kernel) -> Result<String> {
        let from = fixtures.kernel(kernel)?;
        fs::write(self.kernel(), fs::read(from.join("bzImage"))?)?;
        sleep(SETTLED);
        Ok(fs::read_to_string(from.join("kernelrelease"))?)
    }

    fn vm(&self, fixtures: &Fixtures) -> Result<Vm> {
        let vm = Vm::new(fixtures, &self.kernel())?;
        Ok(vm.env("XDG_CACHE_HOME", self.top.path()))
    }

    /// Boots it, and checks its release and what it was loaded from.
    fn boot(&self, fixtures: &Fixtures, release: &str, image: &str) -> Result<Run> {
        let run = self.vm(fixtures)?.command(["uname", "-r"]).run()?;
        let run = run.expect_success()?;
        ensure!(run.text()? == release, "{}", run.account());
        loaded_from(run, image)
    }

    /// The one entry of the cache.
    fn entry(&self) -> Result<PathBuf> {
        let mut entries = fs::read_dir(self.top.path().join("vmm/boot"))?;
        let entry = entries.next().context("nothing was kept")??;
        ensure!(entries.next().is_none(), "there are several");
        Ok(entry.path())
    }
}

fn loaded_from(run: Run, image: &str) -> Result<Run> {
    ensure!(
        run.report["kernel_image"] == image,
        "not {image}: {}\n{}",
        run.report["kernel_image"],
        run.account()
    );
    Ok(run)
}

pub(crate) fn seen(fixtures: &Fixtures) -> Result<()> {
    let place = Place::new()?;
    let old = place.build(fixtures, Kernel::PATCHED)?;
    place.boot(fixtures, &old, "unpacked")?;
    place.boot(fixtures, &old, "cache")?;
    damage(&place.entry()?)?;
    place.boot(fixtures, &old, "unpacked")?;
    place.boot(fixtures, &old, "cache")?;
    let new = place.build(fixtures, NEWER)?;
    ensure!(old != new, "the kernels are one");
    place.boot(fixtures, &new, "unpacked")?;
    place.boot(fixtures, &new, "cache")?;
    Ok(())
}

/// Changes a byte in the middle, which is in the kernel.
fn damage(entry: &Path) -> Result<()> {
    let mut bytes = fs::read(entry)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    Ok(fs::write(entry, bytes)?)
}

/// What the kernel was told, where it is, and what it says of the machine.
const LOOK: &str = "od -v -A x -t x1 /sys/kernel/boot_params/data; cat /proc/iomem /proc/cmdline
    grep -E 'flags|address' /proc/cpuinfo; dmesg | grep -E 'e820|ACPI|RAMDISK|percpu|Zone' |
    sed 's/^[^]]*] //'";

pub(crate) fn alike(fixtures: &Fixtures) -> Result<()> {
    let place = Place::new()?;
    for kernel in BOOTED {
        place.build(fixtures, kernel)?;
        let look = |vm: Vm, image| loaded_from(vm.script(LOOK).run()?.expect_success()?, image);
        let packed = place.vm(fixtures)?.env("VMM_KERNEL_CACHE", "off");
        let packed = look(packed, "file")?;
        let lines = packed.text()?.lines().count();
        ensure!(lines > 256, "{lines} lines: {}", packed.account());
        for image in ["unpacked", "cache"] {
            let run = look(place.vm(fixtures)?, image)?;
            let mut pairs = packed.text()?.lines().zip(run.text()?.lines());
            let other = pairs.find(|(packed, unpacked)| packed != unpacked);
            ensure!(other.is_none(), "{image}: {other:?}");
            ensure!(run.text()? == packed.text()?, "{image}: lines are missing");
        }
        // That is for the decompressor, which may have something to say.
        let early = place.vm(fixtures)?.option("--cmdline", "earlyprintk=ttyS0");
        loaded_from(early.command(["true"]).run()?.expect_success()?, "file")?;
    }
    Ok(())
}
