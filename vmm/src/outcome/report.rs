//! `--report`: how a run ended, as JSON.
//!
//! ```json
//! {"schema": 1, "outcome": "exited", "code": 3, "signal": null,
//!  "message": null, "notes": [], "tainted": 512,
//!  "splats": [{"kind": "warning", "severity": "warn", "line": "WARNING: CPU: 0 ...",
//!              "message": null, "location": "f+0x1/0x2", "time": 1.25,
//!              "allowed": false}], "traces": [],
//!  "sandbox": {"system_calls": true, "files": true, "capabilities": true,
//!              "no_new_privileges": true, "refused": []},
//!  "kernel_image": "cache",
//!  "timings_ms": {"kernel_loaded": 12.1, ...}}
//! ```

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::time::Instant;

use guest_init::protocol::Mark;
use serde::Serialize;
use vmm_kernel::Origin;
use vmm_sandbox::Record;

use super::Outcome;
use super::notes::Notes;
use crate::machine::MachineCounters;
use crate::splats::{Splat, Splats};
use vmm_session::Session;

/// The version of the JSON: it grows when a field changes its meaning or
/// goes, and not when one is added.
pub(crate) const SCHEMA: u32 = 1;

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    schema: u32,
    /// `exited`, `signaled`, `cannot-execute`, `not-found`, `setup-failed`,
    /// `powered-off`, `restarted`, `halted`, `timeout`, `interrupted`, `quit`,
    /// `splat`, `panic`, `died` or `vmm-error`.
    outcome: &'static str,
    code: u8,
    /// The signal that ended the command, or that `vmm` was stopped by.
    signal: Option<i32>,
    /// What `vmm` said on standard error.
    message: Option<String>,
    /// What it said before the run, which went on nevertheless.
    notes: Vec<String>,
    /// `/proc/sys/kernel/tainted` at the end, where COMMAND came to one.
    tainted: Option<u64>,
    /// The first ones.
    splats: Vec<Splat>,
    /// What the guest said of where it hangs, when its time was up: lines of
    /// its console, and registers.
    traces: Vec<String>,
    /// What confined the threads of the run, where it came to one, and which
    /// system calls it refused.
    sandbox: Option<Record>,
    /// What the kernel was loaded from: `file`, as it is; `unpacked`, by `vmm`;
    /// `cache`, by an earlier run.
    kernel_image: Option<&'static str>,
    timings_ms: Timings,
}

impl Report {
    /// The report of a run that ended with `outcome`.
    #[must_use]
    pub(crate) fn new(outcome: &Outcome, timings: Timings) -> Self {
        Self {
            schema: SCHEMA,
            outcome: outcome.name(),
            code: outcome.code(),
            signal: match outcome {
                Outcome::Signaled(signal) => Some(i32::from(*signal)),
                Outcome::Interrupted(signal, _) => Some(*signal),
                _ => None,
            },
            message: outcome.message(),
            notes: Vec::new(),
            tainted: None,
            splats: Vec::new(),
            traces: Vec::new(),
            sandbox: None,
            kernel_image: None,
            timings_ms: timings,
        }
    }

    /// With what was told of the run.
    #[must_use]
    pub(crate) fn with_notes(self, notes: &Notes) -> Self {
        Self {
            notes: notes.list().to_vec(),
            ..self
        }
    }

    /// With what was found on the console.
    #[must_use]
    pub(crate) fn with_splats(mut self, splats: &Splats) -> Self {
        self.tainted = splats.taint();
        self.splats = splats.list().to_vec();
        self
    }

    /// With what the guest said of where it hangs.
    #[must_use]
    pub(crate) fn with_traces(self, traces: Vec<String>) -> Self {
        Self { traces, ..self }
    }

    /// With what confined the run.
    #[must_use]
    pub(crate) fn with_sandbox(self, sandbox: Option<Record>) -> Self {
        Self { sandbox, ..self }
    }

    /// With what the kernel was loaded from.
    #[must_use]
    pub(crate) fn with_kernel_image(self, origin: Option<Origin>) -> Self {
        let kernel_image = origin.map(|origin| match origin {
            Origin::File => "file",
            Origin::Unpacked => "unpacked",
            Origin::Cache => "cache",
        });
        Self {
            kernel_image,
            ..self
        }
    }

    /// The report as JSON, with a newline at its end.
    #[must_use]
    pub(crate) fn json(&self) -> Vec<u8> {
        json(self)
    }
}

/// Whether a report may take the place of what is at `path`, where the rest of
/// the command line is not understood: of nothing, of a report, of what is no
/// file. A mistake must not cost somebody another file.
pub(crate) fn may_replace(path: &Path) -> bool {
    const LONGEST: u64 = 1 << 20;
    let is_report = || {
        let file = File::open(path).ok()?.take(LONGEST);
        let json: serde_json::Value = serde_json::from_reader(io::BufReader::new(file)).ok()?;
        Some(json.get("schema").is_some() && json.get("outcome").is_some())
    };
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() && metadata.len() > 0 => is_report().unwrap_or(false),
        Ok(_) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Pretty JSON with a newline at its end.
pub(crate) fn json(value: &impl Serialize) -> Vec<u8> {
    // Numbers, strings and maps with string keys: nothing that can fail.
    let mut json = serde_json::to_vec_pretty(value).unwrap_or_default();
    json.push(b'\n');
    json
}

/// When what happened: milliseconds since `vmm` was started, `null` for what
/// did not happen.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Timings {
    /// The machine's creation began: everything before is checking and
    /// packing.
    pub machine_created: Option<f64>,
    /// Kernel, initramfs and tables are in guest memory.
    pub kernel_loaded: Option<f64>,
    /// The first vCPU enters the guest.
    pub guest_entered: Option<f64>,
    /// The guest's init has the session: the kernel is up.
    pub init_started: Option<f64>,
    /// The command is executed.
    pub command_started: Option<f64>,
    /// The command has ended and its output is delivered.
    pub command_ended: Option<f64>,
    /// The machine is gone.
    pub ended: Option<f64>,
}

impl Timings {
    /// The times of a run that started at `start` and ended now.
    #[must_use]
    pub(crate) fn collect(
        start: Instant,
        machine: Option<&MachineCounters>,
        session: Option<&Session>,
    ) -> Self {
        let since = |time: Option<Instant>| time.map(|time| milliseconds(start, time));
        let mark = |mark| since(session.and_then(|session| session.reached(mark)));
        Self {
            machine_created: since(machine.map(MachineCounters::created)),
            kernel_loaded: since(machine.and_then(MachineCounters::kernel_loaded)),
            guest_entered: since(machine.and_then(MachineCounters::first_run)),
            init_started: mark(Mark::InitStarted),
            command_started: mark(Mark::CommandStarted),
            command_ended: mark(Mark::CommandEnded),
            ended: since(Some(Instant::now())),
        }
    }
}

/// Milliseconds with three decimals, which is what the clock is good for.
fn milliseconds(start: Instant, time: Instant) -> f64 {
    let seconds = time.saturating_duration_since(start).as_secs_f64();
    (seconds * 1e6).round() / 1e3
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_as_documented() {
        let report = Report::new(&Outcome::Signaled(9), Timings::default());
        let json: serde_json::Value = serde_json::from_slice(&report.json()).unwrap();
        assert_eq!(json["schema"], 1);
        assert_eq!(json["outcome"], "signaled");
        assert_eq!(json["code"], 137);
        assert_eq!(json["signal"], 9);
        assert!(json["message"].is_null());
        assert_eq!(json["notes"], serde_json::json!([]));
        let mut notes = Notes::default();
        notes.tell("less than was meant");
        let report = Report::new(&Outcome::Quit, Timings::default()).with_notes(&notes);
        let noted: serde_json::Value = serde_json::from_slice(&report.json()).unwrap();
        assert_eq!(noted["notes"], serde_json::json!(["less than was meant"]));
        assert!(json["timings_ms"]["init_started"].is_null());
    }

    #[test]
    fn only_a_report_gives_its_place_to_one_unasked() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report");
        assert!(may_replace(&path));
        assert!(may_replace(Path::new("/dev/null")));
        for (contents, expected) in [
            (&b""[..], true),
            (
                &Report::new(&Outcome::Quit, Timings::default()).json(),
                true,
            ),
            (b"notes", false),
            (b"{\"schema\": 1, \"requests\": 3}", false),
        ] {
            fs::write(&path, contents).unwrap();
            assert_eq!(may_replace(&path), expected, "{contents:?}");
        }
    }
}
