//! A worker that was taken over: what a thread of a share runs is replaced by the
//! attempt. Outside of the sandbox each attempt gets further, which is tried first.
#![allow(unsafe_code, clippy::unwrap_used)]

mod attempts;
mod calls;

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc::channel;

use attempts::{ATTEMPTS, Hands, open};
use calls::REFUSED;
use devices::passthrough::{Config, Passthrough};
use devices::virtio::fs::Threads;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use vmm_sandbox::{Keeper, Mode as SandboxMode, Place, Role, Sandbox};

type Outcome = Result<(), Errno>;

fn open_path(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::PATH, Mode::empty()).unwrap()
}

/// A tree with a share, another one, and something beside them.
fn tree() -> tempfile::TempDir {
    let top = tempfile::tempdir().unwrap();
    for directory in ["share", "share/below", "other"] {
        fs::create_dir(top.path().join(directory)).unwrap();
    }
    for file in ["share/file", "other/file", "secret"] {
        fs::write(top.path().join(file), file).unwrap();
    }
    top
}

fn hands(top: &Path) -> Hands {
    Hands {
        root: open_path(&top.join("share")),
        proc: open_path(Path::new("/proc/self/fd")),
        file: fs::File::open(top.join("share/file")).unwrap().into(),
        other: open_path(&top.join("other")),
        other_file: fs::File::open(top.join("other/file")).unwrap().into(),
    }
}

fn keeper(share: &Path, read_only: bool) -> Keeper {
    let sandbox = Sandbox::plan(SandboxMode::On).unwrap();
    sandbox.begin().unwrap();
    let config = Config {
        read_only,
        file_handles: false,
        ..Config::default()
    };
    let passthrough = Passthrough::new(share, config).unwrap();
    let place = Place::from(passthrough.needs().unwrap());
    let keeper = Keeper::new(&sandbox, "test", Some(place));
    keeper.start().unwrap();
    keeper
}

/// What `work` comes to on a thread of `keeper`.
fn on_a_thread<T: Send + 'static>(keeper: &Keeper, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (told, outcome) = channel();
    let work = move || told.send(work()).unwrap();
    let thread = Threads::start(keeper, "worker".into(), Box::new(work)).unwrap();
    thread.join().unwrap();
    outcome.recv().unwrap()
}

#[test]
fn a_worker_that_was_taken_over_gets_nothing_but_its_share() {
    let is_root = rustix::process::geteuid().is_root();
    for read_only in [true, false] {
        let top = tree();
        let keeper = keeper(&top.path().join("share"), read_only);
        for attempt in ATTEMPTS {
            let (hands, path) = (hands(top.path()), top.path().to_owned());
            // As anybody else the host refuses some of it anyway.
            if is_root {
                let outside = (attempt.by)(&hands, &path);
                assert_eq!(outside, Ok(()), "{} outside", attempt.name);
            }
            let inside = on_a_thread(&keeper, move || (attempt.by)(&hands, &path));
            let refusal = match read_only {
                true => attempt.readers,
                false => attempt.writers,
            };
            assert_eq!(
                inside.err(),
                refusal,
                "{}, read-only: {read_only}",
                attempt.name
            );
        }
    }
}

/// One after the other: what each comes to outside, and in every role.
#[test]
fn some_calls_no_thread_may_make() {
    let sandbox = Sandbox::plan(SandboxMode::On).unwrap();
    sandbox.begin().unwrap();
    let is_root = rustix::process::geteuid().is_root();
    for refused in REFUSED {
        let all = |outcome| vec![outcome; refused.calls.len()];
        if is_root {
            assert_eq!(refused.outcomes(), all(Ok(())), "{} outside", refused.name);
        }
        for role in Role::ALL {
            let confined = || {
                sandbox.enter(role).unwrap();
                refused.outcomes()
            };
            let outcomes = std::thread::scope(|scope| scope.spawn(confined).join()).unwrap();
            let name = refused.name;
            assert_eq!(outcomes, all(Err(Errno::PERM)), "{name} as {role:?}");
        }
    }
}

#[test]
fn the_readme_says_each_of_them() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let word = |refusal| match refusal {
        Some(Errno::PERM) => "seccomp",
        Some(_) => "Landlock",
        None => "allowed",
    };
    let row = |name, [ro, rw]: [&str; 2]| format!("| {name} | {ro} | {rw} |");
    let attempts =
        (ATTEMPTS.iter()).map(|one| row(one.name, [word(one.readers), word(one.writers)]));
    let refused = (REFUSED.iter()).map(|one| row(one.name, ["seccomp"; 2]));
    for row in attempts.chain(refused) {
        assert!(readme.contains(&row), "the README lacks {row}");
    }
}

#[test]
fn what_serving_takes_is_left() {
    let top = tree();
    let keeper = keeper(&top.path().join("share"), false);
    let hands = hands(top.path());
    let outcome = on_a_thread(&keeper, move || -> Result<(), Errno> {
        let root = &hands.root;
        let directory = rustix::fs::openat(root, "below", OFlags::PATH, Mode::empty())?;
        // From directory to directory, by a name and by a descriptor.
        rustix::fs::renameat(root, "file", &directory, "file")?;
        let file = rustix::fs::openat(&directory, "file", OFlags::PATH, Mode::empty())?;
        let number = |file: &OwnedFd| file.as_raw_fd().to_string();
        let follow = AtFlags::SYMLINK_FOLLOW;
        rustix::fs::linkat(&hands.proc, number(&file), root, "link", follow)?;
        // What has no name yet.
        let flags = OFlags::TMPFILE | OFlags::RDWR;
        let unnamed = rustix::fs::openat(root, ".", flags, Mode::RUSR | Mode::WUSR)?;
        rustix::fs::linkat(&hands.proc, number(&unnamed), root, "named", follow)?;
        let file = rustix::fs::openat(&hands.proc, number(&file), OFlags::RDWR, Mode::empty())?;
        rustix::fs::ftruncate(&file, 1)?;
        rustix::io::pwritev(&file, &[std::io::IoSlice::new(b"x")], 0)?;
        rustix::fs::mkdirat(root, "made", Mode::RWXU)?;
        rustix::fs::symlinkat("file", root, "symlink")?;
        rustix::fs::unlinkat(root, "made", AtFlags::REMOVEDIR)?;
        // SAFETY: no memory and no descriptor depends on a working directory.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::FS) }
    });
    assert_eq!(outcome, Ok(()));
    assert_eq!(fs::read(top.path().join("share/link")).unwrap(), b"x");
    assert!(top.path().join("share/named").is_file());
}

/// Each is compiled by the host's kernel, and a guest starts as many threads as it likes.
#[test]
fn threads_have_the_filters_of_their_keeper_and_none_of_their_own() {
    let top = tree();
    let keeper = keeper(&top.path().join("share"), false);
    let (told, identity) = channel();
    let (go, asked) = channel();
    let work = move || {
        told.send(rustix::thread::gettid()).unwrap();
        asked.recv().unwrap();
    };
    let thread = Threads::start(&keeper, "worker".into(), Box::new(work)).unwrap();
    let thread_id = identity.recv().unwrap();
    let filters = |thread: rustix::thread::Pid| -> u32 {
        let status = format!("/proc/self/task/{}/status", thread.as_raw_nonzero());
        let status = fs::read_to_string(status).unwrap();
        let mut lines = status.lines();
        let count = lines.find_map(|line| line.strip_prefix("Seccomp_filters:"));
        count.unwrap().trim().parse().unwrap()
    };
    let (of_worker, of_all) = (filters(thread_id), filters(rustix::thread::gettid()));
    go.send(()).unwrap();
    thread.join().unwrap();
    // What is on the list, and that one call is not there.
    assert_eq!(of_worker, of_all + 2);
}

#[test]
fn a_vcpu_has_no_files_and_no_rights() {
    let sandbox = Sandbox::plan(SandboxMode::On).unwrap();
    sandbox.begin().unwrap();
    let (opened, held) = std::thread::spawn(move || {
        sandbox.enter(Role::Vcpu).unwrap();
        let opened = open(CWD, "/etc/passwd", OFlags::RDONLY);
        let status = rustix::thread::capabilities(None);
        (opened, status.map(|sets| sets.permitted))
    })
    .join()
    .unwrap();
    // No list has openat, nor capget.
    assert_eq!(opened, Err(Errno::PERM));
    assert_eq!(held, Err(Errno::PERM));
}

#[test]
fn without_the_sandbox_nothing_is_refused() {
    let sandbox = Sandbox::plan(SandboxMode::Off).unwrap();
    sandbox.begin().unwrap();
    let keeper = Keeper::new(&sandbox, "test", None);
    keeper.start().unwrap();
    let opened = on_a_thread(&keeper, || open(CWD, "/etc/passwd", OFlags::RDONLY));
    assert_eq!(opened, Ok(()));
    assert_eq!(sandbox.lacks(), None);
}
