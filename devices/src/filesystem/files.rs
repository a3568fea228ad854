//! Open files and their data.

use std::fs::File;

use rustix::io::Errno;

use super::locks::LockOwner;
use super::request::{Handle, NodeId, Request, Result};

/// OPEN, READ, WRITE, FLUSH, RELEASE, FSYNC, SYNCFS, FALLOCATE, LSEEK and
/// COPY_FILE_RANGE.
#[allow(unused_variables)]
pub trait FileOperations {
    /// Opens a file.
    fn open(&self, request: &Request<'_>, args: OpenArgs) -> Result<Opened> {
        Err(Errno::NOSYS)
    }

    /// Reads up to `args.size` bytes, for which `data` has room, and says how
    /// many. Fewer mean the end of the file.
    fn read(
        &self,
        request: &Request<'_>,
        args: &ReadArgs,
        data: &mut dyn ReplyData,
    ) -> Result<usize> {
        Err(Errno::NOSYS)
    }

    /// Writes `args.size` bytes of `data` and says how many.
    fn write(
        &self,
        request: &Request<'_>,
        args: &WriteArgs,
        data: &mut dyn RequestData,
    ) -> Result<usize> {
        Err(Errno::NOSYS)
    }

    /// A descriptor of the file was closed; there may be more. The POSIX locks
    /// that `owner` has of the file go.
    fn flush(&self, request: &Request<'_>, handle: Handle, owner: LockOwner) -> Result<()> {
        Err(Errno::NOSYS)
    }

    /// The last descriptor of the file was closed.
    fn release(&self, request: &Request<'_>, args: ReleaseArgs) -> Result<()> {
        Err(Errno::NOSYS)
    }

    /// `data_only` as with `fdatasync(2)`.
    fn fsync(&self, request: &Request<'_>, handle: Handle, data_only: bool) -> Result<()> {
        Err(Errno::NOSYS)
    }

    /// All that was written to the file system which the node is on.
    fn syncfs(&self, request: &Request<'_>) -> Result<()> {
        Err(Errno::NOSYS)
    }

    /// Allocates or deallocates a part of the file.
    fn fallocate(&self, request: &Request<'_>, args: &FallocateArgs) -> Result<()> {
        Err(Errno::NOSYS)
    }

    /// The position of the next data or hole.
    fn lseek(&self, request: &Request<'_>, args: &LseekArgs) -> Result<u64> {
        Err(Errno::NOSYS)
    }

    /// Copies up to `args.length` bytes of the request's node to another, and
    /// says how many.
    fn copy_file_range(&self, request: &Request<'_>, args: &CopyFileRangeArgs) -> Result<u64> {
        Err(Errno::NOSYS)
    }
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenArgs {
    /// The flags of `open(2)`.
    pub flags: u32,
    /// Clear set-user-ID, set-group-ID and file capabilities if `O_TRUNC` is
    /// among the flags (`FUSE_OPEN_KILL_SUIDGID`).
    pub kill_privileges: bool,
}

/// What READ asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadArgs {
    /// The open file.
    pub handle: Handle,
    /// Number of bytes.
    pub size: u32,
    /// Position in the file.
    pub offset: u64,
    /// `open(2)` flags the file has now; `F_SETFL` can change them.
    pub flags: u32,
}

/// What WRITE asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteArgs {
    /// The open file.
    pub handle: Handle,
    /// Number of bytes.
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

/// What RELEASE closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReleaseArgs {
    /// The open file.
    pub handle: Handle,
    /// There may be a lock of `flock(2)` to give up
    /// (`FUSE_RELEASE_FLOCK_UNLOCK`).
    pub unlock: bool,
}

/// What FALLOCATE asks for, as `fallocate(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FallocateArgs {
    /// The open file.
    pub handle: Handle,
    /// `FALLOC_FL_*`.
    pub mode: u32,
    /// Where the part begins, in bytes.
    pub offset: u64,
    /// Length of the part in bytes.
    pub length: u64,
}

/// What LSEEK asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LseekArgs {
    /// The open file.
    pub handle: Handle,
    /// Where the search begins, in bytes.
    pub offset: u64,
    /// `SEEK_DATA` or `SEEK_HOLE`, as with `lseek(2)`.
    pub whence: u32,
}

/// What COPY_FILE_RANGE asks for, as `copy_file_range(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyFileRangeArgs {
    /// The open file to read.
    pub handle: Handle,
    /// Where the part begins there, in bytes.
    pub offset: u64,
    /// The node to write to.
    pub to_node: NodeId,
    /// The open file to write to.
    pub to_handle: Handle,
    /// Where the part goes there, in bytes.
    pub to_offset: u64,
    /// Length of the part in bytes.
    pub length: u64,
    /// None are defined.
    pub flags: u64,
}

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

/// Where in a file data is read from or written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// At this offset, as `preadv` and `pwritev` do.
    At(u64),
    /// Wherever the file is: a stream, or a file opened with `O_APPEND`.
    Current,
    /// At the end of the file, wherever that is by then (`RWF_APPEND`). For
    /// writes.
    End,
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
