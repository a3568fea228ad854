//! The source **lab**: what guests do, counted by the clock of a deterministic lab: the
//! instructions of guest, VMM, server and of the kernel below them. Each workload has a
//! guest of its own, by `vmm` or by QEMU with `virtiofsd`.

mod said;
mod share;
mod workload;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use super::base;
use super::measure::Operation;
use super::record::{Latencies, Numbers};
use said::Said;
pub use workload::{ALL, Kind, Workload};

/// How often a lab may be lost.
const TRIES: u32 = 2;
/// The lab's memory in MiB: two guests' worth of files, and one guest.
const MEMORY: &str = "2000";
/// What a lab may take in all. It takes a minute when the host has nothing else to do.
const PATIENCE: &str = "20m";

/// Who serves the guests.
#[derive(Clone, Debug)]
pub enum Contestant {
    /// `vmm`, which is there.
    Vmm(PathBuf),
    /// QEMU's microvm, with `virtiofsd` on PCI.
    Qemu {
        /// `qemu-system-x86_64`.
        qemu: PathBuf,
        /// `virtiofsd`.
        virtiofsd: PathBuf,
    },
}

impl Contestant {
    /// What it is called, with its version.
    ///
    /// # Errors
    ///
    /// When it cannot be run.
    pub fn version(&self) -> Result<String> {
        let of = |program: &PathBuf| base::first_line(Command::new(program).arg("--version"));
        match self {
            Self::Vmm(vmm) => of(vmm),
            Self::Qemu { qemu, virtiofsd } => {
                let qemu = of(qemu)?;
                let qemu = qemu.split(" (").next().unwrap_or_default();
                Ok(format!("{qemu}, {}", of(virtiofsd)?))
            }
        }
    }
}

/// What guests did.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// The numbers of each workload.
    pub operations: BTreeMap<String, Numbers>,
    /// How long its requests took, where `vmm` served them.
    pub latencies: BTreeMap<String, Latencies>,
}

/// All that a lab needs.
#[derive(Debug)]
pub struct Lab {
    program: PathBuf,
    kernel: PathBuf,
    place: TempDir,
}

impl Lab {
    /// Makes what guests find in their share. `program` is the `lab` command.
    ///
    /// # Errors
    ///
    /// When that or the guest's kernel is not there.
    pub fn new(repository: &Path, program: PathBuf) -> Result<Self> {
        ensure!(
            program.is_file(),
            "there is no {}: run make build",
            program.display()
        );
        let output = Command::new(repository.join("guest-kernel/build"))
            .args(["--version", "6.1", "--print-dir"])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .context("cannot run guest-kernel/build")?;
        ensure!(output.status.success(), "there is no guest kernel");
        let kernel = PathBuf::from(String::from_utf8(output.stdout)?.trim());
        let place = tempfile::tempdir().context("no directory for the share")?;
        share::make(place.path(), repository).context("cannot make the share")?;
        Ok(Self {
            program,
            kernel,
            place,
        })
    }

    /// The name of the guest's kernel.
    #[must_use]
    pub fn kernel(&self) -> String {
        let name = self.kernel.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Has guests of `contestant` do `works`, one after the other in one lab. Tells of each
    /// that begins by `progress`.
    ///
    /// # Errors
    ///
    /// When the lab, or a guest, does not come to its end.
    pub fn measure(
        &self,
        contestant: &Contestant,
        works: &[Workload],
        progress: &dyn Fn(&str),
    ) -> Result<Measured> {
        let mut last = None;
        for _ in 0..TRIES {
            match self.attempt(contestant, works, progress) {
                Ok(measured) => return Ok(measured),
                Err(error) => {
                    progress(&format!("once more, a lab was lost: {error:#}"));
                    last = Some(error);
                }
            }
        }
        Err(last.context("no attempt")?)
    }

    fn attempt(
        &self,
        contestant: &Contestant,
        works: &[Workload],
        progress: &dyn Fn(&str),
    ) -> Result<Measured> {
        // An idle guest comes first, for the counts of the others.
        let first = ALL.first().copied();
        let others = works.iter().filter(|work| Some(**work) != first);
        let plan: Vec<&Workload> = first.iter().chain(others).collect();
        self.write_plan(&plan)?;
        let mut command = self.command(contestant);
        let mut lab = (command.stdin(Stdio::null()).stdout(Stdio::piped()))
            .spawn()
            .with_context(|| format!("cannot run {}", self.program.display()))?;
        let output = lab.stdout.take().context("the lab has no output")?;
        let (mut said, mut begun, mut heard) = (Said::default(), 0, Ok(()));
        for line in BufReader::new(output).split(b'\n') {
            let line = line.map_err(anyhow::Error::from);
            match line.and_then(|line| said.hear(String::from_utf8_lossy(&line).trim_end())) {
                Ok(Some(name)) => {
                    begun += 1;
                    progress(&format!("{begun} of {}: {name}", plan.len()));
                }
                Ok(None) => {}
                // Read to its end, so that the lab comes to its own.
                Err(error) => heard = heard.and(Err(error)),
            }
        }
        let status = lab.wait()?;
        ensure!(status.success(), "the lab ended with {status}");
        heard?;
        Ok(Measured {
            operations: said.numbers(works)?,
            latencies: said.latencies(),
        })
    }

    fn write_plan(&self, plan: &[&Workload]) -> Result<()> {
        let mut file = fs::File::create(self.place.path().join("plan"))?;
        for work in plan {
            let Workload {
                name,
                rounds,
                cache,
                kernel,
                ..
            } = work;
            writeln!(file, "{name} {rounds} {cache} {kernel}")?;
        }
        Ok(())
    }

    fn command(&self, contestant: &Contestant) -> Command {
        let place = self.place.path();
        let mut command = Command::new(&self.program);
        command
            .args(["exec", "--deterministic", "--timeout", PATIENCE])
            .args(["--memory", MEMORY, "--in"])
            .arg(place);
        for file in ["bzImage", "vmlinux"] {
            let from = self.kernel.join(file);
            let inside = format!("{}:/kernel/{file}", from.display());
            command.arg("--in").arg(inside);
        }
        match contestant {
            Contestant::Vmm(vmm) => {
                command.arg("--program").arg(vmm);
                command.args(["--", "/bin/sh"]);
                command.arg(place.join("vmm")).arg(vmm);
            }
            Contestant::Qemu { qemu, virtiofsd } => {
                for program in [qemu, virtiofsd] {
                    command.arg("--program").arg(program);
                }
                command.args(["--in", "/usr/share/qemu", "--in", "/usr/share/seabios"]);
                command.args(["--", "/bin/sh"]);
                command.arg(place.join("peer")).args([qemu, virtiofsd]);
            }
        }
        command.arg(place);
        command
    }
}

/// The workloads that are called as `operations` are.
#[must_use]
pub fn named(operations: &[Operation]) -> Vec<Workload> {
    let is_named = |work: &&Workload| operations.iter().any(|one| one.name == work.name);
    ALL.iter().filter(is_named).copied().collect()
}

/// QEMU of this host, and `virtiofsd`, which is installed if need be.
///
/// # Errors
///
/// When one of them is not there.
pub fn peer() -> Result<Contestant> {
    use tests::conformance::suite;
    let Some(qemu) = program("qemu-system-x86_64") else {
        bail!("there is no qemu-system-x86_64: run make setup");
    };
    suite::install_virtiofsd()?;
    let virtiofsd = suite::virtiofsd()?;
    Ok(Contestant::Qemu { qemu, virtiofsd })
}

/// Looks `name` up in `PATH`.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}
