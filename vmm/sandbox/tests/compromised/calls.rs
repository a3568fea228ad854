//! System calls that no thread may make, whatever it does. Where they are made at all
//! they fail by their arguments, so nothing comes of them.

use rustix::io::Errno;

use super::Outcome;

/// An attempt by any of some calls.
pub(crate) struct Refused {
    /// As in the README.
    pub(crate) name: &'static str,
    pub(crate) calls: &'static [Call],
}

/// Its number, and its first arguments.
pub(crate) type Call = (i64, [i64; 3]);

/// No descriptor, no time, and no set of flags.
const NONE: i64 = -1;
/// No process has it.
const NOBODY: i64 = i32::MAX as i64;
/// `fcntl(2)`: another signal than SIGIO.
const F_SETSIG: i64 = 10;
/// What x32 adds to the number of a call.
const X32: i64 = 0x4000_0000;

pub(crate) const REFUSED: &[Refused] = &[
    Refused {
        name: "open a file by its handle (`open_by_handle_at`)",
        calls: &[
            (libc::SYS_open_by_handle_at, [NONE, 0, 0]),
            (libc::SYS_name_to_handle_at, [NONE, 0, 0]),
        ],
    },
    Refused {
        name: "run a program (`execve`), from memory as well (`memfd_create`, `execveat`)",
        calls: &[
            (libc::SYS_execve, [0, 0, 0]),
            (libc::SYS_execveat, [NONE, 0, 0]),
            (libc::SYS_memfd_create, [0, 0, 0]),
            (libc::SYS_uselib, [0, 0, 0]),
        ],
    },
    Refused {
        name: "start a process (`clone`)",
        // Of contradictory flags nothing comes.
        calls: &[(
            libc::SYS_clone,
            [(libc::CLONE_FS | libc::CLONE_NEWNS) as i64, 0, 0],
        )],
    },
    Refused {
        name: "map code (`mmap`, `mprotect`, `shmat`, `personality`)",
        calls: &[
            (libc::SYS_mmap, [0, 0, EXECUTABLE]),
            (libc::SYS_mprotect, [0x1000, 0x1000, EXECUTABLE]),
            (libc::SYS_pkey_mprotect, [1, 0, EXECUTABLE]),
            (libc::SYS_remap_file_pages, [0, 0, NONE]),
            (libc::SYS_shmat, [NONE, 0, EXECUTABLE]),
            // Asks which it is.
            (libc::SYS_personality, [0xffff_ffff, 0, 0]),
        ],
    },
    Refused {
        name: "make a socket, connect one, pass descriptors (`sendmsg`, `recvmsg`)",
        calls: &[
            (
                libc::SYS_socket,
                [libc::AF_INET as i64, libc::SOCK_STREAM as i64, 0],
            ),
            (
                libc::SYS_socketpair,
                [libc::AF_UNIX as i64, libc::SOCK_STREAM as i64, 0],
            ),
            // Of a path or an abstract name.
            (libc::SYS_connect, [NONE, 0, 0]),
            (libc::SYS_bind, [NONE, 0, 0]),
            (libc::SYS_sendmsg, [NONE, 0, 0]),
            (libc::SYS_recvmsg, [NONE, 0, 0]),
        ],
    },
    Refused {
        name: "trace a process (`ptrace`), or read and write its memory (`process_vm_readv`)",
        calls: &[
            (libc::SYS_ptrace, [libc::PTRACE_SEIZE as i64, NOBODY, 0]),
            (libc::SYS_process_vm_readv, [NOBODY, 0, 0]),
            (libc::SYS_process_vm_writev, [NOBODY, 0, 0]),
            (libc::SYS_kcmp, [NOBODY, NOBODY, 0]),
        ],
    },
    Refused {
        name: "take a descriptor of another process (`pidfd_getfd`)",
        calls: &[
            (libc::SYS_pidfd_open, [NONE, 0, 0]),
            (libc::SYS_pidfd_getfd, [NONE, 0, 0]),
        ],
    },
    Refused {
        name: "signal another process",
        calls: &[
            (libc::SYS_kill, [NOBODY, 0, 0]),
            (libc::SYS_tkill, [NOBODY, 0, 0]),
            (libc::SYS_tgkill, [NOBODY, NOBODY, 0]),
            (libc::SYS_rt_sigqueueinfo, [NOBODY, 0, 0]),
            (libc::SYS_pidfd_send_signal, [NONE, 0, 0]),
        ],
    },
    Refused {
        name: "have signals sent by a descriptor (`F_SETOWN`), take a lease",
        calls: &[
            (libc::SYS_fcntl, [NONE, libc::F_SETOWN as i64, 0]),
            (libc::SYS_fcntl, [NONE, F_SETSIG, 0]),
            (libc::SYS_fcntl, [NONE, libc::F_SETLEASE as i64, 0]),
            (libc::SYS_fcntl, [NONE, libc::F_NOTIFY as i64, 0]),
        ],
    },
    Refused {
        name: "mount (`mount`, `open_tree`, `move_mount`, `fsopen`), `chroot`, `pivot_root`",
        calls: &[
            (libc::SYS_mount, [0, 0, 0]),
            (libc::SYS_umount2, [0, 0, 0]),
            (libc::SYS_open_tree, [NONE, 0, 0]),
            (libc::SYS_move_mount, [NONE, 0, NONE]),
            (libc::SYS_fsopen, [0, 0, 0]),
            (libc::SYS_fsmount, [NONE, 0, 0]),
            (libc::SYS_fspick, [NONE, 0, 0]),
            (libc::SYS_mount_setattr, [NONE, 0, 0]),
            (libc::SYS_chroot, [0, 0, 0]),
            (libc::SYS_pivot_root, [0, 0, 0]),
            (libc::SYS_swapon, [0, 0, 0]),
        ],
    },
    Refused {
        name: "enter a namespace (`unshare`, `setns`)",
        calls: &[
            // A thread that has others cannot.
            (libc::SYS_unshare, [libc::CLONE_NEWUSER as i64, 0, 0]),
            (libc::SYS_setns, [NONE, 0, 0]),
        ],
    },
    Refused {
        name: "load a module, restart the host",
        calls: &[
            (libc::SYS_finit_module, [NONE, 0, 0]),
            (libc::SYS_init_module, [0, 0, 0]),
            (libc::SYS_delete_module, [0, 0, 0]),
            (libc::SYS_reboot, [0, 0, 0]),
        ],
    },
    Refused {
        name: "load a program into the kernel (`bpf`, `io_uring`)",
        calls: &[
            (libc::SYS_bpf, [NONE, 0, 0]),
            (libc::SYS_io_uring_setup, [0, 0, 0]),
            (libc::SYS_io_uring_enter, [NONE, 0, 0]),
            (libc::SYS_io_uring_register, [NONE, 0, 0]),
        ],
    },
    Refused {
        name: "handle page faults (`userfaultfd`)",
        calls: &[(libc::SYS_userfaultfd, [NONE, 0, 0])],
    },
    Refused {
        name: "watch the host (`perf_event_open`, `fanotify_init`, `inotify_init`, `syslog`)",
        calls: &[
            (libc::SYS_perf_event_open, [0, 0, 0]),
            (libc::SYS_fanotify_init, [NONE, 0, 0]),
            (libc::SYS_inotify_init1, [NONE, 0, 0]),
            (libc::SYS_syslog, [NONE, 0, 0]),
        ],
    },
    Refused {
        name: "use the kernel's keys (`keyctl`)",
        calls: &[
            (libc::SYS_keyctl, [NONE, 0, 0]),
            (libc::SYS_add_key, [0, 0, 0]),
            (libc::SYS_request_key, [0, 0, 0]),
        ],
    },
    Refused {
        name: "share memory with a process (`shmget`, `msgget`, `mq_open`)",
        calls: &[
            (libc::SYS_shmget, [NOBODY, 0, 0]),
            (libc::SYS_msgget, [NOBODY, 0, 0]),
            (libc::SYS_semget, [NOBODY, 0, 0]),
            (libc::SYS_mq_open, [0, 0, 0]),
        ],
    },
    Refused {
        name: "type into the user's terminal (`TIOCSTI`)",
        calls: &[
            (libc::SYS_ioctl, [NONE, libc::TIOCSTI.cast_signed(), 0]),
            (libc::SYS_ioctl, [NONE, libc::TIOCLINUX.cast_signed(), 0]),
        ],
    },
    Refused {
        name: "change the process, or its limits (`prctl`, `prlimit64`)",
        calls: &[
            (libc::SYS_prctl, [libc::PR_SET_DUMPABLE as i64, NONE, 0]),
            (libc::SYS_prctl, [libc::PR_SET_PDEATHSIG as i64, NONE, 0]),
            (libc::SYS_prlimit64, [NOBODY, NONE, 0]),
            (libc::SYS_sched_setscheduler, [NOBODY, 0, 0]),
        ],
    },
    Refused {
        name: "change the host's clock or name, use its ports (`clock_settime`, `iopl`)",
        calls: &[
            (libc::SYS_clock_settime, [NONE, 0, 0]),
            (libc::SYS_settimeofday, [1, 0, 0]),
            (libc::SYS_sethostname, [0, NONE, 0]),
            (libc::SYS_iopl, [4, 0, 0]),
            (libc::SYS_ioperm, [0, 0, 0]),
        ],
    },
    Refused {
        name: "poison memory (`madvise`)",
        calls: &[
            (libc::SYS_madvise, [1, 0, libc::MADV_HWPOISON as i64]),
            (libc::SYS_madvise, [1, 0, libc::MADV_SOFT_OFFLINE as i64]),
        ],
    },
    Refused {
        name: "make a call by its number in another ABI (x32)",
        calls: &[(X32 | libc::SYS_getpid, [0, 0, 0])],
    },
];

const EXECUTABLE: i64 = libc::PROT_EXEC as i64;

impl Refused {
    /// What becomes of each.
    pub(crate) fn outcomes(&self) -> Vec<Outcome> {
        self.calls.iter().map(make).collect()
    }
}

/// Makes a call. One that is not refused has been made, however it fails: kernels look at
/// its arguments in different orders, and some are built without it.
fn make((number, [a, b, c]): &Call) -> Outcome {
    // SAFETY: pointers among the arguments are null or not of a page; what the calls
    // could do to this process they refuse, by their arguments.
    match unsafe { libc::syscall(*number, *a, *b, *c, 0, 0, 0) } {
        -1 => match Errno::from_io_error(&std::io::Error::last_os_error()) {
            Some(error @ Errno::PERM) => Err(error),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}
