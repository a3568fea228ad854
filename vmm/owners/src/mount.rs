//! A directory with its owners mapped.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::OpenTreeFlags;
use vmm_options::share::IdMaps;

use crate::error::Error;
use crate::namespace::Namespace;

/// `struct mount_attr`.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// The tree at `path` once more, for nobody but who has the descriptor; what is
/// mounted below it as well.
pub(crate) fn mapped(path: &Path, maps: &IdMaps) -> Result<OwnedFd, Error> {
    let refused = |source| Error::Mount {
        path: path.to_owned(),
        source,
    };
    let namespace = Namespace::of_mount(maps)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = rustix::mount::open_tree(CWD, path, flags).map_err(|error| refused(error.into()))?;
    let attributes = MountAttributes {
        set: libc::MOUNT_ATTR_IDMAP,
        clear: 0,
        propagation: 0,
        user_namespace: namespace.file().as_raw_fd().cast_unsigned().into(),
    };
    // SAFETY: the path is an empty string, `attributes` is a `struct mount_attr`
    // of the size given, and all of it lives across the call.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    };
    match outcome {
        0 => Ok(tree),
        _ => Err(refused(io::Error::last_os_error())),
    }
}
