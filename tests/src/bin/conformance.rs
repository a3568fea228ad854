//! The `conformance` command: suites of others on native mounts.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tests::conformance::backend::{BACKENDS, Backend, Mounted};
use tests::conformance::known;
use tests::conformance::mode::{DELEGATED, MODES, Mode, OWNERS, Owners, USERS, User};
use tests::conformance::page;
use tests::conformance::plan::{self, Filter, Item};
use tests::conformance::results::{self, sentence};
use tests::conformance::run::Place;
use tests::conformance::suite::{self, SUITES, Suite};
use tests::native::mount;

/// Runs suites that others wrote on shares, and on the host as the control
///
/// Needs root, for file systems in images and for other users. Ends with 1 when
/// a case differs on a share and nothing says why, and with 125 when a suite
/// cannot be run. What was said is in target/conformance, a file for each run.
#[derive(Debug, Parser)]
#[command(name = "conformance", version)]
struct Cli {
    /// Show the suites, file systems, modes and users, and run nothing
    #[arg(long)]
    list: bool,

    /// Only install the programs of the suites, and the virtiofsd that the server
    /// is compared with, for which nobody need be root
    #[arg(long)]
    install: bool,

    /// The part that `make test` runs
    #[arg(long)]
    short: bool,

    /// Only this suite (repeatable)
    #[arg(long, value_parser = |name: &str| found(name, Suite::named(name)))]
    suite: Vec<&'static Suite>,

    /// Only on this file system (repeatable)
    #[arg(long, value_parser = |name: &str| found(name, Backend::named(name)))]
    backend: Vec<&'static Backend>,

    /// Only in this mode, such as always,writeback (repeatable)
    #[arg(long, value_parser = |name: &str| found(name, Mode::named(name)))]
    mode: Vec<Mode>,

    /// Only as this user (repeatable)
    #[arg(long, value_parser = |name: &str| found(name, User::named(name)))]
    user: Vec<User>,

    /// Only with these owners: host, of a server that is root's, map or xattr (repeatable)
    #[arg(long, value_parser = |name: &str| found(name, Owners::named(name)))]
    owners: Vec<Owners>,

    /// Write the results to the page FILE, and leave there what was not run
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
}

fn found<T>(name: &str, one: Option<T>) -> Result<T, String> {
    one.ok_or_else(|| format!("there is no {name}; --list shows what there is"))
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.list {
        list();
        return ExitCode::SUCCESS;
    }
    match run(cli) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("conformance: error: {error:#}");
            ExitCode::from(125)
        }
    }
}

fn list() {
    println!("suites:");
    for suite in SUITES {
        println!("  {:10} {}", suite.name, suite.about);
    }
    println!("file systems:");
    for backend in BACKENDS {
        println!("  {:10} {}", backend.name, backend.about);
    }
    let modes: Vec<String> = MODES.iter().map(Mode::to_string).collect();
    println!("modes:\n  {}", modes.join(" "));
    let users: Vec<String> = USERS.iter().map(User::to_string).collect();
    println!("users:\n  {}", users.join(" "));
    let owners: Vec<String> = OWNERS.iter().map(Owners::to_string).collect();
    println!("owners:\n  {}", owners.join(" "));
}

fn run(cli: Cli) -> Result<bool> {
    let filter = Filter {
        suites: cli.suite,
        backends: cli.backend,
        modes: cli.mode,
        users: cli.user,
        owners: cli.owners,
    };
    let plan = filter.choose(if cli.short {
        plan::short()
    } else {
        plan::full()
    });
    let logs = PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../target/conformance"
    ));
    fs::create_dir_all(&logs)?;
    let mut programs = Vec::new();
    for suite in SUITES {
        if plan.iter().any(|item| item.suite.name == suite.name) {
            programs.extend(suite.install()?);
        }
    }
    if cli.install {
        suite::install_virtiofsd()?;
        return Ok(true);
    }
    mount::go_private()?;
    let top = tempfile::tempdir().context("no temporary directory")?;
    fs::set_permissions(top.path(), Permissions::from_mode(0o755))?;
    if plan.iter().any(|item| item.owners == Owners::Mapped) {
        delegate(top.path())?;
    }
    let place = Place {
        programs: open_to_all(programs, top.path())?,
        top: top.path().to_owned(),
        logs: logs.canonicalize()?,
        stop: stop_by_signal()?,
        short: cli.short,
    };
    let results = run_all(&place, &plan)?;
    if let Some(file) = cli.results {
        page::update(&file, &results)?;
    }
    let mut unknown = 0;
    for result in &results {
        for (mode, difference) in result.unknown() {
            println!("different: {}", sentence(result, mode, &difference));
            unknown += 1;
        }
    }
    let runs: usize = results.iter().map(|result| result.shares.len()).sum();
    println!("{runs} runs on shares, {unknown} differences without a reason");
    Ok(unknown == 0)
}

/// Has the host delegate users to the one who serves; seen from here alone.
fn delegate(top: &std::path::Path) -> Result<()> {
    let file = top.join("delegated");
    fs::write(&file, DELEGATED)?;
    for over in ["/etc/subuid", "/etc/subgid"] {
        rustix::mount::mount_bind(&file, over)
            .with_context(|| format!("cannot mount over {over}"))?;
    }
    Ok(())
}

/// What is set once somebody wants an end.
fn stop_by_signal() -> Result<Arc<AtomicBool>> {
    let stop = Arc::default();
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

/// Copies of `programs` where an ordinary user may look, which a home directory
/// is not.
fn open_to_all(programs: Vec<PathBuf>, top: &std::path::Path) -> Result<Vec<PathBuf>> {
    let copies = top.join("programs");
    fs::create_dir(&copies)?;
    for directory in programs {
        for program in fs::read_dir(directory)? {
            let program = program?;
            fs::copy(program.path(), copies.join(program.file_name()))?;
        }
    }
    Ok(vec![copies])
}

fn run_all(place: &Place, plan: &[Item]) -> Result<Vec<results::SuiteResult>> {
    let mut mounted: Vec<Mounted> = Vec::new();
    let mut all = Vec::new();
    for item in plan {
        let name = item.backend.name;
        let backend = place.top.join(name);
        if !mounted.iter().any(|mounted| mounted.at == backend) {
            let new = item.backend.mount(&place.top);
            mounted.push(new.with_context(|| format!("cannot have {name}"))?);
        }
        let begun = Instant::now();
        let control = place.run(item.suite, item.user, &backend, None)?;
        let mut result = results::SuiteResult {
            suite: item.suite.name,
            backend: name,
            user: item.user,
            owners: item.owners,
            linux: known::this_linux(),
            control,
            shares: Vec::new(),
        };
        for mode in &item.modes {
            let share = place.run(item.suite, item.user, &backend, Some((item.owners, *mode)))?;
            result.shares.push((*mode, share));
        }
        println!(
            "{:10} {:8} {:5} {:5} {:3} cases, {} unknown differences in {} modes, {:.0?}",
            result.suite,
            name,
            result.user.to_string(),
            result.owners.to_string(),
            result.control.len(),
            result.unknown().len(),
            result.shares.len(),
            begun.elapsed()
        );
        all.push(result);
    }
    if all.is_empty() {
        return Err(anyhow!("nothing is left to run"));
    }
    Ok(all)
}
