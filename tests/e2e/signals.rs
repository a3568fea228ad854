//! Signals to `vmm` reach the command, end the machine and leave nothing
//! behind.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::fixtures::Fixtures;

use crate::theme::{PATCHED, Test, Theme};
use crate::vm::{Running, Vm, below, directory};

pub(crate) fn theme() -> Theme {
    let tests = [("term", 15), ("int", 2), ("hup", 1), ("quit", 3)]
        .into_iter()
        .map(|(name, number)| {
            Test::new(
                format!("sig{name}_stops_the_machine"),
                PATCHED,
                move |fixtures| stops_the_machine(fixtures, number),
            )
        });
    let told = [
        Test::new("run_the_commands_trap", PATCHED, trap),
        Test::new("that_are_ignored_count_after_the_grace", PATCHED, ignored),
        Test::new("that_come_twice_leave_no_grace", PATCHED, twice),
        Test::new("without_a_grace_reach_nobody", PATCHED, no_grace),
    ];
    Theme::new("signals", tests.chain(told))
}

fn stops_the_machine(fixtures: &Fixtures, number: i32) -> Result<()> {
    let share = directory(&[])?;
    let mut running = Vm::patched(fixtures)?
        .share(share.path(), "tag=t")
        .script(
            "echo data > /mnt/t/file; sync; echo started; while true; do date > /mnt/t/busy; done",
        )
        .start(Stdio::null())?;
    ensure!(running.read_line()? == "started");
    let pid = running.pid();
    send(&running, number)?;
    let run = running.finish()?.expect(128 + number, "interrupted")?;
    ensure!(run.report["signal"] == number, "{}", run.report);
    ensure!(
        !Path::new(&format!("/proc/{pid}")).exists(),
        "vmm is still there"
    );
    ensure!(fs::read(below(&share, "file"))? == b"data\n");
    Ok(())
}

fn send(to: &Running, number: i32) -> Result<()> {
    let sent = Command::new("kill")
        .arg(format!("-{number}"))
        .arg(to.pid().to_string())
        .status()?;
    ensure!(sent.success(), "cannot send the signal");
    Ok(())
}

/// A `vmm` whose command has said that it is ready for signals.
fn ready(vm: Vm, script: &str) -> Result<Running> {
    let mut running = vm.script(script).start(Stdio::null())?;
    ensure!(running.read_line()? == "ready");
    Ok(running)
}

fn trap(fixtures: &Fixtures) -> Result<()> {
    let share = directory(&[])?;
    let vm = Vm::patched(fixtures)?
        .share(share.path(), "tag=t,writeback")
        .option("--grace", "1000s");
    // The shell waits for a child, which gets the signal as well; it says itself
    // that it is there, as one that the shell is about to make misses it.
    let script = "trap 'echo trapped; echo late > /mnt/t/late; exit 3' TERM
                  sh -c 'echo ready; exec sleep 100000'";
    let running = ready(vm, script)?;
    send(&running, 15)?;
    let run = running.finish()?.expect(143, "interrupted")?;
    ensure!(run.text()? == "trapped\n", "{}", run.account());
    ensure!(fs::read(below(&share, "late"))? == b"late\n");
    let message = run.report["message"].as_str().unwrap_or_default();
    ensure!(message.contains("status 3"), "{}", run.account());
    Ok(())
}

fn ignored(fixtures: &Fixtures) -> Result<()> {
    let grace = Duration::from_secs(3);
    let share = directory(&[])?;
    let vm = Vm::patched(fixtures)?
        .share(share.path(), "tag=t,writeback")
        .option("--grace", format!("{}s", grace.as_secs()));
    let script = "trap '' TERM; echo data > /mnt/t/file; echo ready; while :; do sleep 1; done";
    let running = ready(vm, script)?;
    let sent = Instant::now();
    send(&running, 15)?;
    let run = running.finish()?.expect(143, "interrupted")?;
    ensure!(sent.elapsed() >= grace, "after {:?}", sent.elapsed());
    // It was killed then, and what it wrote was not.
    let message = run.report["message"].as_str().unwrap_or_default();
    ensure!(message.contains("signal 9"), "{}", run.account());
    ensure!(fs::read(below(&share, "file"))? == b"data\n");
    Ok(())
}

fn twice(fixtures: &Fixtures) -> Result<()> {
    let vm = Vm::patched(fixtures)?.option("--grace", "1000000s");
    let script = "trap 'echo told' TERM; echo ready; while :; do sleep 1; done";
    let mut running = ready(vm, script)?;
    send(&running, 15)?;
    ensure!(running.read_line()? == "told");
    send(&running, 2)?;
    let run = running.finish()?.expect(143, "interrupted")?;
    ensure!(run.report["signal"] == 15, "{}", run.account());
    Ok(())
}

fn no_grace(fixtures: &Fixtures) -> Result<()> {
    let share = directory(&[])?;
    let vm = Vm::patched(fixtures)?
        .share(share.path(), "tag=t")
        .option("--grace", "0");
    let script = "trap 'echo late > /mnt/t/late' TERM; echo ready; while :; do sleep 1; done";
    let running = ready(vm, script)?;
    send(&running, 15)?;
    running.finish()?.expect(143, "interrupted")?;
    ensure!(!below(&share, "late").exists(), "the command was told");
    Ok(())
}
