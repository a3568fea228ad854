//! Locks that two guests and the host see of each other.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{ChildStdin, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tests::fixtures::{Fixtures, PRELUDE};
use tests::kernels::{Kernel, Variant, Version};

use crate::fcntl::{OWN_READ, OWN_UNLOCK, OWN_WRITE, lock};
use crate::guest::Guest;
use crate::theme::{Test, Theme};
use crate::vm::{Running, Vm, below, directory, stretched};

pub(crate) const THEMES: [&str; 2] = ["locks_6_1", "locks_6_12"];

pub(crate) fn themes() -> Vec<Theme> {
    let theme = |(name, version)| {
        let kernel = Kernel::Built(version, Variant::Patched);
        let test = |name: &str, body: fn(&Fixtures, Kernel) -> Result<()>| {
            Test::new(name, [kernel], move |fixtures| body(fixtures, kernel))
        };
        Theme::new(
            name,
            [
                test("two_guests_and_the_host_keep_each_other_out", three),
                test("a_lock_ends_with_who_has_it", ends),
                test("two_guests_and_the_host_write_to_one_database", database),
                test("programs_find_what_the_host_has_locked", programs),
            ],
        )
    };
    let versions = [Version::V6_1, Version::V6_12];
    THEMES.into_iter().zip(versions).map(theme).collect()
}

/// Locks count among all; the tests need no cache of theirs.
const OPTIONS: &str = "locks,cache=never";

fn open(path: &Path) -> Result<File> {
    let mut options = File::options();
    Ok(options.read(true).write(true).open(path)?)
}

/// Waits until `ask` says so.
fn until(what: &str, mut ask: impl FnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !ask()? {
        if begun.elapsed() > stretched(Duration::from_secs(2)) {
            bail!("never: {what}");
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// What asking for a lock came to.
fn is_had(outcome: Result<(), Errno>) -> Result<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A program in a guest that takes locks as it is told.
struct Locker {
    running: Running,
    input: ChildStdin,
}

impl Locker {
    fn start(fixtures: &Fixtures, kernel: Kernel, share: &Path) -> Result<Self> {
        let mut running = Vm::booting(fixtures, kernel)?
            .share(&fixtures.tools, "tag=tools,ro,cache=always")
            .share(share, &format!("tag=t,{OPTIONS}"))
            .patience(Duration::from_secs(30))
            .script(&format!("{PRELUDE}\nexec locker /mnt/t/file"))
            .start(Stdio::piped())?;
        let input = running.stdin()?;
        Ok(Self { running, input })
    }

    fn tell(&mut self, command: &str) -> Result<()> {
        Ok(writeln!(self.input, "{command}")?)
    }

    /// Fails unless that is the answer.
    fn expect(&mut self, command: &str, answer: &str) -> Result<()> {
        self.tell(command)?;
        let said = self.running.read_line()?;
        ensure!(said == answer, "{command}: {said} and not {answer}");
        Ok(())
    }

    fn finish(self) -> Result<()> {
        drop(self.input);
        self.running.finish()?.expect_success().map(drop)
    }
}

fn three(fixtures: &Fixtures, kernel: Kernel) -> Result<()> {
    let share = directory(&[("file", b"content\n")])?;
    let mut one = Locker::start(fixtures, kernel, share.path())?;
    let mut two = Locker::start(fixtures, kernel, share.path())?;
    let host = open(&below(&share, "file"))?;

    // Those of open files.
    one.expect("own-write 0 10", "ok")?;
    two.expect("own-read 5 1", "taken")?;
    ensure!(!is_had(lock(&host, OWN_READ, 9, 1))?);
    lock(&host, OWN_WRITE, 20, 0)?;
    for guest in [&mut one, &mut two] {
        guest.expect("own-read 100 1", "taken")?;
    }
    // Those of processes, beside them.
    two.expect("write 10 10", "ok")?;
    one.expect("own-read 15 1", "taken")?;
    one.expect("write 15 1", "taken")?;
    ensure!(!is_had(lock(&host, OWN_READ, 19, 1))?);
    // To be read by all three.
    one.expect("own-unlock 0 10", "ok")?;
    one.expect("read 0 5", "ok")?;
    two.expect("own-read 0 5", "ok")?;
    lock(&host, OWN_READ, 0, 5)?;
    two.expect("own-write 0 1", "taken")?;

    // One waits for the other guest, and then for the host.
    lock(&host, OWN_UNLOCK, 0, 5)?;
    one.expect("unlock 0 0", "ok")?;
    one.tell("own-wait 10 20")?;
    two.expect("unlock 0 0", "ok")?;
    two.expect("own-unlock 0 0", "ok")?;
    two.expect("own-write 15 1", "ok")?;
    two.expect("own-unlock 15 1", "ok")?;
    lock(&host, OWN_UNLOCK, 20, 0)?;
    let said = one.running.read_line()?;
    ensure!(said == "ok", "{said}");
    two.expect("write 29 1", "taken")?;
    ensure!(!is_had(lock(&host, OWN_WRITE, 10, 1))?);

    // Whole files, which have nothing to do with the others.
    let exclusive = || flock(&host, FlockOperation::NonBlockingLockExclusive);
    one.expect("flock 0 0", "ok")?;
    two.expect("flock 0 0", "taken")?;
    ensure!(!is_had(exclusive())?);
    one.expect("flock-unlock 0 0", "ok")?;
    ensure!(is_had(exclusive())?);
    two.expect("flock 0 0", "taken")?;
    flock(&host, FlockOperation::Unlock)?;
    two.expect("flock 0 0", "ok")?;
    one.finish()?;
    two.finish()?;
    ensure!(is_had(lock(&host, OWN_WRITE, 0, 0))? && is_had(exclusive())?);
    Ok(())
}

/// The ways in which a guest takes a lock of all of a file.
const KINDS: [&str; 3] = ["write 0 0", "own-write 0 0", "flock 0 0"];

fn ends(fixtures: &Fixtures, kernel: Kernel) -> Result<()> {
    let share = directory(&[("file", b"content\n")])?;
    let mut guest = Guest::with_tools(fixtures, kernel, share.path(), OPTIONS)?;
    let is_free = |kind: &str| {
        let host = open(&below(&share, "file"))?;
        is_had(match kind {
            "flock 0 0" => flock(&host, FlockOperation::NonBlockingLockExclusive),
            _ => lock(&host, OWN_WRITE, 0, 0),
        })
    };
    let take = |guest: &mut Guest, kind: &str| {
        ensure!(is_free(kind)?);
        let command = format!(
            "locker file {kind} </dev/null >/tmp/said & holder=$!; \
             until grep . /tmp/said; do sleep 0.1; done"
        );
        let said = guest.ask(&command)?;
        ensure!(said == "ok" && !is_free(kind)?, "{kind}: {said}");
        Ok(())
    };
    // The program.
    for kind in KINDS {
        take(&mut guest, kind)?;
        guest.ask("kill -9 $holder; wait $holder; : >/tmp/said")?;
        until("a lock that a kill ends", || is_free(kind))?;
    }
    // The driver.
    for kind in KINDS {
        take(&mut guest, kind)?;
        guest.ask(
            "find_device; cd /; name=$(basename $(readlink -f $device)); : >/tmp/said; \
             echo $name >/sys/bus/virtio/drivers/virtiofs/unbind",
        )?;
        until("a lock that a reset ends", || is_free(kind))?;
        let said = guest.ask(
            "kill -9 $holder; wait $holder; umount -l /mnt/t; \
             echo $name >/sys/bus/virtio/drivers/virtiofs/bind; mount -t virtiofs t /mnt/t; \
             cd /mnt/t; cat file",
        )?;
        // The shell may say that it killed something.
        ensure!(said.ends_with("content"), "{said}");
    }
    // The machine.
    for kind in KINDS.into_iter().skip(1) {
        take(&mut guest, kind)?;
        guest.ask(": >/tmp/said")?;
    }
    guest.kill();
    for kind in KINDS {
        until("a lock that ends with vmm", || is_free(kind))?;
    }
    Ok(())
}

/// A program of the tools, on this side.
fn tool(fixtures: &Fixtures, name: &str) -> Command {
    let lib = fixtures.tools.join("lib");
    let mut command = Command::new(lib.join("ld-linux-x86-64.so.2"));
    command.arg("--library-path").arg(lib);
    command.arg(fixtures.tools.join("bin").join(name));
    command
}

fn output_of(command: &mut Command) -> Result<String> {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().context("no program of the tools")?;
    let said = String::from_utf8(stdout)?;
    let complaint = String::from_utf8_lossy(&stderr);
    ensure!(status.success(), "{status}: {said}{complaint}");
    Ok(said)
}

/// Rows that each writes.
const ROWS: u32 = 8;

fn database(fixtures: &Fixtures, kernel: Kernel) -> Result<()> {
    let share = directory(&[])?;
    let path = below(&share, "database");
    let sqlite = |sql: &str| {
        let mut command = tool(fixtures, "sqlite3");
        // As long as a guest may take.
        command.args(["-cmd", ".timeout 300000"]).arg(&path);
        output_of(command.arg(sql))
    };
    sqlite("create table numbers (who text, number integer);")?;
    let mut guests = Vec::new();
    for who in ["one", "two"] {
        let mut guest = Guest::with_tools(fixtures, kernel, share.path(), OPTIONS)?;
        guest.begin(&format!(
            "for number in $(seq {ROWS}); do sqlite3 -cmd '.timeout 300000' database \
             \"insert into numbers values ('{who}', $number)\" || echo failed; done"
        ))?;
        guests.push(guest);
    }
    for number in 1..=ROWS {
        sqlite(&format!("insert into numbers values ('host', {number})"))?;
    }
    for mut guest in guests {
        let said = guest.answer()?;
        ensure!(said.is_empty(), "{said}");
        guest.finish()?;
    }
    let found = sqlite(
        "pragma integrity_check; \
         select who, count(*), sum(number) from numbers group by who order by who;",
    )?;
    let sum = ROWS * (ROWS + 1) / 2;
    let rows = ["host", "one", "two"].map(|who| format!("{who}|{ROWS}|{sum}\n"));
    ensure!(found == format!("ok\n{}", rows.concat()), "{found}");
    Ok(())
}

fn programs(fixtures: &Fixtures, kernel: Kernel) -> Result<()> {
    let share = directory(&[
        ("lock", b""),
        ("home/.package-cache", b""),
        (
            "p/Cargo.toml",
            b"[package]\nname = \"p\"\nversion = \"0.1.0\"\n",
        ),
        ("p/src/lib.rs", b""),
        ("dpkg/status", b""),
        ("dpkg/lock", b""),
        ("dpkg/info/format", b"1\n"),
        ("dpkg/updates/none", b""),
    ])?;
    fs::remove_file(below(&share, "dpkg/updates/none"))?;
    let mut guest = Guest::with_tools(fixtures, kernel, share.path(), OPTIONS)?;
    let locked = |name: &str| {
        let file = open(&below(&share, name))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        lock(&file, OWN_WRITE, 0, 0)?;
        Ok::<_, anyhow::Error>(file)
    };

    let held = locked("lock")?;
    ensure!(guest.ask("/mnt/tools/bin/flock -n lock echo had || echo refused")? == "refused");
    drop(held);
    ensure!(guest.ask("/mnt/tools/bin/flock -n lock echo had || echo refused")? == "had");

    let held = locked("dpkg/lock")?;
    let dpkg =
        "/mnt/tools/bin/dpkg --force-bad-path --admindir=/mnt/t/dpkg --configure -a; echo $?";
    let said = guest.ask(dpkg)?;
    let refused = said.contains("locked by another process") && said.ends_with(" 2");
    ensure!(refused, "{said}");
    drop(held);
    let said = guest.ask(dpkg)?;
    // It misses programs of a whole system.
    ensure!(said.ends_with(" 0"), "{said}");

    let held = locked("home/.package-cache")?;
    guest.ask(
        "CARGO_HOME=/mnt/t/home cargo generate-lockfile --offline --manifest-path p/Cargo.toml \
         >/tmp/cargo 2>&1 & cargo=$!",
    )?;
    let waits = "grep -c 'waiting for file lock' /tmp/cargo";
    until("cargo waits", || Ok(guest.ask(waits)? == "1"))?;
    ensure!(!below(&share, "p/Cargo.lock").exists());
    drop(held);
    let said = guest.ask("wait $cargo; echo $?")?;
    ensure!(said == "0", "{said}");
    ensure!(below(&share, "p/Cargo.lock").exists());
    guest.finish()
}
