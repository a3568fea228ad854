//! One vectored system call between a file and guest memory.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, RawFd};

use super::parts::Parts;

/// The most parts that one system call takes (`UIO_MAXIOV`).
const MOST: usize = 1024;

/// Reads up to `count` bytes of `file` at its position into `parts`.
pub(super) fn read(parts: &Parts<'_>, count: usize, file: &File) -> io::Result<usize> {
    vectored(parts, count, file, |fd, vectors, len| {
        // SAFETY: see `vectored`; the kernel writes to the memory only.
        unsafe { libc::readv(fd, vectors, len) }
    })
}

/// The same from byte `offset` on.
pub(super) fn read_at(
    parts: &Parts<'_>,
    count: usize,
    file: &File,
    offset: u64,
) -> io::Result<usize> {
    let offset = checked_offset(offset)?;
    vectored(parts, count, file, |fd, vectors, len| {
        // SAFETY: see `vectored`; the kernel writes to the memory only.
        unsafe { libc::preadv64(fd, vectors, len, offset) }
    })
}

/// Writes up to `count` bytes of `parts` to `file` at its position.
pub(super) fn write(parts: &Parts<'_>, count: usize, file: &File) -> io::Result<usize> {
    vectored(parts, count, file, |fd, vectors, len| {
        // SAFETY: see `vectored`; the kernel reads the memory only.
        unsafe { libc::writev(fd, vectors, len) }
    })
}

/// The same from byte `offset` on.
pub(super) fn write_at(
    parts: &Parts<'_>,
    count: usize,
    file: &File,
    offset: u64,
) -> io::Result<usize> {
    let offset = checked_offset(offset)?;
    vectored(parts, count, file, |fd, vectors, len| {
        // SAFETY: see `vectored`; the kernel reads the memory only.
        unsafe { libc::pwritev64(fd, vectors, len, offset) }
    })
}

/// The same at the end of the file.
pub(super) fn append(parts: &Parts<'_>, count: usize, file: &File) -> io::Result<usize> {
    vectored(parts, count, file, |fd, vectors, len| {
        // SAFETY: see `vectored`; the kernel reads the memory only.
        unsafe { libc::pwritev2(fd, vectors, len, 0, libc::RWF_APPEND) }
    })
}

/// Makes `call` with the descriptor of `file`, and with vectors for the first
/// `count` bytes of `parts`.
///
/// Each vector is memory that a [`vm_memory::VolatileSlice`] borrows for longer
/// than the call; the guest may write to it meanwhile, which changes the bytes
/// and nothing else. At most [`MOST`] are passed, and each of these was written.
fn vectored(
    parts: &Parts<'_>,
    count: usize,
    file: &File,
    call: impl FnOnce(RawFd, *const libc::iovec, libc::c_int) -> isize,
) -> io::Result<usize> {
    let mut vectors = [const { MaybeUninit::<libc::iovec>::uninit() }; MOST];
    let mut len = 0;
    for (vector, slice) in vectors.iter_mut().zip(parts.slices(count)) {
        vector.write(libc::iovec {
            iov_base: slice.ptr_guard_mut().as_ptr().cast(),
            iov_len: slice.len(),
        });
        len += 1;
    }
    let moved = call(file.as_raw_fd(), vectors.as_ptr().cast(), len);
    usize::try_from(moved).map_err(|_| io::Error::last_os_error())
}

/// `offset` where `off_t` can hold it, as the system calls want.
fn checked_offset(offset: u64) -> io::Result<i64> {
    i64::try_from(offset).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}
