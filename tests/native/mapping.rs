//! Files written through memory.
#![allow(unsafe_code)]

use std::fs::File;
use std::ptr;

use rustix::io::Errno;
use rustix::mm::{MapFlags, MsyncFlags, ProtFlags, mmap, msync, munmap};

/// Writes `text` at byte `at` of `file`, which has `len` bytes, by a shared
/// mapping, and waits until the file has it.
pub(crate) fn write(file: &File, len: usize, at: usize, text: &[u8]) -> Result<(), Errno> {
    write_and(file, len, at, text, || ())
}

/// The same, and does `before` while the mapping alone has the text.
pub(crate) fn write_and(
    file: &File,
    len: usize,
    at: usize,
    text: &[u8],
    before: impl FnOnce(),
) -> Result<(), Errno> {
    assert!(at + text.len() <= len);
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: the kernel chooses the place.
    let start = unsafe { mmap(ptr::null_mut(), len, access, MapFlags::SHARED, file, 0) }?;
    // SAFETY: `at` lies within the mapping.
    let to = unsafe { start.cast::<u8>().add(at) };
    // SAFETY: so does the end, and nobody else knows the mapping.
    unsafe { ptr::copy_nonoverlapping(text.as_ptr(), to, text.len()) };
    before();
    // SAFETY: the mapping as it was made.
    let stored = unsafe { msync(start, len, MsyncFlags::SYNC) };
    // SAFETY: nothing points into it any more.
    unsafe { munmap(start, len) }?;
    stored
}

/// Writes `text` at byte `at` of `file`, which has `len` bytes, by a shared mapping, and
/// leaves it to the kernel when the file has it.
pub(crate) fn store(file: &File, len: usize, at: usize, text: &[u8]) -> Result<(), Errno> {
    assert!(at + text.len() <= len);
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: the kernel chooses the place.
    let start = unsafe { mmap(ptr::null_mut(), len, access, MapFlags::SHARED, file, 0) }?;
    // SAFETY: `at` lies within the mapping.
    let to = unsafe { start.cast::<u8>().add(at) };
    // SAFETY: so does the end, and nobody else knows the mapping.
    unsafe { ptr::copy_nonoverlapping(text.as_ptr(), to, text.len()) };
    // SAFETY: nothing points into it any more.
    unsafe { munmap(start, len) }
}
