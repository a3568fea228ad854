//! The runs that are kept, for the trend: a file for each, the newest ones only.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::record::{Numbers, SCHEMA};
use super::source::Source;

/// How many are kept.
const KEPT: usize = 100;

/// A run of all operations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// [`SCHEMA`].
    pub schema: u32,
    /// When it ended, in seconds since 1970.
    pub time: u64,
    /// The commit, with `-dirty` behind it where files differ.
    pub revision: String,
    /// What compiled it.
    pub compiler: String,
    /// By source, and by the name of the operation.
    pub sources: BTreeMap<Source, BTreeMap<String, Numbers>>,
}

impl Run {
    /// One that ends now.
    #[must_use]
    pub fn now(
        revision: &str,
        compiler: &str,
        sources: BTreeMap<Source, BTreeMap<String, Numbers>>,
    ) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            schema: SCHEMA,
            time: since.unwrap_or_default().as_secs(),
            revision: revision.to_owned(),
            compiler: compiler.to_owned(),
            sources,
        }
    }
}

/// Keeps a run in `directory`, and drops the oldest ones beyond a hundred.
///
/// # Errors
///
/// When it cannot be written.
pub fn keep(directory: &Path, run: &Run) -> Result<()> {
    let what = || format!("cannot keep the run in {}", directory.display());
    fs::create_dir_all(directory).with_context(what)?;
    let revision = run
        .revision
        .replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let path = directory.join(format!("{:012}-{revision}.json", run.time));
    let half = directory.join(format!(".{}", std::process::id()));
    let text = serde_json::to_vec(run)?;
    // A reader sees all of it or nothing.
    (fs::write(&half, text).and_then(|()| fs::rename(&half, path))).with_context(what)?;
    let names = names(directory)?;
    let surplus = names.len().saturating_sub(KEPT);
    for name in names.iter().take(surplus) {
        let _ = fs::remove_file(name);
    }
    Ok(())
}

/// Those that are kept, the oldest first. What is no run of this schema is left out.
///
/// # Errors
///
/// When the directory is there and cannot be read.
pub fn kept(directory: &Path) -> Result<Vec<Run>> {
    let read = |path: &PathBuf| serde_json::from_slice::<Run>(&fs::read(path).ok()?).ok();
    let runs = names(directory)?
        .iter()
        .filter_map(read)
        .collect::<Vec<_>>();
    Ok((runs.into_iter())
        .filter(|run| run.schema == SCHEMA)
        .collect())
}

/// The files, the oldest first: their names begin with the time.
fn names(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("cannot read {}", directory.display()))?,
    };
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let mut names: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::metric::Metric;
    use super::*;

    fn run(time: u64, instructions: f64) -> Run {
        let numbers = Numbers::from([(Metric::Instructions, instructions)]);
        let operations = BTreeMap::from([("read".to_owned(), numbers)]);
        Run {
            time,
            ..Run::now(
                "abc/..-dirty",
                "rustc",
                BTreeMap::from([(Source::Lab, operations)]),
            )
        }
    }

    #[test]
    fn what_is_kept_comes_back_in_its_order() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("runs");
        assert_eq!(kept(&directory).unwrap(), []);
        let (first, second) = (run(9, 100.0), run(10, 101.0));
        keep(&directory, &second).unwrap();
        keep(&directory, &first).unwrap();
        assert_eq!(kept(&directory).unwrap(), [first, second]);
    }

    #[test]
    fn what_is_no_run_is_left_out() {
        let place = tempfile::tempdir().unwrap();
        let other = Run {
            schema: SCHEMA + 1,
            ..run(1, 1.0)
        };
        keep(place.path(), &other).unwrap();
        fs::write(place.path().join("2.json"), "{").unwrap();
        fs::write(place.path().join("note"), "").unwrap();
        assert_eq!(kept(place.path()).unwrap(), []);
    }

    #[test]
    fn the_oldest_go() {
        let place = tempfile::tempdir().unwrap();
        for time in 0..KEPT as u64 + 5 {
            keep(place.path(), &run(time, 1.0)).unwrap();
        }
        let kept = kept(place.path()).unwrap();
        assert_eq!((kept.len(), kept[0].time), (KEPT, 5));
    }
}
