//! Debian's own kernel, with everything it needs as modules and no share of
//! ours in its configuration.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::fixtures::Fixtures;

use crate::theme::{Test, Theme};
use crate::vm::{Vm, below, directory};

pub(crate) fn theme() -> Theme {
    let test = Test::new("of_debian_boots_and_mounts_a_share", [], boots_and_mounts);
    Theme::new("stock_kernel", [test])
}

fn boots_and_mounts(fixtures: &Fixtures) -> Result<()> {
    let share = directory(&[("file", b"from the host\n")])?;
    let run = Vm::new(fixtures, &fixtures.debian_kernel)?
        .option("--modules", &fixtures.debian_modules)
        .share(share.path(), "tag=t")
        .patience(Duration::from_secs(30))
        .script("cat /mnt/t/file && uname -r && echo from the guest > /mnt/t/answer")
        .run()?
        .expect_success()?;
    let mut lines = run.text()?.lines();
    ensure!(lines.next() == Some("from the host"), "{}", run.account());
    ensure!(
        lines
            .next()
            .is_some_and(|release| release.ends_with("-cloud-amd64")),
        "{}",
        run.account()
    );
    ensure!(fs::read(below(&share, "answer"))? == b"from the guest\n");
    Ok(())
}
