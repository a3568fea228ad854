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
                    at_the_next_open(Vm::new(fixtures, &image)?, None, cache)
                },
            ));
            tests.push(Test::new(
                format!("what_another_guest_made_is_there_with_cache_{cache}_on_{build}"),
                [kernel],
                move |fixtures| {
                    let vm = || Vm::booting(fixtures, kernel);
                    at_the_next_open(vm()?, Some(vm()?), cache)
                },
            ));
        }
        tests.push(Test::new(
            format!("what_the_guest_opens_is_what_is_there_with_cache_{cache}_on_debian"),
            [DEBIAN],
            move |fixtures| at_the_next_open(Vm::booting(fixtures, DEBIAN)?, None, cache),
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

fn at_the_next_open(vm: Vm, other: Option<Vm>, cache: &str) -> Result<()> {
    let share = directory(&[])?;
    let options = format!("cache={cache}");
    let mut guest = Guest::start(vm, share.path(), &options)?;
    let start = |vm| Guest::start(vm, share.path(), &options);
    let mut other = other.map(start).transpose()?;
    let mut wrong = Vec::new();
    for delay in DELAYS {
        for cell in cells() {
            let place = format!("{}-{delay}", cell.name);
            let at = below(&share, &place);
            prepare(&at)?;
            let look = guest.ask(&format!("cd /mnt/t/{place}; {LOOK}"))?;
            ensure!(look == "old old old", "{place}: {look}");
            thread::sleep(Duration::from_millis(delay));
            match &mut other {
                Some(other) => {
                    let change = format!("cd /mnt/t/{place} && {{ {}; }}", cell.by_guest);
                    let said = other.ask(&change)?;
                    ensure!(said.is_empty(), "{place}: {said}");
                }
                None => (cell.change)(&at)?,
            }
            if cell.looks && cache == "auto" {
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
