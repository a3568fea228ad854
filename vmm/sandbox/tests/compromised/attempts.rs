//! What a thread of a share that was taken over does with files.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use super::Outcome;

/// What a worker has at hand.
pub(crate) struct Hands {
    pub(crate) root: OwnedFd,
    pub(crate) proc: OwnedFd,
    /// A file of the share, open to be read.
    pub(crate) file: OwnedFd,
    /// Of another share: its root, and a file that it has open.
    pub(crate) other: OwnedFd,
    pub(crate) other_file: OwnedFd,
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
    Attempt::by_landlock("open a file of another share by its root", |hands, _| {
        open(&hands.other, "file", OFlags::RDONLY)
    }),
    Attempt::by_landlock("write to code (`/proc/self/mem`)", |hands, _| {
        open(&hands.proc, "../mem", OFlags::RDWR)
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
        name: "link a file from outside into the share",
        by: |hands, top| {
            let none = AtFlags::empty();
            rustix::fs::linkat(CWD, top.join("secret"), &hands.root, "linked", none)?;
            rustix::fs::unlinkat(&hands.root, "linked", none)
        },
        readers: SECCOMP,
        writers: Some(Errno::XDEV),
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
    Attempt {
        name: "make a device, which root may open",
        by: |hands, _| {
            // One that anybody may make, since there is none of that number.
            let kind = rustix::fs::FileType::CharacterDevice;
            rustix::fs::mknodat(&hands.root, "device", kind, Mode::RUSR, 0)?;
            rustix::fs::unlinkat(&hands.root, "device", AtFlags::empty())
        },
        readers: SECCOMP,
        writers: None,
    },
    Attempt {
        name: "start a thread, which is confined as itself",
        // Flags that are not enough for one.
        by: |_, _| {
            let flags = i64::from(libc::CLONE_THREAD);
            // SAFETY: with these flags it starts nothing.
            match unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) } {
                -1 => further(Err(last_error()), Errno::INVAL),
                _ => Ok(()),
            }
        },
        readers: None,
        writers: None,
    },
    Attempt {
        // Nor for this.
        name: "see that a file is there, its attributes, where a link leads",
        by: |_, top| {
            rustix::fs::stat(top.join("secret"))?;
            let value: &mut [u8] = &mut [0];
            let attribute = rustix::fs::getxattr(top.join("secret"), "user.none", value);
            further(attribute.map(drop), Errno::NODATA)?;
            let link = rustix::fs::readlinkat(CWD, top.join("secret"), Vec::new());
            further(link.map(drop), Errno::INVAL)
        },
        readers: None,
        writers: None,
    },
    Attempt {
        name: "read what another share has open",
        by: |hands, _| {
            let mut byte = [0];
            let mut one = [std::io::IoSliceMut::new(&mut byte)];
            rustix::io::preadv(&hands.other_file, &mut one, 0).map(drop)
        },
        readers: None,
        writers: None,
    },
];

fn further(outcome: Outcome, expected: Errno) -> Outcome {
    match outcome {
        Err(error) if error == expected => Ok(()),
        other => other,
    }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap()
}

pub(crate) fn open(at: impl AsFd, path: impl AsRef<Path>, flags: OFlags) -> Outcome {
    rustix::fs::openat(at, path.as_ref(), flags, Mode::RUSR | Mode::WUSR).map(drop)
}
