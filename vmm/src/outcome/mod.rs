//! How a run ended, and the exit status that says so.
//!
//! | status | meaning |
//! | --- | --- |
//! | 0..=255 | the command's own |
//! | 0 | without a command: the guest powered off, restarted or halted |
//! | 128 + n | the command was ended by signal n, or `vmm` was told to stop by it |
//! | 124 | the time was up (`--timeout`) |
//! | 125 | `vmm` could not set up or run the machine or deliver what the command wrote, or the guest's init could not prepare the guest |
//! | 126 | the command cannot be executed |
//! | 127 | the command was not found |
//! | 130 | the user typed Ctrl-A x, or killed the guest in gdb |
//! | 254 | all of that went well, but the guest's kernel had a splat (`--fail-on`) |
//! | 255 | the guest panicked or crashed, or ended before its command did |
//!
//! The meanings overlap, since a command may exit with any of these numbers;
//! `--report` has the outcome by name.

pub(crate) mod junit;
pub(crate) mod line;
pub(crate) mod metrics;
pub(crate) mod notes;
pub(crate) mod output_file;
pub(crate) mod refusal;
pub(crate) mod report;
pub(crate) mod standing;

use std::time::Duration;

use guest_init::protocol::Status;
use rustix::io::Errno;

use standing::Standing;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Exited(u8),
    Signaled(u8),
    /// The command cannot be executed; why.
    CannotExecute(String),
    NotFound(String),
    /// The guest's init could not prepare the guest; why.
    SetupFailed(String),
    /// The guest ended by itself in a run without a command: powered off.
    PoweredOff,
    /// The guest ended by itself in a run without a command: restarted.
    Restarted,
    /// The guest ended by itself in a run without a command: halted.
    Halted,
    /// The time was up; what is known of the guest then.
    Timeout(Duration, Option<Standing>),
    /// `vmm` was told to stop by this signal, and how its command ended that
    /// was told, too.
    Interrupted(i32, Option<Status>),
    /// The user typed the escape, Ctrl-A x, or killed the guest in gdb.
    Quit,
    /// All else went well, but the guest's kernel reported a bug of its own.
    Splat(String),
    /// The guest's kernel panicked; its message.
    Panic(String),
    /// The guest ended without a report; what is known about it.
    Died(String),
    /// `vmm` could not set up or run the machine, or deliver what was written;
    /// why.
    VmmError(String),
}

impl Outcome {
    #[must_use]
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Exited(code) => *code,
            Self::Signaled(signal) => 128_u8.saturating_add(*signal),
            Self::PoweredOff | Self::Restarted | Self::Halted => 0,
            Self::Timeout(..) => 124,
            Self::SetupFailed(_) | Self::VmmError(_) => 125,
            Self::CannotExecute(_) => 126,
            Self::NotFound(_) => 127,
            Self::Interrupted(signal, _) => {
                128_u8.saturating_add(u8::try_from(*signal).unwrap_or(u8::MAX))
            }
            // The escape is the interactive machine's SIGINT.
            Self::Quit => 130,
            Self::Splat(_) => 254,
            Self::Panic(_) | Self::Died(_) => 255,
        }
    }

    /// The name in the report.
    #[must_use]
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Exited(_) => "exited",
            Self::Signaled(_) => "signaled",
            Self::CannotExecute(_) => "cannot-execute",
            Self::NotFound(_) => "not-found",
            Self::SetupFailed(_) => "setup-failed",
            Self::PoweredOff => "powered-off",
            Self::Restarted => "restarted",
            Self::Halted => "halted",
            Self::Timeout(..) => "timeout",
            Self::Interrupted(..) => "interrupted",
            Self::Quit => "quit",
            Self::Splat(_) => "splat",
            Self::Panic(_) => "panic",
            Self::Died(_) => "died",
            Self::VmmError(_) => "vmm-error",
        }
    }

    /// What to tell the user, where the status alone does not say it.
    #[must_use]
    pub(crate) fn message(&self) -> Option<String> {
        match self {
            Self::Exited(_)
            | Self::Signaled(_)
            | Self::PoweredOff
            | Self::Restarted
            | Self::Halted
            | Self::Quit => None,
            Self::CannotExecute(message) | Self::NotFound(message) | Self::VmmError(message) => {
                Some(message.clone())
            }
            Self::SetupFailed(message) => Some(format!("the guest could not be set up: {message}")),
            Self::Timeout(limit, standing) => {
                let advice = (standing.as_ref()).map_or_else(String::new, |standing| {
                    format!(": {}", standing.advice(*limit))
                });
                let limit = humantime::format_duration(*limit);
                Some(format!("the guest did not end within {limit}{advice}"))
            }
            Self::Interrupted(signal, status) => {
                let command = match status {
                    Some(Status::Exited { code }) => {
                        format!("; COMMAND itself ended with status {code}")
                    }
                    Some(Status::Signaled { signal }) => {
                        format!("; COMMAND itself was ended by signal {signal}")
                    }
                    _ => String::new(),
                };
                Some(format!("stopped by signal {signal}{command}"))
            }
            Self::Splat(message) => Some(format!(
                "all else went well, but the guest's kernel reported a bug: {message} \
                 (--allow-splat and --fail-on say what is expected)"
            )),
            Self::Panic(message) => Some(format!("the guest's kernel panicked: {message}")),
            Self::Died(message) => Some(format!("the guest ended without a report: {message}")),
        }
    }

    /// Tells the user what the status alone does not say.
    pub(crate) fn tell(&self) {
        if let Some(message) = self.message() {
            line::tell(&format!("vmm: error: {message}"));
        }
    }

    /// Whether the end of the kernel's console helps to understand it.
    #[must_use]
    pub(crate) fn wants_console(&self) -> bool {
        matches!(
            self,
            Self::SetupFailed(_)
                | Self::Timeout(..)
                | Self::Splat(_)
                | Self::Panic(_)
                | Self::Died(_)
                | Self::VmmError(_)
        )
    }
}

impl Outcome {
    /// This outcome; of a guest whose time was up with what is known of it.
    #[must_use]
    pub(crate) fn with_standing(self, standing: Option<Standing>) -> Self {
        match self {
            Self::Timeout(limit, _) => Self::Timeout(limit, standing),
            outcome => outcome,
        }
    }

    /// This outcome, unless it is a success and the guest's kernel had a
    /// `splat`.
    #[must_use]
    pub(crate) fn unless_splat(self, splat: Option<String>) -> Self {
        match splat {
            Some(splat) if self.code() == 0 => Self::Splat(splat),
            _ => self,
        }
    }

    /// This outcome, unless some of the output is `lost`: then a status of the
    /// guest's would claim that all is there. What went wrong by itself
    /// remains the outcome, and the loss is told beside it.
    #[must_use]
    pub(crate) fn unless_lost(self, lost: &[(&str, Errno)]) -> Self {
        let Some(text) = lost_text(lost) else {
            return self;
        };
        let end = match &self {
            Self::Exited(code) => format!("COMMAND itself ended with status {code}"),
            Self::Signaled(signal) => format!("COMMAND itself was ended by signal {signal}"),
            Self::PoweredOff | Self::Restarted | Self::Halted | Self::Quit => {
                format!("the guest itself ended as it should ({})", self.name())
            }
            _ => {
                line::tell(&format!("vmm: {text}"));
                return self;
            }
        };
        Self::VmmError(format!("{text}; {end}"))
    }
}

/// What is lost, why, and how to mend it.
fn lost_text(lost: &[(&str, Errno)]) -> Option<String> {
    let parts: Vec<_> = lost
        .iter()
        .map(|(name, error)| {
            let advice = match *error {
                Errno::NOSPC | Errno::DQUOT => "make room there or send it elsewhere",
                Errno::FBIG => "raise the limit of file sizes (ulimit -f)",
                _ => "send it elsewhere",
            };
            format!("cannot write all output to {name}: {error}: {advice}")
        })
        .collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

impl From<Status> for Outcome {
    /// The words of the guest are untrusted: they are made printable here.
    fn from(status: Status) -> Self {
        match status {
            Status::Exited { code } => Self::Exited(code),
            Status::Signaled { signal } => Self::Signaled(signal),
            Status::CannotExecute { message } => Self::CannotExecute(line::of_text(&message)),
            Status::NotFound { message } => Self::NotFound(line::of_text(&message)),
            Status::SetupFailed { message } => Self::SetupFailed(line::of_text(&message)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_status_is_as_documented() {
        let limit = Duration::from_secs(1);
        assert_eq!(Outcome::Exited(3).code(), 3);
        assert_eq!(Outcome::Signaled(15).code(), 143);
        assert_eq!(Outcome::Signaled(64).code(), 192);
        assert_eq!(Outcome::Signaled(200).code(), 255);
        assert_eq!(Outcome::Timeout(limit, None).code(), 124);
        assert_eq!(Outcome::VmmError(String::new()).code(), 125);
        assert_eq!(Outcome::SetupFailed(String::new()).code(), 125);
        assert_eq!(Outcome::CannotExecute(String::new()).code(), 126);
        assert_eq!(Outcome::NotFound(String::new()).code(), 127);
        assert_eq!(Outcome::Interrupted(2, None).code(), 130);
        let status = Some(Status::Exited { code: 0 });
        assert_eq!(Outcome::Interrupted(2, status).code(), 130);
        assert_eq!(Outcome::Quit.code(), 130);
        assert_eq!(Outcome::Panic(String::new()).code(), 255);
        assert_eq!(Outcome::Died(String::new()).code(), 255);
        assert_eq!(Outcome::PoweredOff.code(), 0);
        assert_eq!(Outcome::Halted.code(), 0);
    }

    #[test]
    fn the_guests_words_stay_on_one_line_and_off_the_terminal() {
        let outcome = Outcome::from(Status::NotFound {
            message: "a\nb\u{1b}[2J\u{9b}c".into(),
        });
        assert_eq!(outcome, Outcome::NotFound("a b [2J c".into()));
    }

    #[test]
    fn a_status_does_not_stand_for_output_that_is_lost() {
        let lost = [("standard output", Errno::NOSPC)];
        for (outcome, own) in [
            (Outcome::Exited(0), "status 0"),
            (Outcome::Exited(3), "status 3"),
            (Outcome::Signaled(13), "signal 13"),
            (Outcome::PoweredOff, "powered-off"),
        ] {
            assert_eq!(outcome.clone().unless_lost(&[]), outcome);
            let outcome = outcome.unless_lost(&lost);
            assert_eq!((outcome.code(), outcome.name()), (125, "vmm-error"));
            let message = outcome.message().unwrap_or_default();
            for part in ["standard output", "No space left", "make room", own] {
                assert!(message.contains(part), "{message}");
            }
        }
    }

    #[test]
    fn a_splat_fails_what_would_be_a_success() {
        let splat = || Some("BUG: x".to_owned());
        for success in [Outcome::Exited(0), Outcome::PoweredOff, Outcome::Halted] {
            assert_eq!(success.clone().unless_splat(None), success);
            let outcome = success.unless_splat(splat());
            assert_eq!((outcome.code(), outcome.name()), (254, "splat"));
            let message = outcome.message().unwrap_or_default();
            assert!(message.contains("BUG: x") && message.contains("--allow-splat"));
        }
        for failure in [Outcome::Exited(1), Outcome::Quit, Outcome::Signaled(9)] {
            assert_eq!(failure.clone().unless_splat(splat()), failure);
        }
    }

    #[test]
    fn every_loss_is_named() {
        let lost = [
            ("standard error", Errno::IO),
            ("the --console-log", Errno::FBIG),
        ];
        let message = Outcome::Exited(0).unless_lost(&lost).message();
        let message = message.unwrap_or_default();
        for part in ["standard error", "--console-log", "ulimit -f"] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn a_failure_by_itself_remains_the_outcome() {
        let lost = [("standard output", Errno::NOSPC)];
        let timeout = Outcome::Timeout(Duration::from_secs(1), None);
        assert_eq!(timeout.clone().unless_lost(&lost), timeout);
        let message = Outcome::NotFound("no".into());
        assert_eq!(message.clone().unless_lost(&lost), message);
    }

    #[test]
    fn a_timeout_names_its_limit() {
        let limit = Duration::from_secs(90);
        let outcome = Outcome::Timeout(limit, None);
        let message = outcome.message().unwrap_or_default();
        assert!(message.ends_with("within 1m 30s"), "{message}");
        let standing = Standing::default();
        let outcome = outcome.with_standing(Some(standing.clone()));
        let message = outcome.message().unwrap_or_default();
        assert!(message.ends_with(&standing.advice(limit)), "{message}");
        let other = Outcome::Exited(0).with_standing(Some(standing));
        assert_eq!(other, Outcome::Exited(0));
    }
}
