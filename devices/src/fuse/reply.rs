//! The answer to a request: room for a header, and a body behind it.
//!
//! The body is written first and the header last, once it is known how the
//! request ended. A handler asks for the room its answer needs *before* it
//! does anything ([`Reply::ensure`]): an answer that cannot be delivered must
//! not leave a reference or an open file behind that the guest never heard
//! of.

use std::mem::size_of;

use fuse_backend_rs::abi::fuse_abi::OutHeader;
use rustix::io::Errno;
use vm_memory::ByteValued;

use super::data::ReplyPages;
use crate::filesystem::Result;
use crate::virtio::buffers::Writable;

/// The writable part of a chain.
pub(super) struct Reply<'a> {
    /// Room for the header; `None` when the driver left too little.
    header: Option<Writable<'a>>,
    body: Writable<'a>,
    /// Bytes of the body that count.
    len: usize,
    /// Bytes of data the request brought and the file system took.
    accepted: usize,
}

impl<'a> Reply<'a> {
    pub(super) fn new(mut writer: Writable<'a>) -> Self {
        match writer.split_off(size_of::<OutHeader>()) {
            Ok(body) => Self {
                header: Some(writer),
                body,
                len: 0,
                accepted: 0,
            },
            Err(_) => Self {
                header: None,
                body: writer,
                len: 0,
                accepted: 0,
            },
        }
    }

    /// Whether there is room for at least a header.
    pub(super) fn has_room(&self) -> bool {
        self.header.is_some()
    }

    /// Bytes of the body that are not yet written.
    pub(super) fn space(&self) -> usize {
        self.body.remaining()
    }

    /// `EIO` unless `length` more bytes fit.
    pub(super) fn ensure(&self, length: usize) -> Result<()> {
        if self.space() < length {
            return Err(Errno::IO);
        }
        Ok(())
    }

    /// Appends one structure; `EIO` when it does not fit.
    pub(super) fn put<T: ByteValued>(&mut self, object: &T) -> Result<()> {
        self.put_bytes(object.as_slice())
    }

    /// Appends bytes; `EIO` when they do not fit.
    pub(super) fn put_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.body.write(bytes).map_err(|_| Errno::IO)?;
        self.len += bytes.len();
        Ok(())
    }

    /// Lets `read` put up to `size` bytes of data into the guest's pages. The
    /// body is then as long as `read` says, or as what it put there, if that
    /// is less. `EIO` when there is no room for `size` bytes: the guest would
    /// take what is missing for the end of the file.
    pub(super) fn put_data(
        &mut self,
        size: usize,
        read: impl FnOnce(&mut ReplyPages<'_, 'a>) -> Result<usize>,
    ) -> Result<()> {
        self.ensure(size)?;
        let mut pages = ReplyPages::new(&mut self.body, size);
        let claimed = read(&mut pages)?;
        self.len += claimed.min(pages.filled());
        Ok(())
    }

    /// Notes for the metrics that `count` bytes of data were taken.
    pub(super) fn accept(&mut self, count: usize) {
        self.accepted = count;
    }

    /// Length of the body in bytes.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of data the request brought and the file system took.
    pub(super) fn accepted(&self) -> usize {
        self.accepted
    }

    /// Writes the header, and returns the length of the whole reply in bytes:
    /// 0 when there is no room for one. After an error the body does not
    /// count, whatever was written of it.
    pub(super) fn finish(&mut self, unique: u64, outcome: Result<()>) -> u32 {
        let Some(mut header) = self.header.take() else {
            return 0;
        };
        if outcome.is_err() {
            self.len = 0;
        }
        let Ok(len) = u32::try_from(size_of::<OutHeader>() + self.len) else {
            return 0;
        };
        let header_out = OutHeader {
            len,
            error: outcome.map_or_else(wire_errno, |()| 0),
            unique,
        };
        // Cannot fail: the header's part of the chain is as long as it.
        header.write(header_out.as_slice()).map_or(0, |()| len)
    }
}

/// `errno` as `fuse_out_header.error` carries it. Linux takes an answer out
/// of -511..=0 for a protocol error and breaks the connection.
fn wire_errno(errno: Errno) -> i32 {
    match errno.raw_os_error() {
        number @ 1..=511 => -number,
        _ => -Errno::IO.raw_os_error(),
    }
}
