//! The Test Anything Protocol, as the tests of the guest's driver print it: a
//! line for each check, and the plan last.

use anyhow::{Context, Result, bail, ensure};

/// Checks that all took place.
#[derive(Debug, PartialEq, Eq)]
pub struct Checks {
    /// How many there were.
    pub total: usize,
    /// The line of each that failed, and the comments before it.
    pub failed: Vec<String>,
}

/// Reads the whole output of a run.
///
/// # Errors
///
/// When the run was cut short, gave up, made no check, or printed what is
/// neither a check nor a comment.
pub fn parse(text: &str) -> Result<Checks> {
    let mut total = 0;
    let mut failed = Vec::new();
    let mut comments = String::new();
    let mut plan = None;
    for line in text.lines() {
        if let Some(reason) = line.strip_prefix("Bail out!") {
            bail!("the run gave up:{reason}");
        }
        let check = (line.strip_prefix("not ok ").map(|rest| (false, rest)))
            .or_else(|| line.strip_prefix("ok ").map(|rest| (true, rest)));
        if let Some((passed, rest)) = check {
            ensure!(plan.is_none(), "a check after the plan: {line}");
            let number = rest.split(' ').next().unwrap_or_default();
            ensure!(
                number.parse() == Ok(total + 1),
                "check {} is missing before: {line}",
                total + 1
            );
            total += 1;
            if !passed {
                failed.push(format!("{comments}{line}"));
            }
            comments.clear();
        } else if let Some(last) = line.strip_prefix("1..") {
            ensure!(plan.is_none(), "a second plan: {line}");
            plan = Some(last.parse::<usize>().context("a plan without a number")?);
        } else {
            // Programs that the checks run may say what went wrong.
            comments.push_str(line);
            comments.push('\n');
        }
    }
    let plan = plan.context("no plan: the run was cut short")?;
    ensure!(plan == total, "{total} checks of {plan}");
    ensure!(total > 0, "no check at all");
    Ok(Checks { total, failed })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn failures_are_told_with_what_was_said_before_them() {
        let checks = parse("# a\nok 1 - b\n#   why\nnot ok 2 - c\n1..2\n").expect("whole");
        assert_eq!(checks.total, 2);
        assert_eq!(checks.failed, ["#   why\nnot ok 2 - c"]);
    }

    #[test]
    fn a_run_that_was_cut_short_is_an_error() {
        assert!(parse("ok 1 - a\nok 2 - b\n").is_err());
        assert!(parse("ok 1 - a\n1..2\n").is_err());
        assert!(parse("ok 1 - a\nBail out! no memory\n1..1\n").is_err());
    }

    #[test]
    fn a_lost_line_is_an_error() {
        assert!(parse("ok 1 - a\nok 3 - c\n1..2\n").is_err());
        assert!(parse("ok 1 - a\n1..1\nok 2 - b\n").is_err());
    }

    #[test]
    fn nothing_checked_is_an_error() {
        assert!(parse("1..0\n").is_err());
        assert!(parse("").is_err());
    }
}
