//! What `guest-kernel/check-series` says of a series, tried on a small one for a source
//! of two files. The builds need a kernel and are left out.

#![allow(clippy::unwrap_used)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const SENDER: &str = "A Sender <sender@example.org>";
const AUTHOR: &str = "An Author <author@example.com>";
const BODY: &str = "The first line said nothing of the second one, so say what there is to say.\n";
const UPSTREAM: &str = "commit 0123456789abcdef0123456789abcdef01234567 upstream.\n\n";
const FIXES: &str = "Fixes: 0123456789ab (\"fuse: add a line\")\n";
const FILE: &str = "fs/fuse/lines.c";

/// A patch that puts the second line where the first is.
struct Patch {
    author: &'static str,
    subject: &'static str,
    message: String,
    lines: (&'static str, &'static str),
}

fn signed(body: &str, signers: &[&str]) -> String {
    let mut message = body.to_owned();
    for signer in signers {
        message.push_str(&format!("Signed-off-by: {signer}\n"));
    }
    message
}

/// A backport, a fix and a feature, each of which changes what the one before it left.
fn series() -> Vec<Patch> {
    vec![
        Patch {
            author: AUTHOR,
            subject: "fuse: write a line",
            message: signed(&format!("{UPSTREAM}{BODY}\n"), &[AUTHOR, SENDER]),
            lines: ("one", "two"),
        },
        Patch {
            author: SENDER,
            subject: "fuse: write the line right",
            message: signed(
                &format!("{BODY}\n{FIXES}Cc: stable@vger.kernel.org\n"),
                &[SENDER],
            ),
            lines: ("two", "three"),
        },
        Patch {
            author: SENDER,
            subject: "fuse: write another line",
            message: signed(&format!("{BODY}\n"), &[SENDER]),
            lines: ("three", "four"),
        },
    ]
}

/// A copy of the scripts with a series and a source of its own.
struct Folder {
    directory: tempfile::TempDir,
}

impl Folder {
    /// With a source that has `line`.
    fn new(series: &[Patch], line: &str) -> Self {
        let folder = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest-kernel");
        for name in ["check-series", "apply-series", "source"] {
            folder.write(name, &fs::read_to_string(scripts.join(name)).unwrap());
            fs::set_permissions(folder.path(name), Permissions::from_mode(0o755)).unwrap();
        }
        folder.write("config/base.fragment", "");
        folder.write("6.1/config.fragment", "");
        folder.write(
            "6.1/SOURCE",
            "PACKAGE=linux-source-6.1\nPACKAGE_VERSION=1\n",
        );

        let source = format!("above\n{line}\nbelow\n");
        folder.write(&format!("linux/{FILE}"), &source);
        folder.write("linux/include/uapi/linux/fuse.h", "header\n");
        folder.write("linux/MAINTAINERS", "nobody\n");
        folder.write("linux/Documentation/filesystems/virtiofs.rst", "virtiofs\n");
        folder.write("linux/scripts/checkpatch.pl", "exit 0;\n");
        let tar = Command::new("tar")
            .args(["-cJf", "linux.tar.xz", "linux"])
            .current_dir(folder.directory.path())
            .status()
            .unwrap();
        assert!(tar.success());

        let count = series.len();
        let mut letter =
            format!("From: {SENDER}\nSubject: [PATCH 6.1 00/{count}] fuse: lines\n\n{BODY}\n");
        for (index, patch) in series.iter().enumerate() {
            let (before, after) = patch.lines;
            letter.push_str(&format!("  {}\n", patch.subject));
            folder.write(
                &format!("6.1/{:04}-patch.patch", index + 1),
                &format!(
                    "From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001\n\
                     From: {author}\nDate: Fri, 27 Nov 2026 23:02:56 +0000\n\
                     Subject: [PATCH 6.1 {number:02}/{count}] {subject}\n\n{message}---\n \
                     {FILE} | 2 +-\n 1 file changed, 1 insertion(+), 1 deletion(-)\n\n\
                     diff --git a/{FILE} b/{FILE}\n--- a/{FILE}\n+++ b/{FILE}\n\
                     @@ -1,3 +1,3 @@\n above\n-{before}\n+{after}\n below\n",
                    author = patch.author,
                    number = index + 1,
                    subject = patch.subject,
                    message = patch.message,
                ),
            );
        }
        letter.push_str("\n 1 files changed, 3 insertions(+), 3 deletions(-)\n");
        folder.write("6.1/0000-cover-letter.patch", &letter);
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Whether the series is good, and what is said of it.
    fn check(&self) -> (bool, String) {
        let output = Command::new(self.path("check-series"))
            .args(["--no-build", "--version", "6.1"])
            .env("LINUX_SOURCE", self.path("linux.tar.xz"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            .output()
            .unwrap();
        said(&output)
    }
}

fn said(output: &Output) -> (bool, String) {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), text)
}

/// A series that is refused with these words.
fn refused(series: &[Patch], line: &str, words: &str) {
    let (good, said) = Folder::new(series, line).check();
    assert!(!good, "{said}");
    assert!(said.contains(words), "no '{words}' in:\n{said}");
}

#[test]
fn a_good_series_passes_and_is_remembered() {
    let folder = Folder::new(&series(), "one");
    for times in ["complain about (", "complain about (checked before)"] {
        let (good, said) = folder.check();
        assert!(good && said.contains(times), "{said}");
    }
}

#[test]
fn patches_that_the_source_has_are_left_out_and_named() {
    for (line, there) in [("two", 1), ("three", 2), ("four", 3)] {
        let (good, said) = Folder::new(&series(), line).check();
        assert!(good, "{said}");
        for number in 1..=3 {
            let note = format!("note: {number:04}-patch.patch is in this source already");
            assert_eq!(said.contains(&note), number <= there, "{line}: {said}");
        }
    }
}

#[test]
fn a_patch_that_does_not_apply_is_named() {
    refused(&series(), "five", "6.1: 0001-patch.patch: apply:");
    let mut gap = series();
    gap[2].lines.0 = "two";
    refused(&gap, "one", "6.1: 0003-patch.patch: apply:");
}

#[test]
fn trailers_that_git_does_not_find_are_refused() {
    let mut series = series();
    series[1].message = series[1]
        .message
        .replace("Signed-off-by", "\nSigned-off-by");
    refused(&series, "one", "git does not find 'Fixes: 0123456789ab");
}

#[test]
fn the_work_of_others_comes_with_their_names_and_from_where_it_was_taken() {
    let mut unnamed = series();
    unnamed[0].message = signed(&format!("{UPSTREAM}{BODY}\n"), &[SENDER]);
    refused(&unnamed, "one", "no 'Signed-off-by: An Author");

    let mut unsigned = series();
    unsigned[0].message = signed(&format!("{UPSTREAM}{BODY}\n"), &[AUTHOR]);
    refused(&unsigned, "one", "the last to sign it off is not A Sender");

    let mut from_nowhere = series();
    from_nowhere[0].message = signed(&format!("{BODY}\n{FIXES}"), &[AUTHOR, SENDER]);
    refused(&from_nowhere, "one", "it is no backport");

    let link = "Link: https://lore.kernel.org/fuse-devel/1@example.com/\n";
    let mut posted = series();
    posted[0].message = signed(&format!("{BODY}\n{FIXES}{link}"), &[AUTHOR, SENDER]);
    let (good, said) = Folder::new(&posted, "one").check();
    assert!(good, "{said}");
}

#[test]
fn fixes_come_first() {
    let mut series = series();
    series[2].message = format!("{BODY}\n{FIXES}Signed-off-by: {SENDER}\n");
    series[1].message = signed(&format!("{BODY}\n"), &[SENDER]);
    refused(&series, "one", "order: a fix behind 0002-patch.patch");
}
