//! Debian's own kernels, with what they need as modules and no share of ours in
//! their configuration.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::fixtures::Fixtures;
use tests::kernels::{Kernel, LARGE_MODULE, Stock};

use crate::theme::{Test, Theme};
use crate::vm::{Vm, below, directory};
use crate::{insmod, shares};

pub(crate) fn themes() -> Vec<Theme> {
    let host = Kernel::Debian(Stock::Host);
    let mut themes = vec![Theme::new(
        "stock_kernel",
        [Test::new(
            "of_debian_boots_and_mounts_a_share",
            [host],
            move |fixtures| boots_and_mounts(fixtures, host),
        )],
    )];
    for (name, stock) in [
        ("stock_kernel_6_12", Stock::V6_12),
        ("stock_kernel_6_18", Stock::V6_18),
        ("stock_kernel_newest", Stock::Newest),
    ] {
        let kernel = Kernel::Debian(stock);
        let mut tests = vec![
            Test::new(
                "of_debian_boots_and_mounts_a_share",
                [kernel],
                move |fixtures| boots_and_mounts(fixtures, kernel),
            ),
            Test::new(
                "module_over_8_mib_loads_with_cache_never",
                [kernel],
                move |fixtures| large_module_loads(fixtures, kernel),
            ),
        ];
        tests.extend(shares::tests(kernel));
        themes.push(Theme::new(name, tests));
    }
    themes
}

fn boots_and_mounts(fixtures: &Fixtures, kernel: Kernel) -> Result<()> {
    let share = directory(&[("file", b"from the host\n")])?;
    let release = fs::read_to_string(fixtures.kernel(kernel)?.join("kernelrelease"))?;
    let run = Vm::booting(fixtures, kernel)?
        .share(share.path(), "tag=t")
        .patience(Duration::from_secs(30))
        .script("cat /mnt/t/file && uname -r && echo from the guest > /mnt/t/answer")
        .run()?
        .expect_success()?;
    ensure!(
        run.text()? == format!("from the host\n{release}"),
        "{}",
        run.account()
    );
    ensure!(release.ends_with("-cloud-amd64\n"), "{release}");
    ensure!(fs::read(below(&share, "answer"))? == b"from the guest\n");
    Ok(())
}

/// The kernel reads the module by itself, and finds its tables, which lie behind
/// 9 MiB.
fn large_module_loads(fixtures: &Fixtures, kernel: Kernel) -> Result<()> {
    let module = fixtures.kernel(kernel)?.join(LARGE_MODULE);
    let module = fs::read(&module).with_context(|| module.display().to_string())?;
    let size = module.len() as u64;
    ensure!(size > 8 << 20, "the module has only {size} bytes");
    let share = directory(&[("module.ko", &module)])?;
    let run = Vm::booting(fixtures, kernel)?
        .share(share.path(), "tag=modules,ro,cache=never")
        .patience(Duration::from_secs(30))
        .script("insmod /mnt/modules/module.ko && grep -c '^dummy .* Live ' /proc/modules")
        .run()?
        .expect_success()?;
    ensure!(run.text()? == "1\n", "{}", run.account());
    insmod::read_by_the_kernel(&run, size)
}
