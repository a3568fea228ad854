//! Open files and their data.

use std::fs::File;

use super::request::{Handle, Result};

/// How the guest's kernel shall treat a file it opened (`FOPEN_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)]
pub struct OpenBehaviour {
    /// Bypass the page cache (`FOPEN_DIRECT_IO`).
    pub direct_io: bool,
    /// Keep what the page cache already holds (`FOPEN_KEEP_CACHE`).
    pub keep_cache: bool,
    /// Keep the directory listing that is cached (`FOPEN_CACHE_DIR`).
    pub cache_dir: bool,
    /// The file has no positions and cannot be sought (`FOPEN_STREAM`).
    pub stream: bool,
    /// Send no FLUSH when a descriptor is closed (`FOPEN_NOFLUSH`).
    pub no_flush: bool,
    /// Direct writes may run in parallel (`FOPEN_PARALLEL_DIRECT_WRITES`).
    pub parallel_direct_writes: bool,
}

/// A successful OPEN, OPENDIR or CREATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The handle for later requests.
    pub handle: Handle,
    /// How to treat the open file.
    pub behaviour: OpenBehaviour,
}

/// What WRITE carries beside the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteRequest {
    /// Number of bytes to write.
    pub size: u32,
    /// Position in the file.
    pub offset: u64,
    /// `open(2)` flags the file has now; `F_SETFL` can change them.
    pub flags: u32,
    /// The data comes from the guest's page cache (`FUSE_WRITE_CACHE`): the
    /// caller in the header is then not the one who wrote it.
    pub from_cache: bool,
    /// Clear set-user-ID, set-group-ID and file capabilities
    /// (`FUSE_WRITE_KILL_SUIDGID`).
    pub kill_privileges: bool,
}

/// Where in a file data is read from or written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// At this offset, as `preadv` and `pwritev` do.
    At(u64),
    /// Wherever the file is: a stream, or a file opened with `O_APPEND`.
    Current,
}

/// The space for the data of a READ reply: the guest's own pages.
pub trait ReplyData {
    /// Bytes that still fit.
    fn space(&self) -> usize;

    /// Reads up to `count` bytes of `file` straight into the guest's pages
    /// with one system call, and says how many there were.
    fn fill_from(&mut self, file: &File, count: usize, position: Position) -> Result<usize>;

    /// Copies `bytes` into the reply; `EIO` when they do not fit.
    fn put(&mut self, bytes: &[u8]) -> Result<()>;
}

/// The data of a WRITE request: the guest's own pages.
pub trait RequestData {
    /// Bytes not yet taken.
    fn remaining(&self) -> usize;

    /// Writes up to `count` bytes straight from the guest's pages to `file`
    /// with one system call, and says how many it took.
    fn drain_to(&mut self, file: &File, count: usize, position: Position) -> Result<usize>;

    /// Copies bytes of the request into `bytes`; `EIO` when there are fewer.
    fn take(&mut self, bytes: &mut [u8]) -> Result<()>;
}
