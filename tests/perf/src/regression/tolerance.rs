//! How much of each metric is no regression: `tests/perf/tolerances`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

use super::metric::Metric;

/// By metric, the per cent that it may grow by.
#[derive(Clone, Debug, PartialEq)]
pub struct Tolerances(BTreeMap<Metric, f64>);

impl Tolerances {
    /// Reads lines `METRIC PER-CENT`, one for each metric, and comments behind `#`.
    ///
    /// # Errors
    ///
    /// When a line is another, or a metric has none or two.
    pub fn parse(text: &str) -> Result<Self> {
        let mut tolerances = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or("").trim();
            if line.is_empty() {
                continue;
            }
            let (name, per_cent) = line
                .split_once(char::is_whitespace)
                .with_context(|| format!("line {number} is not METRIC PER-CENT"))?;
            let metric = Metric::ALL.into_iter().find(|metric| metric.name() == name);
            let metric = metric.with_context(|| format!("line {number}: no metric {name}"))?;
            let per_cent: f64 = (per_cent.trim().parse().ok())
                .filter(|number: &f64| number.is_finite() && *number >= 0.0)
                .with_context(|| format!("line {number}: no per cent"))?;
            if tolerances.insert(metric, per_cent).is_some() {
                bail!("line {number}: {name} once more");
            }
        }
        for metric in Metric::ALL {
            ensure!(
                tolerances.contains_key(&metric),
                "{} has no line",
                metric.name()
            );
        }
        Ok(Self(tolerances))
    }

    /// The per cent for `metric`.
    #[must_use]
    pub fn of(&self, metric: Metric) -> f64 {
        self.0.get(&metric).copied().unwrap_or(0.0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_the_source_is_good() {
        let text = include_str!("../../tolerances");
        let tolerances = Tolerances::parse(text).unwrap();
        // One per cent is to be caught.
        assert!(tolerances.of(Metric::Instructions) < 1.0);
        assert!(tolerances.of(Metric::SystemCalls) < 1.0);
    }

    #[test]
    fn each_metric_has_one_line() {
        let all: String = (Metric::ALL.iter())
            .map(|metric| format!("{} 1 # why\n", metric.name()))
            .collect();
        Tolerances::parse(&all).unwrap();
        for text in [
            all.replace("kicks 1", ""),
            all.replace("kicks", "interrupts"),
            all.replace("kicks", "kick"),
            all.replace("kicks 1", "kicks -1"),
            all.replace("kicks 1", "kicks nan"),
            all.replace("kicks 1", "kicks"),
        ] {
            Tolerances::parse(&text).unwrap_err();
        }
    }
}
