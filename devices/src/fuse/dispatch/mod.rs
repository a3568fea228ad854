//! From the bytes of a request to a call of the file system, and from its
//! answer to bytes.
//!
//! One function for each operation, in families as in
//! [`filesystem`](crate::filesystem): it takes the request apart, makes sure
//! that the answer fits, calls the file system once, and writes the answer.
//! [`opcode`](super::opcode) knows which function serves which number.

pub(super) mod attributes;
pub(super) mod create;
pub(super) mod directories;
pub(super) mod files;
pub(super) mod ioctls;
pub(super) mod locks;
pub(super) mod lookup;
pub(super) mod mappings;
pub(super) mod remove;
pub(super) mod xattrs;
