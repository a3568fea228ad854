//! The page with the plots: one file that needs no other.

use std::fmt::Write;

use anyhow::Result;

use super::measure::Operation;
use super::metric::Metric;
use super::plots;
use super::record::{Record, Side};
use super::runs::Run;
use super::tolerance::Tolerances;

const STYLE: &str = "body{font:15px/1.5 sans-serif;max-width:62em;margin:2em auto;padding:0 1em;\
color:#222;background:#fff}table{border-collapse:collapse}th,td{padding:.2em .7em;text-align:right;\
border-bottom:1px solid #ddd}th:first-child,td:first-child{text-align:left}svg{max-width:100%}\
.worse{color:#b34700;font-weight:bold}.better{color:#00785a}";

/// The page of a run: its numbers, their ratios to what it was compared to, and the
/// instructions of the runs that are `kept`, this one among them.
///
/// # Errors
///
/// When something cannot be drawn.
pub fn page(
    record: &Record,
    operations: &[Operation],
    kept: &[Run],
    tolerances: &Tolerances,
) -> Result<String> {
    let allowed = tolerances.of(Metric::Instructions) / 100.0;
    let mut text = String::new();
    let revision = escaped(&record.measured.revision);
    writeln!(
        text,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <title>{revision}: make perf</title><style>{STYLE}</style></head><body>\n\
         <h1>What requests cost the device</h1>"
    )?;
    let against =
        (record.base.as_ref()).map_or("the record".into(), |base| escaped(&base.revision));
    writeln!(
        text,
        "<p><b>{revision}</b> against {against}: <b>{}</b>. Source: {} ({}); the mean of {} \
         rounds.</p>",
        match record.verdict {
            "none" => "no regression",
            other => other,
        },
        record.source,
        escaped(record.host_path),
        record.rounds
    )?;
    for (tool, version) in &record.tools {
        writeln!(text, "<p>{}: {}</p>", escaped(tool), escaped(version))?;
    }
    if let Some(base) = &record.base {
        let ratios: Vec<(String, f64)> = operations
            .iter()
            .filter_map(|one| Some((one.name.clone(), ratio(&record.measured, base, &one.name)?)))
            .collect();
        writeln!(
            text,
            "<h2>Instructions, to {}</h2>\n<p>Less than 1 is better.</p>\n{}",
            escaped(&base.revision),
            plots::ratios(&ratios, allowed)?
        )?;
    }
    numbers(&mut text, record, operations, tolerances)?;
    trends(&mut text, record, operations, kept)?;
    text.push_str("</body></html>\n");
    Ok(text)
}

fn ratio(measured: &Side, base: &Side, operation: &str) -> Option<f64> {
    let of = |side: &Side| {
        side.operations
            .get(operation)?
            .get(&Metric::Instructions)
            .copied()
    };
    let (ours, before) = (of(measured)?, of(base)?);
    (before > 0.0).then(|| ours / before)
}

/// Every metric of every operation, marked where it is off by more than it may be.
fn numbers(
    text: &mut String,
    record: &Record,
    operations: &[Operation],
    tolerances: &Tolerances,
) -> Result<()> {
    text.push_str("<h2>Each round</h2>\n<table><tr><th></th>");
    for metric in Metric::ALL {
        write!(
            text,
            "<th title=\"{}\">{}</th>",
            metric.unit(),
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
        for metric in Metric::ALL {
            let Some(number) = found.get(&metric) else {
                text.push_str("<td></td>");
                continue;
            };
            let before = before.and_then(|before| before.get(&metric));
            let allowed = tolerances.of(metric) / 100.0;
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
        .filter(|run| Some(&run.compiler) == compiler)
        .collect();
    let (Some(first), Some(last)) = (runs.first(), runs.last()) else {
        return Ok(());
    };
    writeln!(
        text,
        "<h2>Trend</h2>\n<p>Instructions of the {} runs of this compiler that are kept, from {} \
         to {}.</p>",
        runs.len(),
        escaped(&first.revision),
        escaped(&last.revision)
    )?;
    for Operation { name, .. } in operations {
        let of = |run: &&Run| {
            run.operations
                .get(name)?
                .get(&Metric::Instructions)
                .copied()
        };
        let numbers: Vec<f64> = runs.iter().filter_map(of).collect();
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

    use super::super::record::{Numbers, SCHEMA};
    use super::*;

    fn side(revision: &str, instructions: f64) -> Side {
        let numbers = Numbers::from([(Metric::Instructions, instructions), (Metric::Kicks, 1.0)]);
        Side {
            revision: revision.to_owned(),
            operations: BTreeMap::from([("read-4k".to_owned(), numbers)]),
        }
    }

    fn made(base: Option<Side>, kept: &[Run]) -> String {
        let record = Record {
            schema: SCHEMA,
            source: "native",
            host_path: "registers & memory",
            units: BTreeMap::new(),
            rounds: 200,
            tools: BTreeMap::from([("compiler", "rustc 1".to_owned())]),
            verdict: "regression",
            measured: side("<new>", 1010.0),
            base,
        };
        let operations = [Operation {
            name: "read-4k".to_owned(),
            about: "a \"READ\"".to_owned(),
        }];
        let tolerances = Tolerances::parse(include_str!("../../tolerances")).unwrap();
        page(&record, &operations, kept, &tolerances).unwrap()
    }

    #[test]
    fn the_page_needs_nothing_else() {
        let page = made(Some(side("old", 1000.0)), &[]);
        assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
        for outside in ["http", "src=", "href=", "<script", "@import"] {
            let found = page.replace("http://www.w3.org/2000/svg", "");
            assert!(!found.contains(outside), "{outside}");
        }
        assert!(page.contains("&lt;new&gt;") && !page.contains("<new>"));
        assert!(page.contains("registers &amp; memory") && page.contains("&quot;READ&quot;"));
    }

    #[test]
    fn what_is_worse_is_marked() {
        let page = made(Some(side("old", 1000.0)), &[]);
        assert!(page.contains("<td class=\"worse\">1010.0</td>"));
        assert!(page.contains("<td>1.0</td>") && page.contains("1.0100"));
        assert!(made(Some(side("old", 1020.0)), &[]).contains("class=\"better\">1010.0"));
        let alone = made(None, &[]);
        assert!(!alone.contains("class=") && !alone.contains("Less than 1"));
    }

    #[test]
    fn the_trend_is_one_compilers() {
        let run = |compiler: &str| Run {
            time: 1,
            ..Run::now("r", compiler, &side("r", 1000.0).operations)
        };
        assert!(!made(None, &[run("rustc 0")]).contains("Trend"));
        let page = made(None, &[run("rustc 0"), run("rustc 1"), run("rustc 1")]);
        assert!(page.contains("the 2 runs of this compiler"));
        assert_eq!(page.matches("<circle").count(), 2);
    }
}
