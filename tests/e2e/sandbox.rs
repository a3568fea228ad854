//! What confines a run, on hosts that refuse more than most, and what one guest can
//! take of the host while another share is served.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::io::Errno;
use seccompiler::SeccompAction;
use serde_json::json;
use tests::fixtures::Fixtures;

use crate::theme::{PATCHED, Test, Theme};
use crate::vm::{REFUSED, Run, Vm, below, directory};

pub(crate) const THEME: &str = "sandbox";

pub(crate) fn theme() -> Theme {
    Theme::new(
        THEME,
        vec![
            Test::new("a_run_is_confined", PATCHED, whoever_runs_it),
            Test::new("a_call_on_no_list_fails_the_test", PATCHED, on_no_list),
            Test::new(
                "a_profile_may_refuse_what_serving_does_without",
                PATCHED,
                by_a_profile,
            ),
            Test::new(
                "a_user_namespace_of_one_user_is_enough",
                PATCHED,
                one_mapped_user,
            ),
            Test::new("a_file_may_be_as_long_as_the_limit", PATCHED, short_files),
            Test::new(
                "a_share_without_descriptors_takes_none_of_another",
                PATCHED,
                exhausted,
            ),
        ],
    )
}

/// What a share is made of, made in the guest.
const MAKE_ALL: &str = "cd /mnt/s && mkdir d && echo text >f && ln f l && ln -s f s &&
    mv f d/f && chmod 600 d/f && cat l && rm l s";

fn confined(fixtures: &Fixtures) -> Result<Vm> {
    Ok(Vm::patched(fixtures)?.option("--sandbox", "on"))
}

fn ensure_confined(run: &Run) -> Result<()> {
    let wanted = json!({
        "system_calls": true, "files": true, "capabilities": true,
        "no_new_privileges": true, "refused": [],
    });
    let holds = &run.report["sandbox"];
    // Without Landlock and seccomp in the host's kernel this is where it is said.
    ensure!(*holds == wanted, "{}", run.account());
    ensure!(!run.stderr.contains("sandbox"), "{}", run.stderr);
    Ok(())
}

fn whoever_runs_it(fixtures: &Fixtures) -> Result<()> {
    for ordinary in [false, true] {
        let share = directory(&[])?;
        if ordinary && rustix::process::geteuid().is_root() {
            let (uid, gid) = crate::vm::ORDINARY;
            std::os::unix::fs::chown(share.path(), Some(uid), Some(gid))?;
        }
        // Asked for, and by default.
        let vm = match ordinary {
            true => Vm::patched(fixtures)?.by_ordinary_user()?,
            false => confined(fixtures)?,
        };
        let vm = vm.share(share.path(), "tag=s").script(MAKE_ALL);
        let run = vm.run()?.expect_success()?;
        ensure!(run.text()? == "text\n", "{}", run.account());
        ensure_confined(&run)?;
        ensure!(fs::read(below(&share, "d/f"))? == b"text\n");
    }
    Ok(())
}

/// The list of a share's threads lacks a call: an outer filter sees to that.
fn on_no_list(fixtures: &Fixtures) -> Result<()> {
    let share = directory(&[])?;
    let outcome = confined(fixtures)?
        .share(share.path(), "tag=s")
        .script("cd /mnt/s; ln -s to link || ln -s to again; echo file >file")
        .refused(&[libc::SYS_symlinkat], &SeccompAction::Trap)?
        .run();
    let error = match outcome {
        Ok(run) => bail!("nobody noticed\n{}", run.account()),
        Err(error) => error.to_string(),
    };
    for said in [
        r#"the sandbox refused ["symlinkat"]"#,
        &format!("{REFUSED} the system call symlinkat to the thread"),
        "Operation not permitted",
    ] {
        ensure!(error.contains(said), "{error}");
    }
    ensure!(error.matches("the system call symlinkat").count() == 1);
    // The machine went on.
    ensure!(fs::read(below(&share, "file"))? == b"file\n");
    Ok(())
}

fn by_a_profile(fixtures: &Fixtures) -> Result<()> {
    let refused = [
        libc::SYS_unshare,
        libc::SYS_openat2,
        libc::SYS_open_by_handle_at,
        libc::SYS_name_to_handle_at,
        libc::SYS_setgroups,
    ];
    let refuse = SeccompAction::Errno(Errno::PERM.raw_os_error().cast_unsigned());
    let share = directory(&[])?;
    let run = confined(fixtures)?
        .share(share.path(), "tag=s")
        .script(MAKE_ALL)
        .refused(&refused, &refuse)?
        .run()?
        .expect_success()?;
    ensure!(run.text()? == "text\n", "{}", run.account());
    ensure_confined(&run)
}

fn one_mapped_user(fixtures: &Fixtures) -> Result<()> {
    let share = directory(&[])?;
    let run = confined(fixtures)?
        .share(share.path(), "tag=s")
        .script(MAKE_ALL)
        .after(Command::new("unshare").args(["-U", "-r", "sh"]), ":")
        .run()?
        .expect_success()?;
    ensure!(run.text()? == "text\n", "{}", run.account());
    ensure_confined(&run)
}

fn short_files(fixtures: &Fixtures) -> Result<()> {
    let share = directory(&[])?;
    let run = confined(fixtures)?
        // Longer than that.
        .console_log("/dev/null".as_ref())
        .limit_file_size(64)
        .share(share.path(), "tag=s")
        .script(
            "cd /mnt/s; dd if=/dev/zero of=large bs=4k count=64 conv=fsync && exit 1
             echo small >small; echo went on",
        )
        .run()?
        .expect(0, "exited")?;
    ensure!(run.text()? == "went on\n", "{}", run.account());
    ensure!(run.stderr.contains("File too large"), "{}", run.account());
    ensure!(fs::read(below(&share, "small"))? == b"small\n");
    ensure_confined(&run)
}

/// With 256 descriptors and two shares one has at most 96: 32 of its own and what
/// both may have.
fn exhausted(fixtures: &Fixtures) -> Result<()> {
    let (taken, other) = (directory(&[])?, directory(&[])?);
    let run = confined(fixtures)?
        .limit_files(256)
        .share(taken.path(), "tag=taken")
        .share(other.path(), "tag=other")
        .patience(Duration::from_secs(30))
        .script(
            "cd /mnt/taken
             for i in $(seq 300); do echo $i >$i; ln $i linked-$i; done
             (i=0; while ! [ -e /tmp/stop ]; do
                 dd if=/dev/zero of=/mnt/other/data bs=16k count=16 conv=fsync 2>/tmp/dd ||
                     cat /tmp/dd >>/tmp/failed
                 i=$((i + 1)); [ -e /tmp/refused ] && echo >>/tmp/beside
             done) & writer=$!
             tail -f $(seq 300) >/dev/null 2>/tmp/said & tail=$!
             until grep -q 'open files' /tmp/said; do sleep 0.1; done
             # Unlinked and open, and still as many as there can be.
             rm $(seq 300); touch /tmp/refused
             cat linked-300 >/dev/null 2>&1 || echo refused
             until [ -e /tmp/beside ]; do sleep 0.1; done
             for i in $(seq 40); do echo $i >/mnt/other/$i; done; cat /mnt/other/40
             touch /tmp/stop; wait $writer; cat /tmp/failed 2>/dev/null
             kill $tail; wait $tail; cat linked-300",
        )
        .run()?;
    let run = run.expect_success()?;
    ensure!(run.text()? == "refused\n40\n300\n", "{}", run.account());
    ensure_confined(&run)?;
    let data = fs::metadata(below(&other, "data")).context("nothing was written")?;
    ensure!(data.len() == 16 * 16 * 1024);
    Ok(())
}
