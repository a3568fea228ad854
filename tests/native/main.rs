//! Programs on shares that the host's own kernel mounts: what a guest's
//! kernel would ask, without a guest.
//!
//! They want root, for mounts and for several users: `make unit` runs them by
//! sudo where need be. Some also pass in a user namespace. Where something is
//! missing they fail and say so.
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
mod limits;
mod locks;
mod mapping;
mod overlay;
mod owners;
mod serve;
mod unnamed;
mod verity;
mod xattrs;
