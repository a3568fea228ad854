//! What is on record in the source: counts that no compiler changes.
//!
//! Instructions are not among them. They are compared only between two revisions
//! that the same compiler built for the same processor.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::record::{Kept, Numbers, SCHEMA};
use super::source::Source;

/// Reads what `source` has on record, among which have to be the numbers of `names`.
///
/// # Errors
///
/// When the file is not there, is none of this schema, or lacks something.
pub fn read(path: &Path, source: Source, names: &[String]) -> Result<BTreeMap<String, Numbers>> {
    let mut kept = all(path)?;
    let operations = kept.sources.remove(&source).unwrap_or_default();
    for name in names {
        ensure!(
            operations.contains_key(name),
            "{name}, {}, is not on record: put it there with make perf UPDATE=yes",
            source.name()
        );
    }
    Ok(operations)
}

/// Makes sure that all of what was `measured` can be compared to what is `kept`.
///
/// # Errors
///
/// When something is not on record.
pub fn is_complete(
    kept: &BTreeMap<String, Numbers>,
    measured: &BTreeMap<String, Numbers>,
) -> Result<()> {
    for (name, numbers) in measured {
        for metric in numbers.keys().filter(|metric| metric.is_portable()) {
            let found = kept.get(name).and_then(|kept| kept.get(metric));
            ensure!(
                found.is_some(),
                "{} of {name} is not on record: put it there with make perf UPDATE=yes",
                metric.name()
            );
        }
    }
    Ok(())
}

fn all(path: &Path) -> Result<Kept> {
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let kept: Kept = serde_json::from_slice(&text)
        .with_context(|| format!("{} is no baseline", path.display()))?;
    ensure!(
        kept.schema == SCHEMA,
        "{} has schema {}, and this program knows {SCHEMA}",
        path.display(),
        kept.schema
    );
    Ok(kept)
}

/// Puts what `source` measured on record, and leaves what others have there.
///
/// # Errors
///
/// When the file cannot be written.
pub fn write(path: &Path, source: Source, operations: &BTreeMap<String, Numbers>) -> Result<()> {
    let mut operations = operations.clone();
    for numbers in operations.values_mut() {
        numbers.retain(|metric, _| metric.is_portable());
    }
    operations.retain(|_, numbers| !numbers.is_empty());
    let mut sources = all(path).map(|kept| kept.sources).unwrap_or_default();
    sources.insert(source, operations);
    let schema = SCHEMA;
    let text = serde_json::to_string_pretty(&Kept { schema, sources })? + "\n";
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::metric::Metric;
    use super::*;

    fn on_record(source: Source, numbers: Numbers) -> tempfile::NamedTempFile {
        let path = tempfile::NamedTempFile::new().unwrap();
        let operations = BTreeMap::from([("read".into(), numbers)]);
        write(path.path(), source, &operations).unwrap();
        path
    }

    fn every() -> Numbers {
        Metric::ALL.into_iter().map(|m| (m, 2.0)).collect()
    }

    #[test]
    fn what_is_on_record_is_what_no_compiler_changes() {
        let path = on_record(Source::Native, every());
        let kept = read(path.path(), Source::Native, &["read".into()]).unwrap();
        let kept = kept.get("read").unwrap();
        assert_eq!(kept.len(), Metric::ALL.len() - 2);
        assert!(!kept.contains_key(&Metric::Instructions));
    }

    #[test]
    fn one_source_leaves_the_record_of_the_other() {
        let path = on_record(Source::Native, every());
        read(path.path(), Source::Lab, &["read".into()]).unwrap_err();
        let boot = BTreeMap::from([("boot".into(), every())]);
        write(path.path(), Source::Lab, &boot).unwrap();
        read(path.path(), Source::Lab, &["boot".into()]).unwrap();
        read(path.path(), Source::Native, &["read".into()]).unwrap();
    }

    #[test]
    fn what_is_not_on_record_is_told() {
        let path = on_record(Source::Native, Numbers::from([(Metric::Kicks, 1.0)]));
        let kept = read(path.path(), Source::Native, &["read".into()]).unwrap();
        let error = read(path.path(), Source::Native, &["write".into()]).unwrap_err();
        assert!(error.to_string().contains("not on record"), "{error}");
        let measured = |metric| BTreeMap::from([("read".into(), Numbers::from([(metric, 1.0)]))]);
        is_complete(&kept, &measured(Metric::Kicks)).unwrap();
        is_complete(&kept, &measured(Metric::Instructions)).unwrap();
        let error = is_complete(&kept, &measured(Metric::Wakeups)).unwrap_err();
        assert!(error.to_string().contains("wakeups of read"), "{error}");
    }
}
