//! What is known of a run, and the files that say it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rustix::io::Errno;
use vmm_sandbox::Holds;

use crate::console::log::ConsoleLog;
use crate::machine::MachineCounters;
use crate::outcome::junit::{self, Subject};
use crate::outcome::metrics::{MeteredDevice, Metrics, ProcessUsage};
use crate::outcome::notes::Notes;
use crate::outcome::output_file::{self, OutputFile};
use crate::outcome::report::{Report, Timings};
use crate::outcome::{Outcome, line};
use crate::splats::Splats;
use vmm_session::Session;

/// What the console has shown, once the machine is gone.
#[derive(Default)]
pub(super) struct Findings {
    /// The splats of the guest's kernel.
    pub(super) splats: Splats,
    /// Where the guest hung.
    pub(super) traces: Vec<String>,
    /// What is shown of the console after an abnormal end.
    pub(super) shown: String,
}

/// What is known of a run from outside while it runs, and after it.
#[derive(Clone, Default)]
pub(super) struct Observed {
    pub(super) notes: Notes,
    pub(super) console: Option<ConsoleLog>,
    pub(super) session: Option<Arc<Session>>,
    pub(super) devices: Vec<MeteredDevice>,
    pub(super) counters: Option<Arc<MachineCounters>>,
    /// Taken while the machine lives; the guest's report is such a moment.
    pub(super) usage: Arc<Mutex<Option<ProcessUsage>>>,
    pub(super) sandbox: Option<Holds>,
}

impl Observed {
    /// What the console has shown.
    pub(super) fn findings(&self) -> Findings {
        let taint = self.session.as_ref().and_then(|session| session.taint());
        let seen = self.console.as_ref().map(ConsoleLog::splats);
        Findings {
            splats: seen.unwrap_or_default().with_taint(taint),
            traces: (self.console.as_ref()).map_or_else(Vec::new, |console| console.traces().all()),
            shown: String::new(),
        }
    }

    /// The streams and files that could not take all that was written, each
    /// once, and why.
    pub(super) fn lost_output(&self) -> Vec<(&'static str, Errno)> {
        let streams = self
            .session
            .iter()
            .flat_map(|session| session.lost_output());
        let copies = self.console.iter().flat_map(ConsoleLog::lost_output);
        let mut lost: Vec<(&'static str, Errno)> = Vec::new();
        for (name, error) in streams.chain(copies) {
            if lost.iter().all(|(other, _)| *other != name) {
                lost.push((name, error));
            }
        }
        lost
    }
}

/// The files that say how the run went.
#[derive(Clone)]
pub(super) struct Records {
    pub(super) start: Instant,
    pub(super) metrics: Option<OutputFile>,
    pub(super) report: Option<OutputFile>,
    pub(super) junit: Option<OutputFile>,
    pub(super) subject: Subject,
}

impl Records {
    /// Writes them. A file that cannot be written is told, and becomes the
    /// outcome.
    pub(super) fn write(&self, outcome: &mut Outcome, observed: &Observed, findings: Findings) {
        let timings = Timings::collect(
            self.start,
            observed.counters.as_deref(),
            observed.session.as_deref(),
        );
        if let Some(file) = &self.metrics {
            let usage = *observed
                .usage
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let metrics = Metrics::collect(
                timings,
                observed.counters.as_deref(),
                &observed.devices,
                usage.unwrap_or_else(ProcessUsage::now),
            );
            if let Err(error) = file.write(&metrics.json()) {
                *outcome = unwritten(&error);
            }
        }
        if let Some(file) = &self.junit {
            let Findings { splats, shown, .. } = &findings;
            let xml = junit::xml(&self.subject, outcome, timings, splats, shown);
            if let Err(error) = file.write(&xml) {
                *outcome = unwritten(&error);
            }
        }
        let report = Report::new(outcome, timings)
            .with_notes(&observed.notes)
            .with_splats(&findings.splats)
            .with_traces(findings.traces)
            .with_sandbox(observed.sandbox.map(Holds::record))
            .with_kernel_image(
                (observed.counters.as_deref()).and_then(MachineCounters::kernel_origin),
            );
        if let Some(file) = &self.report
            && let Err(error) = file.write(&report.json())
        {
            *outcome = unwritten(&error);
        }
    }
}

/// What a run comes to whose records cannot be written; told here, since the
/// run's own end has been.
fn unwritten(error: &output_file::Error) -> Outcome {
    let outcome = Outcome::VmmError(line::of_error(error));
    outcome.tell();
    outcome
}
