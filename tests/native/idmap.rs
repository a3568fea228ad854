//! Mounts of a share with other owners.
#![allow(unsafe_code)]

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags};

use crate::fixture::{linux_since, on_share, text};

/// What owner 0 of the share is on the mount.
const FIRST: u32 = 100_000;

/// `struct mount_attr`.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// A user namespace in which 0 is [`FIRST`].
fn user_namespace() -> File {
    let mut child = Command::new("unshare")
        .args(["--user", "sleep", "60"])
        .spawn()
        .unwrap();
    let proc = Path::new("/proc").join(child.id().to_string());
    let own = fs::read_link("/proc/self/ns/user").unwrap();
    while fs::read_link(proc.join("ns/user")).unwrap() == own {
        thread::sleep(Duration::from_millis(5));
    }
    for map in ["uid_map", "gid_map"] {
        fs::write(proc.join(map), format!("0 {FIRST} 1000")).unwrap();
    }
    let namespace = File::open(proc.join("ns/user")).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    namespace
}

/// Mounts what is at `from` once more at `to`, with other owners.
fn mount_mapped(from: &Path, to: &Path) -> Result<(), Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(CWD, from, flags)?;
    let namespace = user_namespace();
    let attributes = MountAttributes {
        set: libc::MOUNT_ATTR_IDMAP,
        clear: 0,
        propagation: 0,
        user_namespace: namespace.as_raw_fd().cast_unsigned().into(),
    };
    // SAFETY: the path is an empty string, `attributes` is a `struct
    // mount_attr` of the size given, and all of it lives across the call.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    };
    if outcome != 0 {
        return Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap());
    }
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(&tree, "", CWD, to, flags)
}

#[test]
fn a_mount_with_other_owners_keeps_them_apart_from_the_hosts() {
    for mode in ["idmap,cache=auto", "idmap,cache=never"] {
        on_share(
            mode,
            |mount| {
                assert!(
                    rustix::process::geteuid().is_root(),
                    "only root maps owners"
                );
                let place = tempfile::tempdir().unwrap();
                fs::set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
                let at = place.path().join("mapped");
                fs::create_dir(&at).unwrap();
                fs::set_permissions(mount, Permissions::from_mode(0o777)).unwrap();
                let outcome = mount_mapped(mount, &at);
                if !linux_since(6, 12) {
                    assert_eq!(outcome, Err(Errno::INVAL));
                    return;
                }
                outcome.unwrap();
                let script = "echo text >f; echo more >>f; mkdir d; ln -s f l; chmod 640 f
                              stat -c %u:%g f d; cat f; fallocate -l 5000 f; mv f d/f
                              setfattr -n user.a -v b d/f 2>/dev/null || :
                              stat -c %a d/f; rm l";
                let user = (FIRST + 5).to_string();
                let output = Command::new("setpriv")
                    .args(["--reuid", &user, "--regid", &user, "--clear-groups"])
                    .args(["sh", "-euc", script])
                    .current_dir(&at)
                    .output()
                    .unwrap();
                assert_eq!(
                    text(&output),
                    format!("{user}:{user}\n{user}:{user}\ntext\nmore\n640\n")
                );
                assert_eq!(fs::metadata(mount.join("d/f")).unwrap().uid(), 5);
                // Root is nobody there.
                let error = File::create(at.join("g")).map(drop).unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::EOVERFLOW));
                let flags = rustix::mount::UnmountFlags::DETACH;
                rustix::mount::unmount(&at, flags).unwrap();
            },
            |directory| {
                if linux_since(6, 12) {
                    let file = fs::metadata(directory.join("d/f")).unwrap();
                    assert_eq!((file.uid(), file.gid()), (5, 5));
                }
            },
        );
    }
}

#[test]
fn a_share_without_the_option_is_not_mapped() {
    on_share(
        "cache=auto",
        |mount| {
            let place = tempfile::tempdir().unwrap();
            let outcome = mount_mapped(mount, place.path());
            assert_eq!(outcome, Err(Errno::INVAL));
        },
        |_| {},
    );
}
