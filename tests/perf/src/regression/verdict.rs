//! Whether there is a regression.

use std::collections::BTreeMap;
use std::fmt;

use super::metric::Metric;
use super::record::Numbers;
use super::source::Source;
use super::tolerance::Tolerances;

/// More than what the division by the rounds loses, less than one in a million.
const ROUNDING: f64 = 1e-6;

/// A metric of an operation that grew, or shrank, by more than its tolerance.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The operation.
    pub operation: String,
    /// What of it.
    pub metric: Metric,
    /// What it was, for each round.
    pub before: f64,
    /// What it is.
    pub after: f64,
}

impl Change {
    /// Whether it is one for the worse.
    #[must_use]
    pub fn is_worse(&self) -> bool {
        self.after > self.before
    }

    /// Whether `other` is of the same metric of the same operation.
    #[must_use]
    pub fn is_of_the_same(&self, other: &Self) -> bool {
        (&self.operation, self.metric) == (&other.operation, other.metric)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            operation,
            metric,
            before,
            after,
        } = self;
        let name = metric.name();
        write!(f, "{operation}: {name} {before:.2} -> {after:.2}")?;
        if *before > 0.0 {
            write!(f, " ({:+.2} %)", 100.0 * (after / before - 1.0))?;
        }
        Ok(())
    }
}

/// What changed from `before` to `after`, of operations and metrics that both have.
#[must_use]
pub fn changes(
    source: Source,
    before: &BTreeMap<String, Numbers>,
    after: &BTreeMap<String, Numbers>,
    tolerances: &Tolerances,
) -> Vec<Change> {
    let mut changes = Vec::new();
    for (operation, numbers) in after {
        let Some(old) = before.get(operation) else {
            continue;
        };
        for (metric, after) in numbers {
            let Some(before) = old.get(metric) else {
                continue;
            };
            let allowed = before * tolerances.of(source, *metric) / 100.0;
            if (after - before).abs() > allowed.max(ROUNDING) {
                changes.push(Change {
                    operation: operation.clone(),
                    metric: *metric,
                    before: *before,
                    after: *after,
                });
            }
        }
    }
    changes
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn tolerances() -> Tolerances {
        Tolerances::parse(include_str!("../../tolerances")).unwrap()
    }

    fn one(metric: Metric, number: f64) -> BTreeMap<String, Numbers> {
        let numbers = Numbers::from([(metric, number)]);
        BTreeMap::from([("read".to_owned(), numbers)])
    }

    fn found(metric: Metric, before: f64, after: f64) -> Vec<Change> {
        changes(
            Source::Native,
            &one(metric, before),
            &one(metric, after),
            &tolerances(),
        )
    }

    #[test]
    fn one_per_cent_more_instructions_is_a_regression() {
        let changes = found(Metric::Instructions, 10_000.0, 10_100.0);
        assert!(changes[0].is_worse());
        let text = "read: instructions 10000.00 -> 10100.00 (+1.00 %)";
        assert_eq!(changes[0].to_string(), text);
    }

    #[test]
    fn what_two_runs_differ_by_is_none() {
        assert_eq!(found(Metric::Instructions, 10_000.0, 10_010.0), []);
        assert_eq!(found(Metric::SystemCalls, 3.0, 3.0), []);
    }

    #[test]
    fn one_more_of_what_is_counted_is_a_regression() {
        let metrics = Source::Native.metrics().iter().copied();
        for metric in metrics.filter(|metric| metric.is_portable()) {
            // Also where there was none, and in one round of fifty.
            for (before, after) in [(3.0, 4.0), (0.0, 0.02), (3.0, 3.02)] {
                assert!(found(metric, before, after)[0].is_worse(), "{metric:?}");
            }
        }
    }

    #[test]
    fn less_is_a_change_for_the_better() {
        assert!(!found(Metric::SystemCalls, 3.0, 2.0)[0].is_worse());
    }

    #[test]
    fn what_only_one_has_is_not_compared() {
        let (before, after) = (one(Metric::Kicks, 1.0), one(Metric::Wakeups, 2.0));
        assert_eq!(changes(Source::Native, &before, &after, &tolerances()), []);
        assert_eq!(
            changes(Source::Native, &BTreeMap::new(), &after, &tolerances()),
            []
        );
    }
}
