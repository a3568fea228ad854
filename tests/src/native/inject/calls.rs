//! Names of system calls and errors.

use rustix::io::Errno;

/// A system call that can be made to fail.
#[derive(Debug)]
pub struct Call {
    /// As in its manual page.
    pub name: &'static str,
    /// As on this machine.
    pub number: u32,
    /// The `%name` of those it belongs to, without the sign.
    pub class: &'static str,
}

macro_rules! calls {
    ($($class:literal: $($name:ident = $number:ident),*;)*) => {
        /// All of them.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        pub const CALLS: &[Call] = &[
            $($(Call {
                name: stringify!($name),
                number: libc::$number as u32,
                class: $class,
            },)*)*
        ];
    };
}

calls! {
    "read": read = SYS_read, pread64 = SYS_pread64, readv = SYS_readv, preadv = SYS_preadv,
        preadv2 = SYS_preadv2;
    "write": write = SYS_write, pwrite64 = SYS_pwrite64, writev = SYS_writev,
        pwritev = SYS_pwritev, pwritev2 = SYS_pwritev2;
    "open": open = SYS_open, openat = SYS_openat, openat2 = SYS_openat2,
        open_by_handle_at = SYS_open_by_handle_at;
    "sync": fsync = SYS_fsync, fdatasync = SYS_fdatasync, syncfs = SYS_syncfs,
        sync_file_range = SYS_sync_file_range;
    "size": ftruncate = SYS_ftruncate, truncate = SYS_truncate, fallocate = SYS_fallocate,
        lseek = SYS_lseek, copy_file_range = SYS_copy_file_range;
    "stat": fstat = SYS_fstat, newfstatat = SYS_newfstatat, statx = SYS_statx,
        fstatfs = SYS_fstatfs, statfs = SYS_statfs, faccessat = SYS_faccessat,
        faccessat2 = SYS_faccessat2;
    "attr": fchmod = SYS_fchmod, fchmodat = SYS_fchmodat, fchown = SYS_fchown,
        fchownat = SYS_fchownat, utimensat = SYS_utimensat;
    "xattr": getxattr = SYS_getxattr, fgetxattr = SYS_fgetxattr, setxattr = SYS_setxattr,
        fsetxattr = SYS_fsetxattr, listxattr = SYS_listxattr, flistxattr = SYS_flistxattr,
        removexattr = SYS_removexattr, fremovexattr = SYS_fremovexattr;
    "name": mkdirat = SYS_mkdirat, mknodat = SYS_mknodat, symlinkat = SYS_symlinkat,
        linkat = SYS_linkat, unlinkat = SYS_unlinkat, renameat = SYS_renameat,
        renameat2 = SYS_renameat2, readlinkat = SYS_readlinkat, getdents64 = SYS_getdents64,
        name_to_handle_at = SYS_name_to_handle_at;
    "descriptor": close = SYS_close, dup = SYS_dup, fcntl = SYS_fcntl;
    "user": setresuid = SYS_setresuid, setresgid = SYS_setresgid, setgroups = SYS_setgroups,
        setfsuid = SYS_setfsuid, setfsgid = SYS_setfsgid, capset = SYS_capset,
        unshare = SYS_unshare, fchdir = SYS_fchdir, umask = SYS_umask;
}

/// The calls that `name` means: one, those of a class (`%write`), or `%all`.
#[must_use]
pub fn named(name: &str) -> Vec<&'static Call> {
    let meant = |call: &&Call| match name.strip_prefix('%') {
        Some(class) => class == call.class || class == "all",
        None => name == call.name,
    };
    CALLS.iter().filter(meant).collect()
}

const ERRORS: &[(&str, Errno)] = &[
    ("E2BIG", Errno::TOOBIG),
    ("EACCES", Errno::ACCESS),
    ("EAGAIN", Errno::AGAIN),
    ("EBADF", Errno::BADF),
    ("EBUSY", Errno::BUSY),
    ("EDQUOT", Errno::DQUOT),
    ("EEXIST", Errno::EXIST),
    ("EFBIG", Errno::FBIG),
    ("EINTR", Errno::INTR),
    ("EINVAL", Errno::INVAL),
    ("EIO", Errno::IO),
    ("ELOOP", Errno::LOOP),
    ("EMFILE", Errno::MFILE),
    ("EMLINK", Errno::MLINK),
    ("ENAMETOOLONG", Errno::NAMETOOLONG),
    ("ENFILE", Errno::NFILE),
    ("ENODATA", Errno::NODATA),
    ("ENODEV", Errno::NODEV),
    ("ENOENT", Errno::NOENT),
    ("ENOMEM", Errno::NOMEM),
    ("ENOSPC", Errno::NOSPC),
    ("ENOSYS", Errno::NOSYS),
    ("ENOTCONN", Errno::NOTCONN),
    ("ENOTEMPTY", Errno::NOTEMPTY),
    ("ENXIO", Errno::NXIO),
    ("EOPNOTSUPP", Errno::OPNOTSUPP),
    ("EOVERFLOW", Errno::OVERFLOW),
    ("EPERM", Errno::PERM),
    ("EROFS", Errno::ROFS),
    ("ESTALE", Errno::STALE),
    ("ETIMEDOUT", Errno::TIMEDOUT),
    ("ETXTBSY", Errno::TXTBSY),
    ("EXDEV", Errno::XDEV),
];

/// The error called `name`.
#[must_use]
pub fn error(name: &str) -> Option<Errno> {
    let found = ERRORS.iter().find(|(known, _)| *known == name);
    found.map(|(_, errno)| *errno)
}
