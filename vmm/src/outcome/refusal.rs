//! The end of a run that never was. Whoever reads its documents should find the
//! reason in them, too.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use super::junit::{self, Subject};
use super::output_file::OutputFile;
use super::report::{Report, Timings};
use super::{Outcome, line};
use crate::splats::Splats;

/// Where the documents of a run are to be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Documents {
    pub(crate) report: Option<PathBuf>,
    pub(crate) junit: Option<PathBuf>,
    pub(crate) subject: Subject,
}

/// Tells and writes down why there is no run.
pub(crate) fn refused(message: String, documents: &Documents, start: Instant) -> ExitCode {
    let outcome = Outcome::VmmError(message);
    outcome.tell();
    let timings = Timings::collect(start, None, None);
    let report = || Report::new(&outcome, timings).json();
    let junit = || {
        let splats = Splats::default();
        junit::xml(&documents.subject, &outcome, timings, &splats, "")
    };
    write("--report", documents.report.as_ref(), report);
    write("--junit", documents.junit.as_ref(), junit);
    ExitCode::from(outcome.code())
}

fn write(option: &'static str, path: Option<&PathBuf>, contents: impl FnOnce() -> Vec<u8>) {
    // Where it cannot be, that may be the message, and is the second mistake.
    let Some(Ok(file)) = path.map(|path| OutputFile::check(option, path)) else {
        return;
    };
    if let Err(error) = file.write(&contents()) {
        Outcome::VmmError(line::of_error(&error)).tell();
    }
}
