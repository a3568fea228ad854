//! The seam between the FUSE server and a file system.
//!
//! [`fuse`](crate::fuse) decodes a request, calls one method of
//! [`FileSystem`] and answers with what it returns. It knows nothing of the
//! host's files; an implementation knows nothing of FUSE's wire format. The
//! product implements it twice: [`passthrough`](crate::passthrough) serves a
//! host directory, and the VMM's session serves the streams of a command.
//!
//! Every method has a default that answers `ENOSYS`, which Linux remembers
//! and takes as "this server does not do that".

use std::ffi::CStr;
use std::fs::File;
use std::time::Duration;

use rustix::io::Errno;

/// What a file system answers: a value, or the errno the guest sees.
pub type Result<T> = std::result::Result<T, Errno>;

/// A node of the file system as the guest names it (FUSE `nodeid`).
pub type NodeId = u64;

/// An open file or directory as the guest names it (FUSE `fh`).
pub type Handle = u64;

/// The inode of the root of every file system (`FUSE_ROOT_ID`).
pub const ROOT: NodeId = 1;

/// Who asks: the credentials in the request's header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Effective user ID of the calling task.
    pub uid: u32,
    /// Effective group ID of the calling task.
    pub gid: u32,
    /// Process ID of the calling task, 0 for the kernel itself.
    pub pid: u32,
    /// The one supplementary group that matters for this request
    /// (`FUSE_EXT_GROUPS`): the group of the parent directory, when the
    /// caller is a member of it.
    pub supplementary_gid: Option<u32>,
}

/// A point in time, in the form `statx` gives it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timestamp {
    /// Seconds since the epoch.
    pub seconds: i64,
    /// Nanoseconds, 0 to 999 999 999.
    pub nanoseconds: u32,
}

/// The attributes of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// The host's inode number, for `st_ino`.
    pub ino: u64,
    /// Size in bytes.
    pub size: u64,
    /// Space taken, in units of 512 bytes.
    pub blocks: u64,
    /// Last access.
    pub atime: Timestamp,
    /// Last change of the contents.
    pub mtime: Timestamp,
    /// Last change of the attributes.
    pub ctime: Timestamp,
    /// Creation, where the host's file system records it.
    pub btime: Option<Timestamp>,
    /// Type and permission bits, as `st_mode`.
    pub mode: u32,
    /// Number of hard links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node, in the kernel's `new_encode_dev` form.
    pub rdev: u32,
    /// Preferred I/O size in bytes.
    pub blksize: u32,
    /// The node is the root of another file system mounted under the share
    /// (`FUSE_ATTR_SUBMOUNT`).
    pub submount: bool,
}

/// A node that a name led to; the guest now holds one reference to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The node, or 0: "this name does not exist, and you may remember that
    /// for `entry_timeout`".
    pub inode: NodeId,
    /// Tells two files apart that had the same inode at different times.
    pub generation: u64,
    /// Its attributes.
    pub attributes: Attributes,
    /// How long the guest may trust `attributes`.
    pub attr_timeout: Duration,
    /// How long the guest may trust the name.
    pub entry_timeout: Duration,
}

/// What SETATTR asks to change; `None` leaves a thing as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetAttributes {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size in bytes.
    pub size: Option<u64>,
    /// Last access.
    pub atime: Option<SetTime>,
    /// Last change of the contents.
    pub mtime: Option<SetTime>,
    /// Last change of the attributes, sent with the writeback cache only.
    pub ctime: Option<Timestamp>,
    /// Clear set-user-ID, set-group-ID and file capabilities as a side effect
    /// (`FATTR_KILL_SUIDGID`).
    pub kill_privileges: bool,
}

/// A time to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// The time of the host's clock.
    Now,
    /// The time given.
    At(Timestamp),
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

/// The status of the whole file system, as `statvfs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Total blocks, in units of `fragment_size`.
    pub blocks: u64,
    /// Free blocks.
    pub blocks_free: u64,
    /// Blocks free to unprivileged users.
    pub blocks_available: u64,
    /// Total inodes.
    pub files: u64,
    /// Free inodes.
    pub files_free: u64,
    /// Preferred block size in bytes.
    pub block_size: u32,
    /// Longest file name in bytes.
    pub name_max: u32,
    /// The unit of the block counts, in bytes.
    pub fragment_size: u32,
}

/// One entry of a directory listing.
#[derive(Clone, Copy, Debug)]
pub struct DirectoryEntry<'a> {
    /// Host inode number.
    pub ino: u64,
    /// Where the listing continues after this entry.
    pub next_offset: u64,
    /// File type as `DT_*`.
    pub kind: u32,
    /// The name, without a terminating NUL.
    pub name: &'a [u8],
}

/// The reply of READDIR or READDIRPLUS while it fills up.
///
/// The server implements it; a file system pushes entries until one does not
/// fit.
pub trait Listing {
    /// Whether the guest asked for attributes with each name (READDIRPLUS).
    fn wants_entries(&self) -> bool;

    /// Whether an entry with a name of `name_len` bytes still fits. Asked
    /// before a reference is taken on the entry's inode.
    fn fits(&self, name_len: usize) -> bool;

    /// Adds an entry and says whether it fitted. With READDIRPLUS, `None`
    /// gives the name without attributes (node ID 0): the guest looks it up
    /// itself when it needs to.
    fn push(&mut self, entry: DirectoryEntry<'_>, node: Option<&Entry>) -> bool;
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

/// What a new node shall be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewNode {
    /// Type and permission bits.
    pub mode: u32,
    /// The caller's file mode creation mask.
    pub umask: u32,
    /// Device number for a device node, in `new_encode_dev` form.
    pub rdev: u32,
}

/// What a file system and the guest agreed on at INIT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)]
pub struct Agreement {
    /// The guest caches writes (`FUSE_WRITEBACK_CACHE`).
    pub writeback_cache: bool,
    /// The server clears set-ID bits and capabilities when told to
    /// (`FUSE_HANDLE_KILLPRIV_V2`).
    pub kill_privileges: bool,
    /// The server applies the umask, or a default ACL in its place
    /// (`FUSE_DONT_MASK`).
    pub dont_mask: bool,
    /// POSIX ACLs are on (`FUSE_POSIX_ACL`).
    pub posix_acl: bool,
    /// Mount points below the share are announced (`FUSE_SUBMOUNTS`).
    pub submounts: bool,
}

/// What a file system would like to be agreed on at INIT; the server offers
/// it to the guest if the guest knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// What to turn on where the guest can.
    pub agreement: Agreement,
    /// Serve READDIRPLUS.
    pub readdirplus: bool,
    /// Let the guest choose between READDIR and READDIRPLUS by need
    /// (`FUSE_READDIRPLUS_AUTO`).
    pub readdirplus_auto: bool,
    /// Cache symbolic links' targets (`FUSE_CACHE_SYMLINKS`).
    pub cache_symlinks: bool,
    /// Drop cached pages when the modification time changed
    /// (`FUSE_AUTO_INVAL_DATA`).
    pub auto_invalidate: bool,
}

/// A file system that a FUSE server serves.
///
/// Methods take `&self` and are called from several threads at once. Names
/// come validated by the server: one component, not empty, without `/`, not
/// `.` or `..`, at most 255 bytes (`NAME_MAX`). Inodes and handles are
/// whatever the guest sent, so an implementation answers `EBADF` or `ESTALE`
/// for those it does not know.
#[allow(unused_variables, missing_docs)]
pub trait FileSystem: Send + Sync {
    /// What to ask for at INIT.
    fn wishes(&self) -> Wishes {
        Wishes::default()
    }

    /// INIT was answered; the guest starts afresh with `agreement`.
    fn init(&self, agreement: Agreement) {}

    /// The guest unmounted or the device was reset: every inode and handle
    /// the guest held is gone.
    fn destroy(&self) {}

    /// Whether a request may take long enough that it must not be executed
    /// on the queue's own thread. Called for every request, so it only looks
    /// at its arguments.
    fn may_block(&self, opcode: u32, inode: NodeId) -> bool {
        false
    }

    /// The task behind request `unique` was interrupted; says whether such a
    /// request is under way and was told (INTERRUPT).
    fn interrupt(&self, unique: u64) -> bool {
        false
    }

    fn lookup(&self, caller: &Caller, parent: NodeId, name: &CStr) -> Result<Entry> {
        Err(Errno::NOSYS)
    }

    /// The guest drops `count` references to `inode`.
    fn forget(&self, inode: NodeId, count: u64) {}

    fn getattr(
        &self,
        caller: &Caller,
        inode: NodeId,
        handle: Option<Handle>,
    ) -> Result<(Attributes, Duration)> {
        Err(Errno::NOSYS)
    }

    fn setattr(
        &self,
        caller: &Caller,
        inode: NodeId,
        handle: Option<Handle>,
        changes: &SetAttributes,
    ) -> Result<(Attributes, Duration)> {
        Err(Errno::NOSYS)
    }

    /// The target of a symbolic link, without a terminating NUL.
    fn readlink(&self, caller: &Caller, inode: NodeId) -> Result<Vec<u8>> {
        Err(Errno::NOSYS)
    }

    fn symlink(
        &self,
        caller: &Caller,
        target: &CStr,
        parent: NodeId,
        name: &CStr,
        umask: u32,
    ) -> Result<Entry> {
        Err(Errno::NOSYS)
    }

    fn mknod(&self, caller: &Caller, parent: NodeId, name: &CStr, node: NewNode) -> Result<Entry> {
        Err(Errno::NOSYS)
    }

    fn mkdir(&self, caller: &Caller, parent: NodeId, name: &CStr, node: NewNode) -> Result<Entry> {
        Err(Errno::NOSYS)
    }

    fn unlink(&self, caller: &Caller, parent: NodeId, name: &CStr) -> Result<()> {
        Err(Errno::NOSYS)
    }

    fn rmdir(&self, caller: &Caller, parent: NodeId, name: &CStr) -> Result<()> {
        Err(Errno::NOSYS)
    }

    /// RENAME and RENAME2; `flags` are those of `renameat2(2)`.
    fn rename(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: &CStr,
        new_parent: NodeId,
        new_name: &CStr,
        flags: u32,
    ) -> Result<()> {
        Err(Errno::NOSYS)
    }

    fn link(
        &self,
        caller: &Caller,
        inode: NodeId,
        new_parent: NodeId,
        new_name: &CStr,
    ) -> Result<Entry> {
        Err(Errno::NOSYS)
    }

    /// `flags` are those of `open(2)`; `kill_privileges` asks to clear
    /// set-ID bits when `O_TRUNC` is among them
    /// (`FUSE_OPEN_KILL_SUIDGID`).
    fn open(
        &self,
        caller: &Caller,
        inode: NodeId,
        flags: u32,
        kill_privileges: bool,
    ) -> Result<Opened> {
        Err(Errno::NOSYS)
    }

    /// Creates and opens a file in one step. As with [`open`](Self::open).
    fn create(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: &CStr,
        node: NewNode,
        flags: u32,
        kill_privileges: bool,
    ) -> Result<(Entry, Opened)> {
        Err(Errno::NOSYS)
    }

    /// Reads up to `size` bytes into `data` and says how many. Fewer than
    /// `size` means the end of the file. `flags` are the `open(2)` flags the
    /// file has now.
    #[allow(clippy::too_many_arguments)]
    fn read(
        &self,
        caller: &Caller,
        unique: u64,
        inode: NodeId,
        handle: Handle,
        data: &mut dyn ReplyData,
        size: u32,
        offset: u64,
        flags: u32,
    ) -> Result<usize> {
        Err(Errno::NOSYS)
    }

    /// Writes `request.size` bytes of `data` and says how many.
    fn write(
        &self,
        caller: &Caller,
        inode: NodeId,
        handle: Handle,
        data: &mut dyn RequestData,
        request: &WriteRequest,
    ) -> Result<usize> {
        Err(Errno::NOSYS)
    }

    fn statfs(&self, caller: &Caller, inode: NodeId) -> Result<Statistics> {
        Err(Errno::NOSYS)
    }

    /// A descriptor of the file was closed; there may be more.
    fn flush(&self, caller: &Caller, inode: NodeId, handle: Handle, lock_owner: u64) -> Result<()> {
        Err(Errno::NOSYS)
    }

    /// The last descriptor of the file was closed.
    fn release(&self, caller: &Caller, inode: NodeId, handle: Handle) -> Result<()> {
        Err(Errno::NOSYS)
    }

    /// `data_only` as with `fdatasync(2)`.
    fn fsync(&self, caller: &Caller, inode: NodeId, handle: Handle, data_only: bool) -> Result<()> {
        Err(Errno::NOSYS)
    }

    fn opendir(&self, caller: &Caller, inode: NodeId, flags: u32) -> Result<Opened> {
        Err(Errno::NOSYS)
    }

    /// READDIR and READDIRPLUS: pushes the entries that follow `offset`.
    fn readdir(
        &self,
        caller: &Caller,
        inode: NodeId,
        handle: Handle,
        offset: u64,
        listing: &mut dyn Listing,
    ) -> Result<()> {
        Err(Errno::NOSYS)
    }

    fn releasedir(&self, caller: &Caller, inode: NodeId, handle: Handle) -> Result<()> {
        Err(Errno::NOSYS)
    }

    fn fsyncdir(
        &self,
        caller: &Caller,
        inode: NodeId,
        handle: Handle,
        data_only: bool,
    ) -> Result<()> {
        Err(Errno::NOSYS)
    }

    /// `mask` as with `access(2)`.
    fn access(&self, caller: &Caller, inode: NodeId, mask: u32) -> Result<()> {
        Err(Errno::NOSYS)
    }

    /// `flags` as with `setxattr(2)`; `clear_set_gid` asks to clear the
    /// set-group-ID bit, as an access ACL is set by a task outside the file's
    /// group (`FUSE_SETXATTR_ACL_KILL_SGID`).
    fn setxattr(
        &self,
        caller: &Caller,
        inode: NodeId,
        name: &CStr,
        value: &[u8],
        flags: u32,
        clear_set_gid: bool,
    ) -> Result<()> {
        Err(Errno::NOSYS)
    }

    /// The value, or `ERANGE` when it is longer than `size`. With `size` 0
    /// the answer's length alone matters.
    fn getxattr(&self, caller: &Caller, inode: NodeId, name: &CStr, size: u32) -> Result<Vec<u8>> {
        Err(Errno::NOSYS)
    }

    /// The names, each with a terminating NUL. `size` as with
    /// [`getxattr`](Self::getxattr).
    fn listxattr(&self, caller: &Caller, inode: NodeId, size: u32) -> Result<Vec<u8>> {
        Err(Errno::NOSYS)
    }

    fn removexattr(&self, caller: &Caller, inode: NodeId, name: &CStr) -> Result<()> {
        Err(Errno::NOSYS)
    }

    /// `mode` as with `fallocate(2)`.
    fn fallocate(
        &self,
        caller: &Caller,
        inode: NodeId,
        handle: Handle,
        mode: u32,
        offset: u64,
        length: u64,
    ) -> Result<()> {
        Err(Errno::NOSYS)
    }

    /// `whence` as with `lseek(2)`: `SEEK_DATA` or `SEEK_HOLE`.
    fn lseek(
        &self,
        caller: &Caller,
        inode: NodeId,
        handle: Handle,
        offset: u64,
        whence: u32,
    ) -> Result<u64> {
        Err(Errno::NOSYS)
    }
}
