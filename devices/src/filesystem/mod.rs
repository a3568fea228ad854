//! The seam between the FUSE server and a file system.
//!
//! [`fuse`](crate::fuse) decodes a request, calls one method of a
//! [`FileSystem`] and answers with what it returns. It knows nothing of the
//! host's files; a file system knows nothing of FUSE's numbers and layouts.
//! There are two: [`passthrough`](crate::passthrough) serves a host directory,
//! and the VMM's session serves the streams of a command.
//!
//! The operations come in families, a trait each. What is not implemented
//! answers `ENOSYS`, which Linux remembers: "this server does not do that".

mod attributes;
mod create;
mod deferral;
mod directories;
mod files;
mod ioctls;
mod locks;
mod lookup;
mod mappings;
mod negotiation;
mod remove;
mod request;
mod waiters;
mod xattrs;

pub use attributes::{
    AttributeOperations, Attributes, SetAttributes, SetTime, Statistics, Timestamp,
};
pub use create::{CreateOperations, NewNode};
pub use deferral::{Change, Deferral};
pub use directories::{DirectoryEntry, DirectoryOperations, Listing};
pub use files::{
    CopyFileRangeArgs, FallocateArgs, FileOperations, LseekArgs, OpenArgs, OpenBehaviour, Opened,
    Position, ReadArgs, ReleaseArgs, ReplyData, RequestData, WriteArgs,
};
pub use ioctls::{IoctlArgs, IoctlOperations};
pub use locks::{Lock, LockArgs, LockKind, LockOperations, LockOwner, LockRange};
pub use lookup::{Entry, LookupOperations};
pub use mappings::{MappingOperations, SetupMappingArgs, WindowPart};
pub use negotiation::{Agreement, Capabilities};
pub use remove::{RemoveOperations, RenameArgs};
pub use request::{Caller, Handle, Label, NodeId, ROOT, Request, Result, WOULD_WAIT};
pub use waiters::{Admission, Waiter, Waiters};
pub use xattrs::{SetXattrArgs, XattrOperations};

/// A file system that a FUSE server serves.
///
/// Methods take `&self` and are called from several threads at once. Names
/// come validated by the server: one component, not empty, without `/`, not
/// `.` or `..`, at most 255 bytes (`NAME_MAX`). Node IDs and handles are
/// whatever the guest sent, so an implementation answers `EBADF` or `ESTALE`
/// for those it does not know.
#[allow(unused_variables)]
pub trait FileSystem:
    LookupOperations
    + CreateOperations
    + RemoveOperations
    + AttributeOperations
    + FileOperations
    + DirectoryOperations
    + XattrOperations
    + LockOperations
    + IoctlOperations
    + MappingOperations
    + Send
    + Sync
{
    /// What to agree on at INIT where the guest can.
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    /// INIT was answered; the guest starts afresh with `agreement`.
    fn init(&self, agreement: Agreement) {}

    /// The guest unmounted or the device was reset: every node and handle
    /// the guest held is gone.
    fn destroy(&self) {}

    /// Whether reading or writing `node` may wait for someone else, as with a
    /// pipe or a terminal, so that the queue must not wait for it. Called for
    /// every READ and WRITE: it only looks at its argument.
    fn is_stream(&self, node: NodeId) -> bool {
        false
    }

    /// Whether anything asked of `node` may wait for somebody else, as on a
    /// file system of the network whose server is gone. Called for nearly
    /// every request: it waits for nothing.
    fn may_stall(&self, node: NodeId) -> bool {
        false
    }
}
