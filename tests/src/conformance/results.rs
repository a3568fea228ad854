//! What came out: differences, and a table.

use std::fmt::Write;

use super::known;
use super::mode::{MODES, Mode, User};
use super::run::{Outcome, Outcomes};

/// One suite for one user on one file system.
#[derive(Debug)]
pub struct Result {
    /// The suite.
    pub suite: &'static str,
    /// Below the share.
    pub backend: &'static str,
    /// By whom.
    pub user: User,
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

impl Result {
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
                .and_then(|outcome| known::reason(self.suite, case, mode, *outcome)),
        });
        differences
            .filter(|difference| difference.control != difference.share)
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

/// All results, as a page.
#[must_use]
pub fn markdown(results: &[Result]) -> String {
    let mut page = String::from(HEAD);
    row(
        &mut page,
        &mut ["suite", "below", "as", "host"]
            .into_iter()
            .map(str::to_owned)
            .chain(MODES.iter().map(|mode| format!("`{mode}`"))),
    );
    row(
        &mut page,
        &mut (0..4 + MODES.len()).map(|_| "---".to_owned()),
    );
    for result in results {
        let first = [result.suite, result.backend];
        let mut cells: Vec<String> = first.map(str::to_owned).to_vec();
        cells.push(result.user.to_string());
        cells.push(counts(&result.control));
        for mode in MODES {
            let share = result.shares.iter().find(|(other, _)| other == mode);
            cells.push(share.map_or_else(String::new, |(mode, share)| {
                cell(share, &result.differences(*mode, share))
            }));
        }
        row(&mut page, &mut cells.into_iter());
    }
    let mut unknown = String::new();
    for result in results {
        for (mode, difference) in result.unknown() {
            let _ = writeln!(unknown, "* {}", sentence(result, mode, &difference));
        }
    }
    if !unknown.is_empty() {
        let _ = write!(page, "\n## Differences without a reason\n\n{unknown}");
    }
    page.push_str("\n## Differences and their reasons\n\n");
    row(
        &mut page,
        &mut ["suite", "case", "under", "is", "because"]
            .into_iter()
            .map(str::to_owned),
    );
    row(&mut page, &mut (0..5).map(|_| "---".to_owned()));
    for known in known::KNOWN {
        let caches = match known.caches {
            [] => "every policy".to_owned(),
            caches => caches
                .iter()
                .map(|cache| format!("`{cache}`"))
                .collect::<Vec<_>>()
                .join(", "),
        };
        let cells = [
            known.suite.to_owned(),
            format!("`{}`", known.case),
            caches,
            word(Some(known.outcome)).to_owned(),
            known.reason.to_owned(),
        ];
        row(&mut page, &mut cells.into_iter());
    }
    page
}

const HEAD: &str = "\
# What suites of others say about a share

Made by `make conformance`. Each suite is run on a directory of the host, as the
control, and on a share of it that the host's kernel mounts (`serve`), in every
cache mode. A cell has the cases that passed, `s` those that could not be tried,
`f` those that failed on the host, too, and `d` those that differ; a difference
with a reason is in the second table, one without fails the run.

";

/// One difference in words.
#[must_use]
pub fn sentence(result: &Result, mode: Mode, difference: &Difference) -> String {
    format!(
        "{} {} on {} as {}, cache={mode}: {} on the host, {} on the share",
        result.suite,
        difference.case,
        result.backend,
        result.user,
        word(difference.control),
        word(difference.share)
    )
}

fn word(outcome: Option<Outcome>) -> &'static str {
    match outcome {
        Some(Outcome::Pass) => "passed",
        Some(Outcome::Skip) => "skipped",
        Some(Outcome::Fail) => "failed",
        None => "not reached",
    }
}

fn row(page: &mut String, cells: &mut dyn Iterator<Item = String>) {
    for cell in cells {
        let _ = write!(page, "| {cell} ");
    }
    page.push_str("|\n");
}

fn counts(outcomes: &Outcomes) -> String {
    let count = |wanted| {
        outcomes
            .values()
            .filter(|outcome| **outcome == wanted)
            .count()
    };
    let mut text = count(Outcome::Pass).to_string();
    for (outcome, letter) in [(Outcome::Skip, 's'), (Outcome::Fail, 'f')] {
        match count(outcome) {
            0 => {}
            number => {
                let _ = write!(text, " {number}{letter}");
            }
        }
    }
    text
}

fn cell(share: &Outcomes, differences: &[Difference]) -> String {
    let mut text = counts(share);
    let unknown = differences
        .iter()
        .filter(|difference| difference.reason.is_none());
    match (differences.len(), unknown.count()) {
        (0, _) => {}
        (number, 0) => {
            let _ = write!(text, ", {number}d");
        }
        (number, _) => {
            let _ = write!(text, ", **{number}d**");
        }
    }
    text
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

    fn result(share: &[(&str, Outcome)]) -> Result {
        Result {
            suite: "sqlite3",
            backend: "ext4",
            user: User::Root,
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
        assert!(markdown(&[same]).contains("| 2 1f | 2 1f |"));
    }

    #[test]
    fn a_known_difference_passes_and_another_does_not() {
        let known = result(&[
            ("rollback", Outcome::Pass),
            ("wal", Outcome::Fail),
            ("broken", Outcome::Fail),
        ]);
        assert!(known.unknown().is_empty());
        assert!(markdown(&[known]).contains("1 2f, 1d |"));
        let unknown = result(&[("rollback", Outcome::Fail), ("wal", Outcome::Pass)]);
        let names: Vec<_> = unknown
            .unknown()
            .into_iter()
            .map(|(_, one)| one.case)
            .collect();
        assert_eq!(names, ["broken", "rollback"]);
        let page = markdown(&[unknown]);
        assert!(page.contains("**2d**"), "{page}");
        assert!(
            page.contains("broken on ext4 as root, cache=never: failed on the host, not reached")
        );
    }
}
