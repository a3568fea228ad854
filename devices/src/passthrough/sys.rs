//! The system calls for which no safe wrapper exists: file handles, raw
//! directory reading, a close that reports its error, a thread's own working
//! directory and umask, locks of an open file, and the commands of `ioctl(2)`.
//! The only unsafe code of the file system.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_uint};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};

use rustix::io::Errno;

use crate::filesystem::{Lock, LockKind, LockRange, Result};

#[cfg(test)]
std::thread_local! {
    static CALLS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Says to the tests that the calling thread asks the host to find or examine
/// a node: what an operation costs, whichever way it takes.
pub(super) fn count_call() {
    #[cfg(test)]
    CALLS.set(CALLS.get() + 1);
}

#[cfg(test)]
std::thread_local! {
    static CLOSED: std::cell::Cell<Option<Box<dyn FnOnce()>>> = const { std::cell::Cell::new(None) };
}

/// Has `act` done at the next close of the calling thread that reports what it
/// did, as a file system might.
#[cfg(test)]
pub(super) fn at_next_close(act: impl FnOnce() + 'static) {
    CLOSED.set(Some(Box::new(act)));
}

/// How often the calling thread has asked the host for a node.
#[cfg(test)]
pub(super) fn calls() -> usize {
    CALLS.get()
}

/// `MAX_HANDLE_SZ`, the longest file handle Linux makes.
const HANDLE_MAX: c_uint = 128;

/// `struct file_handle` with room for the longest handle.
#[repr(C)]
struct RawHandle {
    bytes: c_uint,
    kind: c_int,
    data: [u8; HANDLE_MAX as usize],
}

/// What the kernel finds an inode by when no descriptor of it is left. Made
/// by [`name_to_handle`] and never by the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileHandle {
    kind: c_int,
    data: Box<[u8]>,
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// The handle of the file behind `fd`, which may be an `O_PATH` descriptor.
pub(super) fn name_to_handle(fd: impl AsFd) -> Result<FileHandle> {
    let mut raw = RawHandle {
        bytes: HANDLE_MAX,
        kind: 0,
        data: [0; HANDLE_MAX as usize],
    };
    let mut mount_id: c_int = 0;
    // SAFETY: the path is an empty NUL-terminated string, `raw` has the
    // layout of `struct file_handle` and `bytes` says truthfully how much
    // room follows it, and both out-pointers live across the call.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            fd.as_fd().as_raw_fd(),
            c"".as_ptr(),
            &raw mut raw,
            &raw mut mount_id,
            libc::AT_EMPTY_PATH,
        )
    };
    if outcome < 0 {
        return Err(last_error());
    }
    let length = usize::try_from(raw.bytes).map_err(|_| Errno::OVERFLOW)?;
    let data = raw.data.get(..length).ok_or(Errno::OVERFLOW)?;
    Ok(FileHandle {
        kind: raw.kind,
        data: data.into(),
    })
}

/// Opens the file that `handle` stands for with `O_PATH`. `mount` is a
/// descriptor (not `O_PATH`) of anything on the same mount.
pub(super) fn open_by_handle(mount: impl AsFd, handle: &FileHandle) -> Result<OwnedFd> {
    count_call();
    let mut raw = RawHandle {
        bytes: c_uint::try_from(handle.data.len()).map_err(|_| Errno::INVAL)?,
        kind: handle.kind,
        data: [0; HANDLE_MAX as usize],
    };
    raw.data
        .get_mut(..handle.data.len())
        .ok_or(Errno::INVAL)?
        .copy_from_slice(&handle.data);
    // SAFETY: `raw` has the layout of `struct file_handle`, `bytes` is within
    // its data (checked above), and it lives across the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            mount.as_fd().as_raw_fd(),
            &raw const raw,
            libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC,
        )
    };
    let fd = c_int::try_from(fd).map_err(|_| Errno::BADF)?;
    if fd < 0 {
        return Err(last_error());
    }
    // SAFETY: the kernel just returned this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Gives the calling thread a working directory and umask of its own, apart
/// from the rest of the process.
pub(super) fn unshare_fs() -> Result<()> {
    // SAFETY: CLONE_FS touches no memory and no descriptor; it detaches the
    // thread's root, working directory and umask, which no code of this
    // process expects to be shared between its threads.
    match unsafe { libc::unshare(libc::CLONE_FS) } {
        0 => Ok(()),
        _ => Err(last_error()),
    }
}

/// Reads directory entries (`struct linux_dirent64`) from the descriptor's
/// position into `buffer` and says how many bytes they are: 0 at the end of
/// the directory.
pub(super) fn getdents(fd: impl AsFd, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes to `buffer`,
    // which is exclusively borrowed across the call.
    let read = unsafe {
        libc::syscall(
            libc::SYS_getdents64,
            fd.as_fd().as_raw_fd(),
            buffer.as_mut_ptr(),
            buffer.len(),
        )
    };
    usize::try_from(read).map_err(|_| last_error())
}

/// Closes a descriptor and reports what `close(2)` says: file systems that
/// write back when a descriptor is closed tell of their errors there.
pub(super) fn close(fd: OwnedFd) -> Result<()> {
    #[cfg(test)]
    if let Some(act) = CLOSED.take() {
        act();
    }
    let fd = fd.into_raw_fd();
    // SAFETY: the descriptor was owned by the argument and is given up here;
    // Linux closes it whatever `close` returns, so it is not used again.
    match unsafe { libc::close(fd) } {
        0 => Ok(()),
        // Interrupted closes are done all the same (close(2)).
        _ => match last_error() {
            Errno::INTR => Ok(()),
            error => Err(error),
        },
    }
}

fn flock(kind: LockKind, range: LockRange) -> Result<libc::flock> {
    // The numbers fit their narrower type.
    #[allow(clippy::cast_possible_truncation)]
    let kind = match kind {
        LockKind::Read => libc::F_RDLCK,
        LockKind::Write => libc::F_WRLCK,
        LockKind::Unlock => libc::F_UNLCK,
    } as libc::c_short;
    // A length of 0 reaches to wherever the end will be.
    let len = match range.end {
        LockRange::END => 0,
        end => end - range.start + 1,
    };
    Ok(libc::flock {
        l_type: kind,
        #[allow(clippy::cast_possible_truncation)]
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: i64::try_from(range.start).map_err(|_| Errno::INVAL)?,
        l_len: i64::try_from(len).map_err(|_| Errno::INVAL)?,
        l_pid: 0,
    })
}

/// Sets a lock that belongs to the open file `fd`, or gives one up. Never
/// waits: `EAGAIN` when somebody else has one that conflicts.
pub(super) fn lock(fd: impl AsFd, kind: LockKind, range: LockRange) -> Result<()> {
    let lock = flock(kind, range)?;
    // SAFETY: `lock` is a whole `struct flock`, which the kernel only reads.
    match unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) } {
        -1 => Err(last_error()),
        _ => Ok(()),
    }
}

/// A lock that keeps the open file `fd` from having one. Who has it is none of
/// the guest's processes.
pub(super) fn find_lock(fd: impl AsFd, kind: LockKind, range: LockRange) -> Result<Option<Lock>> {
    let mut lock = flock(kind, range)?;
    // SAFETY: `lock` is a whole `struct flock`, exclusively borrowed while the
    // kernel writes to it.
    let found = unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) };
    if found == -1 {
        return Err(last_error());
    }
    let kind = match c_int::from(lock.l_type) {
        libc::F_RDLCK => LockKind::Read,
        libc::F_WRLCK => LockKind::Write,
        _ => return Ok(None),
    };
    let start = u64::try_from(lock.l_start).unwrap_or(0);
    let end = match u64::try_from(lock.l_len).unwrap_or(0) {
        0 => LockRange::END,
        len => start.saturating_add(len - 1).min(LockRange::END),
    };
    Ok(Some(Lock {
        range: LockRange { start, end },
        kind,
        pid: 0,
    }))
}

/// `struct fsxattr`.
pub(super) type FsXattr = [u8; 28];

/// The commands, as `linux/fs.h` and `linux/fsverity.h` number them for every
/// 64-bit machine. The `long` that the former two are said to take is an
/// `int`, and Linux sends 4 bytes for it.
pub(super) mod command {
    pub(in crate::passthrough) const GETFLAGS: u32 = 0x8008_6601;
    pub(in crate::passthrough) const SETFLAGS: u32 = 0x4008_6602;
    pub(in crate::passthrough) const FSGETXATTR: u32 = 0x801c_581f;
    pub(in crate::passthrough) const FSSETXATTR: u32 = 0x401c_5820;
    pub(in crate::passthrough) const ENABLE_VERITY: u32 = 0x4080_6685;
    pub(in crate::passthrough) const MEASURE_VERITY: u32 = 0xc004_6686;
}

/// What `FS_IOC_ENABLE_VERITY` is given.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EnableVerity<'a> {
    pub(super) version: u32,
    pub(super) hash_algorithm: u32,
    pub(super) block_size: u32,
    pub(super) salt: &'a [u8],
    pub(super) signature: &'a [u8],
}

/// `FS_IOC_FSGETXATTR`.
pub(super) fn fsxattr(fd: impl AsFd) -> Result<FsXattr> {
    let mut attributes: FsXattr = [0; size_of::<FsXattr>()];
    // SAFETY: the kernel writes a `struct fsxattr`, which is as long as
    // `attributes`, exclusively borrowed across the call.
    match unsafe {
        libc::ioctl(
            fd.as_fd().as_raw_fd(),
            command::FSGETXATTR.into(),
            attributes.as_mut_ptr(),
        )
    } {
        -1 => Err(last_error()),
        _ => Ok(attributes),
    }
}

/// `FS_IOC_FSSETXATTR`.
pub(super) fn set_fsxattr(fd: impl AsFd, attributes: &FsXattr) -> Result<()> {
    // SAFETY: the kernel reads a `struct fsxattr`, which is as long as
    // `attributes` and has no pointers.
    match unsafe {
        libc::ioctl(
            fd.as_fd().as_raw_fd(),
            command::FSSETXATTR.into(),
            attributes.as_ptr(),
        )
    } {
        -1 => Err(last_error()),
        _ => Ok(()),
    }
}

/// `struct fsverity_enable_arg`.
#[repr(C)]
struct RawEnable {
    version: u32,
    hash_algorithm: u32,
    block_size: u32,
    salt_size: u32,
    salt: u64,
    signature_size: u32,
    reserved: u32,
    signature: u64,
    reserved_too: [u64; 11],
}

/// `FS_IOC_ENABLE_VERITY`.
pub(super) fn enable_verity(fd: impl AsFd, enable: &EnableVerity<'_>) -> Result<()> {
    let raw_enable = RawEnable {
        version: enable.version,
        hash_algorithm: enable.hash_algorithm,
        block_size: enable.block_size,
        salt_size: u32::try_from(enable.salt.len()).map_err(|_| Errno::INVAL)?,
        salt: enable.salt.as_ptr() as u64,
        signature_size: u32::try_from(enable.signature.len()).map_err(|_| Errno::INVAL)?,
        reserved: 0,
        signature: enable.signature.as_ptr() as u64,
        reserved_too: [0; 11],
    };
    // SAFETY: the structure has the kernel's layout; its pointers and lengths
    // are those of slices that live across the call, and the kernel reads all
    // three only.
    match unsafe {
        libc::ioctl(
            fd.as_fd().as_raw_fd(),
            command::ENABLE_VERITY.into(),
            &raw const raw_enable,
        )
    } {
        -1 => Err(last_error()),
        _ => Ok(()),
    }
}

/// `FS_IOC_MEASURE_VERITY`, for a digest of at most `size` bytes: algorithm,
/// size and digest. `EOVERFLOW` when it is longer.
pub(super) fn measure_verity(fd: impl AsFd, size: u16) -> Result<Vec<u8>> {
    const HEADER: usize = 4;
    let mut answer = vec![0; HEADER + usize::from(size)];
    if let Some(field) = answer.get_mut(2..HEADER) {
        field.copy_from_slice(&size.to_ne_bytes());
    }
    // SAFETY: the kernel writes a header of 4 bytes and a digest no longer than
    // `size`, which the header says; there is room for both in `answer`,
    // exclusively borrowed across the call. It is read byte by byte, so that
    // its alignment does not matter.
    if unsafe {
        libc::ioctl(
            fd.as_fd().as_raw_fd(),
            command::MEASURE_VERITY.into(),
            answer.as_mut_ptr(),
        )
    } == -1
    {
        return Err(last_error());
    }
    let size = u16::from_ne_bytes([
        answer.get(2).copied().unwrap_or(0),
        answer.get(3).copied().unwrap_or(0),
    ]);
    answer.truncate(HEADER + usize::from(size));
    Ok(answer)
}
