//! What the operations are given.

use std::mem::size_of;

use fuse_backend_rs::abi::fuse_abi::EntryOut;

use crate::filesystem::{Entry, FileSystem, Request, Result};
use crate::fuse::encoding::entry_out;
use crate::fuse::flags::InitFlags;
use crate::fuse::reply::Reply;
use crate::fuse::request::Body;

/// Serves one kind of request. `Ok` means that the reply has the body of the
/// answer.
pub(in crate::fuse) type Operation = fn(&mut Call<'_, '_>) -> Result<()>;

/// A request on its way to the file system.
pub(in crate::fuse) struct Call<'r, 'a> {
    pub(in crate::fuse) fs: &'r dyn FileSystem,
    pub(in crate::fuse) request: Request<'r>,
    /// What is left of the request to decode.
    pub(in crate::fuse) body: Body<'a>,
    pub(in crate::fuse) reply: &'r mut Reply<'a>,
    /// What was agreed on at INIT.
    pub(in crate::fuse) agreed: InitFlags,
}

impl Call<'_, '_> {
    /// Makes sure that an entry fits into the answer. Before the file system
    /// is called: the guest must hear of every reference it is given.
    pub(super) fn ensure_entry(&self) -> Result<()> {
        self.reply.ensure(size_of::<EntryOut>())
    }

    /// Answers with `entry`.
    pub(super) fn put_entry(&mut self, entry: &Entry) -> Result<()> {
        self.reply.put(&entry_out(entry, self.agreed))
    }
}
