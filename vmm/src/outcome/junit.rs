//! `--junit`: a run as a suite of test cases, for what shows those of many
//! programs. COMMAND is one, and so is each splat.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};

use super::Outcome;
use super::report::Timings;
use crate::splats::{Splat, Splats};

/// What was run, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subject {
    /// COMMAND with its arguments.
    pub command: String,
    /// The release of the kernel, as `uname -r` prints it.
    pub kernel: Option<String>,
}

impl Subject {
    /// The words of `command`; a shell where there are none.
    pub(crate) fn of(command: &[OsString], kernel: Option<&str>) -> Self {
        let words: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
        Self {
            command: words.join(" "),
            kernel: kernel.map(str::to_owned),
        }
    }

    fn name(&self) -> &str {
        if self.command.is_empty() {
            "vmm run"
        } else {
            &self.command
        }
    }
}

/// Whether such a document may take the place of what is at `path`, where the
/// rest of the command line is not understood.
pub(crate) fn may_replace(path: &Path) -> bool {
    let is_ours = || {
        let mut head = [0; 200];
        let length = File::open(path).and_then(|mut file| file.read(&mut head));
        let head = head.get(..length.unwrap_or(0)).unwrap_or_default();
        String::from_utf8_lossy(head).contains("<testsuites")
    };
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() && metadata.len() > 0 => is_ours(),
        Ok(_) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// The suite as XML.
#[must_use]
pub(crate) fn xml(
    subject: &Subject,
    outcome: &Outcome,
    timings: Timings,
    splats: &Splats,
    console: &str,
) -> Vec<u8> {
    let class = subject.kernel.as_deref().unwrap_or("vmm");
    let time = timings.ended.map(from_milliseconds);
    let mut suite = TestSuite::new(format!("vmm run on {class}"));
    if let Some(time) = time {
        suite.set_time(time);
    }
    suite.add_property(Property::new("outcome", outcome.name()));
    suite.add_property(Property::new("status", outcome.code().to_string()));

    let mut command = TestCase::new(subject.name(), status(outcome));
    command.set_classname(class);
    if let Some(time) = time {
        command.set_time(time);
    }
    // What COMMAND has printed is with whom it was printed to.
    if !console.is_empty() {
        command.set_system_err(console);
    }
    suite.add_test_case(command);

    // A kernel that did not run shows nothing.
    if splats.list().is_empty() && timings.guest_entered.is_some() {
        let mut quiet = TestCase::new("no splats of the kernel", TestCaseStatus::success());
        quiet.set_classname(class);
        suite.add_test_case(quiet);
    }
    for (number, splat) in (1_u32..).zip(splats.list()) {
        let mut case = TestCase::new(format!("splat {number}"), judged(splats, splat));
        case.set_classname(class);
        case.set_system_err(splat.lines().join("\n"));
        suite.add_test_case(case);
    }

    let mut report = Report::new("vmm");
    if let Some(time) = time {
        report.set_time(time);
    }
    report.add_test_suite(suite);
    let mut xml = Vec::new();
    // To memory, which takes all.
    let _ = report.serialize(&mut xml);
    allowed(&String::from_utf8_lossy(&xml)).into_bytes()
}

/// Without the two characters that XML does not allow and `quick-junit` lets pass; a
/// guest can say them.
fn allowed(xml: &str) -> String {
    xml.replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}")
}

/// A failure of the command is one; that the run could not be is an error.
fn status(outcome: &Outcome) -> TestCaseStatus {
    let kind = match outcome {
        // The splat is a case of its own.
        Outcome::Splat(_) => return TestCaseStatus::success(),
        Outcome::SetupFailed(_)
        | Outcome::VmmError(_)
        | Outcome::Interrupted(..)
        | Outcome::Quit
        | Outcome::CannotExecute(_)
        | Outcome::NotFound(_) => NonSuccessKind::Error,
        outcome if outcome.code() == 0 => return TestCaseStatus::success(),
        _ => NonSuccessKind::Failure,
    };
    let message = outcome
        .message()
        .unwrap_or_else(|| format!("{}: status {}", outcome.name(), outcome.code()));
    let mut status = TestCaseStatus::non_success(kind);
    status.set_type(outcome.name()).set_message(message);
    status
}

/// Splats that are allowed or do not count are skipped, not hidden.
fn judged(splats: &Splats, splat: &Splat) -> TestCaseStatus {
    let mut status = if splats.is_failure(splat) {
        TestCaseStatus::non_success(NonSuccessKind::Failure)
    } else {
        TestCaseStatus::skipped()
    };
    status
        .set_type(splat.kind.name())
        .set_message(splat.summary());
    status
}

fn from_milliseconds(time: f64) -> Duration {
    Duration::try_from_secs_f64(time / 1e3).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::console::log::ConsoleLog;
    use std::io::Write;

    fn suite(outcome: &Outcome, said: &str) -> TestSuite {
        let console = ConsoleLog::new(None, None);
        console.writer().write_all(said.as_bytes()).unwrap();
        console.flush();
        let subject = Subject::of(&["make".into(), "a<b".into()], Some("6.1.0"));
        let timings = Timings {
            guest_entered: Some(500.0),
            ended: Some(1500.0),
            ..Timings::default()
        };
        let xml = xml(
            &subject,
            outcome,
            timings,
            &console.splats(),
            "\u{1b}[31mtail\u{fffe}",
        );
        assert!(!String::from_utf8_lossy(&xml).contains('\u{fffe}'));
        let mut report = Report::deserialize(&xml[..]).unwrap();
        assert_eq!(report.test_suites.len(), 1);
        report.test_suites.remove(0)
    }

    fn kind(case: &TestCase) -> Option<NonSuccessKind> {
        match &case.status {
            TestCaseStatus::NonSuccess { kind, .. } => Some(*kind),
            _ => None,
        }
    }

    #[test]
    fn a_success_is_a_case_with_a_time_and_the_console() {
        let suite = suite(&Outcome::Exited(0), "[    1.0] all is well\n");
        assert_eq!(suite.test_cases.len(), 2);
        let command = &suite.test_cases[0];
        assert_eq!(command.name.as_str(), "make a<b");
        assert_eq!(command.classname.as_ref().unwrap().as_str(), "6.1.0");
        assert_eq!(command.time, Some(Duration::from_millis(1500)));
        assert_eq!(
            command.system_err.as_ref().unwrap().as_str(),
            "tail\u{fffd}"
        );
        assert_eq!(command.system_out, None);
        assert!(suite.test_cases.iter().all(|case| kind(case).is_none()));
    }

    #[test]
    fn each_splat_is_a_case_and_only_what_counts_fails() {
        let said = "[    1.0] WARNING: CPU: 0 PID: 1 at f.c:1 f+0x1/0x2\n\
                    [    2.0] BUG: sleeping in f\n[    2.1] next\n";
        let suite = suite(&Outcome::Splat("BUG: sleeping in f".into()), said);
        let kinds: Vec<_> = suite.test_cases.iter().map(kind).collect();
        assert_eq!(kinds, [None, None, Some(NonSuccessKind::Failure)]);
        assert!(matches!(
            suite.test_cases[1].status,
            TestCaseStatus::Skipped { .. }
        ));
        let shown = suite.test_cases[2].system_err.as_ref().unwrap();
        assert!(shown.as_str().contains("next"), "{}", shown.as_str());
    }

    #[test]
    fn what_could_not_run_is_an_error_and_what_failed_a_failure() {
        let of = |outcome| kind(&suite(&outcome, "").test_cases[0]);
        let timeout = Outcome::Timeout(Duration::from_secs(1), None);
        assert_eq!(of(timeout), Some(NonSuccessKind::Failure));
        assert_eq!(of(Outcome::Exited(3)), Some(NonSuccessKind::Failure));
        let panic = Outcome::Panic("oh no".into());
        assert_eq!(of(panic), Some(NonSuccessKind::Failure));
        let error = Outcome::VmmError("no kernel".into());
        assert_eq!(of(error), Some(NonSuccessKind::Error));
        assert_eq!(of(Outcome::Quit), Some(NonSuccessKind::Error));
    }

    #[test]
    fn a_kernel_that_did_not_run_has_no_case() {
        let (subject, splats) = (Subject::default(), Splats::default());
        let error = Outcome::VmmError("no kernel".into());
        let xml = xml(&subject, &error, Timings::default(), &splats, "");
        let report = Report::deserialize(&xml[..]).unwrap();
        assert_eq!(report.test_suites[0].test_cases.len(), 1);
    }

    #[test]
    fn only_such_a_document_gives_its_place_to_one_unasked() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("junit.xml");
        assert!(may_replace(&path));
        let (subject, splats) = (Subject::default(), Splats::default());
        let ours = xml(&subject, &Outcome::Quit, Timings::default(), &splats, "");
        for (contents, expected) in [(&b""[..], true), (&ours, true), (b"notes", false)] {
            fs::write(&path, contents).unwrap();
            assert_eq!(may_replace(&path), expected);
        }
    }
}
