//! Extended attributes.

use std::ffi::CStr;

use rustix::io::Errno;

use super::request::{Request, Result};

/// SETXATTR, GETXATTR, LISTXATTR and REMOVEXATTR.
#[allow(unused_variables)]
pub trait XattrOperations {
    /// Sets an attribute.
    fn setxattr(&self, request: &Request<'_>, name: &CStr, args: &SetXattrArgs<'_>) -> Result<()> {
        Err(Errno::NOSYS)
    }

    /// The value, or `ERANGE` when it is longer than `size`. With `size` 0
    /// the answer's length alone matters.
    fn getxattr(&self, request: &Request<'_>, name: &CStr, size: u32) -> Result<Vec<u8>> {
        Err(Errno::NOSYS)
    }

    /// The names, each with a terminating NUL. `size` as with
    /// [`getxattr`](Self::getxattr).
    fn listxattr(&self, request: &Request<'_>, size: u32) -> Result<Vec<u8>> {
        Err(Errno::NOSYS)
    }

    /// Removes an attribute.
    fn removexattr(&self, request: &Request<'_>, name: &CStr) -> Result<()> {
        Err(Errno::NOSYS)
    }
}

/// What SETXATTR sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetXattrArgs<'a> {
    /// The value.
    pub value: &'a [u8],
    /// `XATTR_CREATE` or `XATTR_REPLACE`, as with `setxattr(2)`.
    pub flags: u32,
    /// Clear the set-group-ID bit: a task outside the file's group sets its
    /// access ACL (`FUSE_SETXATTR_ACL_KILL_SGID`).
    pub clear_set_gid: bool,
}
