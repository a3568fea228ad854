//! What a run says of what it measured: twice, where something got worse.

use std::collections::BTreeMap;

use anyhow::Result;

use super::record::Numbers;
use super::source::Source;
use super::tolerance::Tolerances;
use super::verdict::{Change, changes};

/// The numbers of one side, by operation.
pub type Operations = BTreeMap<String, Numbers>;

/// What changed.
#[derive(Clone, Debug, Default)]
pub struct Judgement {
    /// What was worse the first time.
    pub worse: Vec<Change>,
    /// What of it was worse again.
    pub lasting: Vec<Change>,
    /// What was better the first time.
    pub better: Vec<Change>,
}

/// The word for a run. A later one outweighs the ones before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// No regression.
    None,
    /// What looked like a regression did not do so again.
    Inconclusive,
    /// A regression, twice.
    Regression,
}

impl Verdict {
    /// Its name in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Inconclusive => "inconclusive",
            Self::Regression => "regression",
        }
    }

    /// The status to exit with.
    #[must_use]
    pub fn status(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Regression => 1,
            Self::Inconclusive => 2,
        }
    }

    /// What the terminal says.
    #[must_use]
    pub fn summary(self) -> &'static str {
        match self {
            Self::None => "no regression",
            Self::Regression => "a REGRESSION",
            Self::Inconclusive => "INCONCLUSIVE, measured again it was not there",
        }
    }
}

impl Judgement {
    /// Compares `after` to `before`. `again` measures the operations once more that it is
    /// given, and gives both sides.
    ///
    /// # Errors
    ///
    /// When `again` fails.
    pub fn of(
        source: Source,
        (before, after): (&Operations, &Operations),
        tolerances: &Tolerances,
        again: impl FnOnce(&[String]) -> Result<(Operations, Operations)>,
    ) -> Result<Self> {
        let found = changes(source, before, after, tolerances);
        let (worse, better): (Vec<_>, Vec<_>) = found.into_iter().partition(Change::is_worse);
        let mut lasting = worse.clone();
        if !worse.is_empty() {
            let mut names: Vec<String> = worse.iter().map(|one| one.operation.clone()).collect();
            names.dedup();
            let (before, after) = again(&names)?;
            let found = changes(source, &before, &after, tolerances);
            lasting.retain(|one| found.iter().any(|f| f.is_worse() && f.is_of_the_same(one)));
        }
        Ok(Self {
            worse,
            lasting,
            better,
        })
    }

    /// The word for it.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match (self.lasting.is_empty(), self.worse.is_empty()) {
            (false, _) => Verdict::Regression,
            (true, false) => Verdict::Inconclusive,
            (true, true) => Verdict::None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::metric::Metric;
    use super::*;

    fn kicks(number: f64) -> Operations {
        let numbers = Numbers::from([(Metric::Kicks, number)]);
        BTreeMap::from([("read".to_owned(), numbers)])
    }

    fn verdict(before: f64, first: f64, second: f64) -> Verdict {
        let tolerances = Tolerances::parse(include_str!("../../tolerances")).unwrap();
        let (before, after) = (kicks(before), kicks(first));
        let again = |names: &[String]| {
            assert_eq!(names, ["read"]);
            Ok((before.clone(), kicks(second)))
        };
        Judgement::of(Source::Native, (&before, &after), &tolerances, again)
            .unwrap()
            .verdict()
    }

    #[test]
    fn a_regression_is_there_twice() {
        assert_eq!(verdict(1.0, 2.0, 2.0), Verdict::Regression);
        assert_eq!(verdict(1.0, 2.0, 1.0), Verdict::Inconclusive);
        assert_eq!(verdict(1.0, 1.0, 9.0), Verdict::None);
        assert_eq!(verdict(2.0, 1.0, 9.0), Verdict::None);
        let words = [Verdict::Regression, Verdict::None, Verdict::Inconclusive];
        assert_eq!(words.into_iter().max(), Some(Verdict::Regression));
        assert_eq!(words.map(Verdict::status), [1, 0, 2]);
    }
}
