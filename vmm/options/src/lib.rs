//! Options of `vmm run` that other programs of this workspace take, too: what a
//! share is, and how a size is written.

pub mod share;
pub mod size;
