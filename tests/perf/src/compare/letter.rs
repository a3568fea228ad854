//! The tables in the messages of a series: the same results as plain text.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::markdown::FORMS;
use super::plan::{Direction, SIZES, Strategy};
use super::results::{Cost, KernelResults, Outcome};
use super::table::{errno, grouped, kib, more, per_mib, plain, size};

/// The files of a series that have tables, and how many of [`tables`].
/// They are known by the end of their names, since their numbers differ.
const PLACES: [(&str, usize); 2] = [
    ("-cover-letter.patch", 3),
    ("-virtiofs-strategies-to-compare-with.patch", 1),
];

/// The lengths of which the letter has the instructions.
const SHOWN: [u64; 3] = [64 << 10, 1 << 20, 64 << 20];

/// Puts the tables of `after` where the messages of the series in `series` have
/// those of `before`.
///
/// # Errors
///
/// When a message has neither the old nor the new ones.
pub fn update(series: &Path, before: Option<&KernelResults>, after: &KernelResults) -> Result<()> {
    let old = before.map_or_else(Vec::new, tables);
    for (file, count) in PLACES {
        let path = ending(series, file)?;
        let new = &tables(after)[..count];
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let updated = replaced(&text, &old, new).with_context(|| {
            format!(
                "{} does not have the tables of comparison.json; put these into it:\n{}",
                path.display(),
                new.join("\n")
            )
        })?;
        if updated != text {
            fs::write(&path, updated)
                .with_context(|| format!("cannot write {}", path.display()))?;
            println!(
                "compare: wrote the tables of {}; read again what it says of them",
                path.display()
            );
        }
    }
    Ok(())
}

/// The file of a series whose name ends so.
fn ending(series: &Path, end: &str) -> Result<PathBuf> {
    let entries =
        fs::read_dir(series).with_context(|| format!("cannot read {}", series.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(end) {
            return Ok(path);
        }
    }
    bail!("no file of {} ends in {end}", series.display())
}

fn replaced(text: &str, old: &[String], new: &[String]) -> Result<String> {
    let mut text = text.to_owned();
    for (index, table) in new.iter().enumerate() {
        if text.contains(table) {
            continue;
        }
        match old.get(index).filter(|old| text.contains(*old)) {
            Some(old) => text = text.replacen(old, table, 1),
            None => bail!("table {} of the letter is another", index + 1),
        }
    }
    Ok(text)
}

/// Instructions, memory, forms.
#[must_use]
pub fn tables(kernel: &KernelResults) -> Vec<String> {
    vec![instructions(kernel), memory(kernel), forms(kernel)]
}

/// Thousands of instructions of the guest for each MiB.
fn instructions(kernel: &KernelResults) -> String {
    let mut sizes = vec![String::new()];
    let mut directions = vec![String::new()];
    for bytes in SHOWN {
        sizes.extend([String::new(), size(bytes)]);
        directions.extend(Direction::ALL.map(|direction| direction.name().to_owned()));
    }
    let mut rows = vec![sizes, directions];
    for strategy in Strategy::ALL {
        let mut row = vec![strategy.name().to_owned()];
        for bytes in SHOWN {
            for direction in Direction::ALL {
                row.push(match kernel.outcome(direction, bytes, strategy) {
                    Some(Outcome::Done(cost)) => thousands(per_mib(cost.guest.least, bytes)),
                    Some(Outcome::Failed(failure)) => errno(failure.errno),
                    None => "?".to_owned(),
                });
            }
        }
        rows.push(row);
    }
    plain(&rows)
}

fn thousands(count: u64) -> String {
    let tenths = (count + 50) / 100;
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// What one read needs of memory, and how many calls succeed when memory is
/// fragmented; the same of an extended attribute.
fn memory(kernel: &KernelResults) -> String {
    let head = [
        "",
        "order",
        "allocated",
        "copied",
        "requests",
        "fragmented",
        "xattr",
        "fragmented",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for strategy in Strategy::ALL {
        let mut row = vec![strategy.name().to_owned()];
        match kernel.outcome(Direction::Read, 1 << 20, strategy) {
            Some(Outcome::Done(Cost {
                max_order,
                allocated,
                copied,
                requests,
                ..
            })) => row.extend([
                max_order.to_string(),
                kib(allocated),
                kib(copied),
                requests.to_string(),
            ]),
            Some(Outcome::Failed(failure)) => {
                row.push(errno(failure.errno));
                row.extend(vec![String::new(); 3]);
            }
            None => row.extend(vec!["?".to_owned(); 4]),
        }
        let results = Direction::ALL
            .into_iter()
            .flat_map(|direction| SIZES.map(|bytes| kernel.fragmented(direction, bytes, strategy)));
        let results: Vec<Option<i32>> = results.flatten().collect();
        let good = results.iter().filter(|errno| errno.is_none()).count();
        row.push(format!("{good} of {}", results.len()));
        match kernel.attribute(strategy) {
            Some(found) => row.extend([
                found.max_order.to_string(),
                found.fragmented.map_or_else(|| "right".to_owned(), errno),
            ]),
            None => row.extend(["?".to_owned(), "?".to_owned()]),
        }
        rows.push(row);
    }
    plain(&rows)
}

/// Instructions for each MiB and what they are above `flat`.
fn forms(kernel: &KernelResults) -> String {
    let mut rows = vec![["", "read", "", "write", ""].map(str::to_owned).to_vec()];
    for (name, title) in FORMS {
        let mut row = vec![title.to_owned()];
        for direction in Direction::ALL {
            match (kernel.form(direction, name), kernel.form(direction, "flat")) {
                (Some(form), Some(flat)) => {
                    row.push(grouped(form.per_mib()));
                    row.push(if name == "flat" {
                        String::new()
                    } else {
                        more(form.instructions, flat.instructions)
                    });
                }
                _ => row.extend(["?".to_owned(), "?".to_owned()]),
            }
        }
        rows.push(row);
    }
    plain(&rows)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn old_tables_make_room_for_new_ones_and_nothing_else_does() {
        let old = ["a 1\n".to_owned(), "b 1\n".to_owned()];
        let new = ["a 2\n".to_owned(), "b 1\n".to_owned()];
        let letter = "Dear\na 1\nand\nb 1\nYours";
        let updated = replaced(letter, &old, &new).unwrap();
        assert_eq!(updated, "Dear\na 2\nand\nb 1\nYours");
        assert_eq!(replaced(&updated, &old, &new).unwrap(), updated);
        assert!(replaced("Dear\nYours", &old, &new).is_err());
        assert!(replaced("Dear\nYours", &[], &new).is_err());
    }
}
