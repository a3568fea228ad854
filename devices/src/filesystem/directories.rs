//! Directory listings.

use rustix::io::Errno;

use super::files::Opened;
use super::lookup::Entry;
use super::request::{Handle, Request, Result};

/// OPENDIR, READDIR, READDIRPLUS, RELEASEDIR and FSYNCDIR.
#[allow(unused_variables)]
pub trait DirectoryOperations {
    /// Opens a directory.
    fn opendir(&self, request: &Request<'_>) -> Result<Opened> {
        Err(Errno::NOSYS)
    }

    /// READDIR and READDIRPLUS: pushes the entries that follow `offset`.
    fn readdir(
        &self,
        request: &Request<'_>,
        handle: Handle,
        offset: u64,
        listing: &mut dyn Listing,
    ) -> Result<()> {
        Err(Errno::NOSYS)
    }

    /// The last descriptor of the directory was closed.
    fn releasedir(&self, request: &Request<'_>, handle: Handle) -> Result<()> {
        Err(Errno::NOSYS)
    }

    /// `data_only` as with `fdatasync(2)`.
    fn fsyncdir(&self, request: &Request<'_>, handle: Handle, data_only: bool) -> Result<()> {
        Err(Errno::NOSYS)
    }
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
