//! The command's arguments and its three streams.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Result, ensure};
use tests::fixtures::Fixtures;

use crate::theme::{PATCHED, Test, Theme};
use crate::vm::{Run, Vm};

pub(crate) fn theme() -> Theme {
    Theme::new(
        "streams",
        vec![
            Test::new(
                "stdout_and_stderr_stay_apart_from_each_other",
                PATCHED,
                apart,
            ),
            Test::new("arguments_arrive_byte_for_byte", PATCHED, arguments),
            Test::new(
                "megabytes_of_stdin_and_stdout_arrive_byte_for_byte",
                PATCHED,
                megabytes,
            ),
            Test::new("a_command_need_not_read_its_stdin", PATCHED, unread_stdin),
            Test::new(
                "stdin_at_its_end_is_at_its_end_in_the_guest",
                PATCHED,
                empty_stdin,
            ),
            Test::new("output_arrives_while_the_command_runs", PATCHED, live),
            Test::new(
                "a_reader_that_goes_away_ends_the_writer",
                PATCHED,
                broken_pipe,
            ),
            Test::new(
                "output_that_a_full_disk_does_not_take_is_a_failure",
                PATCHED,
                full_disk,
            ),
            Test::new(
                "a_log_that_a_full_disk_does_not_take_is_a_failure",
                PATCHED,
                full_log,
            ),
        ],
    )
}

fn apart(fixtures: &Fixtures) -> Result<()> {
    let said = |vm: Vm| {
        vm.script("echo out; echo err >&2; echo out2; echo err2 >&2; echo kernel > /dev/kmsg")
            .run()?
            .expect_success()
    };
    let run = said(Vm::patched(fixtures)?)?;
    ensure!(run.text()? == "out\nout2\n", "{}", run.account());
    ensure!(run.stderr == "err\nerr2\n", "{}", run.account());
    ensure!(run.console.contains("kernel"), "{}", run.account());
    // The kernel's console is beside it when that is asked for.
    let run = said(Vm::patched(fixtures)?.flag("-v"))?;
    ensure!(run.text()? == "out\nout2\n", "{}", run.account());
    for part in ["err2\n", "Run /init as init process", "] kernel"] {
        ensure!(run.stderr.contains(part), "{part}: {}", run.account());
    }
    Ok(())
}

fn arguments(fixtures: &Fixtures) -> Result<()> {
    let odd: [&[u8]; 12] = [
        b"",
        b" ",
        b"two words",
        b"a\nb",
        b"--",
        b"--help",
        b"$HOME `id` $(id) \\",
        b"'single' \"double\"",
        b"*",
        "\u{fc}\u{1f600}".as_bytes(),
        b"\xff\xfe not text",
        b"\x01\x1b[0m\x7f",
    ];
    let argv = ["printf", "[%s]"]
        .map(OsStr::new)
        .into_iter()
        .chain(odd.map(OsStr::from_bytes));
    let run = Vm::patched(fixtures)?
        .command(argv)
        .run()?
        .expect_success()?;
    let wanted: Vec<u8> = odd
        .iter()
        .flat_map(|argument| [b"[", *argument, b"]"].concat())
        .collect();
    ensure!(
        run.stdout == wanted,
        "{:?}",
        String::from_utf8_lossy(&run.stdout)
    );
    Ok(())
}

fn megabytes(fixtures: &Fixtures) -> Result<()> {
    // Every byte value, and no period that is one of a buffer's sizes.
    let input: Vec<u8> = (0..5_000_011_u32)
        .map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let run = Vm::patched(fixtures)?
        .command(["cat"])
        .run_with_input(input.clone())?;
    let run = run.expect_success()?;
    ensure!(
        run.stdout.len() == input.len(),
        "{} bytes came back",
        run.stdout.len()
    );
    ensure!(run.stdout == input, "other bytes came back");
    Ok(())
}

fn unread_stdin(fixtures: &Fixtures) -> Result<()> {
    let run = Vm::patched(fixtures)?
        .script("head -c 3; exit 4")
        .run_with_input(b"abc".repeat(1 << 20))?
        .expect(4, "exited")?;
    ensure!(run.text()? == "abc", "{}", run.account());
    Ok(())
}

fn empty_stdin(fixtures: &Fixtures) -> Result<()> {
    let run = Vm::patched(fixtures)?
        .script("wc -c")
        .run()?
        .expect_success()?;
    ensure!(run.text()?.trim() == "0", "{}", run.account());
    Ok(())
}

fn live(fixtures: &Fixtures) -> Result<()> {
    let mut running = Vm::patched(fixtures)?
        .script("echo ready; read answer; echo got $answer")
        .start(Stdio::piped())?;
    // The command waits for an answer to what it said: both went through.
    ensure!(running.read_line()? == "ready");
    std::io::Write::write_all(&mut running.stdin()?, b"word\n")?;
    ensure!(running.read_line()? == "got word");
    running.finish()?.expect_success()?;
    Ok(())
}

fn broken_pipe(fixtures: &Fixtures) -> Result<()> {
    let mut running = Vm::patched(fixtures)?
        .command(["yes"])
        .start(Stdio::null())?;
    let mut stdout = running.take_stdout()?;
    let mut some = [0; 1000];
    stdout.read_exact(&mut some)?;
    drop(stdout);
    ensure!(some.starts_with(b"y\ny\n"));
    let run = running.finish()?;
    ensure!(!run.stderr.contains("vmm:"), "{}", run.account());
    // SIGPIPE, or an error of a `yes` that was told to ignore it.
    ensure!(
        run.status.code() == Some(141) || run.status.code() == Some(1),
        "{}",
        run.account()
    );
    Ok(())
}

/// What every write to fails with ENOSPC.
const FULL: &str = "/dev/full";

fn full_disk(fixtures: &Fixtures) -> Result<()> {
    let run = Vm::patched(fixtures)?
        .stdout(File::options().write(true).open(FULL)?)
        .script("echo hello")
        .run()?;
    lost(&run, "standard output")
}

fn full_log(fixtures: &Fixtures) -> Result<()> {
    let run = Vm::patched(fixtures)?
        .console_log(Path::new(FULL))
        .script("echo hello")
        .run()?;
    ensure!(run.text()? == "hello\n", "{}", run.account());
    lost(&run, "--console-log")
}

/// Fails unless one line and the report say that `what` lost output.
fn lost(run: &Run, what: &str) -> Result<()> {
    ensure!(run.status.code() == Some(125), "{}", run.account());
    ensure!(run.report["outcome"] == "vmm-error", "{}", run.account());
    ensure!(run.report["code"] == 125, "{}", run.account());
    let message = run.report["message"].as_str().unwrap_or_default();
    for part in [what, "No space left", "status 0"] {
        ensure!(message.contains(part), "{}", run.account());
    }
    let line = format!("vmm: error: {message}\n");
    ensure!(run.stderr == line, "not that line alone: {}", run.account());
    Ok(())
}
