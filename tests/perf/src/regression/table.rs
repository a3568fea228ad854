//! What the terminal shows.

use std::fmt::Write;

use super::measure::Operation;
use super::metric::Metric;
use super::record::{Record, ratio};
use super::source::Source;

/// The columns behind the instructions, and how wide they are.
fn columns(source: Source) -> &'static [(Metric, &'static str)] {
    match source {
        Source::Native => &[
            (Metric::SystemCalls, "calls"),
            (Metric::Allocations, "allocs"),
            (Metric::Requests, "requests"),
            (Metric::Kicks, "kicks"),
            (Metric::Interrupts, "interrupts"),
        ],
        Source::Lab => &[
            (Metric::Requests, "requests"),
            (Metric::Kicks, "kicks"),
            (Metric::Interrupts, "interrupts"),
            (Metric::Exits, "exits"),
            (Metric::Resident, "KiB"),
        ],
    }
}

/// A line for each operation; with a base or a peer, the ratio to it. What an operation
/// does not have is a dash.
#[must_use]
pub fn table(operations: &[Operation], record: &Record) -> String {
    let columns = columns(record.source);
    let sides = [("to base", &record.base), ("to peer", &record.peer)];
    let sides = sides
        .iter()
        .filter_map(|(title, side)| Some((*title, side.as_ref()?)));
    let sides: Vec<_> = sides.collect();
    let mut text = format!("{:<12} {:>12}", record.source.name(), "instructions");
    let titles = sides.iter().map(|(title, _)| *title);
    for title in titles.chain(columns.iter().map(|(_, title)| *title)) {
        push(&mut text, title, title.len());
    }
    text.push('\n');
    for Operation { name, .. } in operations {
        let Some(found) = record.measured.operations.get(name) else {
            continue;
        };
        let shown = |metric| {
            found
                .get(&metric)
                .map_or("-".to_owned(), |n| format!("{n:.1}"))
        };
        text += &format!("{name:<12} {:>12}", shown(Metric::Instructions));
        for (title, side) in &sides {
            let ratio = ratio(&record.measured, side, name);
            let ratio = ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.4}"));
            push(&mut text, &ratio, title.len());
        }
        for (metric, title) in columns {
            push(&mut text, &shown(*metric), title.len());
        }
        text.push('\n');
    }
    text
}

fn push(text: &mut String, cell: &str, width: usize) {
    // Writing to a string cannot fail.
    let _ = write!(text, " {cell:>0$}", width.max(7));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::record::{Numbers, Side};
    use super::*;

    fn side(instructions: f64) -> Side {
        let numbers = Numbers::from([
            (Metric::Instructions, instructions),
            (Metric::SystemCalls, 3.0),
            (Metric::Allocations, 0.0),
            (Metric::Requests, 1.0),
            (Metric::Kicks, 1.0),
            (Metric::Exits, 2.0),
        ]);
        Side {
            revision: "r".to_owned(),
            operations: BTreeMap::from([("read".to_owned(), numbers)]),
        }
    }

    fn words(record: &Record) -> Vec<String> {
        let operation = |name: &str| Operation {
            name: name.to_owned(),
            about: String::new(),
        };
        let text = table(&[operation("read"), operation("left-out")], record);
        assert_eq!(text.lines().count(), 2);
        let line = text.lines().nth(1).unwrap_or_default();
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_line_has_what_was_measured_and_the_ratios() {
        let mut record = Record::of(Source::Native, side(1010.0));
        let counts = ["3.0", "0.0", "1.0", "1.0", "-"];
        assert_eq!(words(&record), [&["read", "1010.0"][..], &counts].concat());
        record.base = Some(side(1000.0));
        let all = [&["read", "1010.0", "1.0100"][..], &counts].concat();
        assert_eq!(words(&record), all);
        let mut record = Record::of(Source::Lab, side(1010.0));
        record.peer = Some(side(2020.0));
        let all = ["read", "1010.0", "0.5000", "1.0", "1.0", "-", "2.0", "-"];
        assert_eq!(words(&record), all);
    }
}
