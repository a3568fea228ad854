//! Hosts that refuse what most allow, as the profiles of containers do: a filter
//! takes their place. What is refused must be done without, or told at the start.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use devices::filesystem::{
    Caller, CreateOperations, NewNode, ROOT, Request, SetXattrArgs, Waiters, XattrOperations,
};
use devices::passthrough::{Config, Error, Passthrough};
use rustix::io::Errno;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};
use vmm_sandbox::{Mode, Sandbox};

/// What `work` comes to on a thread for which `calls` fail with `error`.
fn refusing<T: Send + 'static>(
    calls: &[i64],
    error: Errno,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let rules: BTreeMap<_, _> = calls.iter().map(|call| (*call, Vec::new())).collect();
    let refuse = SeccompAction::Errno(error.raw_os_error().cast_unsigned());
    let arch = TargetArch::x86_64;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    let thread = std::thread::spawn(move || {
        seccompiler::apply_filter(&program).unwrap();
        work()
    });
    thread.join().unwrap()
}

/// Makes what a share is made of in one at `path`.
fn make_all(path: &Path, config: Config) {
    let share = Passthrough::new(path, config).unwrap();
    let waiters = Waiters::default();
    let caller = Caller {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        pid: 1,
        supplementary_gid: None,
    };
    let request = Request::new(1, ROOT, caller, &waiters);
    let new = |mode| NewNode {
        mode,
        umask: 0,
        rdev: 0,
    };
    share.mkdir(&request, c"directory", &new(0o777)).unwrap();
    let file = share.mknod(&request, c"file", &new(libc::S_IFREG | 0o666));
    let file = file.unwrap();
    share.link(&request, c"link", file.inode).unwrap();
    share.symlink(&request, c"symlink", c"file").unwrap();
    let on_file = Request::new(2, file.inode, caller, &waiters);
    let set = SetXattrArgs {
        value: b"value",
        flags: 0,
        clear_set_gid: false,
    };
    share.setxattr(&on_file, c"user.name", &set).unwrap();
    let got = share.getxattr(&on_file, c"user.name", 5).unwrap();
    assert_eq!(got, b"value");
    for (name, mode) in [("directory", 0o777), ("file", 0o666)] {
        let made = fs::metadata(path.join(name)).unwrap().permissions().mode();
        assert_eq!(made & 0o777, mode, "{name}");
    }
    assert_eq!(
        fs::metadata(path.join("file"))
            .map(|file| file.len())
            .unwrap(),
        0
    );
}

#[test]
fn what_a_container_refuses_is_done_without() {
    let all = [
        libc::SYS_unshare,
        libc::SYS_openat2,
        libc::SYS_open_by_handle_at,
        libc::SYS_name_to_handle_at,
        libc::SYS_setgroups,
    ];
    for error in [Errno::PERM, Errno::NOSYS] {
        for calls in all.iter().map(std::slice::from_ref).chain([&all[..]]) {
            let top = tempfile::tempdir().unwrap();
            let path = top.path().to_owned();
            refusing(calls, error, move || make_all(&path, Config::default()));
        }
    }
}

#[test]
fn what_cannot_be_done_without_is_told_at_the_start() {
    let top = tempfile::tempdir().unwrap();
    let path = top.path().to_owned();
    let config = Config {
        posix_acl: true,
        ..Config::default()
    };
    let refused = refusing(&[libc::SYS_unshare], Errno::PERM, move || {
        Passthrough::new(&path, config).map(drop)
    });
    assert!(
        matches!(refused, Err(Error::AclWithoutUmask)),
        "{refused:?}"
    );
}

#[test]
fn a_sandbox_that_the_host_has_not_is_refused_or_told() {
    let landlock = 444;
    for (calls, missing) in [
        (&[landlock][..], "Landlock"),
        (&[libc::SYS_seccomp], "seccomp"),
        (&[landlock, libc::SYS_seccomp], "seccomp"),
    ] {
        let (on, best) = refusing(calls, Errno::PERM, || {
            (Sandbox::plan(Mode::On), Sandbox::plan(Mode::Best))
        });
        let refusal = on.unwrap_err().to_string();
        assert!(refusal.contains(missing), "{refusal}");
        assert!(refusal.contains("--sandbox=best"), "{refusal}");
        let best = best.unwrap();
        assert!(best.lacks().unwrap().contains(missing));
        assert_eq!(best.holds().files, !calls.contains(&landlock));
        assert_eq!(
            best.holds().system_calls,
            !calls.contains(&libc::SYS_seccomp)
        );
        assert!(best.holds().capabilities);
    }
}
