//! New nodes.

use std::ffi::CStr;

use rustix::io::Errno;

use super::files::{OpenArgs, Opened};
use super::lookup::Entry;
use super::request::{NodeId, Request, Result};

/// SYMLINK, MKNOD, MKDIR, LINK, CREATE and TMPFILE. Each gives the guest a
/// reference to the node in its answer.
#[allow(unused_variables)]
pub trait CreateOperations {
    /// Makes a symbolic link to `target`, any string.
    fn symlink(&self, request: &Request<'_>, name: &CStr, target: &CStr) -> Result<Entry> {
        Err(Errno::NOSYS)
    }

    /// Makes a node of any type but a directory.
    fn mknod(&self, request: &Request<'_>, name: &CStr, new: &NewNode) -> Result<Entry> {
        Err(Errno::NOSYS)
    }

    /// Makes a directory.
    fn mkdir(&self, request: &Request<'_>, name: &CStr, new: &NewNode) -> Result<Entry> {
        Err(Errno::NOSYS)
    }

    /// Gives `node` another name.
    fn link(&self, request: &Request<'_>, name: &CStr, node: NodeId) -> Result<Entry> {
        Err(Errno::NOSYS)
    }

    /// Creates and opens a file in one step; opens what is there already,
    /// unless `O_EXCL` is among the flags.
    fn create(
        &self,
        request: &Request<'_>,
        name: &CStr,
        new: &NewNode,
        open: OpenArgs,
    ) -> Result<(Entry, Opened)> {
        Err(Errno::NOSYS)
    }

    /// Makes a file without a name in the file system of a directory, and
    /// opens it. It may be given a name ([`link`](Self::link)) unless `O_EXCL`
    /// is among the flags.
    fn tmpfile(
        &self,
        request: &Request<'_>,
        new: &NewNode,
        open: OpenArgs,
    ) -> Result<(Entry, Opened)> {
        Err(Errno::NOSYS)
    }
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
