//! The `compare` command: measures the bounce strategies of the guest's
//! virtiofs driver and writes what it found into `guest-kernel/`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use perf::compare::plan::{FIRST_BAD_MODULE, Kernel, Plan, Stock};
use perf::compare::results::Results;
use perf::compare::{letter, markdown, measure, plot};
use tests::host::Host;
use tests::lab::{FAILED, Order, Timing};

/// Measures how the guest's virtiofs driver bounces arguments, in all its ways
#[derive(Debug, Parser)]
#[command(name = "compare", version)]
struct Cli {
    /// Measure this kernel version only; the results of others stay. Repeatable
    #[arg(long = "kernel", value_name = "VERSION", default_values = ["6.1", "6.12"])]
    versions: Vec<String>,
    /// Measure nothing, write the documents from comparison.json
    #[arg(long)]
    render: bool,
    /// Write here in place of the source's guest-kernel directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// The part in the lab: measure PLAN, write the results to OUT
    #[command(hide = true)]
    Inside { plan: PathBuf, out: PathBuf },
}

/// The versions whose stock kernel hangs.
const HANGING: &str = "6.1";
/// For the lab: what vmm and two guests' kernels need beside the files.
const GUEST_MIB: u64 = 1024;
/// Several times what it takes: two minutes for a kernel, four on a busy host. With a
/// clock that counts instructions a guest may hang (see [`tests::lab`]).
const LAB_TIMEOUT: Duration = Duration::from_secs(20 * 60);

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("compare: error: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

impl Cli {
    fn run(self) -> Result<u8> {
        if let Some(Part::Inside { plan, out }) = self.part {
            let plan: Plan = serde_json::from_slice(&fs::read(plan)?)?;
            measure::all(&plan)?.write(&out)?;
            return Ok(0);
        }
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .nth(2)
            .context("no workspace")?;
        let source = workspace.join("guest-kernel");
        let out = self.out.unwrap_or_else(|| source.clone());
        let file = out.join("comparison.json");
        let before = if file.is_file() {
            Some(Results::read(&file)?)
        } else {
            None
        };
        let mut results = before.clone().unwrap_or_default();
        if !self.render {
            results.update(in_lab(&source, &self.versions)?);
            results.write(&file)?;
        }
        for (name, text) in documents(&results)? {
            let path = out.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            println!("compare: wrote {}", path.display());
        }
        // The messages of the series are in the source only.
        let series = if out == source {
            &results.kernels[..]
        } else {
            &[]
        };
        for kernel in series {
            let old = before.as_ref().and_then(|old| old.kernel(&kernel.version));
            letter::update(&source.join(&kernel.version), old, kernel)?;
        }
        Ok(0)
    }
}

/// The files made of the results: (name, text).
fn documents(results: &Results) -> Result<Vec<(String, String)>> {
    let mut files = vec![("comparison.md".to_owned(), markdown::document(results))];
    for kernel in &results.kernels {
        files.push((plot::file_name(kernel), plot::svg(kernel)?));
    }
    Ok(files)
}

/// Builds what is needed and measures it.
fn in_lab(source: &Path, versions: &[String]) -> Result<Results> {
    eprintln!(
        "compare: this host runs guests through: {}; the comparison always runs in the \
         deterministic lab, because instructions can be counted only there",
        Host::detect()
    );
    let program = std::env::current_exe().context("no path to this program")?;
    let vmm = program.with_file_name("vmm");
    if !vmm.is_file() {
        bail!("{} is not there; build it with make build", vmm.display());
    }
    let scratch = tempfile::tempdir()?;
    let plan = Plan {
        vmm: vmm.clone(),
        script: source.join("comparison/measure"),
        kernels: versions
            .iter()
            .map(|version| kernel(source, scratch.path(), version))
            .collect::<Result<_>>()?,
    };
    let (plan_file, out) = (scratch.path().join("plan"), scratch.path().join("results"));
    fs::write(&plan_file, serde_json::to_vec(&plan)?)?;

    let argv: [OsString; 4] = [
        program.clone().into(),
        "inside".into(),
        plan_file.clone().into(),
        out.clone().into(),
    ];
    let mut order = Order::new(argv.to_vec());
    let mut inputs = vec![plan_file, plan.script.clone()];
    for kernel in &plan.kernels {
        inputs.push(kernel.test.join("bzImage"));
        inputs.push(kernel.test.join("driver-tests"));
        if let Some(stock) = &kernel.stock {
            inputs.push(stock.kernel.clone());
            inputs.extend_from_slice(&stock.modules);
        }
    }
    order.inputs = inputs
        .into_iter()
        .map(|path| (path.clone(), path))
        .collect();
    order.directories = vec![PathBuf::from("/tmp"), scratch.path().to_owned()];
    order.outputs = vec![(out.clone(), out.clone())];
    order.programs = vec![program, vmm];
    for (name, value) in [
        ("PATH", "/sbin:/bin:/usr/sbin:/usr/bin"),
        ("HOME", "/root"),
        ("TMPDIR", "/tmp"),
    ] {
        order.env.push((name.into(), value.into()));
    }
    order.timing = Timing::Deterministic;
    order.guest_mib = GUEST_MIB;
    order.timeout = Some(LAB_TIMEOUT);
    // The order of addresses is one more thing that differs between two runs.
    order.cmdline = "norandmaps".to_owned();
    match order.run()? {
        0 => Results::read(&out),
        status => bail!("the measurement ended with status {status}"),
    }
}

fn kernel(source: &Path, scratch: &Path, version: &str) -> Result<Kernel> {
    let stock = if version == HANGING {
        let products = build(source, version, "stock")?;
        let mut modules = Vec::new();
        for bytes in [FIRST_BAD_MODULE - 1, FIRST_BAD_MODULE] {
            let module = scratch.join(format!("payload-{bytes}.ko"));
            let status = Command::new(source.join("payload/make-module"))
                .arg("--template")
                .arg(products.join("payload.ko.template"))
                .arg(bytes.to_string())
                .arg(&module)
                .status()
                .context("cannot run guest-kernel/payload/make-module")?;
            if !status.success() {
                bail!("cannot make a module of {bytes} bytes");
            }
            modules.push(module);
        }
        Some(Stock {
            kernel: products.join("bzImage"),
            modules,
        })
    } else {
        None
    };
    Ok(Kernel {
        version: version.to_owned(),
        test: build(source, version, "test")?,
        stock,
    })
}

fn build(source: &Path, version: &str, variant: &str) -> Result<PathBuf> {
    let output = Command::new(source.join("build"))
        .args(["--version", version, "--variant", variant, "--print-dir"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run guest-kernel/build")?;
    if !output.status.success() {
        bail!("cannot build the guest kernel {version} {variant}");
    }
    let directory = String::from_utf8_lossy(&output.stdout);
    Ok(PathBuf::from(directory.trim()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod kept {
    use super::*;

    /// What was written by hand since, or forgotten to be written again.
    #[test]
    fn documents_and_letters_are_those_of_the_results() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest-kernel");
        let results = Results::read(&source.join("comparison.json")).unwrap();
        for version in ["6.1", "6.12"] {
            let kernel = results.kernel(version).unwrap();
            // Nothing to be replaced with, so it only looks.
            letter::update(&source.join(version), None, kernel).unwrap();
        }
        for (name, text) in documents(&results).unwrap() {
            let kept = fs::read_to_string(source.join(&name)).unwrap();
            assert!(kept == text, "{name} is another; run compare --render");
        }
    }
}

#[cfg(test)]
mod command_line {
    use clap::CommandFactory;

    #[test]
    fn is_consistent() {
        super::Cli::command().debug_assert();
    }
}
