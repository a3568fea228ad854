//! Replaces the initramfs by a root file system from the host.

use std::ffi::CString;
use std::io;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::MountFlags;

use crate::mounts::{self, Error as MountError};
use crate::protocol::RootPlan;

/// Where the share itself is mounted while the new root is put together.
const LOWER: &str = "/root-share";
/// Where the new root is put together.
const NEW: &str = "/new-root";
/// The tmpfs that takes the guest's changes.
const CHANGES: &str = "/root-changes";

/// Why the root could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A mount failed.
    #[error("cannot mount the root file system")]
    Mount(#[from] MountError),
    /// The overlay's directories cannot be made.
    #[error("cannot make the overlay's directories")]
    Overlay(#[source] io::Error),
    /// The new root cannot take the place of the old one.
    #[error("cannot enter the root file system")]
    Enter(#[source] Errno),
}

/// Mounts the root of `plan` and makes it this process's root.
///
/// A read-only share gets a tmpfs overlay, so that the guest can write and the
/// host sees nothing of it. Where the kernel has no overlay file system the
/// root is read-only for the guest as well.
pub fn change(plan: &RootPlan) -> Result<(), Error> {
    let (new, lower) = (Path::new(NEW), Path::new(LOWER));
    if plan.read_only {
        mounts::mount_virtiofs(&plan.tag, lower, MountFlags::RDONLY)?;
        if let Err(error) = mount_overlay(plan.overlay_bytes) {
            eprintln!("guest-init: {error}: the root file system is read-only");
            mounts::mount_virtiofs(&plan.tag, new, MountFlags::RDONLY)?;
        }
    } else {
        mounts::mount_virtiofs(&plan.tag, new, MountFlags::empty())?;
    }
    for (from, name) in [("/proc", "proc"), ("/sys", "sys"), ("/dev", "dev")] {
        let to = new.join(name);
        let _ = std::fs::create_dir(&to);
        // A tree without these directories still runs static programs.
        let _ = rustix::mount::mount_move(from, &to);
    }
    enter(new).map_err(Error::Enter)?;
    if plan.read_only {
        mounts::mount_temporary();
    }
    Ok(())
}

/// The options of the tmpfs below the overlay.
fn overlay_options(bytes: Option<u64>) -> CString {
    let size = bytes.map(|bytes| format!(",size={bytes}"));
    // There is no NUL in it.
    CString::new(format!("mode=0755{}", size.unwrap_or_default())).unwrap_or_default()
}

fn mount_overlay(bytes: Option<u64>) -> Result<(), Error> {
    let changes = Path::new(CHANGES);
    let options = overlay_options(bytes);
    let flags = MountFlags::empty();
    mounts::mount("tmpfs", changes, "tmpfs", flags, Some(&options))?;
    for name in ["upper", "work"] {
        std::fs::create_dir(changes.join(name)).map_err(Error::Overlay)?;
    }
    mounts::mount(
        "root",
        Path::new(NEW),
        "overlay",
        MountFlags::empty(),
        Some(c"lowerdir=/root-share,upperdir=/root-changes/upper,workdir=/root-changes/work"),
    )?;
    Ok(())
}

/// What `switch_root(8)` does: `pivot_root(2)` refuses to leave an initramfs.
fn enter(new: &Path) -> Result<(), Errno> {
    rustix::process::chdir(new)?;
    rustix::mount::mount_move(".", "/")?;
    rustix::process::chroot(".")?;
    rustix::process::chdir("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_has_the_size_of_the_plan() {
        assert_eq!(overlay_options(None).as_c_str(), c"mode=0755");
        let options = overlay_options(Some(1 << 20));
        assert_eq!(options.as_c_str(), c"mode=0755,size=1048576");
    }
}
