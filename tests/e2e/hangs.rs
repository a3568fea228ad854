//! What a run says of a guest whose time was up.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::fixtures::Fixtures;

use crate::modules;
use crate::theme::{PATCHED, Test, Theme};
use crate::vm::{Run, Vm, stretched};

/// A loop that takes interrupts, and one that takes none and writes lines to the serial
/// port: `cli; mov $0x3f8,%dx; 1: mov $'F',%al; out %al,%dx; mov $'\\n',%al; out %al,%dx;
/// jmp 1b`.
const SPIN: [u8; 2] = [0xeb, 0xfe];
const FLOOD: [u8; 13] = [
    0xfa, 0x66, 0xba, 0xf8, 0x03, 0xb0, b'F', 0xee, 0xb0, b'\n', 0xee, 0xeb, 0xf8,
];
/// `cli; 1: jmp 1b`.
const DEAF: [u8; 3] = [0xfa, 0xeb, 0xfe];
/// So that nothing of the kernel's goes to the console that is not asked for.
const HUSH: &str = "echo N > /sys/module/printk/parameters/ignore_loglevel; dmesg -n 1; ";

pub(crate) fn theme() -> Theme {
    Theme::new(
        "hangs",
        [
            Test::new("of_a_kernel_are_in_its_back_traces", PATCHED, spinning),
            Test::new("of_a_kernel_that_floods_have_registers", PATCHED, flooding),
            Test::new("of_a_deaf_kernel_have_registers", PATCHED, deaf),
            Test::new("of_a_program_leave_the_processors_idle", PATCHED, idle),
            Test::new("are_none_where_a_program_is_at_work", PATCHED, at_work),
        ],
    )
}

/// Long enough for a guest to boot, and to be quiet for a part of it.
fn run(vm: Vm, script: &str) -> Result<Run> {
    let limit = stretched(Duration::from_millis(600)).max(Duration::from_secs(5));
    vm.option("--timeout", format!("{}s", limit.as_secs()))
        .patience(Duration::from_secs(20))
        .script(script)
        .run()?
        .expect(124, "timeout")
}

fn with_module(fixtures: &Fixtures, code: &[u8], before: &str) -> Result<Run> {
    let share = modules::share(fixtures, "hangs", code)?;
    let vm = Vm::patched(fixtures)?.share(share.path(), "tag=t");
    run(vm, &format!("{before}insmod /mnt/t/hangs.ko"))
}

/// The advice has `part`, and speaks of more time if that can help.
fn expect_advice(run: &Run, part: &str, more_time: bool) -> Result<()> {
    let message = run.report["message"].as_str().unwrap_or_default();
    ensure!(message.contains(part), "{}", run.account());
    let raises = message.contains("--timeout");
    ensure!(raises == more_time, "{}", run.account());
    Ok(())
}

/// In the report, and shown; the line of the first processor's if there is one.
fn expect_traces(run: &Run, part: &str) -> Result<()> {
    let traces = run.report["traces"].as_array();
    let has_part = |line: &serde_json::Value| line.as_str().is_some_and(|line| line.contains(part));
    ensure!(
        traces.is_some_and(|lines| lines.iter().any(has_part)),
        "{part}: {}",
        run.account()
    );
    let shown = run.stderr.split_once("vmm: where the guest is:");
    ensure!(
        shown.is_some_and(|(_, shown)| shown.contains(part)),
        "{part}: {}",
        run.account()
    );
    Ok(())
}

fn spinning(fixtures: &Fixtures) -> Result<()> {
    let run = with_module(fixtures, &SPIN, HUSH)?;
    expect_advice(&run, "the back traces say where it hangs", false)?;
    for part in ["Comm: insmod", "do_init_module", "Show Blocked State"] {
        expect_traces(&run, part)?;
    }
    Ok(())
}

fn flooding(fixtures: &Fixtures) -> Result<()> {
    let run = with_module(fixtures, &FLOOD, "")?;
    ensure!(run.console.contains("\nF\nF\n"), "{}", run.account());
    expect_traces(&run, "vCPU 0: rip=")
}

fn deaf(fixtures: &Fixtures) -> Result<()> {
    let run = with_module(fixtures, &DEAF, "")?;
    expect_advice(&run, "its kernel took no SysRq", false)?;
    expect_traces(&run, "vCPU 0: rip=")
}

fn idle(fixtures: &Fixtures) -> Result<()> {
    let run = run(Vm::patched(fixtures)?, "sleep 100000")?;
    expect_advice(&run, "its processors were idle", false)?;
    expect_traces(&run, "Comm: swapper/0")
}

fn at_work(fixtures: &Fixtures) -> Result<()> {
    let script = "while :; do echo something; sleep 0.2; done";
    let run = run(Vm::patched(fixtures)?, script)?;
    expect_advice(&run, "still at work", true)
}
