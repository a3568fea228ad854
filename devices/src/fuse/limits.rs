//! How long requests and replies can be.

use std::mem::size_of;

use fuse_backend_rs::abi::fuse_abi::OutHeader;

/// The largest WRITE, in bytes of data.
pub(super) const MAX_WRITE: u32 = 1 << 20;

/// The largest READ, in bytes of data. INIT cannot limit it and virtiofs has no
/// mount option: Linux before 6.12.2 reads a kernel module or firmware in one
/// request as long as the file, up to the largest `kmalloc()`, 4 MiB. There has to
/// be a limit, because a chain can name the same guest page many times.
pub(super) const MAX_READ: u32 = 4 << 20;

/// The longest request that is looked at, in bytes: the largest write, and a
/// page for headers, names and extensions. It bounds the work one request can
/// cause.
pub(super) const MAX_REQUEST: usize = MAX_WRITE as usize + 4096;

/// The longest reply, in bytes: the largest read, and the header.
pub(super) const MAX_REPLY: usize = MAX_READ as usize + size_of::<OutHeader>();
