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

mod attributes;
mod create;
mod directories;
mod files;
mod lookup;
mod request;
mod session;

use std::ffi::CStr;
use std::time::Duration;

use rustix::io::Errno;

pub use attributes::{Attributes, SetAttributes, SetTime, Statistics, Timestamp};
pub use create::NewNode;
pub use directories::{DirectoryEntry, Listing};
pub use files::{OpenBehaviour, Opened, Position, ReplyData, RequestData, WriteRequest};
pub use lookup::Entry;
pub use request::{Caller, Handle, NodeId, ROOT, Result};
pub use session::{Agreement, Wishes};

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
