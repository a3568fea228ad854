//! New nodes.

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
