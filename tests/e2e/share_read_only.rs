//! A read-only share cannot be changed, whatever the guest's kernel believes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use tests::fixtures::Fixtures;

use crate::theme::{PATCHED, Test, Theme};
use crate::vm::{Vm, below, directory};

pub(crate) fn theme() -> Theme {
    Theme::new(
        "share_read_only",
        vec![
            Test::new(
                "every_change_is_refused_by_the_mount",
                PATCHED,
                |fixtures| every_change_is_refused(fixtures, "true"),
            ),
            // A guest that mounts it writable has only the server to refuse it.
            Test::new(
                "every_change_is_refused_by_the_server",
                PATCHED,
                |fixtures| {
                    every_change_is_refused(
                        fixtures,
                        "mount -o remount,rw /mnt/t && grep -q ' /mnt/t virtiofs rw' /proc/mounts",
                    )
                },
            ),
        ],
    )
}

/// One change per line.
const CHANGES: &str = "touch file
touch new
mkdir new
rm file
rmdir empty
mv file renamed
mv directory/inner directory/renamed
ln file hard
ln -s file new
mkfifo new
mknod new c 1 3
chmod 600 file
chown 1:1 file
chmod 700 directory
echo x > file
echo x >> file
echo x > new
truncate -s 1 file
cp file new
rm link
touch -h -d @1 link
touch -d @1 file
dd if=/dev/zero of=file bs=1 count=1 conv=notrunc
fallocate -l 4096 file
";

fn every_change_is_refused(fixtures: &Fixtures, first: &str) -> Result<()> {
    let share = directory(&[("file", b"content"), ("directory/inner", b"inner")])?;
    fs::create_dir(below(&share, "empty"))?;
    symlink("file", below(&share, "link"))?;
    let before = state(share.path())?;
    let script = format!(
        "{first} || exit 9
         cd /mnt/t || exit 9
         while read -r change; do
           if sh -c \"$change\" 2> /tmp/error; then echo \"done: $change\"
           elif ! grep -q 'Read-only file system' /tmp/error; then
             echo \"$change: $(cat /tmp/error)\"
           else echo refused; fi
         done
         cat file directory/inner link; ls | wc -l"
    );
    let run = Vm::patched(fixtures)?
        .share(share.path(), "tag=t,ro,xattr,cache=never")
        .script(&script)
        .run_with_input(CHANGES.as_bytes().to_vec())?
        .expect_success()?;
    let (answers, rest): (Vec<&str>, Vec<&str>) =
        run.text()?.lines().partition(|line| *line == "refused");
    ensure!(rest == ["contentinnercontent4"], "{}", run.account());
    ensure!(
        answers.len() == CHANGES.lines().count(),
        "only {} changes were refused",
        answers.len()
    );
    ensure!(
        state(share.path())? == before,
        "the host's tree has changed"
    );
    Ok(())
}

/// Everything about a tree that reading it leaves as it is: of each path its
/// numbers and its content.
type State = BTreeMap<PathBuf, (Vec<i64>, Vec<u8>)>;

fn state(root: &Path) -> Result<State> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let metadata = fs::symlink_metadata(&path)?;
        let content = if metadata.is_dir() {
            for entry in fs::read_dir(&path)? {
                pending.push(entry?.path());
            }
            Vec::new()
        } else if metadata.is_symlink() {
            fs::read_link(&path)?.as_os_str().as_bytes().to_vec()
        } else {
            fs::read(&path)?
        };
        let numbers = vec![
            i64::from(metadata.mode()),
            i64::from(metadata.uid()),
            i64::from(metadata.gid()),
            i64::try_from(metadata.nlink())?,
            i64::try_from(metadata.ino())?,
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.ctime(),
            metadata.ctime_nsec(),
        ];
        found.insert(path, (numbers, content));
    }
    Ok(found)
}
