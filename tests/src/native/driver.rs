//! Where the driver of virtio-fs and that of `/dev/fuse` differ, and what is
//! done about it.
//!
//! Both share everything that makes requests out of system calls. They differ
//! in what they offer at INIT, in the room that an answer gets (on
//! `/dev/fuse` there is none: a reply is one `write(2)`), in interrupts, and
//! in how a session ends.

use std::io;

use anyhow::{Result, ensure};

/// `struct fuse_in_header`.
pub const REQUEST_HEADER: usize = 40;
/// `struct fuse_out_header`.
pub const REPLY_HEADER: usize = 16;

const READ: u32 = 15;
const GETXATTR: u32 = 22;
const LISTXATTR: u32 = 23;
const INIT: u32 = 26;
const READDIR: u32 = 28;
const INTERRUPT: u32 = 36;
const DESTROY: u32 = 38;
const IOCTL: u32 = 39;
const READDIRPLUS: u32 = 44;

/// Room for an answer whose length the request does not say: READLINK may use
/// a page, and the others have less.
const ROOM: usize = 4096;

/// Flags of INIT that belong to `/dev/fuse`: splicing (7, 8, 9), an errno for
/// an aborted connection (21), notifications (35, 39), files that the kernel
/// passes through (37), `io_uring` (41).
const NOT_OF_VIRTIOFS: u64 =
    1 << 7 | 1 << 8 | 1 << 9 | 1 << 21 | 1 << 35 | 1 << 37 | 1 << 39 | 1 << 41;

/// What the header of a request says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Bytes in all.
    pub len: usize,
    /// What is asked for.
    pub opcode: u32,
    /// Names the request.
    pub unique: u64,
    /// The length that a READ, READDIR, GETXATTR or IOCTL gives its answer.
    size: usize,
}

impl Request {
    /// Reads the header of a request of `received` bytes, which begins with
    /// `bytes`.
    ///
    /// # Errors
    ///
    /// When it is not a whole request.
    pub fn read(bytes: &[u8], received: usize) -> Result<Self> {
        let len = word(bytes, 0) as usize;
        ensure!(
            len == received && len >= REQUEST_HEADER,
            "the kernel sent {received} bytes for a request of {len}"
        );
        let opcode = word(bytes, 4);
        let size = match opcode {
            READ | READDIR | READDIRPLUS => word(bytes, REQUEST_HEADER + 16),
            GETXATTR | LISTXATTR => word(bytes, REQUEST_HEADER),
            IOCTL => word(bytes, REQUEST_HEADER + 28),
            _ => 0,
        };
        Ok(Self {
            len,
            opcode,
            unique: u64::from(word(bytes, 8)) | u64::from(word(bytes, 12)) << 32,
            size: size as usize,
        })
    }

    /// The room that virtiofs gives the answer, its header included.
    #[must_use]
    pub fn room(&self) -> usize {
        let body = match self.opcode {
            READ | READDIR | READDIRPLUS => self.size,
            GETXATTR | LISTXATTR if self.size > 0 => self.size,
            // `struct fuse_ioctl_out`, and a page at least.
            IOCTL => 16 + self.size.max(ROOM),
            _ => ROOM,
        };
        REPLY_HEADER + body
    }

    /// Whether it tells that a task was interrupted, which virtiofs never
    /// does.
    #[must_use]
    pub fn is_interrupt(&self) -> bool {
        self.opcode == INTERRUPT
    }

    /// Whether it begins the session.
    #[must_use]
    pub fn is_init(&self) -> bool {
        self.opcode == INIT
    }

    /// The answer after which the kernel sends no INTERRUPT any more:
    /// `ENOSYS`.
    #[must_use]
    pub fn not_implemented(&self) -> [u8; REPLY_HEADER] {
        let errno = -rustix::io::Errno::NOSYS.raw_os_error();
        let mut reply = [0; REPLY_HEADER];
        reply[..4].copy_from_slice(&16_u32.to_le_bytes());
        reply[4..8].copy_from_slice(&errno.to_le_bytes());
        reply[8..].copy_from_slice(&self.unique.to_le_bytes());
        reply
    }
}

/// Takes out of an INIT request what virtiofs would not offer.
pub fn offer_as_virtiofs(request: &mut [u8]) {
    // major, minor, max_readahead, flags, flags2
    for (at, shift) in [(12, 0), (16, 32)] {
        let at = REQUEST_HEADER + at;
        if let Some(field) = request.get_mut(at..at + 4) {
            #[allow(clippy::cast_possible_truncation)] // the half that is meant
            let kept = word(field, 0) & !((NOT_OF_VIRTIOFS >> shift) as u32);
            field.copy_from_slice(&kept.to_le_bytes());
        }
    }
}

/// DESTROY, which virtiofs sends when it is unmounted.
#[must_use]
pub fn destroy() -> [u8; REQUEST_HEADER] {
    let mut request = [0; REQUEST_HEADER];
    request[..4].copy_from_slice(&40_u32.to_le_bytes());
    request[4..8].copy_from_slice(&DESTROY.to_le_bytes());
    request[8] = 2;
    request
}

/// What a `read(2)` of `/dev/fuse` that failed means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFailure {
    /// Nothing: try again. Another thread took the request, or its task gave
    /// it up, or a signal came.
    Again,
    /// The file system is unmounted.
    Unmounted,
    /// Something is wrong.
    Broken,
}

/// See [`ReadFailure`].
#[must_use]
pub fn judge(error: &io::Error) -> ReadFailure {
    use rustix::io::Errno;
    match Errno::from_io_error(error) {
        Some(Errno::AGAIN | Errno::INTR | Errno::NOENT) => ReadFailure::Again,
        Some(Errno::NODEV) => ReadFailure::Unmounted,
        _ => ReadFailure::Broken,
    }
}

/// Whether the task that waited for an answer was gone when it was written.
#[must_use]
pub fn nobody_waits(error: &io::Error) -> bool {
    rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::NOENT)
}

/// The little-endian word at byte `at`; 0 where there is none.
fn word(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
    word.map_or(0, u32::from_le_bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn request(opcode: u32, body: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0; REQUEST_HEADER];
        bytes[4..8].copy_from_slice(&opcode.to_le_bytes());
        bytes.extend(body.iter().flat_map(|word| word.to_le_bytes()));
        let len = u32::try_from(bytes.len()).unwrap();
        bytes[..4].copy_from_slice(&len.to_le_bytes());
        bytes
    }

    #[test]
    fn init_offers_what_virtiofs_has() {
        let mut bytes = request(INIT, &[7, 45, 131_072, u32::MAX, u32::MAX]);
        offer_as_virtiofs(&mut bytes);
        let flags = u64::from(word(&bytes, 52)) | u64::from(word(&bytes, 56)) << 32;
        assert_eq!(!flags, NOT_OF_VIRTIOFS);
        assert_eq!(word(&bytes, 48), 131_072);
    }

    #[test]
    fn an_answer_has_the_room_that_virtiofs_gives() {
        let room = |opcode, body: &[u32]| {
            let bytes = request(opcode, body);
            Request::read(&bytes, bytes.len()).unwrap().room()
        };
        assert_eq!(room(READ, &[0, 0, 0, 0, 1 << 20, 0]), (1 << 20) + 16);
        assert_eq!(room(GETXATTR, &[64, 0]), 80);
        assert_eq!(room(GETXATTR, &[0, 0]), ROOM + 16);
        assert_eq!(room(3, &[]), ROOM + 16);
    }

    #[test]
    fn half_a_request_is_none() {
        let bytes = request(3, &[1, 2]);
        assert!(Request::read(&bytes, bytes.len() - 1).is_err());
        assert!(Request::read(&bytes[..8], 8).is_err());
    }
}
