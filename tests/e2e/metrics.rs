//! `--metrics` counts what happened: exactly where that is possible.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::fixtures::Fixtures;
use tests::kernels::{Kernel, Variant, Version};

use crate::theme::{PATCHED, Test, Theme};
use crate::vm::{Run, Vm, directory};

const MIB: u64 = 1 << 20;

pub(crate) fn theme() -> Theme {
    let newer = Kernel::Built(Version::V6_12, Variant::Patched);
    let opens = [("6_1", Kernel::PATCHED), ("6_12", newer)].map(|(version, kernel)| {
        Test::new(
            format!("a_tree_that_is_only_read_is_not_opened_on_{version}"),
            [kernel],
            move |fixtures| without_open(fixtures, kernel),
        )
    });
    Theme::new(
        "metrics",
        opens.into_iter().chain([
            Test::new("count_requests_bytes_and_errors", PATCHED, counts),
            Test::new("a_sync_reaches_the_host", PATCHED, sync),
            Test::new("are_written_when_the_run_ends_badly", PATCHED, bad_end),
            Test::new(
                "are_the_same_in_two_runs_of_the_same_work",
                PATCHED,
                repeatable,
            ),
        ]),
    )
}

fn counts(fixtures: &Fixtures) -> Result<()> {
    let data = vec![7; usize::try_from(4 * MIB)?];
    let share = directory(&[("file", &data)])?;
    let run = Vm::patched(fixtures)?
        .share(share.path(), "tag=t,cache=never")
        .script("cat /mnt/t/file | wc -c; dd if=/dev/zero of=/mnt/t/new bs=1M count=2 2>/dev/null; stat /mnt/t/missing 2>/dev/null; exit 0")
        .run()?
        .expect_success()?;
    let operation = |name: &str| Ok::<_, anyhow::Error>(&share_metrics(&run)?["operations"][name]);
    ensure!(operation("INIT")?["count"] == 1, "{}", run.metrics);
    ensure!(
        operation("READ")?["bytes_read"] == 4 * MIB,
        "{}",
        run.metrics
    );
    ensure!(
        operation("WRITE")?["bytes_written"] == 2 * MIB,
        "{}",
        run.metrics
    );
    ensure!(
        operation("LOOKUP")?["errors"].as_u64() >= Some(1),
        "{}",
        run.metrics
    );
    // A megabyte per request, as negotiated; `cat` of busybox reads less.
    ensure!(
        operation("WRITE")?["count"].as_u64() <= Some(4),
        "{}",
        run.metrics
    );
    let queues = share_metrics(&run)?["queues"]
        .as_object()
        .context("no queues")?;
    let sum = |name: &str| {
        queues
            .values()
            .filter_map(|queue| queue[name].as_u64())
            .sum::<u64>()
    };
    let operations = share_metrics(&run)?["operations"]
        .as_object()
        .context("no operations")?;
    let served: u64 = operations
        .values()
        .filter_map(|one| one["count"].as_u64())
        .sum();
    ensure!(
        sum("requests") == served,
        "{} requests, {served} served",
        sum("requests")
    );
    ensure!(sum("malformed") == 0 && sum("kicks") > 0 && sum("interrupts") > 0);
    ensure!(
        sum("kicks") <= sum("requests") + queues.len() as u64,
        "{}",
        run.metrics
    );
    for unit in ["open_fds", "rss_kib"] {
        ensure!(
            run.metrics["process"][unit].as_u64() > Some(0),
            "{}",
            run.metrics
        );
    }
    Ok(())
}

/// With `ro` and `cache=always` Linux tries one OPEN and one OPENDIR.
fn without_open(fixtures: &Fixtures, kernel: Kernel) -> Result<()> {
    const FILES: usize = 20;
    let share = directory(&[])?;
    for number in 0..FILES {
        std::fs::write(share.path().join(number.to_string()), "text\n")?;
    }
    let run = Vm::booting(fixtures, kernel)?
        .share(share.path(), "tag=t,ro,cache=always")
        .share(share.path(), "tag=opened,ro,cache=auto")
        .script(
            "for at in /mnt/t /mnt/opened; do
                 cd $at; for round in 1 2; do cat * | sort | uniq -c; ls | wc -l; done
             done",
        )
        .run()?
        .expect_success()?;
    let said: Vec<&str> = run.text()?.split_whitespace().collect();
    ensure!(said == ["20", "text", "20"].repeat(4), "{}", run.account());
    let count = |tag: &str, name: &str| {
        let operations = &run.metrics["shares"][tag]["operations"];
        operations[name]["count"].as_u64().unwrap_or(0)
    };
    for name in ["OPEN", "OPENDIR"] {
        ensure!(count("t", name) == 1, "{name}: {}", run.metrics);
    }
    for name in ["RELEASE", "RELEASEDIR"] {
        ensure!(count("t", name) == 0, "{name}: {}", run.metrics);
    }
    ensure!(count("t", "FLUSH") <= 1 && count("t", "READ") == FILES as u64);
    ensure!(
        count("opened", "OPEN") == 2 * FILES as u64,
        "{}",
        run.metrics
    );
    Ok(())
}

/// Linux sends SYNCFS over virtio-fs only, so nothing but a guest shows it.
fn sync(fixtures: &Fixtures) -> Result<()> {
    let share = directory(&[])?;
    let run = Vm::patched(fixtures)?
        .share(share.path(), "tag=t")
        .script("echo text >/mnt/t/file; sync")
        .run()?
        .expect_success()?;
    let syncs = &share_metrics(&run)?["operations"]["SYNCFS"];
    ensure!(syncs["count"].as_u64() >= Some(1), "{}", run.metrics);
    ensure!(syncs["errors"] == 0, "{}", run.metrics);
    Ok(())
}

fn bad_end(fixtures: &Fixtures) -> Result<()> {
    let run = Vm::patched(fixtures)?
        .share(directory(&[])?.path(), "tag=t")
        .script("echo c > /proc/sysrq-trigger")
        .run()?
        .expect(255, "panic")?;
    ensure!(
        share_metrics(&run)?["operations"]["INIT"]["count"] == 1,
        "{}",
        run.metrics
    );
    Ok(())
}

/// What regression runs stand on.
fn repeatable(fixtures: &Fixtures) -> Result<()> {
    let once = || {
        let share = directory(&[("a", &[1; 70_000]), ("b/c", b"c"), ("b/d", b"d")])?;
        let run = Vm::patched(fixtures)?
            .share(share.path(), "tag=t,cache=never")
            .script("cd /mnt/t; ls -lR > /dev/null; cat a b/c b/d > /dev/null; rm -r b; echo x > x")
            .run()?
            .expect_success()?;
        let operations = share_metrics(&run)?["operations"]
            .as_object()
            .context("none")?
            .clone();
        Ok::<_, anyhow::Error>(
            operations
                .into_iter()
                // Attributes may be asked again when their second is over, and
                // inodes forgotten whenever the kernel likes.
                .filter(|(name, _)| {
                    !["GETATTR", "LOOKUP", "FORGET", "BATCH_FORGET"].contains(&name.as_str())
                })
                .map(|(name, one)| (name, one["count"].clone(), one["bytes_read"].clone()))
                .collect::<Vec<_>>(),
        )
    };
    let (first, second) = (once()?, once()?);
    ensure!(first == second, "{first:?} is not {second:?}");
    Ok(())
}

fn share_metrics(run: &Run) -> Result<&Value> {
    run.metrics["shares"]
        .get("t")
        .with_context(|| format!("no share t in {}", run.metrics))
}
