//! The file systems that a Linux user space takes for granted, and the shares.

use std::ffi::{CStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use crate::protocol::SharePlan;

/// Why a file system could not be mounted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The mount point is missing and cannot be made.
    #[error("cannot make the mount point {}", path.display())]
    MountPoint {
        /// The mount point.
        path: PathBuf,
        /// What the guest's kernel said.
        source: io::Error,
    },
    /// The kernel has no virtio-fs driver.
    #[error("the guest's kernel has no virtiofs file system")]
    NoVirtioFs,
    /// `mount(2)` failed.
    #[error("cannot mount {what} at {}", path.display())]
    Mount {
        /// File system or share.
        what: String,
        /// The mount point.
        path: PathBuf,
        /// What the guest's kernel said.
        source: Errno,
    },
}

/// Where control groups are.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Mounts `/proc`, `/sys`, `/dev` and the temporary directories.
///
/// Goes on where one fails: a kernel without sysfs still runs commands, and
/// what is missing shows in the command that needs it.
pub fn mount_basics() {
    let secure = MountFlags::NOSUID.union(MountFlags::NODEV);
    let _ = mount("proc", "/proc".as_ref(), "proc", secure, None);
    let _ = mount("sysfs", "/sys".as_ref(), "sysfs", secure, None);
    let _ = mount(
        "securityfs",
        "/sys/kernel/security".as_ref(),
        "securityfs",
        secure,
        None,
    );
    let _ = mount(
        "debugfs",
        "/sys/kernel/debug".as_ref(),
        "debugfs",
        secure,
        None,
    );
    let _ = mount(
        "tracefs",
        "/sys/kernel/tracing".as_ref(),
        "tracefs",
        secure,
        None,
    );

    for (kind, at) in [
        ("cgroup2", CGROUPS),
        ("bpf", "/sys/fs/bpf"),
        ("configfs", "/sys/kernel/config"),
    ] {
        let _ = mount(kind, at.as_ref(), kind, secure, None);
    }

    let devices = Path::new("/dev");
    if mount(
        "devtmpfs",
        devices,
        "devtmpfs",
        MountFlags::NOSUID,
        Some(c"mode=0755"),
    )
    .is_err()
    {
        let _ = mount(
            "tmpfs",
            devices,
            "tmpfs",
            MountFlags::NOSUID,
            Some(c"mode=0755"),
        );
        make_device_nodes();
    }
    let terminals = Some(c"gid=5,mode=0620,ptmxmode=0666");
    let flags = MountFlags::NOSUID.union(MountFlags::NOEXEC);
    let _ = mount("devpts", "/dev/pts".as_ref(), "devpts", flags, terminals);
    let _ = mount(
        "tmpfs",
        "/dev/shm".as_ref(),
        "tmpfs",
        secure,
        Some(c"mode=1777"),
    );
    let pages = Path::new("/dev/hugepages");
    if mount("hugetlbfs", pages, "hugetlbfs", secure, None).is_err() {
        let _ = fs::remove_dir(pages);
    }
    let _ = std::os::unix::fs::symlink("/proc/self/fd", "/dev/fd");
    for (number, name) in ["stdin", "stdout", "stderr"].into_iter().enumerate() {
        let _ = std::os::unix::fs::symlink(
            format!("/proc/self/fd/{number}"),
            Path::new("/dev").join(name),
        );
    }
    mount_temporary();
}

/// Unmounts the cgroups: another init may want them otherwise.
pub fn leave_cgroups() {
    let _ = rustix::mount::unmount(CGROUPS, UnmountFlags::DETACH);
}

/// Mounts a fresh `/run`.
pub fn mount_run() -> Result<(), Error> {
    let flags = MountFlags::NOSUID.union(MountFlags::NODEV);
    mount("tmpfs", "/run".as_ref(), "tmpfs", flags, Some(c"mode=0755"))
}

/// Mounts fresh `/tmp` and `/run`.
pub fn mount_temporary() {
    let secure = MountFlags::NOSUID.union(MountFlags::NODEV);
    let _ = mount(
        "tmpfs",
        "/tmp".as_ref(),
        "tmpfs",
        secure,
        Some(c"mode=1777"),
    );
    let _ = mount_run();
}

/// The nodes that programs expect, for a kernel without devtmpfs. The numbers
/// are those of the kernel's `Documentation/admin-guide/devices.txt`.
fn make_device_nodes() {
    for (name, major, minor) in [
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("kmsg", 1, 11),
        ("ttyS0", 4, 64),
        ("tty", 5, 0),
        ("console", 5, 1),
        ("ptmx", 5, 2),
    ] {
        let _ = rustix::fs::mknodat(
            rustix::fs::CWD,
            Path::new("/dev").join(name),
            FileType::CharacterDevice,
            Mode::from_raw_mode(0o666),
            rustix::fs::makedev(major, minor),
        );
    }
}

/// Mounts a share where the plan wants it; makes the mount point.
pub fn mount_share(share: &SharePlan) -> Result<(), Error> {
    let flags = if share.read_only {
        MountFlags::RDONLY
    } else {
        MountFlags::empty()
    };
    mount_virtiofs(&share.tag, Path::new(share.at.as_os_str()), flags)
}

/// Mounts the virtio-fs device with `tag` at `path`.
pub fn mount_virtiofs(tag: &str, path: &Path, flags: MountFlags) -> Result<(), Error> {
    make_mount_point(path)?;
    rustix::mount::mount(tag, path, "virtiofs", flags, None).map_err(|source| match source {
        Errno::NODEV => Error::NoVirtioFs,
        source => Error::Mount {
            what: format!("share {tag}"),
            path: path.to_owned(),
            source,
        },
    })
}

/// Mounts a file system of the kernel's own; makes the mount point.
pub fn mount(
    source: &str,
    path: &Path,
    kind: &str,
    flags: MountFlags,
    options: Option<&CStr>,
) -> Result<(), Error> {
    make_mount_point(path)?;
    rustix::mount::mount(source, path, kind, flags, options).map_err(|source| Error::Mount {
        what: kind.to_owned(),
        path: path.to_owned(),
        source,
    })
}

fn make_mount_point(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(|source| Error::MountPoint {
        path: path.to_owned(),
        source,
    })
}

/// Unmounts every virtio-fs share, the last one mounted first, so that each
/// is told that its guest left. One that is still in use is detached.
pub fn unmount_shares() {
    let mounts = fs::read("/proc/self/mounts").unwrap_or_default();
    for path in virtiofs_mounts(&mounts).into_iter().rev() {
        if path == Path::new("/") {
            continue;
        }
        if rustix::mount::unmount(&path, UnmountFlags::empty()).is_err() {
            let _ = rustix::mount::unmount(&path, UnmountFlags::DETACH);
        }
    }
}

/// The mount points of type virtiofs in the text of `/proc/self/mounts`.
fn virtiofs_mounts(mounts: &[u8]) -> Vec<PathBuf> {
    mounts
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let mut fields = line.split(|byte| *byte == b' ');
            let path = fields.nth(1)?;
            (fields.next()? == b"virtiofs").then(|| unescape(path))
        })
        .collect()
}

/// Undoes the octal escapes of space, tab, newline and backslash.
fn unescape(field: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        let octal = match (byte, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..]) => {
                Some(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'))
            }
            _ => None,
        };
        if octal.is_some() {
            rest = tail.get(3..).unwrap_or_default();
        }
        path.push(octal.unwrap_or(byte));
    }
    PathBuf::from(OsString::from_vec(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_virtiofs_mounts_are_listed_in_their_order() {
        let text = b"proc /proc proc rw 0 0\na /mnt/a virtiofs rw 0 0\nb /mnt/b virtiofs ro 0 0\n";
        assert_eq!(
            virtiofs_mounts(text),
            [PathBuf::from("/mnt/a"), PathBuf::from("/mnt/b")]
        );
    }

    #[test]
    fn escapes_in_mount_points_are_undone() {
        assert_eq!(unescape(br"/mnt/a\040b\134c"), PathBuf::from(r"/mnt/a b\c"));
        assert_eq!(unescape(br"/mnt/a\04"), PathBuf::from(r"/mnt/a\04"));
    }
}
