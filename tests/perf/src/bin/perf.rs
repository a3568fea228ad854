//! The `perf` command: counts what the virtio-fs device costs, and compares it to
//! another revision or to what is on record.

use std::collections::BTreeMap;
use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use perf::regression::base::{self, Revision};
use perf::regression::judgement::Verdict;
use perf::regression::lab::{self, Workload};
use perf::regression::measure::{self, Operation};
use perf::regression::record::{Record, Report, SCHEMA};
use perf::regression::runs::{self, Run};
use perf::regression::source::Source;
use perf::regression::task::Task;
use perf::regression::tolerance::Tolerances;
use perf::regression::{page, table};

/// Nothing could be measured. The other statuses are those of verdicts.
const FAILED: u8 = 125;

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
    /// Measure this way, several times for several [default: native]
    #[arg(long = "source", value_name = "SOURCE")]
    sources: Vec<Way>,
    /// Compare to this revision, which is built, and not to what is on record
    #[arg(long, value_name = "REVISION", conflicts_with = "update")]
    base: Option<String>,
    /// Have QEMU with virtiofsd do the same in the lab
    #[arg(long, conflicts_with = "update")]
    peer: bool,
    /// Measure HEAD with this patch, and not what is built
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
    /// Rounds of each operation, natively
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    rounds: u64,
}

/// A source, on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Way {
    /// The device in a process of its own: instructions and system calls
    Native,
    /// A guest in a deterministic lab: instructions of the whole machine
    Lab,
}

impl Way {
    fn source(self) -> Source {
        match self {
            Self::Native => Source::Native,
            Self::Lab => Source::Lab,
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| {
        let status = if error.use_stderr() { FAILED } else { 0 };
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
        let task = self.task()?;
        let operations = self.operations(&task)?;
        if self.list {
            for (source, operations) in &operations {
                for Operation { name, about } in operations {
                    println!("{:<7} {name:<13} {about}", source.name());
                }
            }
            return Ok(0);
        }
        for (option, file) in [("--json", &self.json), ("--html", &self.html)] {
            ensure_place(option, file.as_deref())?;
        }
        let mut report = Report {
            schema: SCHEMA,
            verdict: Verdict::None.name(),
            sources: Vec::new(),
        };
        let mut worst = Verdict::None;
        for (source, operations) in &operations {
            let (record, verdict) = match source {
                Source::Native => task.native(operations)?,
                Source::Lab => task.lab(operations)?,
            };
            print!("{}", table::table(operations, &record));
            report.sources.push(record);
            worst = worst.max(verdict);
        }
        report.verdict = worst.name();
        println!("{}: {}", task.revision, worst.summary());
        if let Some(path) = &self.json {
            report.write(path)?;
        }
        let kept = self.keep(&report, &task.revision)?;
        if let Some(path) = &self.html {
            let page = page::page(&report, &operations, &kept, &task.tolerances)?;
            fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))?;
            println!("perf: plots are in {}", path.display());
        }
        Ok(worst.status())
    }

    fn task(&self) -> Result<Task> {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .nth(2)
            .context("no workspace")?;
        let program = std::env::current_exe().context("no path to this program")?;
        let base = self.base.as_ref();
        let base = base
            .map(|name| Revision::find(repository, name))
            .transpose()?;
        let revision = match &self.patch {
            None => base::checked_out(repository)?,
            Some(patch) => {
                let head = Revision::find(repository, "HEAD")?;
                format!("{} with {}", head.name(), patch.display())
            }
        };
        Ok(Task {
            repository: repository.to_owned(),
            programs: program.parent().context("no directory")?.to_owned(),
            revision,
            base,
            patch: self.patch.clone(),
            update: self.update,
            peer: self.peer,
            rounds: self.rounds,
            tell,
            tolerances: read_tolerances(&repository.join("tests/perf/tolerances"))?,
        })
    }

    /// The operations that the filter leaves, by source.
    fn operations(&self, task: &Task) -> Result<BTreeMap<Source, Vec<Operation>>> {
        let mut sources: Vec<Source> = self.sources.iter().map(|way| way.source()).collect();
        match (self.peer, sources.is_empty()) {
            (true, _) => sources.push(Source::Lab),
            (false, true) if self.list => sources.extend(Source::ALL),
            (false, true) => sources.push(Source::Native),
            (false, false) => {}
        }
        let filter = self.filter.as_deref();
        let mut operations = BTreeMap::new();
        for source in sources {
            let mut found = match source {
                Source::Native => measure::operations(&task.bench())?,
                Source::Lab => lab::ALL.iter().map(Workload::operation).collect(),
            };
            found.retain(|one| filter.is_none_or(|filter| one.name.contains(filter)));
            if !found.is_empty() {
                operations.insert(source, found);
            }
        }
        ensure!(
            !operations.is_empty(),
            "no operation has {} in its name; --list prints them",
            filter.unwrap_or_default()
        );
        Ok(operations)
    }

    /// Keeps a run of all that there is, for the trend. Gives what is kept: no more than
    /// this run where nothing can be.
    fn keep(&self, report: &Report, revision: &str) -> Result<Vec<Run>> {
        let of = |record: &Record| (record.source, record.measured.operations.clone());
        let sources = report.sources.iter().map(of).collect();
        let run = Run::now(revision, &base::compiler()?, sources);
        let keep = || -> Result<Vec<Run>> {
            let directory = base::cache()?.join("runs");
            if self.filter.is_none() && self.patch.is_none() {
                runs::keep(&directory, &run)?;
            }
            runs::kept(&directory)
        };
        Ok(keep().unwrap_or_else(|error| {
            eprintln!("perf: note: no trend: {error:#}");
            vec![run]
        }))
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

#[cfg(test)]
mod command_line {
    use clap::CommandFactory;

    #[test]
    fn is_consistent() {
        super::Cli::command().debug_assert();
    }
}
