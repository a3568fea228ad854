//! The page of results, and the file behind it, in which a run replaces what it
//! ran again.

use std::fmt::Write;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::backend::BACKENDS;
use super::known::KNOWN;
use super::mode::{MODES, Owners, USERS};
use super::results::{self, sentence, word};
use super::run::{Outcome, Outcomes};
use super::suite::SUITES;

/// What the control is called in place of a mode.
const HOST: &str = "host";

/// One suite in one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    suite: String,
    backend: String,
    user: String,
    #[serde(default = "host")]
    owners: String,
    mode: String,
    passed: usize,
    skipped: usize,
    failed: usize,
    /// Cases that differ from the control and have a reason.
    different: usize,
    /// Those that have none, in words.
    unknown: Vec<String>,
}

/// Whose the owners were before there was a choice.
fn host() -> String {
    Owners::Host.to_string()
}

impl Run {
    fn key(&self) -> [&str; 5] {
        [
            &self.suite,
            &self.backend,
            &self.user,
            &self.owners,
            &self.mode,
        ]
    }

    fn cell(&self) -> String {
        let mut text = self.passed.to_string();
        for (count, letter) in [
            (self.skipped, 's'),
            (self.failed, 'f'),
            (self.different, 'd'),
        ] {
            if count > 0 {
                let _ = write!(text, " {count}{letter}");
            }
        }
        if !self.unknown.is_empty() {
            let _ = write!(text, " **{}u**", self.unknown.len());
        }
        text
    }
}

/// Writes `results` to the page at `path`, and to a file of the same name that
/// ends in `.json`; what was not run stays as it was.
///
/// # Errors
///
/// When one cannot be read or written.
pub fn update(path: &Path, results: &[results::SuiteResult]) -> Result<()> {
    let file = path.with_extension("json");
    let mut runs: Vec<Run> = match fs::read(&file) {
        Ok(text) => serde_json::from_slice(&text)
            .with_context(|| format!("{} has other results", file.display()))?,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", file.display()));
        }
    };
    merge(&mut runs, results);
    let mut text = serde_json::to_string_pretty(&runs)?;
    text.push('\n');
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    fs::write(path, page(&runs)).with_context(|| format!("cannot write {}", path.display()))
}

fn merge(runs: &mut Vec<Run>, results: &[results::SuiteResult]) {
    for result in results {
        let mut new = vec![run(result, HOST, &result.control, 0, Vec::new())];
        for (mode, share) in &result.shares {
            let differences = result.differences(*mode, share);
            let unknown: Vec<_> = differences
                .iter()
                .filter(|difference| difference.reason.is_none())
                .map(|difference| sentence(result, *mode, difference))
                .collect();
            let known = differences.len() - unknown.len();
            new.push(run(result, &mode.to_string(), share, known, unknown));
        }
        for one in new {
            runs.retain(|old| old.key() != one.key());
            runs.push(one);
        }
    }
    runs.sort_by_key(|run| run.key().map(str::to_owned));
}

fn run(
    result: &results::SuiteResult,
    mode: &str,
    outcomes: &Outcomes,
    different: usize,
    unknown: Vec<String>,
) -> Run {
    let count = |wanted| {
        let all = outcomes.values();
        all.filter(|outcome| **outcome == wanted).count()
    };
    Run {
        suite: result.suite.to_owned(),
        backend: result.backend.to_owned(),
        user: result.user.to_string(),
        owners: result.owners.to_string(),
        mode: mode.to_owned(),
        passed: count(Outcome::Pass),
        skipped: count(Outcome::Skip),
        failed: count(Outcome::Fail),
        different,
        unknown,
    }
}

const HEAD: &str = "\
# What suites of others say about a share

Made by `make conformance`. Each suite is run on a directory of the host, as the
control, and on a share of it that the host's kernel mounts (`serve`), in every
cache mode. Root serves the host's owners, and an ordinary user with `owners=map` and
`xattr`. A cell has the cases that passed, `s` those that could not be tried,
`f` those that failed, `d` those that differ from the host for a reason, which
the second table has, and `u` those that differ without one, which fails the
run. An empty cell was not run yet.

";

fn page(runs: &[Run]) -> String {
    let mut page = String::from(HEAD);
    let modes: Vec<String> = MODES.iter().map(ToString::to_string).collect();
    let columns = ["suite", "below", "as", "owners", HOST].map(str::to_owned);
    table_head(
        &mut page,
        columns
            .into_iter()
            .chain(modes.iter().map(|mode| format!("`{mode}`"))),
    );
    for suite in SUITES {
        for backend in BACKENDS {
            for user in USERS.iter().filter(|user| suite.users.contains(user)) {
                for owners in suite.owners(*user) {
                    let (user, owners) = (user.to_string(), owners.to_string());
                    let key = [suite.name, backend.name, &user, &owners];
                    table_row(&mut page, runs, key, &modes);
                }
            }
        }
    }
    let unknown: Vec<&String> = runs.iter().flat_map(|run| &run.unknown).collect();
    if !unknown.is_empty() {
        page.push_str("\n## Differences without a reason\n\n");
        for sentence in unknown {
            let _ = writeln!(page, "* {sentence}");
        }
    }
    page.push_str("\n## Differences and their reasons\n\n");
    let columns = ["suite", "case", "under", "it is", "because"];
    table_head(&mut page, columns.into_iter().map(str::to_owned));
    for known in KNOWN {
        let caches = match known.caches {
            [] => "every policy".to_owned(),
            caches => {
                let quoted: Vec<String> = caches.iter().map(|one| format!("`{one}`")).collect();
                quoted.join(", ")
            }
        };
        let hosts = (known.before).map(|(major, minor)| format!(", before Linux {major}.{minor}"));
        let cells = [
            known.suite.to_owned(),
            format!("`{}`", known.case),
            caches + &hosts.unwrap_or_default(),
            word(Some(known.outcome)).to_owned(),
            known.reason.to_owned(),
        ];
        row(&mut page, cells.into_iter());
    }
    page
}

/// The row of one suite in one place.
fn table_row(page: &mut String, runs: &[Run], key: [&str; 4], modes: &[String]) {
    let [suite, backend, user, owners] = key;
    let find = |mode: &str| {
        let key = [suite, backend, user, owners, mode];
        let run = runs.iter().find(|run| run.key() == key);
        run.map_or_else(String::new, Run::cell)
    };
    let columns = [HOST].into_iter().chain(modes.iter().map(String::as_str));
    let cells = key.map(str::to_owned).into_iter();
    row(page, cells.chain(columns.map(find)));
}

fn table_head(page: &mut String, cells: impl Iterator<Item = String>) {
    let cells: Vec<String> = cells.collect();
    let rule = vec!["---".to_owned(); cells.len()];
    row(page, cells.into_iter());
    row(page, rule.into_iter());
}

fn row(page: &mut String, cells: impl Iterator<Item = String>) {
    for cell in cells {
        let _ = write!(page, "| {cell} ");
    }
    page.push_str("|\n");
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::mode::{Mode, User};
    use super::*;

    fn result(modes: &[&str], share: Outcome) -> results::SuiteResult {
        let outcomes = |outcome| Outcomes::from([("rollback".to_owned(), outcome)]);
        let modes = modes.iter().map(|mode| Mode::named(mode).unwrap());
        results::SuiteResult {
            suite: "sqlite3",
            backend: "ext4",
            user: User::Root,
            owners: Owners::Host,
            linux: (6, 12),
            control: outcomes(Outcome::Pass),
            shares: modes.map(|mode| (mode, outcomes(share))).collect(),
        }
    }

    #[test]
    fn a_run_replaces_what_it_ran_again() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("results.md");
        update(&path, &[result(&["never", "auto"], Outcome::Fail)]).unwrap();
        let page = fs::read_to_string(&path).unwrap();
        assert!(
            page.contains("| sqlite3 | ext4 | root | host | 1 | 0 1f **1u** |  | 0 1f **1u** |")
        );
        assert!(page.contains("without a reason"));
        update(&path, &[result(&["auto"], Outcome::Pass)]).unwrap();
        let page = fs::read_to_string(&path).unwrap();
        assert!(
            page.contains("| sqlite3 | ext4 | root | host | 1 | 0 1f **1u** |  | 1 |"),
            "{page}"
        );
        fs::write(path.with_extension("json"), "{}").unwrap();
        assert!(update(&path, &[]).is_err());
    }
}
