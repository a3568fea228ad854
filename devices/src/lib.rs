//! The devices of the microVM, with no hypervisor inside.
//!
//! Three layers serve a shared directory. Each knows the next only by a trait:
//!
//! | layer | knows |
//! | --- | --- |
//! | [`virtio`] | registers, the status machine, queues, interrupts |
//! | [`fuse`] | the FUSE protocol: decode one request, call the file system, answer exactly once |
//! | [`passthrough`] | the host's file system: inodes, handles, names, data, credentials |
//!
//! The FUSE server is a [`RequestServer`](virtio::fs::RequestServer) to virtio-fs,
//! and the file system a [`FileSystem`](filesystem::FileSystem) to the FUSE server.
//! Both ends of it know the [`window`] in which the guest has files mapped.
//! Beside them are what a PC without virtio needs: the [`bus`], the console
//! ([`serial`]), the way of the interrupts ([`io_apic`]), and the ways for the guest to
//! switch off and reset ([`power`], [`i8042`]).

pub mod bus;
pub mod filesystem;
pub mod fuse;
pub mod i8042;
pub mod io_apic;
pub mod passthrough;
pub mod power;
pub mod serial;
pub mod virtio;
pub mod window;
