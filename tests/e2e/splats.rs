//! What the guest's kernel reports of its own bugs: found, told, and a failure.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::fixtures::Fixtures;
use tests::kernels::Kernel;

use crate::theme::{PATCHED, Test, Theme};
use crate::vm::Vm;
use crate::{insmod, modules};

/// An instruction that is undefined.
const UD2: [u8; 2] = [0x0f, 0x0b];
/// The head of the oops of [`UD2`].
const HEAD: &str = "invalid opcode: 0000 [#1]";

pub(crate) fn theme() -> Theme {
    Theme::new(
        "splats",
        [
            Test::new("oops_fails_a_command_that_does_not", PATCHED, oops),
            Test::new(
                "status_of_a_command_that_fails_remains",
                PATCHED,
                own_status,
            ),
            Test::new("quoted_by_a_program_is_none", PATCHED, quoted),
            Test::new("is_found_on_a_console_without_times", PATCHED, untimed),
            Test::new("warning_fails_when_asked", [Kernel::STOCK], warning),
        ],
    )
}

fn oops(fixtures: &Fixtures) -> Result<()> {
    let share = modules::share(fixtures, "broken", &UD2)?;
    let broken = |options: &[(&str, &str)]| {
        let vm = Vm::patched(fixtures)?.share(share.path(), "tag=t");
        let vm = (options.iter()).fold(vm, |vm, (name, value)| vm.option(name, value));
        vm.script("insmod /mnt/t/broken.ko; exit 0").run()
    };
    let run = broken(&[])?.expect(254, "splat")?;
    let splat = &run.report["splats"][0];
    ensure!(splat["kind"] == "oops", "{}", run.report);
    let (line, location) = (splat["line"].as_str(), splat["location"].as_str());
    ensure!(
        line.is_some_and(|line| line.starts_with(HEAD)),
        "{}",
        run.report
    );
    ensure!(
        location.is_some_and(|place| place.contains("[dummy]")),
        "{}",
        run.report
    );
    ensure!(splat["time"].as_f64().is_some(), "{}", run.report);
    // D, which is bit 7.
    let tainted = run.report["tainted"].as_u64().unwrap_or_default();
    ensure!(tainted & 1 << 7 != 0, "{}", run.report);
    // The tail begins with it, and nothing is marked in it.
    let first = (run.stderr.lines()).find(|line| line.starts_with("| "));
    ensure!(
        first.is_some_and(|line| line.starts_with("| [") && line.contains(HEAD)),
        "{}",
        run.account()
    );
    ensure!(!run.console.contains("<6>"), "{}", run.account());

    broken(&[("--fail-on", "never")])?.expect(0, "exited")?;
    let run = broken(&[("--allow-splat", "^invalid opcode")])?.expect(0, "exited")?;
    ensure!(run.report["splats"][0]["allowed"] == true, "{}", run.report);
    broken(&[("--allow-splat", "WARNING")])?.expect(254, "splat")?;
    Ok(())
}

fn own_status(fixtures: &Fixtures) -> Result<()> {
    let share = modules::share(fixtures, "broken", &UD2)?;
    let run = Vm::patched(fixtures)?
        .share(share.path(), "tag=t")
        .script("insmod /mnt/t/broken.ko; exit 3")
        .run()?
        .expect(3, "exited")?;
    ensure!(run.stderr.contains(HEAD), "{}", run.account());
    Ok(())
}

fn quoted(fixtures: &Fixtures) -> Result<()> {
    let run = Vm::patched(fixtures)?
        .option("--fail-on", "warn")
        .script(
            "echo 'BUG: by kmsg' > /dev/kmsg
             echo '<0>Kernel panic - not syncing: by kmsg' > /dev/kmsg
             echo 'WARNING: CPU: 0 PID: 1 at by console' > /dev/console
             echo '[    1.000000] BUG: by console' > /dev/console",
        )
        .run()?
        .expect(0, "exited")?;
    ensure!(
        run.report["splats"] == serde_json::json!([]),
        "{}",
        run.report
    );
    for part in ["] BUG: by kmsg", "BUG: by console"] {
        ensure!(run.console.contains(part), "{part}: {}", run.account());
    }
    Ok(())
}

fn untimed(fixtures: &Fixtures) -> Result<()> {
    let share = modules::share(fixtures, "broken", &UD2)?;
    let run = Vm::patched(fixtures)?
        .share(share.path(), "tag=t")
        .option("--append", "printk.time=0")
        .script("echo 'BUG: quoted' > /dev/kmsg; insmod /mnt/t/broken.ko; exit 0")
        .run()?
        .expect(254, "splat")?;
    let heads: Vec<_> = run.report["splats"]
        .as_array()
        .into_iter()
        .flatten()
        .collect();
    ensure!(
        heads.len() == 1
            && heads[0]["line"]
                .as_str()
                .is_some_and(|line| line.starts_with(HEAD)),
        "{}",
        run.report
    );
    let is_marked = |line: &&str| line.starts_with('<') && line.get(2..3) == Some(">");
    let marked = run.console.lines().find(is_marked);
    ensure!(marked.is_none(), "{marked:?}: {}", run.account());
    ensure!(run.console.contains("\nBUG: quoted"), "{}", run.account());
    Ok(())
}

/// As the first kernel of `insmod` warns, and keeps the program for ever.
fn warning(fixtures: &Fixtures) -> Result<()> {
    let unpatched = fixtures.kernel(Kernel::STOCK)?;
    let share = insmod::share_that_warns(unpatched, fixtures)?;
    let run = |fail_on: &str| {
        Vm::new(fixtures, &unpatched.join("bzImage"))?
            .share(share.path(), "tag=modules,ro,cache=never")
            .option("--fail-on", fail_on)
            .patience(Duration::from_secs(30))
            .script(
                "insmod /mnt/modules/payload.ko &
                 until dmesg | grep -q 'end trace'; do sleep 1; done",
            )
            .run()
    };
    let warned = run("warn")?.expect(254, "splat")?;
    ensure!(
        warned.report["splats"][0]["kind"] == "warning",
        "{}",
        warned.report
    );
    let first = (warned.stderr.lines()).find(|line| line.starts_with("| "));
    ensure!(
        first.is_some_and(|line| line.contains("cut here")),
        "{}",
        warned.account()
    );
    let run = run("oops")?.expect(0, "exited")?;
    ensure!(
        run.report["splats"][0]["kind"] == "warning",
        "{}",
        run.report
    );
    Ok(())
}
