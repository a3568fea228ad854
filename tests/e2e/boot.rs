//! Kernels and machines of every shape.

use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use tests::fixtures::Fixtures;
use tests::kernels::Kernel;

use crate::kernel_cache;
use crate::theme::{PATCHED, Test, Theme};
use crate::vm::{Vm, directory};

pub(crate) fn theme() -> Theme {
    Theme::new(
        "boot",
        vec![
            Test::new("a_bzimage_boots", PATCHED, |fixtures| {
                kernel_boots(fixtures, "bzImage")
            }),
            Test::new("an_elf_vmlinux_boots", PATCHED, |fixtures| {
                kernel_boots(fixtures, "vmlinux")
            }),
            Test::new("every_processor_comes_up", PATCHED, processors),
            Test::new("256_mib_are_enough", PATCHED, |fixtures| {
                memory(fixtures, 256)
            }),
            Test::new("memory_continues_above_4_gib", PATCHED, |fixtures| {
                memory(fixtures, 4608)
            }),
            Test::new("more_than_8_gib_are_all_there", PATCHED, |fixtures| {
                memory(fixtures, 8320)
            }),
            Test::new("the_clock_is_the_hosts", PATCHED, clock),
            Test::new(
                "the_command_line_gets_what_the_user_appends",
                PATCHED,
                command_line,
            ),
            Test::new("devices_are_found_without_acpi", PATCHED, without_acpi),
            Test::new(
                "the_devices_interrupts_are_messages_where_acpi_tells_of_them",
                PATCHED,
                interrupts,
            ),
            Test::new(
                "a_kernel_seen_before_is_not_unpacked_again",
                kernel_cache::BOOTED,
                kernel_cache::seen,
            ),
            Test::new(
                "an_unpacked_kernel_starts_as_it_does_by_itself",
                kernel_cache::BOOTED,
                kernel_cache::alike,
            ),
        ],
    )
}

fn kernel_boots(fixtures: &Fixtures, file: &str) -> Result<()> {
    let kernel = fixtures.kernel(Kernel::PATCHED)?;
    let release = std::fs::read_to_string(kernel.join("kernelrelease"))?;
    let run = Vm::new(fixtures, &kernel.join(file))?
        .command(["uname", "-r"])
        .run()?
        .expect_success()?;
    ensure!(run.text()? == release, "{}", run.account());
    Ok(())
}

fn processors(fixtures: &Fixtures) -> Result<()> {
    let share = directory(&[("file", b"content")])?;
    let run = Vm::patched(fixtures)?
        .option("--cpus", "4")
        .share(share.path(), "tag=t,queues=2")
        .patience(Duration::from_secs(20))
        .script("grep -c ^processor /proc/cpuinfo; for i in 0 1 2 3; do taskset $((1 << i)) cat /mnt/t/file || exit 1; done")
        .run()?
        .expect_success()?;
    ensure!(
        run.text()? == "4\ncontentcontentcontentcontent",
        "{}",
        run.account()
    );
    Ok(())
}

/// Boots with that much memory, finds it all, and writes to its far end.
fn memory(fixtures: &Fixtures, mebibytes: u64) -> Result<()> {
    let run = Vm::patched(fixtures)?
        .option("--memory", format!("{mebibytes}M"))
        .patience(Duration::from_secs(20))
        .script("awk '/MemTotal/ { print $2 }' /proc/meminfo; grep -c 'System RAM' /proc/iomem; dd if=/dev/zero of=/tmp/f bs=1M count=64 2>/dev/null && wc -c < /tmp/f")
        .run()?
        .expect_success()?;
    let mut lines = run.text()?.lines();
    let total: u64 = lines.next().context("no MemTotal")?.parse()?;
    let given = mebibytes * 1024;
    // The kernel keeps its own text and one descriptor of 64 bytes per page.
    ensure!(
        total < given && total > given - given / 32 - (64 << 10),
        "{total} KiB of {given} KiB"
    );
    let regions: u32 = lines.next().context("no regions")?.parse()?;
    ensure!(
        regions >= if mebibytes > 4096 { 3 } else { 2 },
        "{}",
        run.account()
    );
    ensure!(lines.next() == Some("67108864"), "{}", run.account());
    Ok(())
}

fn clock(fixtures: &Fixtures) -> Result<()> {
    // What busybox makes of times elsewhere has no parts of a second.
    let mut running = Vm::patched(fixtures)?
        .script(
            r#"stamp() { adjtimex | awk '/tv_sec/ { s = $2 } /tv_usec/ { printf "%d.%06d\n", s, $2 }'; }
               stamp; read go; stamp"#,
        )
        .start(Stdio::piped())?;
    let start = stamp(&running.read_line()?)?;
    let ready = SystemTime::now();
    running.stdin()?.write_all(b"go\n")?;
    let now = stamp(&running.read_line()?)?;
    let done = SystemTime::now();
    running.finish()?.expect_success()?;
    ensure!(
        start <= ready + MARGIN,
        "the guest's {start:?} is after the host's {ready:?}"
    );
    ensure!(
        (ready - MARGIN..=done + MARGIN).contains(&now),
        "the guest's {now:?} is not between the host's {ready:?} and {done:?}"
    );
    Ok(())
}

/// The time that a line with seconds and microseconds says.
fn stamp(line: &str) -> Result<SystemTime> {
    let (seconds, micros) = line.split_once('.').context("no point in the time")?;
    let since = Duration::from_secs(seconds.parse()?) + Duration::from_micros(micros.parse()?);
    Ok(UNIX_EPOCH + since)
}

/// How far the guest's clock may be from the host's: it is set by an answer
/// that takes its time.
const MARGIN: Duration = Duration::from_millis(400);

fn command_line(fixtures: &Fixtures) -> Result<()> {
    let run = Vm::patched(fixtures)?
        .option("--cmdline", "e2e.word=one e2e.words=\"two three\"")
        .command(["cat", "/proc/cmdline"])
        .run()?
        .expect_success()?;
    ensure!(
        run.text()?.contains("e2e.word=one e2e.words=\"two three\""),
        "{}",
        run.account()
    );
    Ok(())
}

fn without_acpi(fixtures: &Fixtures) -> Result<()> {
    let share = directory(&[("file", b"content")])?;
    let run = Vm::patched(fixtures)?
        .option("--cmdline", "acpi=off")
        .share(share.path(), "tag=t,queues=2")
        .script("ls /sys/firmware; cat /mnt/t/file; exit 3")
        .run()?
        // Such a kernel cannot switch its machine off.
        .expect(3, "exited")?;
    run.expect_quiet_kernel()?;
    let text = run.text()?;
    ensure!(
        text.ends_with("content") && !text.contains("acpi"),
        "{}",
        run.account()
    );
    Ok(())
}

fn interrupts(fixtures: &Fixtures) -> Result<()> {
    let share = directory(&[("file", b"content")])?;
    // The pins of the second IO-APIC are counted from 0, those of the first from 5.
    for (parameter, pins) in [("quiet", [0, 1]), ("acpi=noirq", [5, 6])] {
        let run = Vm::patched(fixtures)?
            .option("--cmdline", parameter)
            .share(share.path(), "tag=t")
            .script("grep virtio /proc/interrupts; cat /mnt/t/file")
            .run()?
            .expect_success()?;
        run.expect_quiet_kernel()?;
        let text = run.text()?;
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|l| l.split_whitespace().collect())
            .collect();
        for (index, pin) in pins.iter().enumerate() {
            let (pin, device) = (format!("{pin}-edge"), format!("virtio{index}"));
            ensure!(
                lines
                    .iter()
                    .any(|line| line.ends_with(&["IO-APIC", &pin, &device])),
                "{parameter}: {}",
                run.account()
            );
        }
        ensure!(text.ends_with("content"), "{parameter}: {}", run.account());
    }
    Ok(())
}
