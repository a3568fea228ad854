//! How long requests and replies can be.

use std::mem::size_of;

use fuse_backend_rs::abi::fuse_abi::OutHeader;

/// Most bytes of data in one WRITE.
pub(super) const MAX_WRITE: u32 = 1 << 20;

/// Most bytes of data in one READ. INIT has no word for it, and virtiofs no mount
/// option: Linux before 6.12.2 reads a module or a firmware with one request as
/// long as the file, up to the longest `kmalloc()`, 4 MiB. A limit there must be,
/// since a chain can name the same guest page over and over.
pub(super) const MAX_READ: u32 = 4 << 20;

/// The longest request that is looked at, in bytes: the largest write, and a
/// page for headers, names and extensions. It bounds the work one request can
/// cause.
pub(super) const MAX_REQUEST: usize = MAX_WRITE as usize + 4096;

/// The longest reply, in bytes: the largest read, and the header.
pub(super) const MAX_REPLY: usize = MAX_READ as usize + size_of::<OutHeader>();
