//! Suites that others wrote, in the guest: on a share in every cache mode, and on
//! the guest's own tmpfs as the control.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tests::conformance::known::{Linux, reason};
use tests::conformance::mode::{MODES, Mode};
use tests::conformance::run::{Outcomes, outcomes};
use tests::fixtures::Fixtures;
use tests::kernels::{Kernel, Variant, Version};

use crate::theme::{PATCHED, Test, Theme};
use crate::vm::{Vm, directory};

pub(crate) const THEME: &str = "suites";

pub(crate) fn theme() -> Theme {
    let auto: Vec<Mode> = Mode::named("auto").into_iter().collect();
    Theme::new(
        THEME,
        [
            Test::new("fsx_in_every_mode", PATCHED, |fixtures| {
                same_as_in_memory(fixtures, "fsx", MODES, "")
            }),
            Test::new("fsx_in_a_window", PATCHED, |fixtures| {
                let modes: Vec<Mode> = ["auto", "always"]
                    .into_iter()
                    .filter_map(Mode::named)
                    .collect();
                same_as_in_memory(fixtures, "fsx", &modes, ",dax=4M")
            }),
            Test::new("fsx_in_a_window_on_6_12", [SIX_TWELVE], |fixtures| {
                let modes: Vec<Mode> = Mode::named("auto").into_iter().collect();
                same_on(fixtures, SIX_TWELVE, "fsx", &modes, ",dax=4M")
            }),
            Test::new("pjdfstest", PATCHED, move |fixtures| {
                same_as_in_memory(fixtures, "pjdfstest", &auto, "")
            }),
        ],
    )
}

/// Where each run's output ends, and the next one's begins.
const END: &str = "=== end of a run";

/// The newer of the kernels with our series.
const SIX_TWELVE: Kernel = Kernel::Built(Version::V6_12, Variant::Patched);

/// What kernels with our series can do at least: 6.1 what counts of 6.6.
const SERIES: Linux = (6, 6);

fn same_as_in_memory(
    fixtures: &Fixtures,
    suite: &str,
    modes: &[Mode],
    options: &str,
) -> Result<()> {
    same_on(fixtures, Kernel::PATCHED, suite, modes, options)
}

/// Runs a suite in these modes, with further options of the share.
fn same_on(
    fixtures: &Fixtures,
    kernel: Kernel,
    suite: &str,
    modes: &[Mode],
    options: &str,
) -> Result<()> {
    let shares: Vec<TempDir> = (modes.iter().map(|_| directory(&[]))).collect::<Result<_>>()?;
    // The users that pjdfstest becomes.
    let mut script = "
        set -e
        printf '%s:x:%s:%s::/:/bin/sh\\n' root 0 0 daemon 1 1 nobody 65534 65534 >/etc/passwd
        printf '%s:x:%s:\\n' root 0 daemon 1 nogroup 65534 >/etc/group
        export PATH=/mnt/suites/bin:$PATH SHORT=yes
        run() { # CACHE DIRECTORY
            mkdir -p /tmp/scratch && chmod 755 /tmp
            # pjdfstest 0.2.2 cannot make a longest path below one of 31 bytes, which
            # its own directory in /mnt/t0 would have.
            mkdir -p $2/below && cd $2/below
            CACHE=$1 SCRATCH=/tmp/scratch sh /mnt/suites/suites/SUITE 2>&1
            cd /
            echo; echo 'END'
        }
        run '' /tmp/control
        "
    .replace("SUITE", suite)
    .replace("END", END);
    let mut vm = Vm::booting(fixtures, kernel)?
        .share(&fixtures.suites, "tag=suites,ro,cache=always")
        .option("--memory", "1G")
        .patience(Duration::from_secs(15));
    for (number, (mode, share)) in modes.iter().zip(&shares).enumerate() {
        vm = vm.share(
            share.path(),
            &format!("tag=t{number},xattr,cache={mode}{options}"),
        );
        script += &format!("run {} /mnt/t{number}\n", mode.cache);
    }
    let run = vm.script(&script).run()?.expect_success()?;
    let parts: Vec<&str> = run.text()?.split(END).collect();
    ensure!(parts.len() == modes.len() + 2, "{}", run.account());
    let control = outcomes(parts[0])?;
    ensure!(!control.is_empty(), "{}", run.account());
    for (mode, part) in modes.iter().zip(&parts[1..]) {
        let share = outcomes(part)?;
        let unknown = unknown(suite, *mode, &control, &share)?;
        ensure!(unknown.is_empty(), "cache={mode}: {unknown:?}\n{part}");
    }
    Ok(())
}

/// The cases that differ, and nothing says why.
fn unknown(suite: &str, mode: Mode, control: &Outcomes, share: &Outcomes) -> Result<Vec<String>> {
    let mut unknown = Vec::new();
    for (case, expected) in control {
        let outcome = *(share.get(case)).with_context(|| format!("{case} was not run"))?;
        if outcome != *expected && reason(SERIES, suite, case, mode, outcome).is_none() {
            unknown.push(format!("{case}: {outcome:?}, in memory {expected:?}"));
        }
    }
    Ok(unknown)
}
