//! The exit status of `vmm run` and the outcome in its report.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::fixtures::Fixtures;

use crate::shares::tree;
use crate::theme::{PATCHED, Test, Theme};
use crate::vm::{Vm, below, directory, stretched};

pub(crate) fn theme() -> Theme {
    Theme::new(
        "exit_status",
        vec![
            Test::new("of_the_command_is_that_of_vmm", PATCHED, command_status),
            Test::new(
                "is_128_and_the_signal_that_ended_the_command",
                PATCHED,
                signal,
            ),
            Test::new("is_124_when_the_time_is_up", PATCHED, timeout),
            Test::new(
                "is_125_for_a_command_line_that_cannot_work",
                PATCHED,
                cannot_work,
            ),
            Test::new(
                "is_126_for_a_file_that_cannot_be_executed",
                PATCHED,
                cannot_execute,
            ),
            Test::new("is_127_for_a_command_that_is_not_there", PATCHED, not_found),
            Test::new("is_255_when_the_kernel_panics", PATCHED, panic),
            Test::new(
                "is_255_when_the_command_powers_the_machine_off",
                PATCHED,
                |fixtures| ends_without_report(fixtures, "poweroff -f"),
            ),
            Test::new(
                "is_255_when_the_command_restarts_the_machine",
                PATCHED,
                |fixtures| ends_without_report(fixtures, "reboot -f"),
            ),
            Test::new(
                "is_255_when_the_command_halts_the_machine",
                PATCHED,
                |fixtures| {
                    // All processors, not only the one that was asked.
                    let vm = Vm::patched(fixtures)?.option("--cpus", "3");
                    vm.script("halt -f").run()?.expect(255, "died")?;
                    Ok(())
                },
            ),
            Test::new("is_255_when_sysrq_ends_the_machine", PATCHED, |fixtures| {
                // Reboot, and power off, which takes a moment.
                for key in ["b", "o"] {
                    let script = format!("echo {key} > /proc/sysrq-trigger; sleep 100000");
                    ends_without_report(fixtures, &script)?;
                }
                Ok(())
            }),
            Test::new(
                "is_the_commands_when_it_only_says_that_the_system_halted",
                PATCHED,
                only_says_halted,
            ),
            Test::new(
                "is_0_when_the_init_of_a_root_ends_the_machine",
                PATCHED,
                ended_by_its_init,
            ),
        ],
    )
}

fn command_status(fixtures: &Fixtures) -> Result<()> {
    for code in [0, 3] {
        Vm::patched(fixtures)?
            .script(&format!("exit {code}"))
            .run()?
            .expect(code, "exited")?;
    }
    // 124 to 127 and 255 of the command itself are told apart by the report.
    Vm::patched(fixtures)?
        .script("exit 255")
        .run()?
        .expect(255, "exited")?;
    Ok(())
}

fn signal(fixtures: &Fixtures) -> Result<()> {
    let run = Vm::patched(fixtures)?
        .script("kill -KILL $$")
        .run()?
        .expect(137, "signaled")?;
    ensure!(run.report["signal"] == 9, "{}", run.report);
    Ok(())
}

fn timeout(fixtures: &Fixtures) -> Result<()> {
    let limit = stretched(Duration::from_secs(1));
    let started = Instant::now();
    let run = Vm::patched(fixtures)?
        .option("--timeout", format!("{}s", limit.as_secs()))
        .script("echo running; sleep 100000")
        .run()?
        .expect(124, "timeout")?;
    ensure!(run.text()? == "running\n", "{}", run.account());
    ensure!(
        started.elapsed() >= limit,
        "it ended after {:?}",
        started.elapsed()
    );
    ensure!(
        run.stderr.contains("Run /init as init process"),
        "no console's tail: {}",
        run.stderr
    );
    Ok(())
}

fn cannot_work(fixtures: &Fixtures) -> Result<()> {
    let share = directory(&[("not-a-kernel", b"text")])?;
    let missing = below(&share, "missing");
    let file = below(&share, "not-a-kernel");
    for vm in [
        Vm::new(fixtures, &missing)?,
        Vm::new(fixtures, &file)?,
        Vm::patched(fixtures)?.share(&missing, ""),
        Vm::patched(fixtures)?.share(&file, ""),
        Vm::patched(fixtures)?.share(share.path(), "cache=sometimes"),
        Vm::patched(fixtures)?.option("--memory", "1M"),
    ] {
        let run = vm.script("exit 0").run()?;
        ensure!(
            run.status.code() == Some(125),
            "{}: {}",
            run.status,
            run.account()
        );
        ensure!(
            run.stderr.lines().count() == 1,
            "not one line: {}",
            run.stderr
        );
        ensure!(
            run.console.is_empty(),
            "something was started: {}",
            run.account()
        );
    }
    // What the command line's parser refuses is no exception.
    let output = Command::new(&fixtures.vmm)
        .args(["run", "--no-such-option"])
        .output()?;
    ensure!(output.status.code() == Some(125), "{}", output.status);
    Ok(())
}

fn cannot_execute(fixtures: &Fixtures) -> Result<()> {
    let share = directory(&[("text", b"no program")])?;
    fs::set_permissions(below(&share, "text"), PermissionsExt::from_mode(0o644))?;
    Vm::patched(fixtures)?
        .share(share.path(), "tag=t")
        .command(["/mnt/t/text"])
        .run()?
        .expect(126, "cannot-execute")?;
    Ok(())
}

fn not_found(fixtures: &Fixtures) -> Result<()> {
    Vm::patched(fixtures)?
        .command(["no-such-command"])
        .run()?
        .expect(127, "not-found")?;
    Ok(())
}

fn panic(fixtures: &Fixtures) -> Result<()> {
    let run = Vm::patched(fixtures)?
        .script("echo c > /proc/sysrq-trigger")
        .run()?
        .expect(255, "panic")?;
    ensure!(
        run.stderr.contains("Kernel panic"),
        "no console's tail: {}",
        run.stderr
    );
    Ok(())
}

fn only_says_halted(fixtures: &Fixtures) -> Result<()> {
    // Long enough to be found halted, and mostly idle.
    let run = Vm::patched(fixtures)?
        .script("echo 'reboot: System halted' > /dev/kmsg; sleep 5; echo on")
        .run()?
        .expect(0, "exited")?;
    ensure!(run.console.contains("System halted"), "{}", run.account());
    ensure!(run.text()? == "on\n", "{}", run.account());
    Ok(())
}

fn ended_by_its_init(fixtures: &Fixtures) -> Result<()> {
    let tree = tree(fixtures)?;
    fs::create_dir(below(&tree, "sbin"))?;
    let init = below(&tree, "sbin/init");
    for (applet, outcome) in [
        ("halt", "halted"),
        ("poweroff", "powered-off"),
        ("reboot", "restarted"),
    ] {
        fs::write(&init, format!("#!/bin/sh\nexec busybox {applet} -f\n"))?;
        fs::set_permissions(&init, PermissionsExt::from_mode(0o755))?;
        Vm::patched(fixtures)?
            .option("--root", tree.path())
            .flag("--init")
            .run()?
            .expect(0, outcome)?;
    }
    Ok(())
}

fn ends_without_report(fixtures: &Fixtures, script: &str) -> Result<()> {
    Vm::patched(fixtures)?
        .script(script)
        .run()?
        .expect(255, "died")?;
    Ok(())
}
