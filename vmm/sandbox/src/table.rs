//! The system calls that each kind of thread may make.
//!
//! What is not here is refused (see `refusal`). A call that may do harm with some
//! of its arguments has them beside it. Each is there for a line of this program that
//! makes it; or for the C library and Rust's, older ones and other ways of theirs too,
//! as the calls that have a newer one beside them, and those of `EVERY` that say who or
//! what one is.

use Only::{Any, Masked, OneOf, OwnProcess};
use syscalls::Sysno as Call;

use crate::numbers::*;
use crate::role::Role;

/// With which arguments a call may be made. They are counted from 0.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Only {
    /// All. So is what the data path calls: the kernel runs no filter for what it has
    /// once seen allowed whatever the arguments are (from Linux 5.11 on).
    Any,
    /// Argument `.0` is one of `.1`; 32 bits count.
    OneOf(u8, &'static [u32]),
    /// Of argument `.0` the bits `.1` are `.2`.
    Masked(u8, u64, u64),
    /// Argument `.0` is this process.
    OwnProcess(u8),
}

/// A line of a list.
pub(crate) type Line = (Call, Only);

/// The lists of `role`.
pub(crate) fn of(role: Role) -> &'static [&'static [Line]] {
    match role {
        Role::Share { writes: true } => &[EVERY, SERVES, STARTS, READS, CHANGES],
        Role::Share { writes: false } => &[EVERY, SERVES, STARTS, READS],
        Role::Session => &[EVERY, SERVES, STARTS],
        Role::Vcpu => &[EVERY, SERVES, RUNS],
        Role::Windows => &[EVERY, MEASURES],
        Role::Debugger => &[EVERY, DEBUGS],
        Role::Main => &[EVERY, SERVES, STARTS, LOOKS_AFTER],
    }
}

/// What every thread does: memory, locks, its log, its end. The C library and
/// Rust's need them at any time. None maps code.
const EVERY: &[Line] = &[
    (Call::brk, Any),
    // As `gettimeofday`, where the kernel gives no vDSO.
    (Call::clock_gettime, Any),
    (Call::clock_nanosleep, Any),
    (Call::close, Any),
    (Call::exit, Any),
    (Call::exit_group, Any),
    (Call::futex, Any),
    (Call::getegid, Any),
    // Calls that cannot fail are not expected to: so all that say who one is.
    (Call::geteuid, Any),
    (Call::getgid, Any),
    (Call::getpid, Any),
    (Call::getppid, Any),
    (Call::getrandom, Any),
    (Call::gettid, Any),
    (Call::gettimeofday, Any),
    (Call::getuid, Any),
    // Whoever panics leaves the user's terminal as it was.
    (Call::ioctl, OneOf(1, &[TCSETS2])),
    // Of the allocator, of stacks, and of windows: none by which root poisons pages.
    (
        Call::madvise,
        OneOf(
            2,
            &[
                MADV_DONTNEED,
                MADV_POPULATE_READ,
                MADV_FREE,
                MADV_HUGEPAGE,
                MADV_NOHUGEPAGE,
                MADV_GUARD_INSTALL,
                MADV_GUARD_REMOVE,
            ],
        ),
    ),
    (Call::mmap, Masked(2, PROT_EXEC, 0)),
    (Call::mprotect, Masked(2, PROT_EXEC, 0)),
    (Call::mremap, Any),
    (Call::munmap, Any),
    (Call::nanosleep, Any),
    (Call::poll, Any),
    (Call::ppoll, Any),
    // Only its name, and that of its memory.
    (
        Call::prctl,
        OneOf(0, &[PR_SET_NAME, PR_GET_NAME, PR_SET_VMA]),
    ),
    (Call::read, Any),
    (Call::restart_syscall, Any),
    (Call::rseq, Any),
    (Call::rt_sigaction, Any),
    (Call::rt_sigprocmask, Any),
    (Call::rt_sigreturn, Any),
    (Call::sched_getaffinity, Any),
    (Call::sched_yield, Any),
    (Call::set_robust_list, Any),
    (Call::sigaltstack, Any),
    // How a vCPU is kicked, and how a process ends itself.
    (Call::tgkill, OwnProcess(0)),
    (Call::write, Any),
    (Call::writev, Any),
];

/// What serving takes whatever is served: requests are answered, and files are
/// closed, by any thread that has the last of something.
const SERVES: &[Line] = &[
    (Call::dup, Any),
    // Who waits can be woken.
    (Call::eventfd2, Any),
    (
        Call::fcntl,
        OneOf(1, &[F_DUPFD_CLOEXEC, F_OFD_SETLK, F_OFD_GETLK, F_GETFD]),
    ),
    (Call::fdatasync, Any),
    (Call::fstat, Any),
    (Call::fsync, Any),
    (Call::lseek, Any),
    // Between the windows of dax= and buffers of this process's own.
    (Call::process_vm_readv, OwnProcess(0)),
    (Call::process_vm_writev, OwnProcess(0)),
    (Call::readv, Any),
    (Call::statx, Any),
    (Call::syncfs, Any),
];

/// What a share takes of which nothing is changed.
const READS: &[Line] = &[
    (Call::capget, Any),
    (Call::capset, Any),
    (Call::faccessat, Any),
    (Call::faccessat2, Any),
    (Call::fchdir, Any),
    (Call::flock, Any),
    (Call::fstatfs, Any),
    (Call::getdents64, Any),
    (Call::getxattr, Any),
    (
        Call::ioctl,
        OneOf(
            1,
            &[FS_IOC_GETFLAGS, FS_IOC_FSGETXATTR, FS_IOC_MEASURE_VERITY],
        ),
    ),
    (Call::listxattr, Any),
    // By the C library.
    (Call::newfstatat, Any),
    // What may be opened is for Landlock to say.
    (Call::openat, Any),
    (Call::openat2, Any),
    (Call::preadv, Any),
    (Call::readlinkat, Any),
    (Call::setgroups, Any),
    (Call::setresgid, Any),
    (Call::setresuid, Any),
    (Call::umask, Any),
    // A working directory and an umask of the thread's own, and nothing else.
    (Call::unshare, OneOf(0, &[CLONE_FS])),
];

/// What a share takes that may be changed.
const CHANGES: &[Line] = &[
    (Call::copy_file_range, Any),
    (Call::fallocate, Any),
    (Call::fchmod, Any),
    (Call::fchmodat, Any),
    (Call::fchmodat2, Any),
    (Call::fchownat, Any),
    (Call::fsetxattr, Any),
    (Call::ftruncate, Any),
    (
        Call::ioctl,
        OneOf(
            1,
            &[FS_IOC_SETFLAGS, FS_IOC_FSSETXATTR, FS_IOC_ENABLE_VERITY],
        ),
    ),
    (Call::linkat, Any),
    (Call::mkdirat, Any),
    (Call::mknodat, Any),
    (Call::pwritev, Any),
    (Call::pwritev2, Any),
    (Call::removexattr, Any),
    (Call::renameat, Any),
    (Call::renameat2, Any),
    (Call::setxattr, Any),
    (Call::symlinkat, Any),
    (Call::unlinkat, Any),
    (Call::utimensat, Any),
];

/// Threads of this process are started, which may do what the one may that starts
/// them: no processes, no namespaces.
const STARTS: &[Line] = &[
    (
        Call::clone,
        Masked(0, NAMESPACES | CLONE_THREAD, CLONE_THREAD),
    ),
    // Of these arguments a filter sees nothing: see `ABSENT`.
    (Call::clone3, Any),
];

/// What fails with `ENOSYS` for every thread that it is not refused to: the C
/// library makes threads by `clone` where there is no `clone3`. Not refused,
/// because it is called with all signals blocked, SIGSYS as well.
pub(crate) const ABSENT: Call = Call::clone3;

/// What looks after mapped files: how long each is, and that the zeros which take
/// the place of what was cut off are that again.
const MEASURES: &[Line] = &[(Call::fallocate, Any), (Call::statx, Any)];

/// The guest's processor runs, says where it is, and where interrupts are to go.
const RUNS: &[Line] = &[(
    Call::ioctl,
    OneOf(
        1,
        &[
            KVM_RUN,
            KVM_GET_REGS,
            KVM_GET_SREGS,
            KVM_GET_MP_STATE,
            KVM_GET_VCPU_EVENTS,
            KVM_GET_NESTED_STATE,
            KVM_NMI,
            KVM_SET_GSI_ROUTING,
        ],
    ),
)];

/// gdb has a connection, and the processors' registers.
const DEBUGS: &[Line] = &[
    (Call::accept4, Any),
    (Call::eventfd2, Any),
    (Call::fcntl, OneOf(1, &[F_GETFD, F_GETFL, F_SETFL])),
    (Call::getsockname, Any),
    (Call::ioctl, OneOf(1, &[FIONBIO])),
    (Call::ioctl, Masked(1, IOCTL_TYPE, KVM)),
    (Call::recvfrom, Any),
    (Call::sendto, Any),
    (Call::setsockopt, Any),
    (Call::shutdown, Any),
];

/// The main thread waits for what ends the machine, takes it down, and writes
/// what is to be known of it.
const LOOKS_AFTER: &[Line] = &[
    (Call::epoll_ctl, Any),
    (Call::epoll_pwait, Any),
    (Call::epoll_wait, Any),
    (Call::fchmod, Any),
    (Call::fchown, Any),
    // Beside those of all who serve.
    (Call::fcntl, OneOf(1, &[F_DUPFD, F_SETFD, F_GETFL, F_SETFL])),
    (Call::ftruncate, Any),
    // Of a panic's backtrace.
    (Call::getcwd, Any),
    (Call::getdents64, Any),
    (Call::getrusage, Any),
    (
        Call::ioctl,
        OneOf(1, &[TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO]),
    ),
    // Interrupts and doorbells of the machine.
    (Call::ioctl, Masked(1, IOCTL_TYPE, KVM)),
    (Call::lstat, Any),
    (Call::newfstatat, Any),
    (Call::open, Any),
    (Call::openat, Any),
    (Call::readlink, Any),
    (Call::readlinkat, Any),
    (Call::rename, Any),
    (Call::renameat, Any),
    (Call::renameat2, Any),
    (Call::signalfd4, Any),
    (Call::stat, Any),
    (Call::timerfd_gettime, Any),
    (Call::timerfd_settime, Any),
    (Call::unlink, Any),
    (Call::unlinkat, Any),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_thread_may_do_what_confinement_is_against() {
        let never = [
            Call::execve,
            Call::execveat,
            Call::socket,
            Call::connect,
            Call::bind,
            Call::ptrace,
            Call::mount,
            Call::move_mount,
            Call::open_tree,
            Call::fsopen,
            Call::pivot_root,
            Call::chroot,
            Call::setns,
            Call::init_module,
            Call::finit_module,
            Call::kexec_load,
            Call::bpf,
            Call::perf_event_open,
            Call::io_uring_setup,
            Call::userfaultfd,
            Call::open_by_handle_at,
            Call::fork,
            Call::vfork,
            Call::kill,
            Call::pidfd_getfd,
            Call::keyctl,
            Call::memfd_create,
            Call::pkey_mprotect,
            Call::remap_file_pages,
        ];
        for role in Role::ALL {
            for (call, _) in of(role).iter().copied().flatten() {
                assert!(!never.contains(call), "{role:?} may {call}");
            }
        }
    }

    #[test]
    fn a_call_with_all_arguments_is_not_limited_elsewhere() {
        for role in Role::ALL {
            let lines = || of(role).iter().copied().flatten();
            for (call, _) in lines().filter(|(_, only)| matches!(only, Any)) {
                let others = lines().filter(|(other, only)| other == call && !matches!(only, Any));
                assert_eq!(others.count(), 0, "{role:?}: {call}");
            }
        }
    }

    #[test]
    fn no_filter_runs_on_the_data_path() {
        let path = [
            Call::read,
            Call::write,
            Call::preadv,
            Call::pwritev,
            Call::pwritev2,
            Call::openat,
            Call::openat2,
            Call::statx,
            Call::umask,
            Call::dup,
            Call::close,
            Call::futex,
        ];
        let lists = of(Role::Share { writes: true });
        let lines: Vec<Line> = lists.iter().copied().flatten().copied().collect();
        for call in path {
            let own = lines.iter().filter(|(own, _)| *own == call);
            let own: Vec<_> = own.map(|(_, only)| matches!(only, Any)).collect();
            assert_eq!(own, [true], "{call}");
        }
    }

    #[test]
    fn who_only_reads_has_no_call_that_changes() {
        let reads = of(Role::Share { writes: false });
        for (call, _) in CHANGES.iter().filter(|(call, _)| *call != Call::ioctl) {
            let has = reads.iter().copied().flatten().any(|(own, _)| own == call);
            assert!(!has, "{call}");
        }
    }
}
