//! What every request says: who asks, of which node, and what is answered.

use rustix::io::Errno;

use super::waiters::{Waiter, Waiters};

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

/// What every request says, whatever it asks for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'s> {
    /// Tells the request from all others under way.
    pub unique: u64,
    /// The node it is about: for an operation on a name, the directory the
    /// name is in.
    pub node: NodeId,
    /// Who asks.
    pub caller: Caller,
    waiters: &'s Waiters,
}

impl<'s> Request<'s> {
    /// A request that is woken by way of `waiters` if it waits.
    #[must_use]
    pub fn new(unique: u64, node: NodeId, caller: Caller, waiters: &'s Waiters) -> Self {
        Self {
            unique,
            node,
            caller,
            waiters,
        }
    }

    /// Lets the request be interrupted, which an operation asks for before it
    /// waits for anything but its own work.
    pub fn waiter(&self) -> Result<Waiter<'s>> {
        self.waiters.enter(self.unique)
    }
}
