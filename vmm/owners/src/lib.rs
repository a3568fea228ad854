//! What a process has to be, and its shares have to be on, for the owners that the
//! user wants.
//!
//! | who runs it | `owners=` | what that takes |
//! | --- | --- | --- |
//! | root | `map` | a mount of the directory with its owners mapped (`MOUNT_ATTR_IDMAP`), each share its own |
//! | another | `map` | a user namespace of the process with the same map, hence one map for all shares |
//! | another | `user`, `xattr` | a user namespace in which the user is root, if there may be one: root of the guest may then do anything to the user's own files |
//! | another | `host` | no user namespace, in which the host's root would be nobody |
//!
//! It is the host's kernel that maps: owners, ACLs, capabilities, and who may do
//! what to whom. A user namespace is one for all threads, so it is
//! [entered](Plan::enter) before there are any; it is made in a child before
//! that, so that nothing is changed in this process where the host refuses it.

mod delegation;
mod error;
mod map;
mod mount;
mod namespace;
mod plan;
mod process;

pub use error::Error;
pub use plan::{Plan, Planned, Wish};
