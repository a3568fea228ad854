//! A worker that was taken over: what a thread of a share runs is replaced by the
//! attempt. Outside of the sandbox each attempt gets further, which is tried first.
#![allow(unsafe_code, clippy::unwrap_used)]

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc::channel;

use devices::passthrough::{Config, Passthrough};
use devices::virtio::fs::Threads;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use vmm_sandbox::{Keeper, Mode as SandboxMode, Place, Role, Sandbox};

type Outcome = Result<(), Errno>;

/// What a worker has at hand.
struct Hands {
    root: OwnedFd,
    proc: OwnedFd,
    /// A file of the share, open to be read.
    file: OwnedFd,
}

struct Attempt {
    /// As in the README.
    name: &'static str,
    by: fn(&Hands, &Path) -> Outcome,
    /// What the sandbox says, to who may read a share and to who may write to it.
    readers: Option<Errno>,
    writers: Option<Errno>,
}

impl Attempt {
    /// One that Landlock refuses to all.
    const fn by_landlock(name: &'static str, by: fn(&Hands, &Path) -> Outcome) -> Self {
        Self {
            name,
            by,
            readers: LANDLOCK,
            writers: LANDLOCK,
        }
    }

    /// One for which nobody has a system call.
    const fn by_seccomp(name: &'static str, by: fn(&Hands, &Path) -> Outcome) -> Self {
        Self {
            name,
            by,
            readers: SECCOMP,
            writers: SECCOMP,
        }
    }
}

const LANDLOCK: Option<Errno> = Some(Errno::ACCESS);
const SECCOMP: Option<Errno> = Some(Errno::PERM);

const ATTEMPTS: &[Attempt] = &[
    Attempt::by_landlock("open a file of the host, `/etc/passwd`", |_, _| {
        open(CWD, "/etc/passwd", OFlags::RDONLY)
    }),
    Attempt::by_landlock("leave the share by `..`", |hands, _| {
        open(&hands.root, "../secret", OFlags::RDONLY)
    }),
    Attempt::by_landlock("list what is beside the share", |hands, _| {
        open(&hands.root, "..", OFlags::RDONLY | OFlags::DIRECTORY)
    }),
    Attempt::by_landlock("open a file of another share", |_, top| {
        open(CWD, top.join("other/file"), OFlags::RDONLY)
    }),
    Attempt::by_landlock("make a file outside", |_, top| {
        open(CWD, top.join("made"), OFlags::WRONLY | OFlags::CREATE)
    }),
    Attempt {
        name: "move a file out of the share",
        by: |hands, top| {
            rustix::fs::renameat(&hands.root, "file", CWD, top.join("moved"))?;
            rustix::fs::renameat(CWD, top.join("moved"), &hands.root, "file")
        },
        readers: SECCOMP,
        writers: LANDLOCK,
    },
    Attempt {
        name: "write to a read-only share",
        by: |hands, _| open(&hands.root, "file", OFlags::WRONLY),
        readers: LANDLOCK,
        writers: None,
    },
    Attempt {
        name: "write to what was opened to be read",
        by: |hands, _| {
            let name = hands.file.as_raw_fd().to_string();
            open(&hands.proc, name, OFlags::RDWR)
        },
        readers: LANDLOCK,
        writers: None,
    },
    Attempt {
        name: "remove a file of a read-only share",
        by: |hands, _| {
            let gone = rustix::fs::unlinkat(&hands.root, "nothing", AtFlags::empty());
            further(gone, Errno::NOENT)
        },
        readers: SECCOMP,
        writers: None,
    },
    Attempt {
        // Landlock has no word for it.
        name: "change mode, owner, times or attributes of a file outside",
        by: |_, top| rustix::fs::chmodat(CWD, top.join("secret"), Mode::RUSR, AtFlags::empty()),
        readers: SECCOMP,
        writers: None,
    },
    Attempt::by_seccomp("open a file by its handle (`open_by_handle_at`)", |_, _| {
        call(libc::SYS_open_by_handle_at, [-1, 0, 0], Errno::FAULT)
    }),
    Attempt::by_seccomp("run a program (`execve`)", |_, _| {
        let path = c"/nothing".as_ptr() as i64;
        call(libc::SYS_execve, [path, 0, 0], Errno::NOENT)
    }),
    Attempt::by_seccomp(
        "start a process (`clone`)",
        // Of contradictory flags nothing comes.
        |_, _| {
            let flags = i64::from(libc::CLONE_FS | libc::CLONE_NEWNS);
            call(libc::SYS_clone, [flags, 0, 0], Errno::INVAL)
        },
    ),
    Attempt::by_seccomp("map code (`mmap`, `mprotect`)", |_, _| {
        call(libc::SYS_mprotect, [0x1000, 0x1000, 4], Errno::NOMEM)
    }),
    Attempt::by_seccomp("make a socket", |_, _| {
        let (family, kind) = (libc::AF_INET.into(), libc::SOCK_STREAM.into());
        call(libc::SYS_socket, [family, kind, 0], Errno::NOSYS)
    }),
    Attempt::by_seccomp("trace a process (`ptrace`)", |_, _| {
        let attach = i64::from(libc::PTRACE_SEIZE);
        call(
            libc::SYS_ptrace,
            [attach, i64::from(i32::MAX), 0],
            Errno::SRCH,
        )
    }),
    Attempt::by_seccomp("signal another process", |_, _| {
        let parent = rustix::process::getppid().map_or(1, |id| id.as_raw_nonzero().get());
        call(libc::SYS_kill, [parent.into(), 0, 0], Errno::SRCH)
    }),
    Attempt::by_seccomp("mount", |_, _| {
        call(libc::SYS_mount, [0, 0, 0], Errno::FAULT)
    }),
    Attempt::by_seccomp(
        "enter a namespace (`unshare`, `setns`)",
        // A thread that has others cannot.
        |_, _| {
            let user = i64::from(libc::CLONE_NEWUSER);
            call(libc::SYS_unshare, [user, 0, 0], Errno::INVAL)
        },
    ),
    Attempt::by_seccomp("load a module", |_, _| {
        call(libc::SYS_finit_module, [-1, 0, 0], Errno::BADF)
    }),
    Attempt::by_seccomp(
        "load a program into the kernel (`bpf`, `io_uring`)",
        |_, _| {
            call(libc::SYS_bpf, [-1, 0, 0], Errno::INVAL)?;
            call(libc::SYS_io_uring_setup, [0, 0, 0], Errno::FAULT)
        },
    ),
];

/// Makes a call that fails with `expected` where it is made at all, and with `ENOSYS`
/// where the kernel was built without it.
fn call(number: i64, [a, b, c]: [i64; 3], expected: Errno) -> Outcome {
    // SAFETY: pointers among the arguments are null, or of strings that stay; what
    // the calls could do to this process they refuse, by their arguments.
    let outcome = of(unsafe { libc::syscall(number, a, b, c, 0, 0, 0) });
    further(further(outcome, expected), Errno::NOSYS)
}

fn further(outcome: Outcome, expected: Errno) -> Outcome {
    match outcome {
        Err(error) if error == expected => Ok(()),
        other => other,
    }
}

fn of(outcome: i64) -> Outcome {
    match outcome {
        -1 => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap()),
        _ => Ok(()),
    }
}

fn open(at: impl AsFd, path: impl AsRef<Path>, flags: OFlags) -> Outcome {
    rustix::fs::openat(at, path.as_ref(), flags, Mode::RUSR | Mode::WUSR).map(drop)
}

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

#[test]
fn the_readme_says_each_of_them() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = fs::read_to_string(readme).unwrap();
    for attempt in ATTEMPTS {
        let line = |refusal| match refusal {
            Some(Errno::ACCESS) => "Landlock",
            Some(_) => "seccomp",
            None => "allowed",
        };
        let row = format!(
            "| {} | {} | {} |",
            attempt.name,
            line(attempt.readers),
            line(attempt.writers)
        );
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
        rustix::io::pwrite(&file, b"x", 0)?;
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
