//! Signals to `vmm` end the machine, and leave nothing behind.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use tests::fixtures::Fixtures;

use crate::theme::{PATCHED, Test, Theme};
use crate::vm::{Vm, below, directory};

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
    Theme::new("signals", tests)
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
    let sent = Command::new("kill")
        .arg(format!("-{number}"))
        .arg(pid.to_string())
        .status()?;
    ensure!(sent.success(), "cannot send the signal");
    let run = running.finish()?.expect(128 + number, "interrupted")?;
    ensure!(run.report["signal"] == number, "{}", run.report);
    ensure!(
        !Path::new(&format!("/proc/{pid}")).exists(),
        "vmm is still there"
    );
    ensure!(fs::read(below(&share, "file"))? == b"data\n");
    Ok(())
}
