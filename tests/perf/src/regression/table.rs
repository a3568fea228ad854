//! What the terminal shows.

use std::collections::BTreeMap;

use super::measure::Operation;
use super::metric::Metric;
use super::record::Numbers;

/// A line for each operation; with a base, the ratio of the instructions to it.
#[must_use]
pub fn table(
    operations: &[Operation],
    numbers: &BTreeMap<String, Numbers>,
    base: Option<&BTreeMap<String, Numbers>>,
) -> String {
    let mut text = format!(
        "{:<12} {:>12} {:>7} {:>6} {:>6} {:>8} {:>5} {:>10}\n",
        "per round",
        "instructions",
        "to base",
        "calls",
        "allocs",
        "requests",
        "kicks",
        "interrupts"
    );
    for Operation { name, .. } in operations {
        let Some(found) = numbers.get(name) else {
            continue;
        };
        let of = |metric| found.get(&metric).copied().unwrap_or(f64::NAN);
        let before = base
            .and_then(|base| base.get(name))
            .and_then(|numbers| numbers.get(&Metric::Instructions));
        let ratio = before.map_or("-".to_owned(), |before| {
            format!("{:.4}", of(Metric::Instructions) / before)
        });
        text += &format!(
            "{name:<12} {:>12.1} {ratio:>7} {:>6.1} {:>6.1} {:>8} {:>5} {:>10}\n",
            of(Metric::Instructions),
            of(Metric::SystemCalls),
            of(Metric::Allocations),
            of(Metric::Requests),
            of(Metric::Kicks),
            of(Metric::Interrupts),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(name: &str) -> Operation {
        Operation {
            name: name.to_owned(),
            about: String::new(),
        }
    }

    #[test]
    fn a_line_has_what_was_measured_and_the_ratio() {
        let of = |instructions| {
            let numbers = Numbers::from([
                (Metric::Instructions, instructions),
                (Metric::SystemCalls, 3.0),
                (Metric::Allocations, 0.0),
                (Metric::Requests, 1.0),
                (Metric::Kicks, 1.0),
                (Metric::Interrupts, 1.0),
            ]);
            BTreeMap::from([("read".to_owned(), numbers)])
        };
        let operations = [operation("read"), operation("left-out")];
        let text = table(&operations, &of(1010.0), Some(&of(1000.0)));
        let line = text
            .lines()
            .nth(1)
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        assert_eq!(
            line,
            Some(vec![
                "read", "1010.0", "1.0100", "3.0", "0.0", "1", "1", "1"
            ])
        );
        assert_eq!(text.lines().count(), 2);
        assert!(table(&operations, &of(1.0), None).contains(" - "));
    }
}
