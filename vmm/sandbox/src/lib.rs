//! What the threads of a run may still do once they serve a guest.
//!
//! A device that is hostile-proof by construction has bugs all the same. So each
//! thread is left with what its work takes and no more:
//!
//! | what | by | file |
//! | --- | --- | --- |
//! | system calls, and some of their arguments | seccomp | `table`: the lists; `filter` |
//! | files | Landlock | `tree` |
//! | what root may | capabilities | `capability` |
//! | programs that give rights | `no_new_privs` | `sandbox` |
//!
//! A thread inherits all of that from the one that starts it, and the threads
//! that serve a share are started by vCPUs, and by one another. So each share
//! has a [`Keeper`]: a thread that may do what serving the share takes, and
//! starts the others, which may do the same.
//!
//! A call that is not on the list of its thread does not happen: it fails with
//! `EPERM`, and is told once, by name (`refusal`). It does not end the process,
//! as data that the guest has not stored yet would be lost with that, and whoever
//! took over the thread gains nothing by the difference. It does not fail with
//! `ENOSYS`, which Linux's FUSE client would take for "never ask again", of FSYNC
//! as well.
//!
//! All threads have one memory. Who can write to all of it may have another
//! thread do what that one may; so no thread at all may start programs, make
//! sockets, mount, trace, load modules or map code.

mod arenas;
mod capability;
mod error;
mod filter;
mod host;
mod keeper;
mod mode;
mod numbers;
mod refusal;
mod role;
mod sandbox;
mod table;
mod tree;

pub use error::Error;
pub use keeper::Keeper;
pub use mode::Mode;
pub use role::Role;
pub use sandbox::{Holds, Record, Sandbox};
pub use tree::Place;
