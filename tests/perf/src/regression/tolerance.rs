//! How much of each metric is no regression: `tests/perf/tolerances`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

use super::metric::Metric;
use super::source::Source;

/// By source and metric, the per cent that it may grow by.
#[derive(Clone, Debug, PartialEq)]
pub struct Tolerances(BTreeMap<(Source, Metric), f64>);

impl Tolerances {
    /// Reads lines `SOURCE METRIC PER-CENT`, one for each metric of each source, and comments
    /// behind `#`.
    ///
    /// # Errors
    ///
    /// When a line is another, or a metric has none or two.
    pub fn parse(text: &str) -> Result<Self> {
        let mut tolerances = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or("");
            let words: Vec<&str> = line.split_whitespace().collect();
            let (source, metric, per_cent) = match words[..] {
                [] => continue,
                [source, metric, per_cent] => (source, metric, per_cent),
                _ => bail!("line {number} is not SOURCE METRIC PER-CENT"),
            };
            let is_it = |one: &Source| one.name() == source;
            let found = Source::ALL.into_iter().find(is_it);
            let source = found.with_context(|| format!("line {number}: no source {source}"))?;
            let found = (source.metrics().iter()).find(|one| one.name() == metric);
            let metric = found.with_context(|| format!("line {number}: no metric {metric}"))?;
            let per_cent: f64 = (per_cent.parse().ok())
                .filter(|number: &f64| number.is_finite() && *number >= 0.0)
                .with_context(|| format!("line {number}: no per cent"))?;
            if tolerances.insert((source, *metric), per_cent).is_some() {
                bail!("line {number}: {} once more", metric.name());
            }
        }
        for source in Source::ALL {
            for metric in source.metrics() {
                ensure!(
                    tolerances.contains_key(&(source, *metric)),
                    "{} {} has no line",
                    source.name(),
                    metric.name()
                );
            }
        }
        Ok(Self(tolerances))
    }

    /// The per cent for `metric` of `source`.
    #[must_use]
    pub fn of(&self, source: Source, metric: Metric) -> f64 {
        self.0.get(&(source, metric)).copied().unwrap_or(0.0)
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
        for source in Source::ALL {
            assert!(tolerances.of(source, Metric::Instructions) < 1.0);
        }
        assert!(tolerances.of(Source::Native, Metric::SystemCalls) < 1.0);
    }

    #[test]
    fn each_metric_has_one_line() {
        let lines = |source: Source| {
            let line =
                move |metric: &Metric| format!("{} {} 1 # why\n", source.name(), metric.name());
            source.metrics().iter().map(line).collect::<String>()
        };
        let all = lines(Source::Native) + &lines(Source::Lab);
        Tolerances::parse(&all).unwrap();
        for text in [
            all.replace("lab kicks 1", ""),
            all.replace("lab", "laboratory"),
            all.replace("lab", "native"),
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
