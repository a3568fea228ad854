//! Changes by the guest are on the host, and changes by the host in the guest.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tests::fixtures::Fixtures;
use tests::kernels::{Kernel, Variant, Version};

use crate::theme::{PATCHED, Test, Theme};
use crate::vm::{Vm, below, directory};

/// Its directory has a program that maps files.
const WITH_PROGRAMS: Kernel = Kernel::Built(Version::V6_1, Variant::Test);

pub(crate) fn theme() -> Theme {
    let mut tests = vec![
        Test::new("of_the_guest_are_on_the_host", PATCHED, of_the_guest),
        Test::new("that_were_synced_survive_a_panic", PATCHED, synced),
        Test::new(
            "beyond_the_limit_of_file_sizes_are_errors_in_the_guest",
            PATCHED,
            beyond_the_limit,
        ),
        Test::new(
            "that_the_host_has_no_space_for_are_errors_in_the_guest",
            [WITH_PROGRAMS],
            no_space,
        ),
    ];
    for cache in ["never", "auto"] {
        tests.push(Test::new(
            format!("of_the_host_are_seen_at_the_next_open_with_cache_{cache}"),
            PATCHED,
            move |fixtures| of_the_host(fixtures, cache),
        ));
    }
    Theme::new("share_changes", tests)
}

/// In every mode, each in a share of its own.
const MODES: [&str; 6] = [
    "cache=never",
    "cache=metadata",
    "cache=auto",
    "cache=always",
    "cache=auto,writeback",
    "cache=always,writeback",
];

fn of_the_guest(fixtures: &Fixtures) -> Result<()> {
    let files: &[(&str, &[u8])] = &[
        ("modify", b"old content"),
        ("delete", b""),
        ("rename", b"renamed"),
        ("truncate", b"0123456789"),
        ("mode", b""),
        ("replaced", b"old"),
    ];
    let shares: Vec<_> = (MODES.iter().map(|_| directory(files))).collect::<Result<_>>()?;
    let mut vm = Vm::patched(fixtures)?.patience(Duration::from_secs(15));
    for (number, (mode, share)) in MODES.iter().zip(&shares).enumerate() {
        vm = vm.share(share.path(), &format!("tag=t{number},{mode}"));
    }
    // What each did is seen in the guest at once.
    let run = vm
        .script(
            "for at in /mnt/t*; do
             cd $at && echo new > modify && rm delete && mv rename renamed && mkdir -p a/b/c &&
             dd if=/dev/null of=truncate bs=1 seek=4 2>/dev/null && chown 12:34 mode &&
             chmod 2751 mode && touch -d '2001-02-03 04:05:06' mode && ln -s a/b link &&
             ln modify hard && mkfifo fifo && mknod device c 1 3 && echo x > next &&
             mv next replaced && echo appended >> renamed && rmdir a/b/c &&
             cat modify hard truncate replaced renamed | tr '\\n' ' ' &&
             stat -c '%a %u:%g %Y' mode && ls | tr '\\n' ' ' && readlink link && ls a/b && cd / ||
             echo failed
             done",
        )
        .run()?
        .expect_success()?;
    let seen = "new new 0123x renamedappended 2751 12:34 981173106\n\
                a device fifo hard link mode modify renamed replaced truncate a/b\n";
    ensure!(run.text()? == seen.repeat(MODES.len()), "{}", run.account());
    for (mode, share) in MODES.iter().zip(&shares) {
        as_made(share).context(*mode)?;
    }
    Ok(())
}

fn as_made(share: &TempDir) -> Result<()> {
    let path = |name: &str| below(share, name);
    ensure!(fs::read(path("modify"))? == b"new\n");
    ensure!(!path("delete").exists() && !path("rename").exists());
    ensure!(fs::read(path("renamed"))? == b"renamedappended\n");
    ensure!(fs::read(path("truncate"))? == b"0123");
    ensure!(fs::read(path("replaced"))? == b"x\n");
    let mode = fs::metadata(path("mode"))?;
    ensure!(mode.mode() & 0o7777 == 0o2751, "{:o}", mode.mode());
    ensure!((mode.uid(), mode.gid()) == (12, 34));
    ensure!(mode.mtime() == 981_173_106, "{}", mode.mtime());
    ensure!(fs::read_link(path("link"))?.as_os_str() == "a/b");
    ensure!(fs::metadata(path("hard"))?.ino() == fs::metadata(path("modify"))?.ino());
    ensure!(fs::symlink_metadata(path("fifo"))?.mode() & 0o170_000 == 0o010_000);
    let device = fs::symlink_metadata(path("device"))?;
    ensure!(device.mode() & 0o170_000 == 0o020_000 && device.rdev() == (1 << 8 | 3));
    ensure!(fs::read_dir(path("a/b"))?.count() == 0);
    Ok(())
}

fn synced(fixtures: &Fixtures) -> Result<()> {
    let share = directory(&[])?;
    Vm::patched(fixtures)?
        .share(share.path(), "tag=t,writeback")
        .script(
            "dd if=/dev/urandom of=/mnt/t/data bs=4096 count=300 conv=fsync 2>/dev/null &&
             md5sum < /mnt/t/data > /mnt/t/sum && sync -d /mnt/t/sum && echo c > /proc/sysrq-trigger",
        )
        .run()?
        .expect(255, "panic")?;
    let data = fs::read(below(&share, "data"))?;
    ensure!(data.len() == 300 * 4096, "{} bytes arrived", data.len());
    let sum = fs::read_to_string(below(&share, "sum"))?;
    let ours = crate::tree::md5sum(&below(&share, "data"))?;
    ensure!(sum.starts_with(&ours), "{sum} is not {ours}");
    Ok(())
}

fn beyond_the_limit(fixtures: &Fixtures) -> Result<()> {
    let share = directory(&[])?;
    // 1 or 2 MiB, which no log of a run reaches.
    let run = Vm::patched(fixtures)?
        .limit_file_size(2048)
        .share(share.path(), "tag=t")
        .script(
            "dd if=/dev/zero of=/mnt/t/large bs=64k count=64 conv=fsync && exit 1
             echo small > /mnt/t/small; echo went on",
        )
        .run()?
        .expect_success()?;
    ensure!(run.text()? == "went on\n", "{}", run.account());
    ensure!(run.stderr.contains("File too large"), "{}", run.account());
    ensure!(fs::read(below(&share, "small"))? == b"small\n");
    let large = fs::metadata(below(&share, "large"))?.len();
    ensure!(large == 1 << 20 || large == 2 << 20, "{large} bytes");
    Ok(())
}

fn no_space(fixtures: &Fixtures) -> Result<()> {
    let (collects, asks) = (directory(&[])?, directory(&[])?);
    let programs = fixtures.kernel(WITH_PROGRAMS)?.join("driver-tests");
    // The program maps 16 MiB, writes to them, and tells what msync(2) and fsync(2)
    // say. Allocations that fail meanwhile, as it would have them, are for other tests.
    let run = Vm::booting(fixtures, WITH_PROGRAMS)?
        .tmpfs("256k", collects.path())
        .tmpfs("256k", asks.path())
        .share(collects.path(), "tag=writeback,cache=auto,writeback")
        .share(asks.path(), "tag=auto,cache=auto")
        .share(&programs, "tag=programs,ro")
        .script(
            "cd /mnt/writeback
             dd if=/dev/zero of=file bs=64k count=8 conv=fsync && exit 9
             cd /mnt/auto
             echo 0 > /sys/kernel/debug/failslab/times
             echo 0 > /sys/kernel/debug/fail_page_alloc/times
             /mnt/programs/dirty mapped /tmp/same; echo $?; rm mapped
             echo small > small && sync small && cat small",
        )
        .run()?
        .expect_success()?;
    ensure!(run.text()? == "1\nsmall\n", "{}", run.account());
    for call in ["dd: ", "msync: "] {
        let said = |line: &str| line.starts_with(call) && line.contains("No space left on device");
        ensure!(run.stderr.lines().any(said), "{call}: {}", run.account());
    }
    Ok(())
}

fn of_the_host(fixtures: &Fixtures, cache: &str) -> Result<()> {
    let share = directory(&[
        ("edited", b"old"),
        ("replaced", b"old"),
        ("removed", b"old"),
    ])?;
    let mut running = Vm::patched(fixtures)?
        .share(share.path(), &format!("tag=t,cache={cache}"))
        .script(
            "cd /mnt/t; cat edited replaced removed; echo; read word;
             cat edited replaced added; cat removed 2>/dev/null || echo gone",
        )
        .start(Stdio::piped())?;
    ensure!(running.read_line()? == "oldoldold");
    fs::write(below(&share, "edited"), "edited by the host\n")?;
    fs::write(below(&share, "next"), "replaced by the host\n")?;
    fs::rename(below(&share, "next"), below(&share, "replaced"))?;
    fs::write(below(&share, "added"), "added by the host\n")?;
    fs::remove_file(below(&share, "removed"))?;
    // What the guest may keep about names and attributes it may keep so long.
    std::thread::sleep(Duration::from_secs(2));
    running.stdin()?.write_all(b"go\n")?;
    let run = running.finish()?.expect_success()?;
    let wanted = "edited by the host\nreplaced by the host\nadded by the host\ngone\n";
    ensure!(run.text()? == wanted, "{}", run.account());
    Ok(())
}
