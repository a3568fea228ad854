//! The lab's file systems: those of the kernel, and the memory that holds its
//! files. Called by `main` before and after the plan is known.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use anyhow::{Context, Result};
use lab_init::TOOLS_PATH;
use rustix::mount::{MountFlags, mount, mount_move};

/// Where the new root is put together.
const NEW_ROOT: &str = "/root";

/// Mounts `/proc`, `/sys` and `/dev` below `root`.
pub(crate) fn mount_kernel_file_systems(root: &str) -> Result<()> {
    mount_at("proc", &format!("{root}/proc"), "")?;
    mount_at("sysfs", &format!("{root}/sys"), "")?;
    mount_at("devtmpfs", &format!("{root}/dev"), "mode=755")
}

/// Leaves the initramfs for a tmpfs that may take `percent` of the memory.
///
/// A change of the root proper and not a mere chroot: in a chroot the kernel
/// refuses user namespaces, which a sandboxed `vmm` wants.
pub(crate) fn enter_new_root(percent: u8) -> Result<()> {
    mount_at("tmpfs", NEW_ROOT, &format!("mode=755,size={percent}%"))?;
    mount_kernel_file_systems(NEW_ROOT)?;
    mount_at(
        "devpts",
        &format!("{NEW_ROOT}/dev/pts"),
        "mode=620,ptmxmode=666",
    )?;
    mount_at("tmpfs", &format!("{NEW_ROOT}/dev/shm"), "mode=1777")?;
    // Part of /sys wherever there is user space; its absence stops nobody.
    let _ = mount_at("tracefs", &format!("{NEW_ROOT}/sys/kernel/tracing"), "");
    for (link, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        symlink(target, format!("{NEW_ROOT}/dev/{link}")).context("cannot fill /dev")?;
    }
    for directory in ["tmp", "var/tmp", "run", "root", "etc"] {
        let path = format!("{NEW_ROOT}/{directory}");
        fs::create_dir_all(&path).with_context(|| format!("cannot create {path}"))?;
        if directory.ends_with("tmp") {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o1777))?;
        }
    }
    fs::write(format!("{NEW_ROOT}/etc/passwd"), PASSWD)?;
    fs::write(format!("{NEW_ROOT}/etc/group"), GROUP)?;
    copy_tools()?;
    rustix::process::chdir(NEW_ROOT).context("cannot enter the new root")?;
    mount_move(".", "/").context("cannot move the new root into place")?;
    rustix::process::chroot(".").context("cannot change the root")?;
    rustix::process::chdir("/").context("cannot enter the new root")
}

/// The accounts that test suites expect to find.
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/:/bin/false
nobody:x:65534:65534:nobody:/:/bin/false
";
const GROUP: &str = "root:x:0:
daemon:x:1:
tty:x:5:
nogroup:x:65534:
";

fn copy_tools() -> Result<()> {
    let copy = || -> std::io::Result<()> {
        let mut pending = vec![TOOLS_PATH.to_owned()];
        while let Some(directory) = pending.pop() {
            fs::create_dir_all(format!("{NEW_ROOT}{directory}"))?;
            for entry in fs::read_dir(&directory)? {
                let path = format!("{directory}/{}", entry?.file_name().display());
                if fs::metadata(&path)?.is_dir() {
                    pending.push(path);
                } else {
                    fs::copy(&path, format!("{NEW_ROOT}{path}"))?;
                }
            }
        }
        Ok(())
    };
    copy().with_context(|| format!("cannot copy {TOOLS_PATH}"))
}

fn mount_at(kind: &str, path: &str, data: &str) -> Result<()> {
    let data = std::ffi::CString::new(data)?;
    let mounted = fs::create_dir_all(path).and_then(|()| {
        Ok(mount(
            kind,
            path,
            kind,
            MountFlags::empty(),
            data.as_c_str(),
        )?)
    });
    mounted.with_context(|| format!("cannot mount {kind} on {path}"))
}
