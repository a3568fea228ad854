//! The results of a run, as JSON.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::metric::Metric;
use super::source::Source;

/// Goes up when a reader of an earlier file would misunderstand one.
pub const SCHEMA: u32 = 2;

/// A run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The worst of the sources' verdicts.
    pub verdict: &'static str,
    /// What was measured, and how.
    pub sources: Vec<Record>,
}

/// What one source measured, and what that was compared to.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// Where the numbers come from.
    pub source: Source,
    /// What is between what asks and the host's files.
    pub host_path: &'static str,
    /// What a number of each metric is.
    pub units: BTreeMap<Metric, &'static str>,
    /// Rounds that the numbers are the mean of, where those are the same for all.
    pub rounds: Option<u64>,
    /// What counted, what compiled, and the guest's kernel.
    pub tools: BTreeMap<&'static str, String>,
    /// `none`, `regression` or `inconclusive`.
    pub verdict: &'static str,
    /// What was measured.
    pub measured: Side,
    /// What it was compared to, with `BASE=` only.
    pub base: Option<Side>,
    /// Another VMM that did the same, with `PEER=yes` only.
    pub peer: Option<Side>,
    /// How long requests took, by operation: in the lab only.
    pub latencies_us_log2: BTreeMap<String, Latencies>,
}

/// The numbers of one revision.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Side {
    /// The commit, with `-dirty` behind it where files differ; of a peer its version.
    pub revision: String,
    /// By the name of the operation.
    pub operations: BTreeMap<String, Numbers>,
}

/// By the name of a FUSE operation, how many requests took less than a microsecond, less
/// than 2, 4, 8 and so on.
pub type Latencies = BTreeMap<String, Vec<u64>>;

/// The numbers of one operation, each for a round.
pub type Numbers = BTreeMap<Metric, f64>;

impl Record {
    /// What `source` measured, compared to nothing so far.
    #[must_use]
    pub fn of(source: Source, measured: Side) -> Self {
        let metrics = source.metrics().iter();
        Self {
            source,
            host_path: source.host_path(),
            units: metrics
                .map(|metric| (*metric, source.unit(*metric)))
                .collect(),
            rounds: None,
            tools: BTreeMap::new(),
            verdict: "none",
            measured,
            base: None,
            peer: None,
            latencies_us_log2: BTreeMap::new(),
        }
    }
}

/// What `operation` costs in `measured`, to what it does in `other`: its instructions, or
/// its memory where only that was measured.
#[must_use]
pub fn ratio(measured: &Side, other: &Side, operation: &str) -> Option<f64> {
    let metric = [Metric::Instructions, Metric::Resident];
    metric.into_iter().find_map(|metric| {
        let of = |side: &Side| side.operations.get(operation)?.get(&metric).copied();
        let (ours, theirs) = (of(measured)?, of(other)?);
        (theirs > 0.0).then(|| ours / theirs)
    })
}

impl Report {
    /// Writes it to `path`.
    ///
    /// # Errors
    ///
    /// When that cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// The part of a record that is kept in the source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// [`SCHEMA`].
    pub schema: u32,
    /// By source and operation, what does not depend on the compiler.
    pub sources: BTreeMap<Source, BTreeMap<String, Numbers>>,
}
