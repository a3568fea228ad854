//! What every request says: who asks, of which node, and what is answered.

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
