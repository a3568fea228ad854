//! What came out, and what differs.

use super::known::{self, Linux};
use super::mode::{Mode, Owners, User};
use super::run::{Outcome, Outcomes};

/// One suite for one user on one file system.
#[derive(Debug)]
pub struct SuiteResult {
    /// The suite.
    pub suite: &'static str,
    /// Below the share.
    pub backend: &'static str,
    /// By whom.
    pub user: User,
    /// Who serves the share.
    pub owners: Owners,
    /// The version that mounts the share.
    pub linux: Linux,
    /// On the host's own directory.
    pub control: Outcomes,
    /// On the share.
    pub shares: Vec<(Mode, Outcomes)>,
}

/// A case that ended otherwise on the share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which.
    pub case: String,
    /// On the host.
    pub control: Option<Outcome>,
    /// On the share.
    pub share: Option<Outcome>,
    /// Why, if that is known.
    pub reason: Option<&'static str>,
}

impl SuiteResult {
    /// What differs in `mode`.
    #[must_use]
    pub fn differences(&self, mode: Mode, share: &Outcomes) -> Vec<Difference> {
        let names = self.control.keys().chain(share.keys());
        let mut names: Vec<&String> = names.collect();
        names.sort();
        names.dedup();
        let differences = names.into_iter().map(|case| Difference {
            case: case.clone(),
            control: self.control.get(case).copied(),
            share: share.get(case).copied(),
            reason: share
                .get(case)
                .and_then(|outcome| known::reason(self.linux, self.suite, case, mode, *outcome)),
        });
        differences
            .filter(|difference| difference.control != difference.share)
            // Where the host itself fails, the case says nothing of the share.
            .filter(|difference| {
                let outcomes = (difference.control, difference.share);
                outcomes != (Some(Outcome::Fail), Some(Outcome::Pass))
            })
            .collect()
    }

    /// The differences that nobody knows a reason for.
    #[must_use]
    pub fn unknown(&self) -> Vec<(Mode, Difference)> {
        let mut unknown = Vec::new();
        for (mode, share) in &self.shares {
            let differences = self.differences(*mode, share);
            let differences = differences.into_iter();
            unknown.extend(
                differences
                    .filter(|difference| difference.reason.is_none())
                    .map(|difference| (*mode, difference)),
            );
        }
        unknown
    }
}

/// One difference in words.
#[must_use]
pub fn sentence(result: &SuiteResult, mode: Mode, difference: &Difference) -> String {
    format!(
        "{} {} on {} as {}, owners={},cache={mode}: {} on the host, {} on the share",
        result.suite,
        difference.case,
        result.backend,
        result.user,
        result.owners,
        word(difference.control),
        word(difference.share)
    )
}

/// An outcome in a word.
#[must_use]
pub fn word(outcome: Option<Outcome>) -> &'static str {
    match outcome {
        Some(Outcome::Pass) => "passed",
        Some(Outcome::Skip) => "skipped",
        Some(Outcome::Fail) => "failed",
        None => "not reached",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn outcomes(list: &[(&str, Outcome)]) -> Outcomes {
        let pairs = list
            .iter()
            .map(|(name, outcome)| ((*name).to_owned(), *outcome));
        pairs.collect()
    }

    fn result(share: &[(&str, Outcome)]) -> SuiteResult {
        SuiteResult {
            suite: "sqlite3",
            backend: "ext4",
            user: User::Root,
            owners: Owners::Host,
            linux: (6, 12),
            control: outcomes(&[
                ("rollback", Outcome::Pass),
                ("wal", Outcome::Pass),
                ("broken", Outcome::Fail),
            ]),
            shares: vec![(Mode::named("never").unwrap(), outcomes(share))],
        }
    }

    #[test]
    fn what_fails_on_the_host_too_is_no_difference() {
        let same = result(&[
            ("rollback", Outcome::Pass),
            ("wal", Outcome::Pass),
            ("broken", Outcome::Fail),
        ]);
        assert!(same.unknown().is_empty());
        let better = result(&[
            ("rollback", Outcome::Pass),
            ("wal", Outcome::Pass),
            ("broken", Outcome::Pass),
        ]);
        assert!(better.unknown().is_empty());
    }

    #[test]
    fn a_known_difference_passes_and_another_does_not() {
        let case = "link::link_count_max";
        let mut known = result(&[
            ("rollback", Outcome::Pass),
            ("wal", Outcome::Pass),
            ("broken", Outcome::Fail),
            (case, Outcome::Skip),
        ]);
        known.suite = "pjdfstest";
        known.control.extend(outcomes(&[(case, Outcome::Pass)]));
        assert!(known.unknown().is_empty());
        let (mode, share) = &known.shares[0];
        assert_eq!(known.differences(*mode, share).len(), 1);
        let unknown = result(&[("rollback", Outcome::Fail), ("wal", Outcome::Pass)]);
        let found = unknown.unknown();
        let names: Vec<_> = found.iter().map(|(_, one)| one.case.as_str()).collect();
        assert_eq!(names, ["broken", "rollback"]);
        let (mode, first) = &found[0];
        assert_eq!(
            sentence(&unknown, *mode, first),
            "sqlite3 broken on ext4 as root, owners=host,cache=never: failed on the host, not reached on the \
             share"
        );
    }
}
