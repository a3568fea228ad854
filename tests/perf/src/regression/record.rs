//! The results of a run, as JSON.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::metric::Metric;

/// Goes up when a reader of an earlier file would misunderstand one.
pub const SCHEMA: u32 = 1;

/// A run, and what it was compared to.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Where the numbers come from: `native`.
    pub source: &'static str,
    /// What is between the driver and the device.
    pub host_path: &'static str,
    /// What a number of each metric is.
    pub units: BTreeMap<Metric, &'static str>,
    /// Rounds of each operation that the numbers are the mean of.
    pub rounds: u64,
    /// What counted, and what compiled.
    pub tools: BTreeMap<&'static str, String>,
    /// `none`, `regression` or `inconclusive`.
    pub verdict: &'static str,
    /// What was measured.
    pub measured: Side,
    /// What it was compared to, with `BASE=` only.
    pub base: Option<Side>,
}

/// The numbers of one revision.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Side {
    /// The commit, with `-dirty` behind it where files differ.
    pub revision: String,
    /// By the name of the operation.
    pub operations: BTreeMap<String, Numbers>,
}

/// The numbers of one operation, each for a round.
pub type Numbers = BTreeMap<Metric, f64>;

impl Record {
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
    /// By the name of the operation, what does not depend on the compiler.
    pub operations: BTreeMap<String, Numbers>,
}
