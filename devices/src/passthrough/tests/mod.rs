//! The passthrough file system over temporary directories, called as the FUSE
//! server calls it.

mod attributes;
mod callers;
mod capacity;
mod coherence;
mod confinement;
mod copying;
mod costs;
mod dirty;
mod durability;
mod escape;
mod eviction;
mod exhaustion;
mod exporting;
mod files;
mod finding;
mod fixture;
mod host_failures;
mod leases;
mod limits;
mod listings;
mod locks;
mod model;
mod mounts;
mod names;
mod opening;
mod owners;
mod privileges;
mod readonly;
mod reads;
mod scarcity;
mod stress;
mod unnamed;
mod unprivileged;
mod writes;
mod xattrs;
