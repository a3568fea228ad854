//! What a thread tries that was taken over.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

pub(crate) type Outcome = Result<(), Errno>;

/// What a worker has at hand.
pub(crate) struct Hands {
    pub(crate) root: OwnedFd,
    pub(crate) proc: OwnedFd,
    /// A file of the share, open to be read.
    pub(crate) file: OwnedFd,
}

pub(crate) struct Attempt {
    /// As in the README.
    pub(crate) name: &'static str,
    pub(crate) by: fn(&Hands, &Path) -> Outcome,
    /// What the sandbox says, to who may read a share and to who may write to it.
    pub(crate) readers: Option<Errno>,
    pub(crate) writers: Option<Errno>,
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

pub(crate) const ATTEMPTS: &[Attempt] = &[
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
pub(crate) fn call(number: i64, [a, b, c]: [i64; 3], expected: Errno) -> Outcome {
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

pub(crate) fn open(at: impl AsFd, path: impl AsRef<Path>, flags: OFlags) -> Outcome {
    rustix::fs::openat(at, path.as_ref(), flags, Mode::RUSR | Mode::WUSR).map(drop)
}
