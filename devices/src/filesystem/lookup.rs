//! From names to nodes.

use std::time::Duration;

use super::attributes::Attributes;
use super::request::NodeId;

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
