//! The product's FUSE server behind the `/dev/fuse` of this host, without a
//! machine: any program can be run on a share, at full speed.
//!
//! [`Server`](devices::fuse::Server) and
//! [`Passthrough`](devices::passthrough::Passthrough) are those of `vmm run`,
//! unchanged. What stands between them and the host's kernel plays the guest's
//! virtio-fs driver:
//!
//! | module | what |
//! | --- | --- |
//! | [`share`] | the options of `--share`, and the mount they make |
//! | [`mount`] | the mount point, in a namespace of its own |
//! | [`connection`] | the threads that carry requests, as those of the queues do |
//! | [`buffers`] | a request and the room for its answer, as a chain in guest memory |
//! | [`driver`] | what virtiofs would do and `/dev/fuse` does not, and the reverse |
//! | [`apart`] | the server in a process of its own, as another user |
//! | [`inject`] | system calls of the server that fail |
//!
//! # What differs from virtiofs all the same
//!
//! * The buffers are two pieces of memory, not one for each page.
//! * A share with `ro` is mounted read-write, so that the server refuses.
//! * SYNCFS is not sent: Linux sends it over virtio-fs only.
//! * There are no submounts of FUSE, which Linux makes for virtio-fs only.
//! * `queue-size=` limits nothing.
//! * The kernel is this host's, and not patched.

pub mod apart;
pub mod buffers;
pub mod connection;
pub mod driver;
pub mod inject;
pub mod mount;
pub mod share;
