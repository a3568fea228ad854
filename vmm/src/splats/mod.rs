//! Splats: what a kernel reports of its own bugs, such as an oops or a
//! `WARN`. Found on its console, and in what it says of itself being tainted.

mod heads;
mod scanner;
mod taint;

use clap::ValueEnum;
use regex::Regex;
use serde::Serialize;

pub(crate) use heads::{Kind, Severity};
pub(crate) use scanner::{Line, Scanner};

/// Which splats make a run fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum FailOn {
    /// What has done damage, or keeps the kernel from going on
    #[default]
    Oops,
    /// Every one
    Warn,
    /// None
    Never,
}

impl FailOn {
    /// As the command line has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Oops => "oops",
            Self::Warn => "warn",
            Self::Never => "never",
        }
    }
}

/// What is expected of a kernel.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policy {
    pub(crate) fail_on: FailOn,
    /// Splats that are expected: these are found in one of their texts.
    pub(crate) allow: Vec<Regex>,
}

impl Policy {
    fn allows(&self, splat: &Splat) -> bool {
        let matches = |text: &str| self.allow.iter().any(|pattern| pattern.is_match(text));
        splat.texts().any(matches)
    }

    fn counts(&self, severity: Severity) -> bool {
        match self.fail_on {
            FailOn::Warn => true,
            FailOn::Oops => severity >= Severity::Hang,
            FailOn::Never => false,
        }
    }
}

/// One report of the kernel's. The words are the guest's, made printable.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Splat {
    pub(crate) kind: Kind,
    /// As it turned out: a warning that makes the kernel panic is more.
    pub(crate) severity: Severity,
    /// Its first line, without the time.
    pub(crate) line: String,
    /// What the code says about it, where it does.
    pub(crate) message: Option<String>,
    /// The function, where the processor's registers show it.
    pub(crate) location: Option<String>,
    /// The kernel's time in seconds, if it says it.
    pub(crate) time: Option<f64>,
    /// It is expected.
    pub(crate) allowed: bool,
    /// It and what follows, as the console shows it.
    #[serde(skip)]
    lines: Vec<String>,
}

impl Splat {
    fn texts(&self) -> impl Iterator<Item = &str> {
        let more = [&self.message, &self.location];
        std::iter::once(self.line.as_str()).chain(more.into_iter().flatten().map(String::as_str))
    }

    /// It and what follows, as the console shows it.
    pub(crate) fn lines(&self) -> &[String] {
        &self.lines
    }

    /// All that it says of itself on one line.
    pub(crate) fn summary(&self) -> String {
        self.texts().collect::<Vec<_>>().join(": ")
    }
}

/// The splats of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Splats {
    policy: Policy,
    /// In the order in which they came, up to a limit.
    list: Vec<Splat>,
    /// Those beyond the limit that make the run fail.
    beyond: u64,
    taint: Option<u64>,
}

impl Splats {
    /// These, and what `taint` (`/proc/sys/kernel/tainted`) says of others
    /// that the console does not show.
    #[must_use]
    pub(crate) fn with_taint(mut self, taint: Option<u64>) -> Self {
        self.taint = taint;
        let unseen = taint.and_then(|bits| taint::unexplained(bits, &self.list));
        if let Some(mut splat) = unseen {
            splat.allowed = self.policy.allows(&splat);
            self.list.push(splat);
        }
        self
    }

    /// All that were found, but for those beyond the limit.
    pub(crate) fn list(&self) -> &[Splat] {
        &self.list
    }

    /// The bits of `/proc/sys/kernel/tainted`, if the guest said them.
    pub(crate) fn taint(&self) -> Option<u64> {
        self.taint
    }

    /// Whether this one makes the run fail.
    pub(crate) fn is_failure(&self, splat: &Splat) -> bool {
        !splat.allowed && self.policy.counts(splat.severity)
    }

    /// What makes the run fail, on one line; `None` if nothing does.
    #[must_use]
    pub(crate) fn failure(&self) -> Option<String> {
        let mut failing = self.list.iter().filter(|splat| self.is_failure(splat));
        let first = failing.next().map(Splat::summary);
        let count = u64::from(first.is_some()) + failing.count() as u64 + self.beyond;
        match (count, first) {
            (0, _) => None,
            (1, Some(first)) => Some(first),
            (count, Some(first)) => Some(format!("{first} (and {} more)", count - 1)),
            (count, None) => Some(format!("{count} splats after many that are allowed")),
        }
    }

    /// Up to `most` lines of the console, from the first splat on that counts,
    /// or else from the first; empty without any.
    #[must_use]
    pub(crate) fn excerpt(&self, most: usize) -> Vec<&str> {
        let unexpected = |splat: &Splat| !splat.allowed && !splat.lines.is_empty();
        let grave =
            |splat: &Splat| splat.severity >= Severity::Hang || self.policy.counts(splat.severity);
        let first = self
            .list
            .iter()
            .position(|splat| unexpected(splat) && grave(splat))
            .or_else(|| self.list.iter().position(unexpected));
        let from = first.and_then(|first| self.list.get(first..));
        from.unwrap_or_default()
            .iter()
            .flat_map(|splat| splat.lines.iter().map(String::as_str))
            .take(most)
            .collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
