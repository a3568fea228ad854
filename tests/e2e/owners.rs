//! Whose the files of a share are for a `vmm` that an ordinary user runs.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use tests::fixtures::Fixtures;
use tests::kernels::Kernel;

use crate::theme::{Test, Theme};
use crate::vm::{ORDINARY, Vm};

pub(crate) const THEME: &str = "owners";

pub(crate) fn theme() -> Theme {
    let kernels = [Kernel::PATCHED];
    Theme::new(
        THEME,
        [
            Test::new("the_user_is_root_in_the_guest", kernels, user),
            Test::new("a_user_can_have_every_owner_in_attributes", kernels, xattr),
            Test::new("a_users_guest_has_their_subordinate_users", kernels, map),
            Test::new("a_host_without_user_namespaces_is_told_of", kernels, less),
        ],
    )
}

/// What the lab needs of the host for it.
pub(crate) fn programs() -> Result<Vec<PathBuf>> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |name: &str| {
        std::env::split_paths(&path)
            .map(|directory| directory.join(name))
            .find(|path| path.is_file())
            .with_context(|| format!("{name} is missing: install util-linux and uidmap"))
    };
    ["setpriv", "newuidmap", "newgidmap"]
        .into_iter()
        .map(found)
        .collect()
}

/// A directory of the user's, on a file system with attributes of users, which that
/// of `/tmp` may not have.
fn directory(fixtures: &Fixtures) -> Result<TempDir> {
    let directory = tempfile::tempdir_in(&fixtures.disk)?;
    if rustix::process::geteuid().is_root() {
        chown(directory.path(), Some(ORDINARY.0), Some(ORDINARY.1))?;
    }
    Ok(directory)
}

fn owner(path: &Path) -> Result<(u32, u32)> {
    let metadata = path.symlink_metadata()?;
    Ok((metadata.uid(), metadata.gid()))
}

/// Who runs `vmm`.
fn own() -> (u32, u32) {
    match rustix::process::geteuid().is_root() {
        true => ORDINARY,
        false => (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        ),
    }
}

fn run(fixtures: &Fixtures, share: &Path, options: &str, script: &str) -> Result<String> {
    let options = format!("tag=s,{options}");
    let run = Vm::patched(fixtures)?
        .share(share, &options)
        .script(&format!("cd /mnt/s && set -e\n{script}"))
        .by_ordinary_user()?
        .run()?
        .expect_success()?;
    Ok(run.text()?.to_owned())
}

fn user(fixtures: &Fixtures) -> Result<()> {
    let share = directory(fixtures)?;
    let said = run(
        fixtures,
        share.path(),
        "owners=auto",
        "echo secret >none; chmod 0 none; cat none; mkdir closed; echo in >closed/f; chmod 0 closed
         cat closed/f; stat -c %u:%g . none closed; chown 33 none 2>/dev/null && echo given; chown 0:0 none",
    )?;
    ensure!(said == "secret\nin\n0:0\n0:0\n0:0\n", "{said}");
    ensure!(owner(&share.path().join("none"))? == own());
    let said = run(
        fixtures,
        share.path(),
        "owners=user,forget-owners",
        "mkdir src; echo text >src/f; tar cf t.tar src; rm -r src; tar xf t.tar; chown 33:34 src/f
         stat -c %u:%g src/f; cat src/f",
    )?;
    ensure!(said == "0:0\ntext\n", "{said}");
    Ok(())
}

/// Owners, modes and devices: made, found by name, and as another run finds them.
const MAKE: &str =
    "mkdir d; chown 33:34 d; chmod 2750 d; echo x >d/f; chown 1:2 d/f; chmod 4711 d/f
    tar cf t.tar d; mkdir there; tar xf t.tar -C there\n";
const TELL: &str = "stat -c '%n %u:%g %a' d d/f there/d there/d/f\n";
const TOLD: &str = "d 33:34 2750\nd/f 1:2 4711\nthere/d 33:34 2750\nthere/d/f 1:2 4711\n";

const MAKE_DEVICES: &str =
    "mknod null c 1 3; chmod 666 null; echo gone >null; mkfifo p; chown 7 p\n";
const TELL_DEVICES: &str = "stat -c '%n %F %t:%T %u' null p\n";
const TOLD_DEVICES: &str = "null character special file 1:3 0\np fifo 0:0 7\n";

fn xattr(fixtures: &Fixtures) -> Result<()> {
    let share = directory(fixtures)?;
    let tell = format!("{TELL}{TELL_DEVICES}");
    let told = format!("{TOLD}{TOLD_DEVICES}");
    let script = format!("{MAKE}{MAKE_DEVICES}{tell}");
    let said = run(fixtures, share.path(), "owners=xattr", &script)?;
    ensure!(said == told, "{said}");
    let again = run(fixtures, share.path(), "owners=xattr,ro", &tell)?;
    ensure!(again == told, "{again}");
    let file = share.path().join("d/f");
    ensure!(owner(&file)? == own());
    let mode = file.metadata()?.permissions().mode() & 0o7777;
    ensure!(mode == 0o700, "{mode:o}");
    let mut value = [0; 64];
    let length = rustix::fs::getxattr(&file, "user.containers.override_stat", &mut value[..])?;
    ensure!(&value[..length] == b"1:2:04711", "{:?}", &value[..length]);
    Ok(())
}

fn map(fixtures: &Fixtures) -> Result<()> {
    let share = directory(fixtures)?;
    let script = format!(
        "{MAKE}{TELL}{MAKE_DEVICES}{TELL_DEVICES}
         chown 4000000000 d 2>/dev/null && echo given
         echo secret >none; chmod 0 none; cat none; chown 65536:65536 none; cat none
         ln -s none l; chown -h 12:13 l; stat -c %u:%g l; stat -c %u:%g .
         for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
             echo >f$i; chmod 4751 f$i; chown $i:$i f$i; chmod 640 f$i; chown $((i+1)) f$i
         done; stat -c '%g %a' f? f??"
    );
    let said = run(fixtures, share.path(), "owners=map", &script)?;
    let many: String = (1..=12).map(|i| format!("{i} 640\n")).collect();
    let told = format!("{TOLD}{TOLD_DEVICES}secret\nsecret\n12:13\n0:0\n{many}");
    ensure!(said == told, "{said}");
    let again = run(fixtures, share.path(), "owners=map,ro", TELL_DEVICES)?;
    ensure!(again == TOLD_DEVICES, "{again}");
    if rustix::process::geteuid().is_root() {
        for (name, uid, gid) in [
            ("d", 32, 33),
            ("d/f", 0, 1),
            ("l", 11, 12),
            ("none", 65_535, 65_535),
        ] {
            let owner = owner(&share.path().join(name))?;
            ensure!(owner == (100_000 + uid, 100_000 + gid), "{name}: {owner:?}");
        }
    }
    Ok(())
}

fn less(fixtures: &Fixtures) -> Result<()> {
    let share = directory(fixtures)?;
    let run = Vm::patched(fixtures)?
        .share(share.path(), "tag=s")
        .script("cd /mnt/s && echo x >f && stat -c %u:%g f && chmod 0 f && ! cat f 2>/dev/null")
        .without_user_namespaces()
        .by_ordinary_user()?
        .run()?
        .expect_success()?;
    ensure!(run.text()? == "0:0\n", "{}", run.account());
    let notes = run.report["notes"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let [note] = notes else {
        bail!("{}", run.account())
    };
    let note = note.as_str().unwrap_or_default();
    ensure!(note.contains("refuses user namespaces"), "{note}");
    let lines = (run.stderr.lines()).filter(|line| *line == format!("vmm: note: {note}"));
    ensure!(lines.count() == 1, "{}", run.stderr);
    Ok(())
}
