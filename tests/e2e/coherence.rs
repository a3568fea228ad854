//! What a guest sees of changes on the host, by cache mode: the table in the
//! README.
//!
//! The guest looks at everything, the host or another guest changes it at once, or a
//! while later, within or just after what the guest may keep, and the guest opens it
//! again.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::fixtures::Fixtures;
use tests::kernels::{Kernel, Stock, Variant, Version};

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

/// A change, in a directory with what [`prepare`] puts there, and what the guest then
/// does and says.
struct Cell {
    name: &'static str,
    /// As the host makes it.
    change: fn(&Path) -> Result<()>,
    /// As another guest does.
    by_guest: &'static str,
    command: &'static str,
    answer: &'static str,
    /// What the command makes, and the host has then where that name now is.
    makes: Option<&'static str>,
    /// Whether the command only looks, and opens nothing.
    looks: bool,
}

impl Cell {
    fn makes(self, path: &'static str) -> Self {
        let makes = Some(path);
        Cell { makes, ..self }
    }

    fn looks(self) -> Self {
        let looks = true;
        Cell { looks, ..self }
    }
}

fn prepare(at: &Path) -> Result<()> {
    fs::create_dir_all(at.join("d/s"))?;
    fs::write(at.join("f"), "old\n")?;
    fs::write(at.join("d/s/f"), "old\n")?;
    symlink("f", at.join("l"))?;
    Ok(())
}

/// All that the guest knows of it before.
const LOOK: &str = "cat f l d/s/f; ls -l . d d/s > /dev/null; [ -e new ]";
const SIZE: &str = "stat -L -c %s /proc/self/fd/0 < f; cat f";

fn cells() -> Vec<Cell> {
    let cell = |name, change, by_guest, command, answer| Cell {
        name,
        change,
        by_guest,
        command,
        answer,
        makes: None,
        looks: false,
    };
    vec![
        cell(
            "rewrite",
            |at| Ok(fs::write(at.join("f"), "rewritten\n")?),
            "echo rewritten >f",
            SIZE,
            "10 rewritten",
        ),
        cell(
            "append",
            |at| {
                let mut file = fs::OpenOptions::new().append(true).open(at.join("f"))?;
                Ok(file.write_all(b"more\n")?)
            },
            "echo more >>f",
            SIZE,
            "9 old more",
        ),
        cell(
            "replace",
            |at| {
                fs::write(at.join("next"), "replaced\n")?;
                Ok(fs::rename(at.join("next"), at.join("f"))?)
            },
            "echo replaced >next; mv next f",
            SIZE,
            "9 replaced",
        ),
        cell(
            "replace_with_what_was_seen",
            replace_with_what_was_seen,
            "echo seen >d/s/f; mv d/s/f f",
            "cat f; cat d/s/f",
            "seen cat: can't open 'd/s/f': No such file or directory",
        ),
        cell(
            "replace_with_what_was_seen_and_write",
            replace_with_what_was_seen,
            "echo seen >d/s/f; mv d/s/f f",
            "echo made > f; echo more >> f; cat f",
            "made more",
        ),
        cell(
            "remove",
            |at| Ok(fs::remove_file(at.join("f"))?),
            "rm f",
            "cat f || ls",
            "cat: can't open 'f': No such file or directory d l",
        ),
        cell(
            "remove_and_remake",
            |at| {
                fs::remove_file(at.join("f"))?;
                Ok(fs::write(at.join("f"), "remade\n")?)
            },
            "rm f; echo remade >f",
            SIZE,
            "7 remade",
        ),
        cell(
            "remove_and_write",
            |at| Ok(fs::remove_file(at.join("f"))?),
            "rm f",
            "echo made > f",
            "",
        )
        .makes("f"),
        cell(
            "file_to_directory",
            |at| {
                fs::remove_file(at.join("f"))?;
                fs::create_dir(at.join("f"))?;
                Ok(fs::write(at.join("f/inside"), "inside\n")?)
            },
            "rm f; mkdir f; echo inside >f/inside",
            // Nobody asks us on the way through a file.
            "cat f; ls f; cat f/inside",
            "cat: read error: Is a directory inside inside",
        ),
        cell(
            "directory_to_file",
            |at| {
                fs::remove_dir_all(at.join("d"))?;
                Ok(fs::write(at.join("d"), "file\n")?)
            },
            "rm -r d; echo file >d",
            "cat d",
            "file",
        ),
        cell(
            "link_to_file",
            |at| {
                fs::remove_file(at.join("l"))?;
                Ok(fs::write(at.join("l"), "file\n")?)
            },
            "rm l; echo file >l",
            "cat l",
            "file",
        ),
        cell(
            "link_to_link",
            |at| {
                fs::remove_file(at.join("l"))?;
                Ok(symlink("d/s/f", at.join("l"))?)
            },
            "rm l; ln -s d/s/f l",
            "echo f > f; cat l",
            "old",
        ),
        cell(
            "mode_and_owner",
            |at| {
                std::os::unix::fs::chown(at.join("f"), Some(12), Some(34))?;
                Ok(fs::set_permissions(
                    at.join("f"),
                    fs::Permissions::from_mode(0o2640),
                )?)
            },
            "chown 12:34 f; chmod 2640 f",
            "stat -L -c %a-%u-%g /proc/self/fd/0 <f",
            "2640-12-34",
        ),
        cell(
            "directory_replaced_file",
            replace_directory,
            REPLACE_DIRECTORY,
            "cat d/s/f",
            "new",
        ),
        cell(
            "directory_replaced_new_file",
            replace_directory,
            REPLACE_DIRECTORY,
            "cat d/s/g",
            "g",
        ),
        cell(
            "directory_replaced_list",
            replace_directory,
            REPLACE_DIRECTORY,
            "ls d/s",
            "f g",
        ),
        cell(
            "directory_replaced_create",
            replace_directory,
            REPLACE_DIRECTORY,
            "echo made > d/s/made",
            "",
        )
        .makes("d/s/made"),
        cell(
            "directory_replaced_mkdir",
            replace_directory,
            REPLACE_DIRECTORY,
            "mkdir d/s/made",
            "",
        )
        .makes("d/s/made"),
        cell(
            "stat_size",
            |at| Ok(fs::write(at.join("f"), "rewritten\n")?),
            "echo rewritten >f",
            "stat -c %s f",
            "10",
        )
        .looks(),
        cell(
            "stat_mode",
            |at| {
                let mode = fs::Permissions::from_mode(0o2640);
                Ok(fs::set_permissions(at.join("d"), mode)?)
            },
            "chmod 2640 d",
            "stat -c %a d",
            "2640",
        )
        .looks(),
        cell(
            "stat_removed",
            |at| Ok(fs::remove_file(at.join("d/s/f"))?),
            "rm d/s/f",
            "[ -e d/s/f ] || echo gone",
            "gone",
        )
        .looks(),
        cell(
            "stat_made",
            |at| Ok(fs::write(at.join("new"), "")?),
            "echo >new",
            "[ -e new ] && echo there",
            "there",
        )
        .looks(),
        cell(
            "stat_in_replaced_directory",
            replace_directory,
            REPLACE_DIRECTORY,
            "stat -c %s d/s/g",
            "2",
        )
        .looks(),
    ]
}

const REPLACE_DIRECTORY: &str = "mv d aside; mkdir -p d/s; echo new >d/s/f; echo g >d/s/g";

fn replace_with_what_was_seen(at: &Path) -> Result<()> {
    fs::write(at.join("d/s/f"), "seen\n")?;
    Ok(fs::rename(at.join("d/s/f"), at.join("f"))?)
}

fn replace_directory(at: &Path) -> Result<()> {
    fs::rename(at.join("d"), at.join("aside"))?;
    fs::create_dir_all(at.join("d/s"))?;
    fs::write(at.join("d/s/f"), "new\n")?;
    Ok(fs::write(at.join("d/s/g"), "g\n")?)
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
    ensure!(guest.ask("exec 3< f; cat f; dd <f 2>/dev/null")? == "old old");
    // Nothing but the data tells that it is new.
    let file = fs::File::options().write(true).open(below(&share, "f"))?;
    let before = file.metadata()?.modified()?;
    file.write_all_at(b"new\n", 0)?;
    file.set_modified(before)?;
    let said = guest.ask("dd <&3 2>/dev/null; dd <f 2>/dev/null; cat f")?;
    ensure!(said == "new new new", "{said:?}");
    // As long as before: how long a file is may be a day old.
    ensure!(other.ask("exec 3<> f; printf two >&3")?.is_empty());
    let said = guest.ask("dd <f 2>/dev/null")?;
    ensure!(said == "two", "{said:?}");
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
