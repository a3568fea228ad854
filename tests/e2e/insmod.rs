//! Modules loaded from a share: what the project exists for.
//!
//! With `cache=never` the kernel reads a module by direct I/O into a buffer of
//! its own. An unpatched 6.1 makes one request of it and takes one piece of
//! memory for its arguments; from 4 194 265 bytes on there is no such piece,
//! and the read waits for ever.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tests::fixtures::Fixtures;
use tests::kernels::{Kernel, Variant, Version};

use crate::theme::{Test, Theme};
use crate::vm::{Run, Vm, complaint, directory, stretched};

/// The largest module an unpatched kernel loads over direct I/O, in bytes.
const LAST_GOOD: u64 = 4_194_264;
const FIRST_BAD: u64 = LAST_GOOD + 1;
/// Modules with a payload, in bytes: small, at the border, far above it.
pub(crate) const PAYLOAD_SIZES: [u64; 4] = [512 << 10, LAST_GOOD, FIRST_BAD, 9 << 20];
/// The longest READ of the patched kernel, in bytes: 252 pages. An unpatched one
/// of 6.12 has 256, and one of 6.1 has no limit.
const LONGEST_REQUEST: u64 = 252 * 4096;
/// What a file of "over 8 MiB" is over.
const EIGHT_MIB: u64 = 8 << 20;

pub(crate) fn themes() -> Vec<Theme> {
    let mut first = patched(Version::V6_1);
    first.push(Test::new(
        "unpatched_kernel_warns_and_hangs_from_4194265_bytes_with_cache_never",
        [Kernel::STOCK],
        unpatched_kernel_hangs,
    ));
    first.push(Test::new(
        "unpatched_kernel_loads_4194264_bytes_with_cache_never",
        [Kernel::STOCK],
        |fixtures| payload_loads_intact(fixtures, Kernel::STOCK, LAST_GOOD, "never"),
    ));
    let mut second = patched(Version::V6_12);
    // Since 6.12.2 the driver is given the pages of the buffer. What it still
    // needs in one piece is in the tests of the driver.
    let stock = Kernel::Built(Version::V6_12, Variant::Stock);
    second.push(Test::new(
        "unpatched_kernel_loads_4194265_bytes_with_cache_never",
        [stock],
        move |fixtures| payload_loads_intact(fixtures, stock, FIRST_BAD, "never"),
    ));
    vec![
        Theme::new("insmod", first),
        Theme::new("insmod_6_12", second),
    ]
}

/// The tests that every version with our series passes.
fn patched(version: Version) -> Vec<Test> {
    let kernel = Kernel::Built(version, Variant::Patched);
    let mut tests = Vec::new();
    for cache in ["never", "auto"] {
        for size in PAYLOAD_SIZES {
            tests.push(Test::new(
                format!("payload_of_{size}_bytes_loads_intact_with_cache_{cache}"),
                [kernel],
                move |fixtures| payload_loads_intact(fixtures, kernel, size, cache),
            ));
        }
        tests.push(Test::new(
            format!("small_module_of_the_kernel_loads_with_cache_{cache}"),
            [kernel],
            move |fixtures| in_tree_module_loads(fixtures, kernel, "dummy", 0, cache),
        ));
        tests.push(Test::new(
            format!("module_of_the_kernel_over_8_mib_loads_with_cache_{cache}"),
            [kernel],
            move |fixtures| in_tree_module_loads(fixtures, kernel, "bonding", EIGHT_MIB, cache),
        ));
    }
    tests
}

fn payload_loads_intact(fixtures: &Fixtures, kernel: Kernel, size: u64, cache: &str) -> Result<()> {
    let directory = fixtures.kernel(kernel)?;
    let (module, crc32) = payload(directory, fixtures, size)?;
    let vm = Vm::new(fixtures, &directory.join("bzImage"))?;
    load_payload(vm, &module, &crc32, cache)
}

fn load_payload(vm: Vm, module: &[u8], crc32: &str, cache: &str) -> Result<()> {
    let share = directory(&[("payload.ko", module)])?;
    let run = vm
        .share(share.path(), &format!("tag=modules,ro,cache={cache}"))
        .script(
            "insmod /mnt/modules/payload.ko && grep -c '^payload .* Live ' /proc/modules &&
             cat /sys/module/payload/parameters/crc32 && rmmod payload",
        )
        .run()?
        .expect_success()?;
    ensure!(run.text()? == format!("1\n{crc32}\n"), "{}", run.account());
    if cache == "never" {
        read_by_the_kernel(&run, module.len() as u64)?;
    }
    Ok(())
}

/// Fails unless the kernel itself read the whole module, in requests as long as
/// they can be. `insmod` reads a module that the kernel could not read, by pages,
/// and hands it over: that would hide what is tested here.
pub(crate) fn read_by_the_kernel(run: &Run, size: u64) -> Result<()> {
    let reads = &run.metrics["shares"]["modules"]["operations"]["READ"];
    let number = |name: &str| reads[name].as_u64().context("no number of READs");
    // One more, perhaps, to find the end.
    let most = size.div_ceil(LONGEST_REQUEST) + 1;
    ensure!(
        number("bytes_read")? == size && number("errors")? == 0 && number("count")? <= most,
        "insmod was given {size} bytes otherwise than by {most} READs of the kernel: {reads}"
    );
    Ok(())
}

fn in_tree_module_loads(
    fixtures: &Fixtures,
    kernel: Kernel,
    name: &str,
    over: u64,
    cache: &str,
) -> Result<()> {
    let products = fixtures.kernel(kernel)?;
    let file = products.join(format!("modules/{name}.ko"));
    let size = fs::metadata(&file)
        .with_context(|| file.display().to_string())?
        .len();
    ensure!(size > over, "{name}.ko has only {size} bytes");
    let share = directory(&[("module.ko", &fs::read(&file)?)])?;
    let run = Vm::new(fixtures, &products.join("bzImage"))?
        .share(share.path(), &format!("tag=modules,ro,cache={cache}"))
        .script(&format!(
            "insmod /mnt/modules/module.ko && grep -c '^{name} .* Live ' /proc/modules"
        ))
        .run()?
        .expect_success()?;
    ensure!(run.text()? == "1\n", "{}", run.account());
    if cache == "never" {
        read_by_the_kernel(&run, size)?;
    }
    Ok(())
}

/// The negative control: without it, a test that passes might not have met the
/// problem at all.
fn unpatched_kernel_hangs(fixtures: &Fixtures) -> Result<()> {
    let unpatched = fixtures.kernel(Kernel::STOCK)?;
    let share = share_that_warns(unpatched, fixtures)?;
    let limit = stretched(Duration::from_secs(1));
    let run = Vm::new(fixtures, &unpatched.join("bzImage"))?
        .share(share.path(), "tag=modules,ro,cache=never")
        .option("--timeout", format!("{}s", limit.as_secs()))
        .script("echo before; insmod /mnt/modules/payload.ko; echo after")
        .run()?
        .expect(124, "timeout")?;
    ensure!(
        run.text()? == "before\n",
        "insmod came back: {}",
        run.account()
    );
    let warned = run
        .console
        .lines()
        .any(|line| line.contains("WARNING: CPU:"));
    ensure!(
        warned && complaint(&run.console).is_some(),
        "no warning: {}",
        run.account()
    );
    ensure!(
        run.console.contains("virtio_fs"),
        "another warning: {}",
        run.account()
    );
    Ok(())
}

/// A share with a `payload.ko` that makes an `unpatched` kernel warn, and its insmod
/// hang, with `cache=never`.
pub(crate) fn share_that_warns(unpatched: &Path, fixtures: &Fixtures) -> Result<TempDir> {
    let (module, _) = payload(unpatched, fixtures, FIRST_BAD)?;
    directory(&[("payload.ko", &module)])
}

/// A module of `size` bytes for `kernel`, and the checksum its payload has on
/// the host.
fn payload(kernel: &Path, fixtures: &Fixtures, size: u64) -> Result<(Vec<u8>, String)> {
    let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
    let path = fixtures.payload(kernel, size);
    let module = read(&path)?;
    ensure!(
        module.len() as u64 == size,
        "the module has {} bytes",
        module.len()
    );
    let crc32 = read(&path.with_extension("ko.crc32"))?;
    Ok((module, String::from_utf8(crc32)?.trim().to_owned()))
}
