//! The addresses of a window: a part of this process's address space that is
//! the window's for good, and what is mapped there at the moment.
//!
//! The only unsafe code of the window. Nothing here reads or writes the pages:
//! one that the host's file does not have (any more) is a SIGBUS to whoever
//! touches it. System calls that are given such a page fail with `EFAULT`.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use rustix::io::Errno;
use vm_memory::VolatileSlice;

use super::UNIT;
use super::zeros::Zeros;
use crate::filesystem::Result;

/// A part of the address space.
#[derive(Debug)]
pub(super) struct Area {
    start: *mut libc::c_void,
    len: usize,
    zeros: Zeros,
}

// SAFETY: the pointer is an address that is never dereferenced here; all that
// is done with it is to pass it to system calls, which any thread may do.
unsafe impl Send for Area {}
// SAFETY: as above; the kernel serializes changes of the address space.
unsafe impl Sync for Area {}

/// Whom what is mapped belongs to.
#[derive(Clone, Copy, Debug)]
struct Backing {
    flags: libc::c_int,
    fd: libc::c_int,
    offset: libc::off_t,
}

/// No file: addresses.
const ANONYMOUS: Backing = Backing {
    flags: libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
    fd: -1,
    offset: 0,
};

impl Area {
    /// Reserves `len` bytes, of which none can be accessed.
    pub(super) fn reserve(len: usize) -> Result<Self> {
        let start = map(ptr::null_mut(), len, libc::PROT_NONE, 0, ANONYMOUS)?;
        let area = |zeros| Self { start, len, zeros };
        Zeros::new().map(area).inspect_err(|_| unmap(start, len))
    }

    pub(super) fn address(&self) -> u64 {
        self.start as u64
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The address of `len` bytes from `offset` on, where that is inside.
    fn part(&self, offset: u64, len: u64) -> Result<(*mut libc::c_void, usize)> {
        let offset = usize::try_from(offset).map_err(|_| Errno::INVAL)?;
        let len = usize::try_from(len).map_err(|_| Errno::INVAL)?;
        match offset.checked_add(len) {
            Some(end) if end <= self.len && len > 0 => {
                Ok((self.start.wrapping_byte_add(offset), len))
            }
            _ => Err(Errno::INVAL),
        }
    }

    /// Maps a part of `file` here.
    pub(super) fn map_file(
        &self,
        (offset, len): (u64, u64),
        file: impl AsFd,
        file_offset: u64,
        writable: bool,
    ) -> Result<()> {
        let part = self.part(offset, len)?;
        let backing = Backing {
            flags: libc::MAP_SHARED,
            fd: file.as_fd().as_raw_fd(),
            offset: libc::off_t::try_from(file_offset).map_err(|_| Errno::OVERFLOW)?,
        };
        let protection = protection(writable);
        // Elsewhere first: kernels before 6.12 take away what was here before
        // the file may refuse.
        let probe = map(ptr::null_mut(), part.1, protection, 0, backing)?;
        unmap(probe, part.1);
        replace(part, protection, backing)
    }

    /// Maps zeros here, which are shared with all other places of zeros: what is
    /// stored in one may show in another, until [`clear_zeros`](Self::clear_zeros).
    /// After an error nothing is mapped here.
    pub(super) fn map_zeros(&self, offset: u64, len: u64, writable: bool) -> Result<()> {
        self.part(offset, len)?;
        let end = offset + len;
        let mut at = offset;
        while at < end {
            // Each address has its own place in the file.
            let next = end.min((at / UNIT + 1) * UNIT);
            let backing = Backing {
                flags: libc::MAP_SHARED,
                fd: self.zeros.as_fd().as_raw_fd(),
                offset: libc::off_t::try_from(at % UNIT).map_err(|_| Errno::OVERFLOW)?,
            };
            let part = self.part(at, next - at)?;
            if let Err(error) = replace(part, protection(writable), backing) {
                self.map_nothing(offset, len)?;
                return Err(error);
            }
            at = next;
        }
        Ok(())
    }

    /// Makes zeros of what was stored where zeros are mapped, and gives the memory
    /// back.
    pub(super) fn clear_zeros(&self) {
        self.zeros.clear();
    }

    #[cfg(test)]
    pub(super) fn zeros(&self) -> &Zeros {
        &self.zeros
    }

    /// Maps nothing here: to touch it is a fault.
    pub(super) fn map_nothing(&self, offset: u64, len: u64) -> Result<()> {
        replace(self.part(offset, len)?, libc::PROT_NONE, ANONYMOUS)
    }

    /// Whether every page here can be read.
    pub(super) fn is_readable(&self, offset: u64, len: u64) -> bool {
        let Ok((start, len)) = self.part(offset, len) else {
            return false;
        };
        // SAFETY: the range is inside this area (`part`), and populating pages
        // changes no contents. A page that is not there is an error and no
        // signal (madvise(2)).
        let populated = unsafe { libc::madvise(start, len, libc::MADV_POPULATE_READ) };
        // Only EFAULT says something of the pages.
        populated == 0 || last_error() != Errno::FAULT
    }

    /// Copies from here to `to`, as much as fits there.
    pub(super) fn copy_to(&self, offset: u64, to: &VolatileSlice<'_>) -> Result<()> {
        self.copy(offset, to, |local, remote| {
            // SAFETY: `local` is inside this area and only read by the kernel,
            // for which a page that is not there is `EFAULT`. `remote` is the
            // memory that `to` borrows for longer than the call, and no Rust
            // reference to it exists: volatile slices are accessed by pointer.
            unsafe { libc::process_vm_writev(this_process(), local, 1, remote, 1, 0) }
        })
    }

    /// Copies all of `from` here.
    pub(super) fn copy_from(&self, offset: u64, from: &VolatileSlice<'_>) -> Result<()> {
        self.copy(offset, from, |local, remote| {
            // SAFETY: as in `copy_to`, with the directions exchanged. What is
            // written to belongs to a file or to the guest; nothing of this
            // process lies in a window.
            unsafe { libc::process_vm_readv(this_process(), local, 1, remote, 1, 0) }
        })
    }

    fn copy(
        &self,
        offset: u64,
        other: &VolatileSlice<'_>,
        call: impl FnOnce(*const libc::iovec, *const libc::iovec) -> isize,
    ) -> Result<()> {
        if other.is_empty() {
            return Ok(());
        }
        let (start, len) = self.part(offset, other.len() as u64)?;
        let here = libc::iovec {
            iov_base: start,
            iov_len: len,
        };
        let there = libc::iovec {
            iov_base: other.ptr_guard_mut().as_ptr().cast(),
            iov_len: len,
        };
        match usize::try_from(call(&raw const here, &raw const there)) {
            Ok(copied) if copied == len => Ok(()),
            Ok(_) => Err(Errno::FAULT),
            Err(_) => Err(last_error()),
        }
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        unmap(self.start, self.len);
    }
}

fn protection(writable: bool) -> libc::c_int {
    libc::PROT_READ | if writable { libc::PROT_WRITE } else { 0 }
}

/// Maps in place of what is at `start`, which is a part of an area. After an
/// error that is still there, or nothing that can be accessed.
fn replace(
    (start, len): (*mut libc::c_void, usize),
    protection: libc::c_int,
    backing: Backing,
) -> Result<()> {
    let outcome = map(start, len, protection, libc::MAP_FIXED, backing);
    if outcome.is_err() {
        // The addresses must stay the window's: what else the process mapped
        // there the guest would have. Mostly nothing was taken away and this
        // finds them in use.
        let fill = map(
            start,
            len,
            libc::PROT_NONE,
            libc::MAP_FIXED_NOREPLACE,
            ANONYMOUS,
        );
        if let Err(error) = fill
            && error != Errno::EXIST
        {
            log::error!("a window lost a part of its addresses: {error}");
            std::process::abort();
        }
    }
    outcome.map(drop)
}

fn map(
    start: *mut libc::c_void,
    len: usize,
    protection: libc::c_int,
    fixed: libc::c_int,
    backing: Backing,
) -> Result<*mut libc::c_void> {
    // SAFETY: without `fixed`, and with MAP_FIXED_NOREPLACE, nothing that is
    // mapped is changed. With MAP_FIXED `start` and `len` are a part of an area
    // (`Area::part`, its only source), which nobody but the guest's processors
    // and system calls access: no Rust reference can be into it. The guest
    // chooses which part and of which of its files, and no other.
    let mapped = unsafe {
        libc::mmap(
            start,
            len,
            protection,
            backing.flags | fixed,
            backing.fd,
            backing.offset,
        )
    };
    if mapped == libc::MAP_FAILED {
        return Err(last_error());
    }
    Ok(mapped)
}

fn unmap(start: *mut libc::c_void, len: usize) {
    // SAFETY: the range was mapped by this module and is given up: a probe that
    // nobody has seen, or an area that is dropped, when the machine whose
    // memory it was is gone (its slot holds the window).
    if unsafe { libc::munmap(start, len) } != 0 {
        log::error!("cannot unmap a window: {}", last_error());
    }
}

fn this_process() -> libc::pid_t {
    rustix::process::getpid().as_raw_nonzero().get()
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
