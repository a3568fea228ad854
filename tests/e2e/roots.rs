//! Root file systems: whose init has the machine, what is mounted in them, and the
//! host's own.

mod host;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tests::debian_system::SYSVINIT;
use tests::fixtures::Fixtures;

use crate::kernels::account;
use crate::shares::tree;
use crate::theme::{PATCHED, Test, Theme};
use crate::vm::{Vm, below};
use host::{User, in_tree, own_root};

/// Wants a system of Debian.
pub(crate) const THEME: &str = "roots";

pub(crate) fn theme() -> Theme {
    Theme::new(
        THEME,
        [
            Test::new("have_a_shell_without_a_command", PATCHED, shell),
            Test::new("have_what_the_kernel_can_mount", PATCHED, mounts),
            Test::new("have_an_init_that_init_names", PATCHED, named_init),
            Test::new(
                "have_a_busybox_init_that_runs_the_command",
                PATCHED,
                busybox_init,
            ),
            Test::new(
                "have_an_init_that_runs_the_command_itself",
                PATCHED,
                other_init,
            ),
            Test::new("have_a_systemd_that_runs_the_command", PATCHED, systemd),
            Test::new("have_a_sysvinit_that_runs_the_command", PATCHED, sysvinit),
            Test::new("have_a_user_who_runs_the_command", PATCHED, user),
            Test::new("of_the_host_are_read_only_for_root", PATCHED, |fixtures| {
                own_root(fixtures, User::Root)
            }),
            Test::new(
                "of_the_host_are_read_only_for_a_user",
                PATCHED,
                |fixtures| own_root(fixtures, User::Alice),
            ),
        ],
    )
    .long()
}

fn executable(path: &Path, script: &str) -> Result<()> {
    fs::create_dir_all(path.parent().context("no parent")?)?;
    fs::write(path, format!("#!/bin/sh\n{script}"))?;
    Ok(fs::set_permissions(path, PermissionsExt::from_mode(0o755))?)
}

/// Of the user's in the tree's own /etc/passwd.
fn shell(fixtures: &Fixtures) -> Result<()> {
    let tree = tree(fixtures)?;
    let run = |input: &[u8]| {
        Vm::patched(fixtures)?
            .option("--root", tree.path())
            .run_with_input(input.to_vec())
    };
    let run_it = run(b"echo $0 $HOME; exit 7\n")?.expect(7, "exited")?;
    ensure!(run_it.text()? == "/bin/sh /root\n", "{}", run_it.account());
    executable(&below(&tree, "bin/own"), "echo own; exit 8\n")?;
    fs::write(below(&tree, "etc/passwd"), "root:x:0:0::/home:/bin/own\n")?;
    let run = run(b"")?.expect(8, "exited")?;
    ensure!(run.text()? == "own\n", "{}", run.account());
    Ok(())
}

fn mounts(fixtures: &Fixtures) -> Result<()> {
    let places = [
        ("cgroup2", "/sys/fs/cgroup"),
        ("bpf", "/sys/fs/bpf"),
        ("configfs", "/sys/kernel/config"),
        ("debugfs", "/sys/kernel/debug"),
        ("tracefs", "/sys/kernel/tracing"),
        ("securityfs", "/sys/kernel/security"),
        ("hugetlbfs", "/dev/hugepages"),
    ];
    let tree = tree(fixtures)?;
    for root in [None, Some(tree.path())] {
        let vm = Vm::patched(fixtures)?;
        let vm = match root {
            Some(root) => vm.option("--root", root),
            None => vm,
        };
        let run = vm
            .script(
                "busybox cat /proc/filesystems; echo; busybox cat /proc/mounts; busybox ls /dev",
            )
            .run()?
            .expect_success()?;
        let (known, mounted) = run.text()?.split_once("\n\n").context("no mounts")?;
        let mut count = 0;
        for (kind, place) in places {
            let has = known
                .lines()
                .any(|line| line.split('\t').next_back() == Some(kind));
            let at = mounted.contains(&format!(" {place} {kind} "));
            ensure!(
                has == at,
                "{kind}: known {has}, mounted {at}\n{}",
                run.account()
            );
            count += usize::from(has);
        }
        ensure!(count >= 2, "the kernel knows too few of them:\n{known}");
    }
    Ok(())
}

fn named_init(fixtures: &Fixtures) -> Result<()> {
    let tree = tree(fixtures)?;
    executable(
        &below(&tree, "own/init"),
        "echo own; exec busybox poweroff -f\n",
    )?;
    let run = Vm::patched(fixtures)?
        .option("--root", tree.path())
        .option("--cmdline", "init=/own/init")
        .run()?
        .expect(0, "powered-off")?;
    ensure!(run.text()?.contains("own"), "{}", run.account());
    Ok(())
}

const COMMAND: &str = "read word; echo got $word; echo wrong >&2; exit 7";

fn busybox_init(fixtures: &Fixtures) -> Result<()> {
    let tree = tree(fixtures)?;
    for directory in ["sbin", "dev", "sys", "run"] {
        fs::create_dir(below(&tree, directory))?;
    }
    symlink("/bin/busybox", below(&tree, "sbin/init"))?;
    symlink("/bin/busybox", below(&tree, "sbin/poweroff"))?;
    let table = "::sysinit:/bin/busybox touch /run/started";
    fs::write(below(&tree, "etc/inittab"), table)?;
    let before = account(tree.path())?;
    let mut root = tree.path().as_os_str().to_owned();
    root.push(",rw");
    let run = Vm::patched(fixtures)?
        .option("--root", root)
        .flag("--init")
        .command([
            "sh",
            "-c",
            &format!("busybox test -e /run/started || exit 9; {COMMAND}"),
        ])
        .patience(Duration::from_secs(20))
        .run_with_input(b"this\n".to_vec())?
        .expect(7, "exited")?;
    ensure!(run.text()? == "got this\n", "{}", run.account());
    ensure!(run.stderr.contains("wrong\n"), "{}", run.account());
    ensure!(before == account(tree.path())?, "the tree is another");
    Ok(())
}

/// It has been told where, in the README.
fn other_init(fixtures: &Fixtures) -> Result<()> {
    let tree = tree(fixtures)?;
    executable(
        &below(&tree, "sbin/init"),
        "/run/vmm/command\nbusybox poweroff -f\n",
    )?;
    symlink("/bin/busybox", below(&tree, "sbin/poweroff"))?;
    let run = Vm::patched(fixtures)?
        .option("--root", tree.path())
        .flag("--init")
        .command(["sh", "-c", COMMAND])
        .run_with_input(b"that\n".to_vec())?
        .expect(7, "exited")?;
    ensure!(run.text()? == "got that\n", "{}", run.account());
    Vm::patched(fixtures)?
        .option("--root", tree.path())
        .flag("--init")
        .script("exit 0")
        .run()?
        .expect_success()?;
    // One that runs nothing ends before the command has.
    executable(&below(&tree, "sbin/init"), "exec busybox poweroff -f\n")?;
    Vm::patched(fixtures)?
        .option("--root", tree.path())
        .flag("--init")
        .command(["true"])
        .run()?
        .expect(255, "died")?;
    Ok(())
}

/// A system of Debian's, unpacked.
fn debian(fixtures: &Fixtures) -> Result<TempDir> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "only root can unpack a system with all its owners: run this as root"
    );
    let tree = tempfile::tempdir()?;
    fs::set_permissions(tree.path(), PermissionsExt::from_mode(0o755))?;
    let status = Command::new("tar")
        .arg("-xf")
        .arg(&fixtures.debian)
        .arg("-C")
        .arg(tree.path())
        .status()?;
    ensure!(
        status.success(),
        "cannot unpack {}",
        fixtures.debian.display()
    );
    Ok(tree)
}

fn systemd(fixtures: &Fixtures) -> Result<()> {
    let tree = debian(fixtures)?;
    let run = Vm::patched(fixtures)?
        .option("--root", tree.path())
        .option("--memory", "1G")
        .flag("--init")
        .patience(Duration::from_secs(120))
        .script(
            "cat /proc/1/comm; systemctl is-active multi-user.target; cat /proc/self/cgroup
             sleep 1000 & exit 7",
        )
        .run()?
        .expect(7, "exited")?;
    let text = run.text()?;
    ensure!(text.starts_with("systemd\nactive\n"), "{}", run.account());
    ensure!(text.contains("vmm-command.service"), "{}", run.account());
    Ok(())
}

fn sysvinit(fixtures: &Fixtures) -> Result<()> {
    let tree = debian(fixtures)?;
    in_tree(
        tree.path(),
        &format!(
            "exec 2>&1; export DEBIAN_FRONTEND=noninteractive
             dpkg --force-all --purge systemd-sysv
             dpkg --force-all -i {SYSVINIT}/*.deb"
        ),
    )?;
    let run = Vm::patched(fixtures)?
        .option("--root", tree.path())
        .option("--memory", "1G")
        .flag("--init")
        .patience(Duration::from_secs(120))
        .script(&format!("cat /proc/1/comm; runlevel; {COMMAND}"))
        .run_with_input(b"this\n".to_vec())?
        .expect(7, "exited")?;
    let text = run.text()?;
    ensure!(text == "init\nN 2\ngot this\n", "{}", run.account());
    ensure!(run.stderr.contains("wrong\n"), "{}", run.account());
    Ok(())
}

fn user(fixtures: &Fixtures) -> Result<()> {
    let tree = tree(fixtures)?;
    fs::write(
        below(&tree, "etc/passwd"),
        "bob:x:1234:99::/home/bob:/bin/own\n",
    )?;
    fs::write(below(&tree, "etc/group"), "more:x:77:bob\n")?;
    let run = |vm: Vm| vm.option("--root", tree.path());
    let bob = run(Vm::patched(fixtures)?)
        .option("--user", "bob")
        .script("busybox id; echo $HOME $USER $SHELL > /dev/stdout; echo wrong > /dev/stderr")
        .run()?
        .expect_success()?;
    let expected = "uid=1234(bob) gid=99 groups=77(more),99\n/home/bob bob /bin/own\n";
    ensure!(bob.text()? == expected, "{}", bob.account());
    ensure!(bob.stderr.contains("wrong\n"), "{}", bob.account());
    run(Vm::patched(fixtures)?)
        .option("--user", "alice")
        .script("true")
        .run()?
        .expect(125, "setup-failed")?;
    Ok(())
}
