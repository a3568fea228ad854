//! The first process of the guest, and the contract between it and the VMM.
//!
//! The binary of this crate is PID 1 of the initramfs that `vmm` builds. It
//! mounts what a Linux system needs and the shares, runs the command of the
//! user, carries its streams over the *session* (a small virtio-fs file
//! system served by the VMM) and reports how it ended.
//!
//! The crate is a library too, for two readers: `vmm` uses [`protocol`], so
//! that both ends of the session are compiled from one definition, and the
//! tests run the parts that need no guest on the host.

pub mod account;
pub mod clock;
pub mod command;
pub mod environment;
pub mod host;
pub mod loopback;
pub mod module_tree;
pub mod modules;
pub mod mounts;
pub mod power;
pub mod protocol;
pub mod relay;
pub mod root;
pub mod session;
pub mod streams;
pub mod terminal;
pub mod unit;
