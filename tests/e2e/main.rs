//! The end-to-end tests: `vmm` as a process, real kernels, real files.
//!
//! `cargo test -p tests --test e2e [FILTER]`. On a host whose KVM boots Linux
//! the tests run right there; elsewhere this same program runs once more in
//! labs, with everything it needs copied in. Its first line says which.
//!
//! A test's limits are for a machine with hardware virtualization and are
//! stretched by `E2E_SLOWNESS`, which is set for the lab.

mod boot;
mod driver;
mod exit_status;
mod insmod;
mod metrics;
mod rebind;
mod shards;
mod share_changes;
mod share_read_only;
mod shares;
mod signals;
mod stock_kernel;
mod streams;
mod tree;
mod vm;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use libtest_mimic::{Arguments, Conclusion, Trial};
use shards::Theme;
use tests::fixtures::Fixtures;
use tests::host::Host;
use tests::kernels::Kernel;
use tests::lab::{FAILED, Order};

/// Set where the tests are to be sent to one lab.
const ONE_LAB: &str = "E2E_ONE_LAB";
/// Set where the tests are to be run and not to be sent to the lab.
const INSIDE: &str = "E2E_INSIDE";
/// The theme with a hundred thousand requests.
const MANY_REQUESTS: &str = "tree";
/// The themes that run only when the filter begins so.
const ASKED_FOR: &str = "driver_debug_";
/// Nested under emulation a guest is about this many times slower.
const LAB_SLOWNESS: &str = "40";
/// A theme takes four minutes at most in the lab, nine on a busy host. One that takes
/// longer has lost its lab, however that came about, and is tried again.
const LAB_TIMEOUT: Duration = Duration::from_secs(1200);
/// The same for the themes that one asks for.
const LONG_LAB_TIMEOUT: Duration = Duration::from_secs(3600);

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    if arguments.list {
        // The names do not depend on the files the tests will use.
        return libtest_mimic::run(&arguments, all_trials(None)).exit_code();
    }
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("e2e: error: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    if std::env::var_os(INSIDE).is_some() {
        let fixtures = Fixtures::from_environment()?;
        return Ok(conclude(&libtest_mimic::run(
            arguments,
            trials(arguments.filter.as_deref(), Some(fixtures)),
        )));
    }
    if std::env::var_os(ONE_LAB).is_some() {
        return run_in_lab(&Fixtures::from_environment()?, arguments);
    }
    let host = Host::detect();
    eprintln!("e2e: running guests through: {host}");
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("no workspace")?;
    let fixtures = Fixtures::prepare(workspace, kernels(arguments), &insmod::PAYLOAD_SIZES)?;
    match host {
        Host::DirectKvm => Ok(conclude(&libtest_mimic::run(
            arguments,
            trials(arguments.filter.as_deref(), Some(fixtures)),
        ))),
        Host::Lab if arguments.filter.is_some() => run_in_lab(&fixtures, arguments),
        Host::Lab => run_in_labs(&fixtures),
    }
}

/// A filter that matches nothing is a mistake, not a success.
fn conclude(conclusion: &Conclusion) -> ExitCode {
    if conclusion.num_passed == 0 && !conclusion.has_failed() {
        eprintln!("e2e: error: no test was run");
        return ExitCode::from(FAILED);
    }
    conclusion.exit_code()
}

/// The kernels that the tests to be run boot.
fn kernels(arguments: &Arguments) -> BTreeSet<Kernel> {
    let trials = trials(arguments.filter.as_deref(), None);
    let wanted = |trial: &&Trial| {
        let filter = arguments.filter.as_deref().unwrap_or_default();
        trial.name().contains(filter)
    };
    Theme::all(trials.iter().filter(wanted).map(Trial::name), MANY_REQUESTS)
        .iter()
        .flat_map(|theme| {
            driver::kernels(&theme.prefix)
                .or_else(|| insmod::kernels(&theme.prefix))
                .unwrap_or_else(|| vec![Kernel::PATCHED])
        })
        .collect()
}

/// The whole suite, a lab for each theme.
fn run_in_labs(fixtures: &Fixtures) -> Result<ExitCode> {
    let program = std::env::current_exe().context("no path to this program")?;
    let trials = trials(None, None);
    let themes = Theme::all(trials.iter().map(Trial::name), MANY_REQUESTS);
    let mut environment = fixtures.to_environment();
    environment.push((ONE_LAB.into(), "1".into()));
    shards::run(&program, themes, &environment)
}

fn run_in_lab(fixtures: &Fixtures, arguments: &Arguments) -> Result<ExitCode> {
    // What a lab is given it has to unpack.
    let fixtures = &fixtures.with_kernels(&kernels(arguments));
    let program = std::env::current_exe().context("no path to this program")?;
    let mut argv = vec![program.clone().into_os_string()];
    argv.extend(std::env::args_os().skip(1));
    let mut order = Order::new(argv);
    order.programs = vec![program, fixtures.vmm.clone()];
    order.inputs = fixtures
        .files()
        .into_iter()
        .map(|path| (path.clone(), path))
        .collect();
    order.env = fixtures.to_environment();
    for (name, value) in [
        ("PATH", "/sbin:/bin:/usr/sbin:/usr/bin"),
        ("HOME", "/root"),
        ("TMPDIR", "/tmp"),
        (INSIDE, "1"),
        ("E2E_SLOWNESS", LAB_SLOWNESS),
    ] {
        order.env.push((name.into(), value.into()));
    }
    order.cwd = PathBuf::from("/tmp");
    order.guest_mib = 2048;
    let theme = arguments.filter.as_deref().unwrap_or_default();
    order.timeout = Some(if theme.is_empty() || !runs_unasked(theme) {
        LONG_LAB_TIMEOUT
    } else {
        LAB_TIMEOUT
    });
    Ok(ExitCode::from(order.run()?))
}

/// Whether a test runs when nobody asks for it. The others need kernels that watch
/// themselves, which take long to build and longer to run.
fn runs_unasked(name: &str) -> bool {
    !name.starts_with(ASKED_FOR)
}

/// The tests that `filter` may choose from.
fn trials(filter: Option<&str>, fixtures: Option<Fixtures>) -> Vec<Trial> {
    let asked = filter.is_some_and(|filter| filter.starts_with(ASKED_FOR));
    all_trials(fixtures)
        .into_iter()
        .filter(|trial| runs_unasked(trial.name()) != asked)
        .collect()
}

fn all_trials(fixtures: Option<Fixtures>) -> Vec<Trial> {
    let bench = vm::Bench::new(fixtures);
    [
        boot::trials(&bench),
        driver::trials(&bench),
        exit_status::trials(&bench),
        insmod::trials(&bench),
        metrics::trials(&bench),
        rebind::trials(&bench),
        share_changes::trials(&bench),
        share_read_only::trials(&bench),
        shares::trials(&bench),
        signals::trials(&bench),
        stock_kernel::trials(&bench),
        streams::trials(&bench),
        tree::trials(&bench),
    ]
    .into_iter()
    .flatten()
    .collect()
}
