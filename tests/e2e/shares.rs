//! Several shares, odd names, and what the guest may find in one.

use std::fs;
use std::os::unix::fs::symlink;

use anyhow::{Result, ensure};
use tempfile::TempDir;
use tests::fixtures::Fixtures;
use tests::kernels::Kernel;

use crate::theme::{Test, Theme};
use crate::vm::{Vm, below, directory};

pub(crate) fn theme() -> Theme {
    let mut tests = tests(Kernel::PATCHED);
    // Of one share: Debian's kernels have another for their modules.
    tests.push(Test::new(
        "a_hundred_files_can_be_open_with_a_limit_of_256",
        [Kernel::PATCHED],
        |fixtures| small_limit(fixtures, Kernel::PATCHED),
    ));
    tests.push(Test::new(
        "the_overlay_of_a_root_is_as_large_as_the_user_says",
        [Kernel::PATCHED],
        overlay_size,
    ));
    Theme::new("shares", tests)
}

/// What every kernel finds in a share.
pub(crate) fn tests(kernel: Kernel) -> Vec<Test> {
    let test = |name: &str, body: fn(&Fixtures, Kernel) -> Result<()>| {
        Test::new(name, [kernel], move |fixtures| body(fixtures, kernel))
    };
    vec![
        test("two_shares_are_two_file_systems", two_shares),
        test("a_share_is_mounted_where_the_user_says", mounted_at),
        test("a_share_may_be_below_another", nested),
        test("nothing_outside_a_share_can_be_reached", walls),
        test("odd_names_are_listed_and_opened", odd_names),
        test("every_cache_policy_serves_the_same_bytes", cache_policies),
        test("a_share_can_be_the_root", root),
    ]
}

fn two_shares(fixtures: &Fixtures, kernel: Kernel) -> Result<()> {
    let one = directory(&[("file", b"one")])?;
    let two = directory(&[("file", b"two")])?;
    let run = Vm::booting(fixtures, kernel)?
        .share(one.path(), "tag=a")
        .share(two.path(), "tag=b,cache=never,queues=2")
        .script("cat /mnt/a/file /mnt/b/file; mv /mnt/a/file /mnt/b/moved; ls /mnt/a /mnt/b")
        .run()?
        .expect_success()?;
    ensure!(
        run.text()? == "onetwo/mnt/a:\n\n/mnt/b:\nfile\nmoved\n",
        "{}",
        run.account()
    );
    ensure!(fs::read(below(&two, "moved"))? == b"one");
    ensure!(fs::read_dir(one.path())?.count() == 0);
    Ok(())
}

fn nested(fixtures: &Fixtures, kernel: Kernel) -> Result<()> {
    let outer = directory(&[("file", b"outer"), ("inner/hidden", b"")])?;
    let inner = directory(&[("file", b"inner")])?;
    // The inner one comes first on the command line.
    let run = Vm::booting(fixtures, kernel)?
        .share(inner.path(), "at=/outer/inner")
        .share(outer.path(), "at=/outer,ro")
        .script("cat /outer/file /outer/inner/file; ls /outer/inner")
        .run()?
        .expect_success()?;
    ensure!(run.text()? == "outerinnerfile\n", "{}", run.account());
    Ok(())
}

fn small_limit(fixtures: &Fixtures, kernel: Kernel) -> Result<()> {
    let share = tempfile::tempdir()?;
    for n in 0..400 {
        fs::write(share.path().join(n.to_string()), n.to_string())?;
    }
    let run = Vm::booting(fixtures, kernel)?
        .limit_files(256)
        .share(share.path(), "tag=t")
        .script(
            "cd /mnt/t; ls -l | wc -l; tail -f $(seq 100) >/dev/null & tail=$!;
             for i in $(seq 50); do
                 open=$(ls -l /proc/$tail/fd | grep -c /mnt/t); [ $open = 100 ] && break; sleep 0.1;
             done;
             echo $open; ls | wc -l; cat 399; echo; read line; echo $line; kill $tail",
        )
        .run_with_input(b"input\n".to_vec())?
        .expect_success()?;
    ensure!(
        run.text()? == "401\n100\n400\n399\ninput\n",
        "{}",
        run.account()
    );
    Ok(())
}

fn mounted_at(fixtures: &Fixtures, kernel: Kernel) -> Result<()> {
    let share = directory(&[("file", b"here")])?;
    let run = Vm::booting(fixtures, kernel)?
        .share(share.path(), "tag=t,at=/srv/some/where")
        .script(
            "cat /srv/some/where/file; echo; ls -A /mnt; grep -c ' /srv/some/where virtiofs ' /proc/mounts",
        )
        .run()?
        .expect_success()?;
    ensure!(run.text()? == "here\n1\n", "{}", run.account());
    Ok(())
}

fn walls(fixtures: &Fixtures, kernel: Kernel) -> Result<()> {
    let outer = directory(&[
        ("secret", b"secret"),
        ("share/inside", b"inside"),
        ("share/d/x", b""),
    ])?;
    let share = below(&outer, "share");
    symlink("../secret", share.join("up"))?;
    symlink(below(&outer, "secret"), share.join("absolute"))?;
    let run = Vm::booting(fixtures, kernel)?
        .share(&share, "tag=t")
        .script(
            "cd /mnt/t; cat inside; cat up absolute ../secret d/../../secret 2>/dev/null;
             ls -a d/../.. | grep secret; [ . -ef /mnt/t ] && [ .. -ef /mnt ] && echo; exit 0",
        )
        .run()?
        .expect_success()?;
    ensure!(run.text()? == "inside\n", "{}", run.account());
    Ok(())
}

fn odd_names(fixtures: &Fixtures, kernel: Kernel) -> Result<()> {
    let long = "n".repeat(255);
    let names = [
        "with space",
        "new\nline",
        "-dash",
        "\u{fc}mlaut",
        "*",
        "'\"\\",
        long.as_str(),
    ];
    let share = tempfile::tempdir()?;
    for name in names {
        fs::write(below(&share, name), name)?;
    }
    let run = Vm::booting(fixtures, kernel)?
        .share(share.path(), "tag=t")
        .script("cd /mnt/t; for f in *; do [ \"$(cat \"./$f\")\" = \"$f\" ] || echo \"bad $f\"; done; ls | wc -c; cat ./* > all; wc -c < all")
        .run()?
        .expect_success()?;
    let length: usize = names.iter().map(|name| name.len()).sum();
    let wanted = format!("{}\n{length}\n", length + names.len());
    ensure!(run.text()? == wanted, "{}", run.account());
    Ok(())
}

fn cache_policies(fixtures: &Fixtures, kernel: Kernel) -> Result<()> {
    let content: Vec<u8> = (0..3_000_001_u32)
        .map(|index| (index % 251) as u8)
        .collect();
    let share = directory(&[("file", &content)])?;
    let policies = ["never", "auto", "always", "metadata"];
    let mut vm = Vm::booting(fixtures, kernel)?;
    for policy in policies {
        vm = vm.share(share.path(), &format!("tag={policy},cache={policy}"));
    }
    // Nobody else may write to this one.
    let alone = directory(&[("file", &content)])?;
    let run = vm
        .share(alone.path(), "tag=writeback,writeback")
        .script(
            "for p in never auto always metadata writeback; do
               cp /mnt/$p/file /mnt/$p/copy-$p && cmp /mnt/$p/file /mnt/$p/copy-$p || exit 1
               sync
             done",
        )
        .run()?
        .expect_success()?;
    let shared = policies.map(|policy| (policy, &share));
    for (policy, share) in shared.into_iter().chain([("writeback", &alone)]) {
        let copy = fs::read(below(share, &format!("copy-{policy}")))?;
        ensure!(
            copy == content,
            "cache={policy}: another copy arrived: {}",
            run.account()
        );
    }
    Ok(())
}

/// A tree with a shell for a root file system.
pub(crate) fn tree(fixtures: &Fixtures) -> Result<TempDir> {
    let tree = directory(&[("etc/hostname", b"shared-root\n")])?;
    for directory in ["bin", "proc"] {
        fs::create_dir(below(&tree, directory))?;
    }
    fs::copy(&fixtures.busybox, below(&tree, "bin/busybox"))?;
    symlink("busybox", below(&tree, "bin/sh"))?;
    Ok(tree)
}

fn overlay_size(fixtures: &Fixtures) -> Result<()> {
    let tree = tree(fixtures)?;
    // df -k / prints the overlay's size, which is its tmpfs's.
    let size = |options: &str| {
        let mut root = tree.path().as_os_str().to_owned();
        root.push(options);
        let run = Vm::patched(fixtures)?
            .option("--root", root)
            .option("--memory", "256M")
            .script("busybox df -k / | busybox awk 'END { print $2 }'")
            .run()?
            .expect_success()?;
        Ok::<u64, anyhow::Error>(run.text()?.trim().parse()?)
    };
    ensure!(size(",overlay-size=200M")? == 200 << 10);
    ensure!(size(",overlay-size=1M")? == 1 << 10);
    let default = size("")?;
    // Half of what the kernel leaves.
    ensure!((90 << 10..=128 << 10).contains(&default), "{default} KiB");
    Ok(())
}

fn root(fixtures: &Fixtures, kernel: Kernel) -> Result<()> {
    let tree = tree(fixtures)?;
    let before = fs::metadata(below(&tree, "etc/hostname"))?.modified()?;
    let run = Vm::booting(fixtures, kernel)?
        .option("--root", tree.path())
        .script(
            "busybox cat /etc/hostname; echo changed > /etc/hostname; busybox cat /etc/hostname",
        )
        .run()?
        .expect_success()?;
    ensure!(run.text()? == "shared-root\nchanged\n", "{}", run.account());
    let after = fs::metadata(below(&tree, "etc/hostname"))?.modified()?;
    ensure!(before == after && fs::read(below(&tree, "etc/hostname"))? == b"shared-root\n");
    Ok(())
}
