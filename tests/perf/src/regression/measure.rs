//! Has operations counted: `device-bench` under callgrind, and under strace.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use tempfile::TempDir;

use super::metric::Metric;
use super::profile::Profile;
use super::record::Numbers;
use super::trace;

/// Rounds that come before those that are counted: what is asked of the host once is
/// asked, and each part of the device's tables, which hashes choose, is made.
const WARM: u64 = 256;
/// The same for those whose system calls are counted, and as many that are.
const TRACED: u64 = 64;
/// System calls by which two runs may differ: the C library gets a heap for a thread
/// with one more or less, as the addresses are.
const OF_HEAPS: u64 = 2;
/// What callgrind's files are called, before the number of the thread.
const PROFILE: &str = "profile";
/// Where files are in memory, whatever the directory for temporary ones is on.
const IN_MEMORY: &str = "/dev/shm";
/// The driver's thread, by callgrind's number.
const DRIVER: &str = "01";

/// An operation that a program has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What it is called.
    pub name: String,
    /// What a round of it is.
    pub about: String,
}

/// A `device-bench`.
#[derive(Clone, Debug)]
pub struct Bench(pub PathBuf);

/// What `device-bench` prints.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Counted {
    requests: u64,
    kicks: u64,
    wakeups: u64,
    interrupts: u64,
    detached: u64,
}

/// The operations that `bench` has.
///
/// # Errors
///
/// When it cannot be run.
pub fn operations(bench: &Bench) -> Result<Vec<Operation>> {
    let output = (Command::new(&bench.0)
        .arg("list")
        .stdin(Stdio::null())
        .output())
    .with_context(|| format!("cannot run {}: build it with make perf", bench.0.display()))?;
    ensure!(
        output.status.success(),
        "{} list: {}",
        bench.0.display(),
        output.status
    );
    let operation = |line: &str| {
        let (name, about) = line.split_once('\t').unwrap_or((line, ""));
        Operation {
            name: name.to_owned(),
            about: about.to_owned(),
        }
    };
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().map(operation).collect())
}

/// Counts `rounds` rounds of each of `names`, in each of `benches`; for each of those
/// the numbers by operation. Tells of each that is done by `progress`.
///
/// # Errors
///
/// When something could not be counted.
pub fn all(
    benches: &[&Bench],
    names: &[String],
    rounds: u64,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<Vec<BTreeMap<String, Numbers>>> {
    // Side by side those that are compared.
    let jobs: Vec<(usize, &String)> = (names.iter())
        .flat_map(|name| (0..benches.len()).map(move |bench| (bench, name)))
        .collect();
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    let work = || {
        while let Some((bench, name)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let numbers = (benches.get(*bench).context("no such program"))
                .and_then(|program| one(program, name, rounds))
                .with_context(|| format!("cannot count {name}"));
            let has_failed = numbers.is_err();
            let mut done = done
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            done.push((*bench, (*name).clone(), numbers));
            progress(&format!("{} of {}: {name}", done.len(), jobs.len()));
            if has_failed {
                next.store(jobs.len(), Ordering::Relaxed);
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads.min(jobs.len()) {
            scope.spawn(work);
        }
    });
    let mut results = vec![BTreeMap::new(); benches.len()];
    for (bench, name, numbers) in done.into_inner().unwrap_or_default() {
        if let Some(result) = results.get_mut(bench) {
            result.insert(name, numbers?);
        }
    }
    Ok(results)
}

/// The difference that more rounds make, for each of them.
fn one(bench: &Bench, name: &str, rounds: u64) -> Result<Numbers> {
    let mut numbers = Numbers::new();
    let (few, many) = (
        profiled(bench, name, WARM)?,
        profiled(bench, name, WARM + rounds)?,
    );
    let traced = (
        traced(bench, name, TRACED)?,
        traced(bench, name, 2 * TRACED)?,
    );
    for (few, many, rounds) in [(few, many, rounds), (traced.0, traced.1, TRACED)] {
        for (metric, many) in many {
            let few = few.get(&metric).copied().unwrap_or(0);
            let more = many.checked_sub(few).context("more rounds cost less")?;
            numbers.insert(metric, each(metric, more, rounds));
        }
    }
    Ok(numbers)
}

/// What each of `rounds` has of `total`.
fn each(metric: Metric, total: u64, rounds: u64) -> f64 {
    let nearest = (total + rounds / 2) / rounds * rounds;
    let is_near = total.abs_diff(nearest) <= OF_HEAPS && rounds > 4 * OF_HEAPS;
    let total = if metric == Metric::SystemCalls && is_near {
        nearest
    } else {
        total
    };
    #[allow(clippy::cast_precision_loss)] // below 2^53
    let each = total as f64 / rounds as f64;
    each
}

/// What a run of the program costs in all, without the driver's thread.
fn profiled(bench: &Bench, name: &str, rounds: u64) -> Result<BTreeMap<Metric, u64>> {
    let scratch = scratch()?;
    let mut command = Command::new("valgrind");
    command
        .args(["-q", "--tool=callgrind", "--separate-threads=yes"])
        .arg(format!(
            "--callgrind-out-file={}",
            scratch.path().join(PROFILE).display()
        ));
    let counted = run(command, bench, name, rounds, scratch.path())?;
    let profile = device_threads(scratch.path())?;
    Ok(BTreeMap::from([
        (Metric::Instructions, profile.instructions),
        (Metric::Allocations, profile.allocations),
        (Metric::Requests, counted.requests),
        (Metric::Kicks, counted.kicks),
        (Metric::Wakeups, counted.wakeups),
        (Metric::Interrupts, counted.interrupts),
        (Metric::Detached, counted.detached),
    ]))
}

/// The system calls of a run. Not by valgrind, under which clocks are some and
/// `openat2` is none.
fn traced(bench: &Bench, name: &str, rounds: u64) -> Result<BTreeMap<Metric, u64>> {
    let scratch = scratch()?;
    let trace = scratch.path().join("trace");
    let mut command = Command::new("strace");
    command
        .args(["-f", "-qq", "-e", "signal=none", "-o"])
        .arg(&trace)
        .arg("--");
    run(command, bench, name, rounds, scratch.path())?;
    let calls = trace::device_calls(&fs::read_to_string(&trace)?)?;
    Ok(BTreeMap::from([(Metric::SystemCalls, calls)]))
}

/// A directory in memory, for the share and for what is counted.
fn scratch() -> Result<TempDir> {
    let place = Path::new(IN_MEMORY);
    let scratch = if place.is_dir() {
        tempfile::tempdir_in(place)
    } else {
        tempfile::tempdir()
    };
    scratch.context("no directory for the share")
}

/// Runs the program under `command`.
fn run(
    mut command: Command,
    bench: &Bench,
    name: &str,
    rounds: u64,
    scratch: &Path,
) -> Result<Counted> {
    let share = scratch.join("share");
    fs::create_dir(&share)?;
    let output = command
        .arg(&bench.0)
        .args(["run", name, &rounds.to_string()])
        .arg(&share)
        // What the environment takes of the stack, and what it says, is the same.
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null())
        .output()
        .with_context(|| {
            let counter = command.get_program().display();
            format!("cannot run {counter}: install it")
        })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rfind(|line| !line.trim().is_empty());
        let (counter, last) = (command.get_program().display(), last.unwrap_or(""));
        bail!("{counter} ended with {}: {last}", output.status);
    }
    serde_json::from_slice(&output.stdout).context("the program printed something else")
}

/// The sum of the profiles in `directory`: `profile-THREAD`.
fn device_threads(directory: &Path) -> Result<Profile> {
    let mut sum = Profile::default();
    let mut threads = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let thread = name
            .to_str()
            .and_then(|name| name.strip_prefix(PROFILE)?.strip_prefix('-'));
        if thread.is_none_or(|thread| thread == DRIVER) {
            continue;
        }
        let text = fs::read_to_string(entry.path())?;
        let profile =
            Profile::parse(&text).with_context(|| format!("{} cannot be read", name.display()))?;
        sum.instructions += profile.instructions;
        sum.allocations += profile.allocations;
        threads += 1;
    }
    ensure!(
        threads >= 2,
        "callgrind wrote of {threads} threads of the device"
    );
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(found: f64, meant: f64) -> bool {
        (found - meant).abs() < 1e-9
    }

    #[test]
    fn system_calls_are_whole_where_only_heaps_differ() {
        let calls = |total| each(Metric::SystemCalls, total, 64);
        assert!(is(calls(190), 3.0) && is(calls(194), 3.0));
        assert!(is(calls(195), 195.0 / 64.0) && is(calls(224), 3.5));
        assert!(is(each(Metric::SystemCalls, 5, 4), 1.25));
        assert!(is(each(Metric::Allocations, 193, 64), 193.0 / 64.0));
    }
}
