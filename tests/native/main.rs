//! Programs on shares that the host's own kernel mounts: what a guest's
//! kernel would ask, without a guest.
//!
//! They need a `/dev/fuse` that can be opened, and root or user namespaces;
//! where two users are needed, root or sudo. Where one is missing they fail and
//! say so.
#![allow(clippy::unwrap_used)]

mod basics;
mod by_handle;
mod copies;
mod data_loss;
mod failures;
mod fcntl;
mod fixture;
mod idmap;
mod ioctls;
mod locks;
mod mapping;
mod overlay;
mod serve;
mod xattrs;
