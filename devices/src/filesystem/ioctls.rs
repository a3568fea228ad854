//! `ioctl(2)` of files and directories.

use rustix::io::Errno;

use super::request::{Handle, Request, Result};

/// IOCTL.
#[allow(unused_variables)]
pub trait IoctlOperations {
    /// Carries a command out, and answers with at most `args.room` bytes;
    /// `ENOTTY` for one that is not known.
    fn ioctl(&self, request: &Request<'_>, args: &IoctlArgs<'_>) -> Result<Vec<u8>> {
        Err(Errno::NOSYS)
    }
}

/// What IOCTL asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoctlArgs<'a> {
    /// The open file or directory.
    pub handle: Handle,
    /// The command, as the guest's program numbers it.
    pub command: u32,
    /// What the command is given. Pointers in it are the guest's and mean
    /// nothing here.
    pub input: &'a [u8],
    /// Bytes that there is room for in the answer.
    pub room: usize,
}
