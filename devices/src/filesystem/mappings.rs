//! Files mapped in the guest's window (DAX).

use rustix::io::Errno;

use super::request::{Handle, Request, Result};

/// SETUPMAPPING and REMOVEMAPPING.
#[allow(unused_variables)]
pub trait MappingOperations {
    /// Maps a part of the file in the window, in place of what is there.
    fn setup_mapping(&self, request: &Request<'_>, args: &SetupMappingArgs) -> Result<()> {
        Err(Errno::NOSYS)
    }

    /// Takes what is mapped in these parts of the window out of it, whichever
    /// file it is of. Fails with the first that fails.
    fn remove_mapping(&self, request: &Request<'_>, parts: &[WindowPart]) -> Result<()> {
        Err(Errno::NOSYS)
    }
}

/// A part of the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowPart {
    /// Where it begins in the window, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
}

/// What SETUPMAPPING asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetupMappingArgs {
    /// The open file, where one is named.
    pub handle: Option<Handle>,
    /// Where the part begins in the file, in bytes.
    pub file_offset: u64,
    /// Where it goes, and its length. It may reach beyond the file's end.
    pub part: WindowPart,
    /// It may be written to, and not only read.
    pub writable: bool,
}
