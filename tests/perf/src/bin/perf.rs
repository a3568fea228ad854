//! The `perf` command: counts what the virtio-fs device costs, and compares it to
//! another revision or to what is on record.

use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use perf::regression::base::{self, Revision};
use perf::regression::measure::{self, Bench, Operation};
use perf::regression::metric::Metric;
use perf::regression::record::{Record, SCHEMA, Side};
use perf::regression::runs::{self, Run};
use perf::regression::tolerance::Tolerances;
use perf::regression::verdict::{Change, changes};
use perf::regression::{baseline, page, table};

/// No regression.
const GOOD: u8 = 0;
/// A regression, twice.
const REGRESSION: u8 = 1;
/// What looked like a regression did not do so again.
const INCONCLUSIVE: u8 = 2;
/// Nothing could be measured.
const FAILED: u8 = 125;

/// Changes that are told one by one.
const TOLD: usize = 8;

/// Counts what requests cost the virtio-fs device, and finds regressions
///
/// Without --base the counts are compared to those on record in
/// tests/perf/baseline.json. Exit status: 0 no regression, 1 a regression,
/// 2 inconclusive, 125 nothing could be measured.
#[derive(Debug, Parser)]
#[command(name = "perf", version)]
struct Cli {
    /// Only operations with this in their name
    #[arg(value_name = "FILTER")]
    filter: Option<String>,
    /// Print the operations and do nothing
    #[arg(long)]
    list: bool,
    /// Compare to this revision, which is built, and not to what is on record
    #[arg(long, value_name = "REVISION", conflicts_with = "update")]
    base: Option<String>,
    /// Measure the devices of HEAD with this patch, and not those that are built
    #[arg(long, value_name = "FILE", conflicts_with = "update")]
    patch: Option<PathBuf>,
    /// Put the counts on record
    #[arg(long, conflicts_with = "filter")]
    update: bool,
    /// Write the results here
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a page with plots here
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Rounds of each operation
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    rounds: u64,
}

fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| {
        let status = if error.use_stderr() { FAILED } else { GOOD };
        // Nothing is to be done where even that cannot be printed.
        let _ = error.print();
        std::process::exit(status.into());
    });
    match cli.run() {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("perf: error: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

impl Cli {
    fn run(self) -> Result<u8> {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .nth(2)
            .context("no workspace")?;
        let program = std::env::current_exe().context("no path to this program")?;
        let mut ours = Bench(program.with_file_name("device-bench"));
        let operations = self.chosen(&ours)?;
        if self.list {
            for Operation { name, about } in &operations {
                println!("{name:<12} {about}");
            }
            return Ok(GOOD);
        }
        let tolerances = read_tolerances(&repository.join("tests/perf/tolerances"))?;
        let on_record = repository.join("tests/perf/baseline.json");
        for (option, file) in [("--json", &self.json), ("--html", &self.html)] {
            ensure_place(option, file.as_deref())?;
        }
        let names: Vec<String> = operations.iter().map(|one| one.name.clone()).collect();
        let kept = if self.base.is_none() && !self.update {
            Some(baseline::read(&on_record, &names)?)
        } else {
            None
        };
        let mut revision = base::checked_out(repository)?;
        let other = match &self.base {
            Some(name) => Some(other_bench(repository, name, None)?),
            None => None,
        };
        if let Some(patch) = &self.patch {
            let (head, bench) = other_bench(repository, "HEAD", Some(patch.as_path()))?;
            ours = bench;
            revision = format!("{} with {}", head.name(), patch.display());
        }

        let benches: Vec<&Bench> = (std::iter::once(&ours))
            .chain(other.as_ref().map(|(_, bench)| bench))
            .collect();
        let mut sides = measure::all(&benches, &names, self.rounds, &tell)?.into_iter();
        let measured = sides.next().context("nothing was measured")?;
        let before = sides.next();
        if self.update {
            baseline::write(&on_record, &measured)?;
            println!("perf: wrote {}", on_record.display());
        }
        let compared = (before.clone().or(kept)).unwrap_or_else(|| measured.clone());
        let found = changes(&compared, &measured, &tolerances);
        let (worse, better): (Vec<_>, Vec<_>) = found.into_iter().partition(Change::is_worse);

        // A regression is there the second time as well.
        let mut lasting = worse.clone();
        if !worse.is_empty() {
            let mut again: Vec<String> = worse.iter().map(|one| one.operation.clone()).collect();
            again.dedup();
            let mut sides = measure::all(&benches, &again, self.rounds, &tell)?.into_iter();
            let second = sides.next().context("nothing was measured")?;
            let found = changes(&sides.next().unwrap_or(compared), &second, &tolerances);
            lasting.retain(|one| found.iter().any(|f| f.is_worse() && f.is_of_the_same(one)));
        }
        let (status, verdict) = match (lasting.is_empty(), worse.is_empty()) {
            (false, _) => (REGRESSION, "regression"),
            (true, false) => (INCONCLUSIVE, "inconclusive"),
            (true, true) => (GOOD, "none"),
        };

        print!("{}", table::table(&operations, &measured, before.as_ref()));
        let to = other
            .as_ref()
            .map_or("the record".to_owned(), |(base, _)| base.name());
        println!("{revision} against {to}, native: {}", summary(verdict));
        print_changes(if lasting.is_empty() { &worse } else { &lasting });
        if !better.is_empty() {
            let hint = if other.is_none() {
                "; put them on record with make perf UPDATE=yes"
            } else {
                ""
            };
            println!("{} better{hint}:", better.len());
            print_changes(&better);
        }
        let base = other.zip(before).map(|((base, _), operations)| Side {
            revision: base.name(),
            operations,
        });
        let record = Record {
            schema: SCHEMA,
            source: "native",
            host_path: "the device over registers and guest memory, without a machine",
            units: Metric::ALL.into_iter().map(|m| (m, m.unit())).collect(),
            rounds: self.rounds,
            tools: [("compiler", base::compiler()?), ("counter", valgrind()?)].into(),
            verdict,
            measured: Side {
                revision,
                operations: measured,
            },
            base,
        };
        if let Some(path) = &self.json {
            record.write(path)?;
        }
        let runs = self.keep(&record);
        if let Some(path) = &self.html {
            let page = page::page(&record, &operations, &runs, &tolerances)?;
            fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))?;
            println!("perf: plots are in {}", path.display());
        }
        Ok(status)
    }

    /// Keeps a run of all that there is, for the trend. Gives what is kept: no more than
    /// this run where nothing can be.
    fn keep(&self, record: &Record) -> Vec<Run> {
        let measured = &record.measured;
        let compiler = record.tools.get("compiler").map_or("", String::as_str);
        let run = Run::now(&measured.revision, compiler, &measured.operations);
        let keep = || -> Result<Vec<Run>> {
            let directory = cache()?.join("runs");
            if self.filter.is_none() && self.patch.is_none() {
                runs::keep(&directory, &run)?;
            }
            runs::kept(&directory)
        };
        keep().unwrap_or_else(|error| {
            eprintln!("perf: note: no trend: {error:#}");
            vec![run]
        })
    }

    /// The operations that the filter leaves.
    fn chosen(&self, bench: &Bench) -> Result<Vec<Operation>> {
        let mut operations = measure::operations(bench)?;
        if let Some(filter) = &self.filter {
            operations.retain(|operation| operation.name.contains(filter));
            ensure!(
                !operations.is_empty(),
                "no operation has {filter} in its name; --list prints them"
            );
        }
        Ok(operations)
    }
}

fn summary(verdict: &str) -> &str {
    match verdict {
        "none" => "no regression",
        "regression" => "a REGRESSION",
        _ => "INCONCLUSIVE, measured again it was not there",
    }
}

fn print_changes(changes: &[Change]) {
    for change in changes.iter().take(TOLD) {
        println!("  {change}");
    }
    if changes.len() > TOLD {
        println!("  and {} more", changes.len() - TOLD);
    }
}

/// Progress, in one line where somebody looks at it.
fn tell(what: &str) {
    if std::io::stderr().is_terminal() {
        let end = if what.starts_with("building") {
            "\n"
        } else {
            "\r"
        };
        eprint!("\x1b[Kperf: {what}{end}");
    } else {
        eprintln!("perf: {what}");
    }
}

/// Before anything is measured: a file that has no place is found out at once.
fn ensure_place(option: &str, file: Option<&Path>) -> Result<()> {
    let Some(parent) = file.and_then(Path::parent) else {
        return Ok(());
    };
    let is_there = parent.as_os_str().is_empty() || parent.is_dir();
    ensure!(
        is_there,
        "{option}: there is no directory {}",
        parent.display()
    );
    Ok(())
}

fn read_tolerances(path: &Path) -> Result<Tolerances> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Tolerances::parse(&text).with_context(|| path.display().to_string())
}

fn other_bench(repository: &Path, name: &str, patch: Option<&Path>) -> Result<(Revision, Bench)> {
    let revision = Revision::find(repository, name)?;
    tell(&format!("building the devices of {}", revision.name()));
    let bench = base::build(repository, &cache()?, &revision, patch)?;
    Ok((revision, bench))
}

fn cache() -> Result<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.filter(|path| path.is_absolute()).or_else(home);
    Ok(cache
        .context("neither XDG_CACHE_HOME nor HOME is set")?
        .join("vmm/perf"))
}

fn valgrind() -> Result<String> {
    base::first_line(Command::new("valgrind").arg("--version"))
}

#[cfg(test)]
mod command_line {
    use clap::CommandFactory;

    #[test]
    fn is_consistent() {
        super::Cli::command().debug_assert();
    }
}
