//! The end-to-end tests: `vmm` as a process, real kernels, real files.
//!
//! `cargo test -p tests --test e2e [FILTER]`. On a host whose KVM boots Linux
//! the tests run right there; elsewhere this same program runs once more in
//! labs, with everything it needs copied in. Its first line says which.
//!
//! A test's limits are for a machine with hardware virtualization and are
//! stretched by `E2E_SLOWNESS`, which is set for the lab.

mod boot;
mod coherence;
mod dax;
mod driver;
mod exit_status;
#[path = "../native/fcntl.rs"]
#[allow(clippy::unwrap_used, dead_code)]
mod fcntl;
mod gdb;
mod guest;
mod hangs;
mod insmod;
mod kernel_cache;
mod kernels;
mod locks;
mod metrics;
mod modules;
mod owners;
mod protocol;
mod queues;
mod rebind;
mod roots;
mod sandbox;
mod shards;
mod share_changes;
mod share_read_only;
mod shares;
mod signals;
mod splats;
mod stock_kernel;
mod streams;
mod suites;
mod terminal;
mod theme;
mod tree;
mod vm;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use libtest_mimic::{Arguments, Trial};
use shards::Shard;
use tests::fixtures::{Extras, Fixtures};
use tests::host::Host;
use tests::kernels::Kernel;
use tests::lab::{FAILED, Order};
use theme::{Bench, Selection, Theme};

/// Names the only theme to be run, in the processes that this one starts.
const THEME: &str = "E2E_THEME";
/// Set where the tests are to be run and not to be sent to the lab.
const INSIDE: &str = "E2E_INSIDE";
/// Nested under emulation a guest is about this many times slower.
const LAB_SLOWNESS: &str = "40";
/// A theme takes four minutes at most in the lab, nine on a busy host. One that takes
/// longer has lost its lab, however that came about, and is tried again.
const LAB_TIMEOUT: Duration = Duration::from_secs(1200);
/// The same for the tests that one asks for.
const LONG_LAB_TIMEOUT: Duration = Duration::from_secs(4 * 3600);

fn main() -> ExitCode {
    match run(&Arguments::from_args()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("e2e: error: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn themes() -> Vec<Theme> {
    [
        vec![boot::theme(), coherence::theme()],
        dax::themes(),
        driver::themes(),
        vec![exit_status::theme(), gdb::theme()],
        vec![hangs::theme()],
        insmod::themes(),
        locks::themes(),
        protocol::themes(),
        queues::themes(),
        vec![
            kernels::theme(),
            metrics::theme(),
            owners::theme(),
            rebind::theme(),
            roots::theme(),
            sandbox::theme(),
            share_changes::theme(),
            share_read_only::theme(),
            shares::theme(),
            signals::theme(),
            splats::theme(),
        ],
        stock_kernel::themes(),
        vec![streams::theme(), terminal::theme(), tree::theme()],
        suites::themes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut themes = themes();
    let only = std::env::var(THEME).ok();
    if let Some(name) = &only {
        themes.retain(|theme| theme.name == name);
    }
    if arguments.list {
        // The names do not depend on the files the tests will use.
        return Ok(run_here(themes, arguments, &Bench::default()));
    }
    let selections: Vec<Selection> = themes
        .iter()
        .filter_map(|theme| theme.select(arguments))
        .collect();
    if selections.is_empty() {
        // A filter that matches nothing is a mistake, not a success.
        bail!("no test to run; --list shows them all, and some run with --ignored only");
    }
    if std::env::var_os(INSIDE).is_some() {
        let bench = bench(Fixtures::from_environment()?);
        return Ok(run_here(themes, arguments, &bench));
    }
    if only.is_some() {
        return run_in_lab(&Fixtures::from_environment()?, &selections[0]);
    }
    let host = Host::detect();
    eprintln!("e2e: running guests through: {host}");
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("no workspace")?;
    let kernels: BTreeSet<Kernel> = selections
        .iter()
        .flat_map(|selection| selection.boots.clone())
        .collect();
    let extras = extras(&selections);
    let fixtures = Fixtures::prepare(workspace, kernels, &insmod::PAYLOAD_SIZES, &extras)?;
    match (host, selections.as_slice()) {
        (Host::DirectKvm, _) => Ok(run_here(themes, arguments, &bench(fixtures))),
        (_, [selection]) => run_in_lab(&fixtures, selection),
        (_, _) => run_in_labs(&fixtures, selections, arguments),
    }
}

/// What only some themes need, for these.
fn extras(selections: &[Selection]) -> Extras {
    let chosen = |themes: &[&str]| (selections.iter()).any(|one| themes.contains(&one.theme));
    Extras {
        suites: chosen(&suites::THEMES),
        tools: chosen(&[&locks::THEMES[..], &protocol::THEMES, &queues::THEMES].concat())
            .then(|| vec![env!("CARGO_BIN_EXE_locker").into()]),
        debian: chosen(&[roots::THEME]),
    }
}

fn bench(fixtures: Fixtures) -> Bench {
    Arc::new(OnceLock::from(fixtures))
}

/// Runs the tests in this process.
fn run_here(themes: Vec<Theme>, arguments: &Arguments, bench: &Bench) -> ExitCode {
    let trials: Vec<Trial> = themes
        .into_iter()
        .flat_map(|theme| theme.trials(bench))
        .collect();
    libtest_mimic::run(arguments, trials).exit_code()
}

/// Several themes, a lab for each.
fn run_in_labs(
    fixtures: &Fixtures,
    selections: Vec<Selection>,
    arguments: &Arguments,
) -> Result<ExitCode> {
    let shard = Shard {
        program: std::env::current_exe().context("no path to this program")?,
        arguments: selecting(arguments),
        environment: fixtures.to_environment(),
        theme: THEME,
    };
    shards::run(&shard, selections)
}

/// The arguments that choose tests, one at a time.
fn selecting(arguments: &Arguments) -> Vec<OsString> {
    let mut selecting = vec!["--test-threads=1".to_owned()];
    for (flag, given) in [
        ("--exact", arguments.exact),
        ("--ignored", arguments.ignored),
        ("--include-ignored", arguments.include_ignored),
    ] {
        if given {
            selecting.push(flag.to_owned());
        }
    }
    for skip in &arguments.skip {
        selecting.extend(["--skip".to_owned(), skip.clone()]);
    }
    selecting.extend(arguments.filter.clone());
    selecting.into_iter().map(OsString::from).collect()
}

fn run_in_lab(fixtures: &Fixtures, selection: &Selection) -> Result<ExitCode> {
    // What a lab is given it has to unpack.
    let fixtures = &fixtures.with_kernels(&selection.boots);
    let program = std::env::current_exe().context("no path to this program")?;
    let mut argv = vec![program.clone().into_os_string()];
    argv.extend(std::env::args_os().skip(1));
    let mut order = Order::new(argv);
    order.programs = vec![program, fixtures.vmm.clone()];
    let depmod = Path::new("/usr/sbin/depmod");
    order.programs.push(depmod.to_owned());
    let of_users = [&[owners::THEME, sandbox::THEME][..], &suites::THEMES].concat();
    if of_users.contains(&selection.theme) {
        order.programs.extend(owners::programs()?);
    }
    order.inputs = fixtures
        .files(&extras(std::slice::from_ref(selection)))
        .into_iter()
        .map(|path| (path.clone(), path))
        .collect();
    order.env = fixtures.to_environment();
    for (name, value) in [
        ("PATH", "/sbin:/bin:/usr/sbin:/usr/bin"),
        ("HOME", "/root"),
        ("TMPDIR", "/tmp"),
        (INSIDE, "1"),
        (THEME, selection.theme),
        ("E2E_SLOWNESS", LAB_SLOWNESS),
    ] {
        order.env.push((name.into(), value.into()));
    }
    order.cwd = PathBuf::from("/tmp");
    if [&protocol::THEMES[..], &suites::THEMES, &[owners::THEME]]
        .concat()
        .contains(&selection.theme)
    {
        let disk = fixtures.disk.clone();
        order.disks.push((disk.clone(), disk));
    }
    order.guest_mib = 2048;
    order.timeout = Some(if selection.ignored {
        LONG_LAB_TIMEOUT
    } else {
        LAB_TIMEOUT
    });
    Ok(ExitCode::from(order.run()?))
}
