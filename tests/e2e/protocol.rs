//! What of the protocol Linux asks for seldom: shown with the programs that do, in a
//! guest.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tests::fixtures::{Fixtures, PRELUDE};
use tests::kernels::{Kernel, Variant, Version};
use tests::native::inject::Injection;

use crate::queues::until;
use crate::theme::{Test, Theme};
use crate::vm::{Vm, below, directory};

pub(crate) const THEMES: [&str; 2] = ["protocol_6_1", "protocol_6_12"];

pub(crate) fn themes() -> Vec<Theme> {
    let theme = |(name, version)| {
        let kernel = Kernel::Built(version, Variant::Patched);
        let test = |name: &str, body: fn(&Fixtures, Kernel) -> Result<()>| {
            Test::new(name, [kernel], move |fixtures| body(fixtures, kernel))
        };
        let native = Test::new(
            "what_native_mounts_do_is_done_in_a_guest",
            [kernel],
            move |f| native(f, kernel, version),
        );
        Theme::new(
            name,
            [
                native,
                test("acls_decide_in_the_guest_and_are_the_hosts", acls),
                test("file_systems_below_a_share_are_told_apart", submounts),
                test("a_file_is_emptied_by_opening_it", emptied_by_open),
                test("an_overlay_has_its_upper_layer_on_a_share", overlay),
                test("flags_of_files_are_those_of_the_host", flags),
                test("files_with_verity_are_the_hosts", verity),
            ],
        )
    };
    let versions = [Version::V6_1, Version::V6_12];
    THEMES.into_iter().zip(versions).map(theme).collect()
}

/// Every cache policy, and write-back where it can be had: as the native tests have
/// them.
const MODES: &[&str] = &[
    "cache=never",
    "cache=metadata",
    "cache=auto",
    "cache=always",
    "cache=auto,writeback",
    "cache=always,writeback",
    "cache=auto,writeback,atomic-truncate",
];
/// Those in which Linux 6.1 maps files shared, as its version number has it.
const MAPPED: &[&str] = &[
    "cache=auto",
    "cache=always",
    "cache=auto,writeback",
    "cache=always,writeback",
    "cache=auto,writeback,atomic-truncate",
];
const EXPORT: &[&str] = &[
    "export,cache=never",
    "export,cache=auto",
    "export,cache=always",
];

/// Linux asks for it since 6.6.
const BIRTH: &str = "basics::a_file_is_as_old_as_it_is_on_the_host";

/// Tests of `tests/native`, and the options of the share that each is about.
const NATIVE: &[(&str, &[&str])] = &[
    ("basics::what_is_written_is_read_and_is_on_the_host", MODES),
    ("basics::a_rename_replaces_and_a_removal_removes", MODES),
    (BIRTH, MODES),
    (
        "basics::a_file_that_is_opened_to_be_overwritten_is_empty",
        MODES,
    ),
    ("basics::a_shared_mapping_reaches_the_host", MAPPED),
    ("basics::a_mapping_is_what_reads_and_writes_see", MAPPED),
    (
        "by_handle::an_exported_share_opens_what_the_guest_has_forgotten",
        EXPORT,
    ),
    (
        "by_handle::another_share_says_that_it_is_gone",
        &["cache=auto"],
    ),
    (
        "copies::a_copy_has_what_was_just_written_and_spares_what_is_around_it",
        MODES,
    ),
    (
        "idmap::a_mount_with_other_owners_keeps_them_apart_from_the_hosts",
        &["idmap,cache=auto", "idmap,cache=never"],
    ),
    (
        "idmap::a_share_without_the_option_is_not_mapped",
        &["cache=auto"],
    ),
    ("locks::a_deadlock_is_told", &["locks"]),
    (
        "unnamed::a_file_without_a_name_is_written_and_then_linked",
        MODES,
    ),
    ("xattrs::the_guest_has_labels_of_its_own", MODES),
    (
        "xattrs::what_is_written_to_has_no_capabilities_any_more",
        MODES,
    ),
    ("xattrs::a_share_may_have_none", &["no-xattr"]),
];

fn native(fixtures: &Fixtures, kernel: Kernel, version: Version) -> Result<()> {
    // A share for all tests of the same options, and a directory in it for each.
    let mut shares: BTreeMap<&str, TempDir> = BTreeMap::new();
    let mut vm = Vm::booting(fixtures, kernel)?
        .share(&fixtures.tools, "tag=tools,ro,cache=always")
        .option("--memory", "1G")
        .patience(Duration::from_secs(60));
    let mut script = format!(
        "{PRELUDE}
         run() {{ # TEST OPTIONS SHARE
             mkdir /mnt/$3/$1
             if ! NATIVE_TEST_INSIDE=$2 MOUNTPOINT=/mnt/$3/$1 native --exact $1 --nocapture \\
                 >/tmp/said 2>&1 || ! grep -q '1 passed' /tmp/said; then
                 echo \"$1 $2\"; cat /tmp/said
             fi
         }}\n"
    );
    let has = |test: &str| version != Version::V6_1 || test != BIRTH;
    let cases = || NATIVE.iter().filter(|(test, _)| has(test));
    for (test, modes) in cases() {
        for &mode in *modes {
            let number = match shares.keys().position(|known| *known == mode) {
                Some(_) => shares[mode].path().file_name().context("no name")?,
                None => {
                    let share = shares.entry(mode).or_insert(directory(&[])?);
                    let tag = share.path().file_name().context("no name")?;
                    let options = format!("tag={},{mode}", tag.display());
                    vm = vm.share(share.path(), &options);
                    tag
                }
            };
            writeln!(script, "run {test} {mode} {}", number.display())?;
        }
    }
    let run = vm.script(&script).run()?.expect_success()?;
    ensure!(run.text()?.is_empty(), "{}", run.account());
    for (test, modes) in cases() {
        // What cannot be done there has left nothing.
        if test.starts_with("idmap") && version == Version::V6_1 {
            continue;
        }
        for mode in *modes {
            check(fixtures, test, mode, &shares[mode].path().join(test))?;
        }
    }
    Ok(())
}

/// The part of a native test that looks at what is in `directory` then. Gives what it
/// said.
fn check(fixtures: &Fixtures, test: &str, mode: &str, directory: &Path) -> Result<String> {
    let output = Command::new(fixtures.tools.join("bin/native"))
        .args(["--exact", test, "--nocapture"])
        .env("NATIVE_TEST_CHECK", mode)
        .env("NATIVE_TEST_DIRECTORY", directory)
        .output()?;
    let both = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&both).into_owned();
    let passed = output.status.success() && said.contains("1 passed");
    ensure!(passed, "{mode}: {said}");
    Ok(said)
}

/// A guest with tools that runs `script` in a share, and what it says.
fn said(
    fixtures: &Fixtures,
    kernel: Kernel,
    share: &Path,
    options: &str,
    script: &str,
) -> Result<String> {
    let run = Vm::booting(fixtures, kernel)?
        .share(&fixtures.tools, "tag=tools,ro,cache=always")
        .share(share, &format!("tag=t,{options}"))
        .patience(Duration::from_secs(20))
        .script(&format!("{PRELUDE}\nset -e; cd /mnt/t\n{script}"))
        .run()?
        .expect_success()?;
    Ok(run.text()?.to_owned())
}

fn acls(fixtures: &Fixtures, kernel: Kernel) -> Result<()> {
    let share = directory(&[])?;
    let script = "as() { /mnt/tools/bin/setpriv --reuid 1234 --regid 1234 --clear-groups \"$@\"; }
        chmod 711 . && umask 077 && echo text >file
        as cat file 2>/dev/null || echo refused
        setfacl -m u:1234:r file && as cat file
        # The group's bits are what an ACL gives at most.
        chmod 600 file && as cat file 2>/dev/null || echo masked
        getfacl -cnp file | grep 1234 | tr -s '\\t' ' '
        chmod 640 file && as cat file
        # A directory's default takes the place of the umask.
        mkdir d && setfacl -d -m u::rwx,u:1234:rwx,g::rx,o::x d
        mkdir d/below && echo text >d/file
        stat -c '%a %n' d/file d/below
        getfacl -cnp d/below | grep -c default:user:1234:rwx
        chmod 711 d && as cat d/file";
    let said = said(fixtures, kernel, share.path(), "acl,cache=auto", script)?;
    let expected = "refused\ntext\nmasked\nuser:1234:r-- #effective:---\ntext\n\
                    660 d/file\n771 d/below\n1\ntext\n";
    ensure!(said == expected, "{said}");
    // The host has them as the guest made them: version 2, then entries of 8 bytes.
    let mut value = [0; 100];
    let name = "system.posix_acl_access";
    let length = rustix::fs::getxattr(below(&share, "file"), name, &mut value[..])?;
    let entries: Vec<&[u8]> = value[4..length].chunks(8).collect();
    let named = |entry: &&&[u8]| entry[..2] == [2, 0] && entry[4..] == 1234_u32.to_le_bytes();
    let named = entries.iter().find(named).context("no such entry")?;
    ensure!(named[2..4] == [4, 0], "{entries:?}");
    Ok(())
}

fn submounts(fixtures: &Fixtures, kernel: Kernel) -> Result<()> {
    let share = directory(&[("file", b""), ("m/hidden", b"")])?;
    let script = "cd /mnt/t; echo text >m/file; cat m/file
        [ $(stat -c %d .) = $(stat -c %d m) ] && echo the same
        [ $(stat -c %d m) = $(stat -c %d m/file) ] && echo the same below
        find . -xdev | sort; echo all; find . | sort
        df -k /mnt/t/m/file | awk 'NR > 1 { print $NF, $(NF - 4) }'
        mv file m/file 2>/dev/null && echo moved; ln file m/link 2>/dev/null || echo no link";
    for (options, below, expected) in [
        (
            "submounts",
            "/mnt/t/m 1024",
            "text\nthe same below\n.\n./file\n./m\nall\n.\n./file\n./m\n./m/file\n/mnt/t/m 1024\n\
             moved\nno link\n",
        ),
        (
            "cache=auto",
            "/mnt/t",
            "text\nthe same\nthe same below\n.\n./file\n./m\n./m/file\nall\n.\n./file\n./m\n./m/file\n",
        ),
    ] {
        let run = Vm::booting(fixtures, kernel)?
            .tmpfs("1M", &share.path().join("m"))
            .share(share.path(), &format!("tag=t,{options}"))
            .script(script)
            .run()?
            .expect_success()?;
        let said = run.text()?;
        ensure!(said.starts_with(expected), "{options}: {}", run.account());
        ensure!(said.contains(below), "{options}: {}", run.account());
        std::fs::write(share.path().join("file"), "")?;
    }
    ensure!(std::fs::metadata(share.path().join("m/hidden"))?.nlink() == 1);
    Ok(())
}

/// Where a size that is set by SETATTR stays without an answer. A running program is not
/// emptied by who opens it to write to it.
fn emptied_by_open(fixtures: &Fixtures, kernel: Kernel) -> Result<()> {
    let shares = [(); 2].map(|()| directory(&[("file", b"text\n")]));
    let [with, without] = shares;
    let (with, without) = (with?, without?);
    let (running, host) = Vm::booting(fixtures, kernel)?
        .share(with.path(), "tag=with,writeback,atomic-truncate")
        .share(without.path(), "tag=without,writeback")
        .patience(Duration::from_secs(20))
        .script(
            "cd /mnt/with; true >file; wc -c <file; echo new >>file
             cp /proc/self/exe busybox; ./busybox sleep 100 &
             until [ \"$(readlink /proc/$!/exe)\" = $PWD/busybox ]; do :; done
             { true >busybox; } 2>/dev/null || echo busy
             cmp busybox /proc/self/exe; kill $!
             sync; cd /mnt/without; true >file; wc -c <file",
        )
        .start_under(Injection::holding("ftruncate")?)?;
    until("the SETATTR of the other share", || host.held() == 1)?;
    ensure!(std::fs::read(below(&with, "file"))? == b"new\n");
    ensure!(std::fs::read(below(&without, "file"))? == b"text\n");
    host.release()?;
    let run = running.finish()?.expect_success()?;
    let said: Vec<&str> = run.text()?.split_whitespace().collect();
    ensure!(said == ["0", "busy", "0"], "{}", run.account());
    Ok(())
}

/// `index` and `nfs_export` want what a share with `export` has, and say so where they
/// do not find it.
fn overlay(fixtures: &Fixtures, kernel: Kernel) -> Result<()> {
    let share = directory(&[])?;
    let script = "mkdir upper work /tmp/lower /tmp/merged /tmp/lower/d
        echo lower >/tmp/lower/file; ln /tmp/lower/file /tmp/lower/link
        echo gone >/tmp/lower/gone; echo below >/tmp/lower/d/f
        mount -t overlay -o lowerdir=/tmp/lower,upperdir=upper,workdir=work,index=on,nfs_export=on \\
            overlay /tmp/merged
        grep -o 'index=on\\|nfs_export=on' /proc/mounts
        dmesg | grep -i 'overlayfs:.*\\(fall\\|support\\|off\\)' || :
        cd /tmp/merged
        echo more >>file; cat link; rm gone; mv d moved; mkdir d; chown 12:34 file
        ls; cat moved/f; stat -c '%h %u:%g' link
        echo 2 >/proc/sys/vm/drop_caches; cat link
        cd /; umount /tmp/merged";
    let said = said(fixtures, kernel, share.path(), "export,cache=auto", script)?;
    let expected = "index=on\nnfs_export=on\nlower\nmore\nd\nfile\nlink\nmoved\nbelow\n2 12:34\n\
                    lower\nmore\n";
    ensure!(said == expected, "{said}");
    let upper = below(&share, "upper");
    ensure!(std::fs::read(upper.join("file"))? == b"lower\nmore\n");
    let gone = std::fs::symlink_metadata(upper.join("gone"))?;
    ensure!((gone.mode() & 0o170_000, gone.rdev()) == (0o020_000, 0));
    // An index is a file more with the same inode.
    ensure!(std::fs::metadata(upper.join("file"))?.nlink() >= 2);
    Ok(())
}

/// `FS_IOC_GETFLAGS`, on this side.
fn flags_of(path: &Path) -> Result<rustix::fs::IFlags> {
    Ok(rustix::fs::ioctl_getflags(std::fs::File::open(path)?)?)
}

fn flags(fixtures: &Fixtures, kernel: Kernel) -> Result<()> {
    use rustix::fs::IFlags;
    let share = directory(&[
        ("dump", b""),
        ("fixed", b""),
        ("log", b"one\n"),
        ("of_host", b""),
    ])?;
    let file = std::fs::File::open(below(&share, "of_host"))?;
    rustix::fs::ioctl_setflags(&file, IFlags::NODUMP).context(
        "the file system of TMPDIR has no flags; set TMPDIR to ext4, xfs, btrfs or tmpfs",
    )?;
    let script = "chattr +d dump; chattr +i fixed; chattr +a log
        lsattr -d dump of_host | tr -d -- -
        (echo text >fixed) 2>/dev/null || echo refused
        rm -f fixed 2>/dev/null || echo kept
        (echo two >log) 2>/dev/null || echo append only
        echo two >>log; cat log";
    let said = said(fixtures, kernel, share.path(), "cache=auto", script);
    let found = ["dump", "fixed", "log"].map(|name| flags_of(&below(&share, name)));
    // So that the directory can be removed.
    for name in ["fixed", "log"] {
        let file = std::fs::File::open(below(&share, name))?;
        rustix::fs::ioctl_setflags(&file, IFlags::empty())?;
    }
    let said = said?;
    let expected = "d dump\nd of_host\nrefused\nkept\nappend only\none\ntwo\n";
    ensure!(said == expected, "{said}");
    let [dump, fixed, log] = found;
    ensure!(dump? & IFlags::NODUMP == IFlags::NODUMP);
    ensure!(fixed? & IFlags::IMMUTABLE == IFlags::IMMUTABLE);
    ensure!(log? & IFlags::APPEND == IFlags::APPEND);
    Ok(())
}

fn verity(fixtures: &Fixtures, kernel: Kernel) -> Result<()> {
    let test = "verity::what_has_verity_is_only_read_and_is_measured_as_on_the_host";
    for mode in ["cache=never", "cache=auto"] {
        let share = tempfile::tempdir_in(&fixtures.disk)?;
        let script = format!(
            "if NATIVE_TEST_INSIDE={mode} MOUNTPOINT=$PWD native --exact {test} --nocapture \
                 >/tmp/said 2>&1 && grep -q '1 passed' /tmp/said; then echo passed
             else cat /tmp/said; fi"
        );
        let said = said(fixtures, kernel, share.path(), mode, &script)?;
        ensure!(said == "passed\n", "{said}");
        let said = check(fixtures, test, mode, share.path())?;
        if said.contains("not tried") {
            // The lab's disk has it.
            let in_lab = std::env::var_os(crate::INSIDE).is_some();
            ensure!(!in_lab, "{said}");
            eprintln!("{said}");
        }
    }
    Ok(())
}
