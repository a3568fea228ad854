//! What a run has to do: each source measures, and what it measured is compared.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::base::{self, Program, Revision};
use super::baseline;
use super::judgement::{Judgement, Operations, Verdict};
use super::lab::{self, Contestant, Kind, Lab, Workload};
use super::measure::{self, Bench, Operation};
use super::record::{Record, Side};
use super::source::Source;
use super::tolerance::Tolerances;
use super::verdict::Change;

/// Changes that are told one by one.
const TOLD: usize = 8;

/// What is compared, and where.
#[derive(Clone, Debug)]
pub struct Task {
    /// The repository.
    pub repository: PathBuf,
    /// The directory of this program.
    pub programs: PathBuf,
    /// What is measured.
    pub revision: String,
    /// What that is compared to, and not to what is on record.
    pub base: Option<Revision>,
    /// A patch of HEAD that is measured, and not what is built.
    pub patch: Option<PathBuf>,
    /// Whether the counts are put on record.
    pub update: bool,
    /// Whether QEMU does the same in the lab.
    pub peer: bool,
    /// Rounds of each operation, natively.
    pub rounds: u64,
    /// Told what is going on.
    pub tell: fn(&str),
    /// How much more is no regression.
    pub tolerances: Tolerances,
}

impl Task {
    /// Measures `operations` natively.
    ///
    /// # Errors
    ///
    /// When something could not be counted.
    pub fn native(&self, operations: &[Operation]) -> Result<(Record, Verdict)> {
        let ours = self.ours(Program::Bench)?.map_or(self.bench(), Bench);
        let other = self.other(Program::Bench)?.map(Bench);
        let benches: Vec<&Bench> = std::iter::once(&ours).chain(&other).collect();
        let measure = |names: &[String]| -> Result<(Operations, Option<Operations>)> {
            let mut sides = measure::all(&benches, names, self.rounds, &self.tell)?.into_iter();
            let measured = sides.next().context("nothing was measured")?;
            Ok((measured, sides.next()))
        };
        let names: Vec<String> = operations.iter().map(|one| one.name.clone()).collect();
        let (mut record, verdict) = self.compare(Source::Native, &names, &names, measure)?;
        record.rounds = Some(self.rounds);
        record.tools.insert("counter", valgrind()?);
        Ok((record, verdict))
    }

    /// Measures `operations` in the lab.
    ///
    /// # Errors
    ///
    /// When a lab or a guest does not come to its end.
    pub fn lab(&self, operations: &[Operation]) -> Result<(Record, Verdict)> {
        let works = lab::named(operations);
        // It may have to be installed.
        let peer = self.peer.then(lab::peer).transpose()?;
        let lab = Lab::new(&self.repository, self.programs.join("lab"))?;
        let ours = self.ours(Program::Vmm)?;
        let ours = ours.unwrap_or_else(|| self.programs.join("vmm"));
        let side = |who: &Contestant, whom: &str, works: &[Workload]| {
            lab.measure(who, works, &|what: &str| {
                (self.tell)(&format!("lab, {whom}: {what}"));
            })
        };
        let (ours, other) = (
            Contestant::Vmm(ours),
            self.other(Program::Vmm)?.map(Contestant::Vmm),
        );
        let latencies = RefCell::new(None);
        let measure = |names: &[String]| -> Result<(Operations, Option<Operations>)> {
            let mut works = works.clone();
            works.retain(|work| names.iter().any(|name| name == work.name));
            let measured = side(&ours, "vmm", &works)?;
            // What is measured once more is a few of them.
            latencies.borrow_mut().get_or_insert(measured.latencies);
            let base = other.as_ref().map(|base| side(base, "base", &works));
            let base = base.transpose()?;
            Ok((measured.operations, base.map(|base| base.operations)))
        };
        let names: Vec<String> = works.iter().map(|work| work.name.to_owned()).collect();
        // Of memory there is nothing on record.
        let counted = works.iter().filter(|work| work.kind != Kind::Memory);
        let on_record: Vec<String> = counted.map(|work| work.name.to_owned()).collect();
        let (mut record, verdict) = self.compare(Source::Lab, &names, &on_record, measure)?;
        record.latencies_us_log2 = latencies.into_inner().unwrap_or_default();
        if let Some(peer) = peer {
            record.peer = Some(Side {
                revision: peer.version()?,
                operations: side(&peer, "QEMU", &works)?.operations,
            });
        }
        record.tools.insert("guest", lab.kernel());
        Ok((record, verdict))
    }

    /// Has `names` measured, and compares that to the base or to the record. Tells what
    /// changed.
    fn compare(
        &self,
        source: Source,
        names: &[String],
        on_record: &[String],
        measure: impl Fn(&[String]) -> Result<(Operations, Option<Operations>)>,
    ) -> Result<(Record, Verdict)> {
        let path = self.repository.join("tests/perf/baseline.json");
        let kept = if self.base.is_none() && !self.update {
            baseline::read(&path, source, on_record)?
        } else {
            Operations::new()
        };
        let (measured, before) = measure(names)?;
        if self.update {
            baseline::write(&path, source, &measured)?;
            println!("perf: wrote {}", path.display());
        }
        if self.base.is_none() && !self.update {
            baseline::is_complete(&kept, &measured)?;
        }
        let compared = before.as_ref().unwrap_or(&kept);
        let judgement = Judgement::of(source, (compared, &measured), &self.tolerances, |names| {
            let (measured, before) = measure(names)?;
            Ok((before.unwrap_or(kept.clone()), measured))
        })?;
        let verdict = judgement.verdict();
        let against = (self.base.as_ref()).map_or("the record".to_owned(), Revision::name);
        println!(
            "{}, against {against}: {}",
            source.name(),
            verdict.summary()
        );
        let Judgement {
            worse,
            lasting,
            better,
        } = judgement;
        print_changes(if lasting.is_empty() { &worse } else { &lasting });
        if !better.is_empty() {
            let hint = if self.base.is_none() {
                "; put them on record with make perf UPDATE=yes"
            } else {
                ""
            };
            println!("{} better{hint}:", better.len());
            print_changes(&better);
        }
        let side = |revision: String, operations| Side {
            revision,
            operations,
        };
        let mut record = Record::of(source, side(self.revision.clone(), measured));
        record.verdict = verdict.name();
        record.base = before.map(|operations| side(against, operations));
        record.tools.insert("compiler", base::compiler()?);
        Ok((record, verdict))
    }

    /// The program that is measured natively.
    #[must_use]
    pub fn bench(&self) -> Bench {
        Bench(self.programs.join("device-bench"))
    }

    /// What is measured where a patch is tried, and not what is built.
    fn ours(&self, program: Program) -> Result<Option<PathBuf>> {
        let build = |patch| {
            let head = Revision::find(&self.repository, "HEAD")?;
            self.build(&head, Some(patch), program)
        };
        self.patch.as_deref().map(build).transpose()
    }

    /// What is compared to.
    fn other(&self, program: Program) -> Result<Option<PathBuf>> {
        let build = |base| self.build(base, None, program);
        self.base.as_ref().map(build).transpose()
    }

    fn build(&self, what: &Revision, patch: Option<&Path>, program: Program) -> Result<PathBuf> {
        (self.tell)(&format!("building {} of {}", program.name(), what.name()));
        base::build(&self.repository, &base::cache()?, what, patch, program)
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

fn valgrind() -> Result<String> {
    base::first_line(Command::new("valgrind").arg("--version"))
}
