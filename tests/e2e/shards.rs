//! The suite in several labs, a theme each.
//!
//! As many run at once as the host has processors, each of which emulates one.
//! A lab is a machine in a machine emulator; should its own kernel panic or
//! hang, which has nothing to do with what is tested, the theme is run again,
//! loudly. Only status 125 of the lab is taken for that: a test that fails is
//! never tried again.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Output};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use tests::lab::FAILED;

use crate::theme::Selection;

/// How often a theme may lose its lab.
const TRIES: u32 = 3;

/// This program, to be run once more for one theme.
pub(crate) struct Shard {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// The variable that names the theme.
    pub(crate) theme: &'static str,
}

/// What became of a theme, or of all.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    passed: usize,
    failed: usize,
    /// Tests of which nothing is known.
    lost: usize,
}

/// Runs `command` once per theme, told which in its environment, and sums up.
///
/// # Errors
///
/// When a child cannot be started.
pub(crate) fn run(command: &Shard, mut themes: Vec<Selection>) -> Result<ExitCode> {
    themes.sort_by_key(|theme| (!theme.long, Reverse(theme.tests)));
    let width = thread::available_parallelism().map_or(1, usize::from);
    let queue = Mutex::new(VecDeque::from(themes));
    let total = Mutex::new(Tally::default());
    thread::scope(|scope| {
        let workers: Vec<_> = (0..width)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    loop {
                        // A statement of its own, so that the lock is let go.
                        let next = lock(&queue).pop_front();
                        let Some(theme) = next else {
                            return Ok(());
                        };
                        let tally = run_theme(command, &theme)?;
                        let mut total = lock(&total);
                        total.passed += tally.passed;
                        total.failed += tally.failed;
                        total.lost += tally.lost;
                    }
                })
            })
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|_| anyhow::bail!("a panic")))
    })?;
    let total = *lock(&total);
    println!(
        "\n{} passed, {} failed",
        total.passed,
        total.failed + total.lost
    );
    let good = total.failed == 0 && total.lost == 0 && total.passed > 0;
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn run_theme(command: &Shard, theme: &Selection) -> Result<Tally> {
    for left in (0..TRIES).rev() {
        let output = Command::new(&command.program)
            .args(&command.arguments)
            .envs(command.environment.iter().cloned())
            .env(command.theme, theme.theme)
            .output()
            .context("cannot run the tests once more")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let lost_lab = output.status.code() == Some(i32::from(FAILED));
        show(&text, &output);
        if lost_lab && left > 0 {
            println!(
                "e2e: the lab of {} failed, not a test; {left} more tries",
                theme.theme
            );
            continue;
        }
        return Ok(tally(&text, theme, output.status.success()));
    }
    Ok(Tally {
        lost: theme.tests,
        ..Tally::default()
    })
}

/// Reads `test result: ok. 7 passed; 0 failed; ...`. What is missing to the
/// theme's tests is lost, and so is everything when the status and the text
/// disagree.
fn tally(text: &str, theme: &Selection, success: bool) -> Tally {
    let count = |what: &str| {
        text.lines()
            .rfind(|line| line.starts_with("test result:"))
            .and_then(|line| line.split([';', '.']).find(|part| part.ends_with(what)))
            .and_then(|part| part.trim().split(' ').next()?.parse().ok())
            .unwrap_or(0)
    };
    let (passed, failed) = (count(" passed"), count(" failed"));
    if success != (failed == 0) {
        return Tally {
            lost: theme.tests,
            ..Tally::default()
        };
    }
    Tally {
        passed,
        failed,
        lost: theme.tests.saturating_sub(passed + failed),
    }
}

/// Prints what a child said, in one piece.
fn show(text: &str, output: &Output) {
    let errors = String::from_utf8_lossy(&output.stderr);
    println!("{}\n{}", errors.trim_end(), text.trim());
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
