//! What is on record in the source: counts that no compiler changes.
//!
//! Instructions are not among them. They are compared only between two revisions
//! that the same compiler built for the same processor.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::metric::Metric;
use super::record::{Kept, Numbers, SCHEMA};

/// Reads the numbers on record, among which have to be those of `names`.
///
/// # Errors
///
/// When the file is not there, is none of this schema, or lacks something.
pub fn read(path: &Path, names: &[String]) -> Result<BTreeMap<String, Numbers>> {
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let kept: Kept = serde_json::from_slice(&text)
        .with_context(|| format!("{} is no baseline", path.display()))?;
    ensure!(
        kept.schema == SCHEMA,
        "{} has schema {}, and this program knows {SCHEMA}",
        path.display(),
        kept.schema
    );
    for name in names {
        let numbers = kept.operations.get(name);
        for metric in Metric::ALL
            .into_iter()
            .filter(|metric| metric.is_portable())
        {
            ensure!(
                numbers.is_some_and(|numbers| numbers.contains_key(&metric)),
                "{} of {name} is not on record: put it there with make perf UPDATE=yes",
                metric.name()
            );
        }
    }
    Ok(kept.operations)
}

/// Puts what was measured on record.
///
/// # Errors
///
/// When the file cannot be written.
pub fn write(path: &Path, operations: &BTreeMap<String, Numbers>) -> Result<()> {
    let mut operations = operations.clone();
    for numbers in operations.values_mut() {
        numbers.retain(|metric, _| metric.is_portable());
    }
    let schema = SCHEMA;
    let text = serde_json::to_string_pretty(&Kept { schema, operations })? + "\n";
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_record_is_what_no_compiler_changes() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let numbers: Numbers = Metric::ALL.into_iter().map(|m| (m, 2.0)).collect();
        write(path.path(), &BTreeMap::from([("read".into(), numbers)])).unwrap();
        let kept = read(path.path(), &["read".into()]).unwrap();
        let kept = kept.get("read").unwrap();
        assert_eq!(kept.len(), Metric::ALL.len() - 1);
        assert!(!kept.contains_key(&Metric::Instructions));
    }

    #[test]
    fn what_is_not_on_record_is_told() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let numbers = Numbers::from([(Metric::Kicks, 1.0)]);
        write(path.path(), &BTreeMap::from([("read".into(), numbers)])).unwrap();
        read(path.path(), &[]).unwrap();
        for name in ["read", "write"] {
            let error = read(path.path(), &[name.into()]).unwrap_err();
            assert!(error.to_string().contains("not on record"), "{error}");
        }
    }
}
