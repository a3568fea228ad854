//! What strace wrote about a program with threads.

use anyhow::{Context, Result, ensure};

/// The system calls that ended of all threads but the first. Each line begins with the
/// number of the thread.
///
/// # Errors
///
/// When it is something else, or there was one thread only.
pub fn device_calls(trace: &str) -> Result<u64> {
    let mut driver = None;
    let mut calls = 0;
    for line in trace.lines() {
        let (thread, what) = line
            .split_once(' ')
            .filter(|(thread, _)| thread.parse::<u32>().is_ok())
            .with_context(|| format!("line {line:?} is not strace's"))?;
        let driver = *driver.get_or_insert(thread);
        let what = what.trim_start();
        // Where a call ends: that in which a thread waits at the end of the program
        // may not have been written down, and its end says `= ?`.
        let ends = if what.starts_with(|first: char| first.is_ascii_lowercase()) {
            !what.ends_with("<unfinished ...>")
        } else {
            what.starts_with("<... ") && !what.ends_with("= ?")
        };
        calls += u64::from(thread != driver && ends);
    }
    ensure!(calls > 0, "strace wrote of no other thread");
    Ok(calls)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const TRACE: &str = "\
10 execve(\"device-bench\", [\"device-bench\"], 0x7ffd /* 2 vars */) = 0
10 clone3({flags=CLONE_VM}, 88) = 11
11 read(5,  <unfinished ...>
10 write(5, \"\\1\", 8 <unfinished ...>
11 <... read resumed>\"\\1\", 8) = 8
10 <... write resumed>) = 8
11 statx(4, \"\", AT_EMPTY_PATH, STATX_ALL, {stx_mask=STATX_ALL}) = 0
11 read(5,  <unfinished ...>
10 exit_group(0) = ?
11 <... read resumed> <unfinished ...>) = ?
11 +++ exited with 0 +++
10 +++ exited with 0 +++
";

    #[test]
    fn calls_of_other_threads_count_once_each() {
        assert_eq!(device_calls(TRACE).unwrap(), 2);
    }

    #[test]
    fn what_is_no_trace_is_refused() {
        for text in ["", "read(5) = 0\n", "10 execve() = 0\n"] {
            device_calls(text).unwrap_err();
        }
    }
}
