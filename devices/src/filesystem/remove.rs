//! Names that go or move.

use std::ffi::CStr;

use rustix::io::Errno;

use super::request::{NodeId, Request, Result};

/// UNLINK, RMDIR and RENAME.
#[allow(unused_variables)]
pub trait RemoveOperations {
    /// Removes the name of anything but a directory.
    fn unlink(&self, request: &Request<'_>, name: &CStr) -> Result<()> {
        Err(Errno::NOSYS)
    }

    /// Removes an empty directory.
    fn rmdir(&self, request: &Request<'_>, name: &CStr) -> Result<()> {
        Err(Errno::NOSYS)
    }

    /// RENAME and RENAME2.
    fn rename(&self, request: &Request<'_>, name: &CStr, to: RenameArgs<'_>) -> Result<()> {
        Err(Errno::NOSYS)
    }
}

/// Where a name moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RenameArgs<'a> {
    /// The directory of the new name.
    pub parent: NodeId,
    /// The new name.
    pub name: &'a CStr,
    /// The flags of `renameat2(2)`.
    pub flags: u32,
}
