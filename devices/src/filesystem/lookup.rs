//! From names to nodes.

use std::ffi::CStr;
use std::time::Duration;

use rustix::io::Errno;

use super::attributes::Attributes;
use super::request::{NodeId, Request, Result};

/// LOOKUP, FORGET and READLINK.
#[allow(unused_variables)]
pub trait LookupOperations {
    /// The node that `name` leads to, with a reference for the guest.
    fn lookup(&self, request: &Request<'_>, name: &CStr) -> Result<Entry> {
        Err(Errno::NOSYS)
    }

    /// The node itself, with a reference for the guest (LOOKUP of `.`).
    fn lookup_itself(&self, request: &Request<'_>) -> Result<Entry> {
        Err(Errno::NOSYS)
    }

    /// The directory that a directory is in, with a reference for the guest
    /// (LOOKUP of `..`). The root is in itself.
    fn lookup_parent(&self, request: &Request<'_>) -> Result<Entry> {
        Err(Errno::NOSYS)
    }

    /// The guest drops `count` references to `node`.
    fn forget(&self, node: NodeId, count: u64) {}

    /// The target of a symbolic link, without a terminating NUL.
    fn readlink(&self, request: &Request<'_>) -> Result<Vec<u8>> {
        Err(Errno::NOSYS)
    }
}

/// A node that a name led to; the guest now holds one reference to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The node, or 0: "this name does not exist, and you may remember that
    /// for `entry_timeout`".
    pub inode: NodeId,
    /// Tells two files apart that had the same inode at different times.
    pub generation: u64,
    /// Its attributes.
    pub attributes: Attributes,
    /// How long the guest may trust `attributes`.
    pub attr_timeout: Duration,
    /// How long the guest may trust the name.
    pub entry_timeout: Duration,
}
