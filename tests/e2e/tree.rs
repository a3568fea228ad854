//! A tree of many files is the same in the guest and on the host.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::fixtures::Fixtures;

use crate::theme::{PATCHED, Test, Theme};
use crate::vm::{Vm, below};

/// Directories, and files in each.
const DIRECTORIES: u32 = 100;
const FILES: u32 = 200;

pub(crate) fn theme() -> Theme {
    Theme::new(
        "tree",
        vec![Test::new(
            "of_20000_files_has_the_same_sums_in_the_guest",
            PATCHED,
            same_sums,
        )],
    )
    .long()
}

fn same_sums(fixtures: &Fixtures) -> Result<()> {
    let share = tempfile::tempdir()?;
    for directory in 0..DIRECTORIES {
        let path = below(&share, &format!("some/directory-{directory}"));
        fs::create_dir_all(&path)?;
        for file in 0..FILES {
            // Of many sizes, none of them alike, some of them empty.
            let size = usize::try_from(file * file % 5000)?;
            let content = format!("{directory}/{file};").repeat(size / 8);
            fs::write(path.join(format!("file {file}.c")), content)?;
        }
    }
    let script = "cd /mnt/t && find . -type f -print0 | sort -z | xargs -0 md5sum";
    let run = Vm::patched(fixtures)?
        .share(share.path(), "tag=t,ro")
        .patience(Duration::from_secs(60))
        .script(script)
        .run()?
        .expect_success()?;
    let here = script.replace("/mnt/t", share.path().to_str().context("a strange path")?);
    let host = Command::new("sh")
        .args(["-c", &here])
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(host.status.success(), "the host cannot read its own tree");
    let sums = run.text()?;
    ensure!(
        sums.lines().count() == (DIRECTORIES * FILES) as usize,
        "{}",
        sums.lines().count()
    );
    let host = String::from_utf8(host.stdout)?;
    let other = sums
        .lines()
        .zip(host.lines())
        .find(|(guest, host)| guest != host);
    ensure!(
        other.is_none() && sums == host,
        "the guest has other sums: {other:?}"
    );
    Ok(())
}

/// The MD5 sum of a file on this side, by another program than the guest's
/// reader.
pub(crate) fn md5sum(path: &Path) -> Result<String> {
    let output = Command::new("md5sum")
        .arg(path)
        .output()
        .context("cannot run md5sum")?;
    ensure!(output.status.success(), "md5sum: {}", output.status);
    let text = String::from_utf8(output.stdout)?;
    Ok(text
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned())
}
