//! The page with the plots: one file that needs no other.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Context, Result};

use super::measure::Operation;
use super::metric::Metric;
use super::plots;
use super::record::{Record, Report, ratio};
use super::runs::Run;
use super::source::Source;
use super::tolerance::Tolerances;

const STYLE: &str = "body{font:15px/1.5 sans-serif;max-width:62em;margin:2em auto;padding:0 1em;\
color:#222;background:#fff}table{border-collapse:collapse}th,td{padding:.2em .7em;text-align:right;\
border-bottom:1px solid #ddd}th:first-child,td:first-child{text-align:left}svg{max-width:100%}\
.worse{color:#b34700;font-weight:bold}.better{color:#00785a}";

/// The page of a run: the numbers of each source, their ratios to what they were compared
/// to, and the instructions of the runs that are `kept`, this one among them.
///
/// # Errors
///
/// When something cannot be drawn.
pub fn page(
    report: &Report,
    operations: &BTreeMap<Source, Vec<Operation>>,
    kept: &[Run],
    tolerances: &Tolerances,
) -> Result<String> {
    let mut text = String::new();
    let first = report.sources.first().context("nothing was measured")?;
    let revision = escaped(&first.measured.revision);
    writeln!(
        text,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <title>{revision}: make perf</title><style>{STYLE}</style></head><body>\n\
         <h1>What requests cost</h1>\n<p><b>{revision}</b>: <b>{}</b>.</p>",
        verdict(report.verdict)
    )?;
    for record in &report.sources {
        let none = Vec::new();
        let operations = operations.get(&record.source).unwrap_or(&none);
        section(&mut text, record, operations, kept, tolerances)?;
    }
    text.push_str("</body></html>\n");
    Ok(text)
}

fn verdict(word: &str) -> &str {
    match word {
        "none" => "no regression",
        other => other,
    }
}

fn section(
    text: &mut String,
    record: &Record,
    operations: &[Operation],
    kept: &[Run],
    tolerances: &Tolerances,
) -> Result<()> {
    let against =
        (record.base.as_ref()).map_or("the record".into(), |base| escaped(&base.revision));
    let rounds = record.rounds.map_or(String::new(), |rounds| {
        format!(", the mean of {rounds} rounds")
    });
    writeln!(
        text,
        "<h2>{}</h2>\n<p>{}{rounds}; against {against}: {}.</p>",
        record.source.name(),
        escaped(record.host_path),
        verdict(record.verdict),
    )?;
    for (tool, version) in &record.tools {
        writeln!(text, "<p>{}: {}</p>", escaped(tool), escaped(version))?;
    }
    let allowed = tolerances.of(record.source, Metric::Instructions) / 100.0;
    for other in [&record.base, &record.peer].into_iter().flatten() {
        let of = |one: &Operation| {
            let ratio = ratio(&record.measured, other, &one.name)?;
            Some((one.name.clone(), ratio))
        };
        let ratios: Vec<(String, f64)> = operations.iter().filter_map(of).collect();
        writeln!(
            text,
            "<h3>To {}</h3>\n<p>Less than 1 is better.</p>\n{}",
            escaped(&other.revision),
            plots::ratios(&ratios, allowed)?
        )?;
    }
    numbers(text, record, operations, tolerances)?;
    latencies(text, record, operations)?;
    trends(text, record, operations, kept)
}

/// How long the requests took that each workload has most of.
fn latencies(text: &mut String, record: &Record, operations: &[Operation]) -> Result<()> {
    if record.latencies_us_log2.is_empty() {
        return Ok(());
    }
    text.push_str(
        "<h3>Latency</h3>\n<p>How many requests took so many microseconds in the server; \
         in the lab one is a thousand instructions.</p>\n",
    );
    for Operation { name, .. } in operations {
        let most = (record.latencies_us_log2.get(name).into_iter().flatten())
            .max_by_key(|(_, requests)| requests.iter().sum::<u64>());
        if let Some((operation, requests)) = most {
            let title = format!("{name}: {operation}");
            writeln!(text, "{}", plots::latencies(&title, requests)?)?;
        }
    }
    Ok(())
}

/// Every metric of every operation, marked where it is off by more than it may be.
fn numbers(
    text: &mut String,
    record: &Record,
    operations: &[Operation],
    tolerances: &Tolerances,
) -> Result<()> {
    text.push_str("<h3>Each round</h3>\n<table><tr><th></th>");
    for metric in record.source.metrics() {
        write!(
            text,
            "<th title=\"{}\">{}</th>",
            record.source.unit(*metric),
            metric.name()
        )?;
    }
    text.push_str("</tr>\n");
    for Operation { name, about } in operations {
        let Some(found) = record.measured.operations.get(name) else {
            continue;
        };
        let before = record
            .base
            .as_ref()
            .and_then(|base| base.operations.get(name));
        write!(
            text,
            "<tr><td title=\"{}\">{}</td>",
            escaped(about),
            escaped(name)
        )?;
        for metric in record.source.metrics() {
            let Some(number) = found.get(metric) else {
                text.push_str("<td></td>");
                continue;
            };
            let before = before.and_then(|before| before.get(metric));
            let allowed = tolerances.of(record.source, *metric) / 100.0;
            let class = match before {
                Some(before) if *number > before * (1.0 + allowed) => " class=\"worse\"",
                Some(before) if *number < before * (1.0 - allowed) => " class=\"better\"",
                _ => "",
            };
            write!(text, "<td{class}>{number:.1}</td>")?;
        }
        text.push_str("</tr>\n");
    }
    text.push_str("</table>\n");
    Ok(())
}

/// The instructions of what the same compiler made: another one's are others.
fn trends(
    text: &mut String,
    record: &Record,
    operations: &[Operation],
    kept: &[Run],
) -> Result<()> {
    let compiler = record.tools.get("compiler");
    let runs: Vec<&Run> = kept
        .iter()
        .filter(|run| Some(&run.compiler) == compiler && run.sources.contains_key(&record.source))
        .collect();
    let (Some(first), Some(last)) = (runs.first(), runs.last()) else {
        return Ok(());
    };
    writeln!(
        text,
        "<h3>Trend</h3>\n<p>Instructions of the {} runs of this compiler that are kept, from {} \
         to {}.</p>",
        runs.len(),
        escaped(&first.revision),
        escaped(&last.revision)
    )?;
    for Operation { name, .. } in operations {
        let of = |run: &&Run| {
            run.sources
                .get(&record.source)?
                .get(name)?
                .get(&Metric::Instructions)
                .copied()
        };
        let numbers: Vec<f64> = runs.iter().filter_map(of).collect();
        if numbers.is_empty() {
            continue;
        }
        writeln!(text, "{}", plots::trend(name, &numbers)?)?;
    }
    text.push_str("<table><tr><th>run</th><th>seconds since 1970</th></tr>\n");
    for run in runs {
        writeln!(
            text,
            "<tr><td>{}</td><td>{}</td></tr>",
            escaped(&run.revision),
            run.time
        )?;
    }
    text.push_str("</table>\n");
    Ok(())
}

/// As text of the page, in an attribute as well.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::record::{Numbers, SCHEMA, Side};
    use super::*;

    fn side(revision: &str, instructions: f64) -> Side {
        let numbers = Numbers::from([(Metric::Instructions, instructions), (Metric::Kicks, 1.0)]);
        Side {
            revision: revision.to_owned(),
            operations: BTreeMap::from([("read-4k".to_owned(), numbers)]),
        }
    }

    fn made(base: Option<Side>, peer: Option<Side>, kept: &[Run]) -> String {
        let latencies = [("READ", vec![0, 3000]), ("LOOKUP", vec![1])];
        let latencies = latencies
            .map(|(name, counts)| (name.to_owned(), counts))
            .into();
        let record = Record {
            tools: BTreeMap::from([("compiler", "rustc 1 & more".to_owned())]),
            verdict: "regression",
            base,
            peer,
            latencies_us_log2: BTreeMap::from([("read-4k".to_owned(), latencies)]),
            ..Record::of(Source::Lab, side("<new>", 1010.0))
        };
        let report = Report {
            schema: SCHEMA,
            verdict: "regression",
            sources: vec![record],
        };
        let operation = Operation {
            name: "read-4k".to_owned(),
            about: "a \"READ\"".to_owned(),
        };
        let operations = BTreeMap::from([(Source::Lab, vec![operation])]);
        let tolerances = Tolerances::parse(include_str!("../../tolerances")).unwrap();
        page(&report, &operations, kept, &tolerances).unwrap()
    }

    #[test]
    fn the_page_needs_nothing_else() {
        let page = made(Some(side("old", 1000.0)), None, &[]);
        assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
        for outside in ["http", "src=", "href=", "<script", "@import"] {
            let found = page.replace("http://www.w3.org/2000/svg", "");
            assert!(!found.contains(outside), "{outside}");
        }
        assert!(page.contains("&lt;new&gt;") && !page.contains("<new>"));
        assert!(page.contains("rustc 1 &amp; more") && page.contains("&quot;READ&quot;"));
    }

    #[test]
    fn what_is_worse_is_marked() {
        let page = made(Some(side("old", 1000.0)), None, &[]);
        assert!(page.contains("<td class=\"worse\">1010.0</td>"));
        assert!(page.contains("<td>1.0</td>") && page.contains("1.0100"));
        assert!(made(Some(side("old", 1020.0)), None, &[]).contains("class=\"better\">1010.0"));
        let alone = made(None, None, &[]);
        assert!(!alone.contains("class=") && !alone.contains("Less than 1"));
    }

    #[test]
    fn a_peer_has_ratios_of_its_own() {
        let page = made(Some(side("old", 1000.0)), Some(side("QEMU", 2020.0)), &[]);
        assert!(page.contains("<h3>To QEMU</h3>") && page.contains("0.5000"));
        assert!(page.contains("read-4k: READ") && !page.contains("read-4k: LOOKUP"));
        assert!(page.contains("<h3>To old</h3>") && page.contains("1.0100"));
    }

    #[test]
    fn the_trend_is_one_compilers() {
        let run = |compiler: &str| Run {
            time: 1,
            ..Run::now(
                "r",
                compiler,
                BTreeMap::from([(Source::Lab, side("r", 1000.0).operations)]),
            )
        };
        assert!(!made(None, None, &[run("rustc 0")]).contains("Trend"));
        let page = made(
            None,
            None,
            &[run("rustc 0"), run("rustc 1 & more"), run("rustc 1 & more")],
        );
        assert!(page.contains("the 2 runs of this compiler"));
        assert_eq!(page.matches("<circle").count(), 2);
    }
}
