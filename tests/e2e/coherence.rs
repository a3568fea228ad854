//! What a guest sees of changes on the host, by cache mode: the table in the
//! README.
//!
//! The guest looks at everything, the host or another guest changes it at once, or a
//! while later, within or just after what the guest may keep, and the guest opens it
//! again.

mod cells;

use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::fixtures::Fixtures;
use tests::kernels::{Kernel, Stock, Variant, Version};

use self::cells::{LOOK, cells, prepare};
use crate::guest::Guest;
use crate::theme::{Test, Theme};
use crate::vm::{Vm, below, directory};

/// A kernel that nothing of ours is in.
const DEBIAN: Kernel = Kernel::Debian(Stock::Host);

/// What keeps something, and may keep it from nobody but the guest itself.
const OPTIONS: [&str; 5] = [
    "auto",
    "metadata",
    "always",
    "auto,writeback",
    "always,writeback",
];

/// How long after the guest's look the host changes something.
const DELAYS: [u64; 3] = [0, 300, 1100];

pub(crate) fn theme() -> Theme {
    let second = Kernel::Built(Version::V6_12, Variant::Patched);
    let mut tests = Vec::new();
    for cache in ["auto", "never"] {
        for (build, kernel) in [("6_1_patched", Kernel::PATCHED), ("6_12_patched", second)] {
            tests.push(Test::new(
                format!("what_the_guest_opens_is_what_is_there_with_cache_{cache}_on_{build}"),
                [kernel],
                move |fixtures| {
                    let image = fixtures.kernel(kernel)?.join("bzImage");
                    at_the_next_open(Vm::new(fixtures, &image)?, By::Host, cache)
                },
            ));
            tests.push(Test::new(
                format!("what_another_guest_made_is_there_with_cache_{cache}_on_{build}"),
                [kernel],
                move |fixtures| {
                    let vm = || Vm::booting(fixtures, kernel);
                    at_the_next_open(vm()?, By::Another(Box::new(vm()?)), cache)
                },
            ));
        }
        tests.push(Test::new(
            format!("what_the_guest_opens_is_what_is_there_with_cache_{cache}_on_debian"),
            [DEBIAN],
            move |fixtures| at_the_next_open(Vm::booting(fixtures, DEBIAN)?, By::Host, cache),
        ));
    }
    for cache in OPTIONS {
        let modes = cache.replace(',', "_and_");
        for (build, kernel) in [("6_1_patched", Kernel::PATCHED), ("6_12_patched", second)] {
            tests.push(Test::new(
                format!("what_the_guest_made_is_there_with_cache_{modes}_on_{build}"),
                [kernel],
                move |fixtures| at_the_next_open(Vm::booting(fixtures, kernel)?, By::Itself, cache),
            ));
        }
    }
    for cache in ["metadata", "always"] {
        tests.push(Test::new(
            format!("a_new_mount_sees_what_is_there_with_cache_{cache}"),
            [Kernel::PATCHED],
            move |fixtures| anew(fixtures, cache),
        ));
    }
    for cache in ["never", "metadata"] {
        tests.push(Test::new(
            format!("the_data_of_a_file_is_new_at_once_with_cache_{cache}"),
            [Kernel::PATCHED],
            move |fixtures| data_at_once(fixtures, cache),
        ));
    }
    for (build, kernel) in [("6_1_patched", Kernel::PATCHED), ("6_12_patched", second)] {
        for cache in ["never", "metadata"] {
            tests.push(Test::new(
                format!("sendfile_has_what_is_there_with_cache_{cache}_on_{build}"),
                [kernel],
                move |fixtures| {
                    let image = fixtures.kernel(kernel)?.join("bzImage");
                    sendfile(Vm::new(fixtures, &image)?, cache)
                },
            ));
        }
    }
    Theme::new("coherence", tests)
}

/// Who changes what the guest has looked at.
enum By {
    Host,
    Another(Box<Vm>),
    Itself,
}

fn at_the_next_open(vm: Vm, by: By, cache: &str) -> Result<()> {
    let share = directory(&[])?;
    let options = format!("cache={cache}");
    let mut guest = Guest::start(vm, share.path(), &options)?;
    let (delays, itself) = match by {
        By::Itself => (&DELAYS[..1], true),
        _ => (&DELAYS[..], false),
    };
    let mut other = match by {
        By::Another(vm) => Some(Guest::start(*vm, share.path(), &options)?),
        _ => None,
    };
    let mut wrong = Vec::new();
    for &delay in delays {
        for cell in cells() {
            let place = format!("{}-{delay}", cell.name);
            let at = below(&share, &place);
            prepare(&at)?;
            let look = guest.ask(&format!("cd /mnt/t/{place}; {LOOK}"))?;
            ensure!(look == "old old old", "{place}: {look}");
            thread::sleep(Duration::from_millis(delay));
            let changing = if itself {
                Some(&mut guest)
            } else {
                other.as_mut()
            };
            match changing {
                Some(guest) => {
                    let change = format!("cd /mnt/t/{place} && {{ {}; }}", cell.by_guest);
                    let said = guest.ask(&change)?;
                    ensure!(said.is_empty(), "{place}: {said}");
                }
                None => (cell.change)(&at)?,
            }
            if cell.looks && cache == "auto" && !itself {
                // It may be as old as that.
                thread::sleep(Duration::from_millis(1100));
            }
            // By the whole path: the shell stands where it was.
            let command = format!("cd /; cd /mnt/t/{place} && {}", cell.command);
            let said = guest.ask(&command)?;
            if said != cell.answer {
                wrong.push(format!("{place}: {said:?} and not {:?}", cell.answer));
            } else if let Some(path) = cell.makes.filter(|path| !at.join(path).exists()) {
                wrong.push(format!("{place}: the host has no {path}"));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    other.map(Guest::finish).transpose()?;
    guest.finish()
}

/// What may be a day old is not older than its mount.
fn anew(fixtures: &Fixtures, cache: &str) -> Result<()> {
    let share = directory(&[])?;
    let vm = Vm::patched(fixtures)?;
    let mut guest = Guest::start(vm, share.path(), &format!("cache={cache}"))?;
    let cells = cells();
    for cell in &cells {
        prepare(&below(&share, cell.name))?;
        let look = guest.ask(&format!("cd /mnt/t/{}; {LOOK}", cell.name))?;
        ensure!(look == "old old old", "{}: {look}", cell.name);
    }
    for cell in &cells {
        (cell.change)(&below(&share, cell.name))?;
    }
    let kept = guest.ask("cd /mnt/t/rewrite; stat -c %s f; cd ../stat_mode; stat -c %a e")?;
    ensure!(kept == "4 755", "nothing is kept: {kept}");
    let said = guest.ask("cd /; umount /mnt/t && mount -t virtiofs t /mnt/t")?;
    ensure!(said.is_empty(), "{said}");
    let mut wrong = Vec::new();
    for cell in &cells {
        let said = guest.ask(&format!("cd /mnt/t/{}; {}; cd /", cell.name, cell.command))?;
        let answer = cell.answer;
        if said != answer {
            wrong.push(format!("{}: {said:?} and not {answer:?}", cell.name));
        } else if let Some(path) = cell.makes
            && !below(&share, cell.name).join(path).exists()
        {
            wrong.push(format!("{}: the host has no {path}", cell.name));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    guest.finish()
}

fn data_at_once(fixtures: &Fixtures, cache: &str) -> Result<()> {
    let share = directory(&[("f", b"old\n")])?;
    let options = format!("cache={cache}");
    let start = || Guest::start(Vm::patched(fixtures)?, share.path(), &options);
    let (mut guest, mut other) = (start()?, start()?);
    ensure!(guest.ask("exec 3< f 4< f; cat f; dd <f 2>/dev/null")? == "old old");
    // Nothing but the data tells that it is new.
    let file = fs::File::options().write(true).open(below(&share, "f"))?;
    let before = file.metadata()?.modified()?;
    file.write_all_at(b"new\n", 0)?;
    file.set_modified(before)?;
    let mut wrong = Vec::new();
    let said = guest.ask("dd <&3 2>/dev/null; dd <f 2>/dev/null; cat f")?;
    if said != "new new new" {
        wrong.push(format!("from the host: {said:?}"));
    }
    // As long as before: how long a file is may be a day old.
    ensure!(other.ask("exec 3<> f; printf two >&3")?.is_empty());
    // What is opened anew reads anew, so first what was open all the time.
    let said = guest.ask("dd <&4 2>/dev/null; dd <f 2>/dev/null")?;
    if said != "two two" {
        wrong.push(format!("from another guest: {said:?}"));
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    other.finish()?;
    guest.finish()
}

/// Busybox's cat takes sendfile(2), here from files that were opened before they
/// changed, and from one that says that it has no size.
fn sendfile(vm: Vm, cache: &str) -> Result<()> {
    let share = directory(&[("f", b"old\n")])?;
    let file = below(&share, "f");
    let vm = vm.share(
        Path::new("/proc/sys/kernel"),
        &format!("tag=p,ro,cache={cache}"),
    );
    let mut guest = Guest::start(vm, share.path(), &format!("cache={cache}"))?;
    let expect = |guest: &mut Guest, command: &str, answer: &str| -> Result<()> {
        let said = guest.ask(command)?;
        ensure!(said == answer, "{command}: {said:?} and not {answer:?}");
        Ok(())
    };
    expect(&mut guest, "exec 3< f 4< f 5< f; cat <&3", "old")?;
    fs::write(&file, "new\n")?;
    expect(&mut guest, "cat <&4", "new")?;
    let mut appending = fs::OpenOptions::new().append(true).open(&file)?;
    appending.write_all(b"more\n")?;
    expect(&mut guest, "cat <&5", "new more")?;
    expect(&mut guest, "cat /mnt/p/ostype", "Linux")?;
    guest.finish()
}
