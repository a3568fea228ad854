//! What waits holds up nothing else, from the guest's programs to the host's disk: a
//! disk of which an fsync is done when the test says so.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::ChildStdout;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::io::Errno;
use serde_json::Value;
use tests::fixtures::{Fixtures, PRELUDE};
use tests::kernels::{Kernel, Variant, Version};
use tests::native::inject::Injection;

use crate::fcntl::{OWN_WRITE, lock};
use crate::theme::{Test, Theme};
use crate::vm::{Run, Vm, below, directory, stretched};

pub(crate) const THEMES: [&str; 2] = ["queues_6_1", "queues_6_12"];

/// Linux has used more than one request queue since 6.11.
pub(crate) fn themes() -> Vec<Theme> {
    let theme = |(name, version, queues)| {
        let kernel = Kernel::Built(version, Variant::Patched);
        let test = |name: &str, body: fn(&Fixtures, Kernel, usize) -> Result<()>| {
            Test::new(name, [kernel], move |fixtures| {
                body(fixtures, kernel, queues)
            })
        };
        Theme::new(
            name,
            [
                test("a_read_does_not_wait_for_an_fsync", reads),
                test("hiprio_goes_on_while_all_requests_wait", hiprio),
            ],
        )
    };
    let [older, newer] = THEMES;
    [(older, Version::V6_1, 1), (newer, Version::V6_12, 4)]
        .into_iter()
        .map(theme)
        .collect()
}

/// How long what is not held may take.
fn patience() -> Duration {
    stretched(Duration::from_secs(4))
}

/// Waits until `ask` says so.
pub(crate) fn until(what: &str, mut ask: impl FnMut() -> bool) -> Result<()> {
    let begun = Instant::now();
    while !ask() {
        if begun.elapsed() > patience() {
            bail!("never: {what}");
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The lines of a command's output as they come.
struct Lines(Receiver<String>);

impl Lines {
    fn of(stdout: ChildStdout) -> Self {
        let (sender, receiver) = channel();
        thread::spawn(move || {
            let lines = BufReader::new(stdout).lines();
            lines
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        Self(receiver)
    }

    fn expect(&self, expected: &str) -> Result<()> {
        match self.0.recv_timeout(patience()) {
            Ok(line) if line == expected => Ok(()),
            Ok(line) => bail!("{line} and not {expected}"),
            Err(RecvTimeoutError::Timeout) => bail!("never: {expected}"),
            Err(RecvTimeoutError::Disconnected) => bail!("ended before {expected}"),
        }
    }
}

/// How many of these requests took how long: each number is for twice the time of the
/// one before.
fn latencies(run: &Run, operation: &str) -> Result<Vec<u64>> {
    let metrics = &run.metrics["shares"]["t"]["operations"][operation];
    let buckets = metrics["latency_us_log2"].as_array();
    let buckets = buckets.with_context(|| format!("no {operation}: {}", run.metrics))?;
    Ok(buckets.iter().filter_map(Value::as_u64).collect())
}

/// Fails unless every one of `quick`, of which there are `count` or more, took less time
/// than `held` FSYNCs.
fn shorter_than_fsyncs(run: &Run, quick: &str, count: usize, held: usize) -> Result<()> {
    let (quicks, fsyncs) = (latencies(run, quick)?, latencies(run, "FSYNC")?);
    let longer: u64 = fsyncs.iter().skip(quicks.len()).sum();
    ensure!(
        longer >= held as u64,
        "{longer} FSYNCs were longer than {quick}: {}",
        run.metrics
    );
    let quicks: u64 = quicks.iter().sum();
    ensure!(quicks >= count as u64, "{quicks} of {quick}");
    Ok(())
}

/// On each processor, and so on each queue, one program syncs a file, and then one reads
/// another.
fn reads(fixtures: &Fixtures, kernel: Kernel, queues: usize) -> Result<()> {
    const READS: usize = 100;
    let share = directory(&[("small", &vec![7; READS * 4096])])?;
    let script = format!(
        "cd /mnt/t
         on() {{ taskset $(printf %x $((1 << $1))) dd bs=4k $2 2>/dev/null; }}
         for cpu in $(seq 0 {last}); do
             on $cpu \"if=/dev/zero of=synced$cpu count=1 conv=fsync\" &
         done
         until [ -e go ]; do sleep 0.1; done
         for cpu in $(seq 0 {last}); do on $cpu 'if=small of=/dev/null'; done
         >read; wait; echo synced",
        last = queues - 1
    );
    let (mut running, disk) = Vm::booting(fixtures, kernel)?
        .share(share.path(), &format!("tag=t,cache=never,queues={queues}"))
        .option("--cpus", queues.to_string())
        .patience(Duration::from_secs(20))
        .script(&script)
        .start_under(Injection::holding("fsync")?)?;
    let lines = Lines::of(running.take_stdout()?);
    until("the fsyncs", || disk.held() == queues)?;

    let begun = Instant::now();
    fs::write(below(&share, "go"), "")?;
    until("the reads", || below(&share, "read").exists())?;
    ensure!(disk.held() == queues, "{} fsyncs are left", disk.held());
    // Long beside all the reads together.
    thread::sleep(3 * begun.elapsed());
    disk.release()?;
    lines.expect("synced")?;
    let run = running.finish()?.expect_success()?;

    shorter_than_fsyncs(&run, "READ", queues * READS, queues)?;
    // Each queue had its part.
    for queue in 0..queues {
        let metrics = &run.metrics["shares"]["t"]["queues"][format!("request-{queue}")];
        ensure!(
            metrics["requests"].as_u64() >= Some(READS as u64),
            "{queue}: {}",
            run.metrics
        );
    }
    Ok(())
}

/// More programs sync than queues have elements, so that no request finds a place any
/// more. Then the guest forgets files, which the host sees let go, and a signal ends the
/// wait for a lock.
fn hiprio(fixtures: &Fixtures, kernel: Kernel, queues: usize) -> Result<()> {
    const ELEMENTS: usize = 16;
    const FORGOTTEN: usize = 50;
    let share = directory(&[("locked", b""), ("probe", b"probed\n")])?;
    for number in 0..FORGOTTEN {
        fs::write(below(&share, &format!("forgotten{number}")), "")?;
    }
    let locked = fs::File::create(below(&share, "locked"))?;
    lock(&locked, OWN_WRITE, 0, 0)?;
    let files = 2 * ELEMENTS * queues;
    // To make one takes a lock of the directory, with which the guest would wait for a
    // place in one queue before the others are full.
    for number in 0..files {
        fs::write(below(&share, &format!("synced{number}")), "")?;
    }
    // 72 is fcntl(2), and who is in it waits for its answer. To end takes a request, so
    // the program says that its wait is over.
    let script = format!(
        "{PRELUDE}
         cd /mnt/t; stat * >/dev/null
         locker locked own-wait 0 0 & waiter=$!
         until grep -q '^72 ' /proc/$waiter/syscall; do sleep 0.1; done
         echo waits
         for file in $(seq 0 {last}); do
             taskset $(printf %x $((1 << file % {queues}))) \
                 dd if=/dev/zero of=synced$file bs=4k count=1 conv=notrunc,fsync 2>/dev/null &
         done
         read -r full; cat probe &
         echo 2 >/proc/sys/vm/drop_caches; echo forgotten
         read -r none; kill $waiter
         read -r released; kill -9 $waiter; wait; echo synced",
        last = files - 1
    );
    let (mut running, disk) = Vm::booting(fixtures, kernel)?
        .share(&fixtures.tools, "tag=tools,ro,cache=always")
        .share(
            share.path(),
            &format!("tag=t,cache=metadata,locks,queues={queues},queue-size={ELEMENTS}"),
        )
        .option("--cpus", queues.to_string())
        .patience(Duration::from_secs(40))
        .script(&script)
        .start_under(Injection::holding("fsync")?)?;
    let lines = Lines::of(running.take_stdout()?);
    let pid = running.pid();
    lines.expect("waits")?;
    let known = known(pid)?;
    ensure!(known == FORGOTTEN, "{known} files are known");
    // One for each element but that of the lock.
    let most = ELEMENTS * queues - 1;
    until("full queues", || disk.held() == most).with_context(|| format!("{}", disk.held()))?;

    let begun = Instant::now();
    let mut stdin = running.stdin()?;
    writeln!(stdin, "full")?;
    lines.expect("forgotten")?;
    until("FORGETs", || self::known(pid).is_ok_and(|known| known == 0))?;
    thread::sleep(3 * begun.elapsed());
    // They are full: what was asked for before all this has no answer.
    ensure!(lines.0.try_recv().is_err(), "the probe was read");
    writeln!(stdin, "none")?;
    lines.expect(&Errno::INTR.to_string())?;
    // Whatever is next has found the place of the lock.
    ensure!(disk.held() >= most, "{} fsyncs are left", disk.held());
    disk.release()?;
    writeln!(stdin, "released")?;
    lines.expect("probed")?;
    lines.expect("synced")?;
    let run = running.finish()?.expect_success()?;
    drop(locked);

    shorter_than_fsyncs(&run, "FORGET", FORGOTTEN, most)?;
    shorter_than_fsyncs(&run, "INTERRUPT", 1, most)?;
    let hiprio = &run.metrics["shares"]["t"]["queues"]["hiprio"]["requests"];
    ensure!(hiprio.as_u64() > Some(FORGOTTEN as u64), "{hiprio}");
    Ok(())
}

/// How many of the files that are to be forgotten the server has a descriptor of.
fn known(pid: u32) -> Result<usize> {
    let mut known = 0;
    for descriptor in fs::read_dir(format!("/proc/{pid}/fd"))? {
        // One may be closed meanwhile.
        let file = fs::read_link(descriptor?.path()).unwrap_or_default();
        let name = file.file_name().unwrap_or_default();
        known += usize::from(name.as_encoded_bytes().starts_with(b"forgotten"));
    }
    Ok(known)
}
