//! The mount point, in a mount namespace of its own: nothing is left of it
//! when the process is killed.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::thread::UnshareFlags;

const DEVICE: &str = "/dev/fuse";

/// How long what is still busy may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// A mounted file system. It goes with the process at the latest.
#[derive(Debug)]
pub struct Mount {
    at: PathBuf,
}

/// Opens the device through which the kernel sends its requests.
///
/// # Errors
///
/// When this host has none, or not for this user.
pub fn open_device() -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(DEVICE)
        .with_context(|| {
            format!("cannot open {DEVICE}: a native mount needs FUSE in this host's kernel, and the right to use it")
        })
}

/// Gives this process mounts of its own. To be called before there are
/// threads.
///
/// # Errors
///
/// When the host does not let it.
pub fn go_private() -> Result<()> {
    // SAFETY: mounts are all that is parted from what the parent has, and no
    // memory or descriptor depends on them.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }.context(
        "cannot have mounts of our own: run this as root, or under unshare --map-root-user",
    )?;
    rustix::mount::mount_change(
        "/",
        MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
    )
    .context("cannot keep mounts from the rest of the host")
}

/// Mounts what `device` serves at `at`, with the options that virtiofs sets.
///
/// # Errors
///
/// When the host does not let it, or the mount point is not there.
pub fn mount(device: &File, at: &Path) -> Result<Mount> {
    let options = CString::new(format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other",
        device.as_raw_fd()
    ))?;
    let none = MountFlags::empty();
    rustix::mount::mount("vmm", at, "fuse.vmm", none, Some(options.as_c_str()))
        .with_context(|| format!("cannot mount at {}", at.display()))?;
    Ok(Mount { at: at.to_owned() })
}

impl Mount {
    /// Unmounts, after all that was written is with the server.
    ///
    /// # Errors
    ///
    /// When something keeps it busy.
    pub fn unmount(self) -> Result<()> {
        let begun = Instant::now();
        loop {
            match rustix::mount::unmount(&self.at, UnmountFlags::NOFOLLOW) {
                Ok(()) => return Ok(()),
                // The last files of a process that has just ended.
                Err(Errno::BUSY) if begun.elapsed() < PATIENCE => {
                    thread::sleep(Duration::from_millis(10));
                }
                Err(Errno::BUSY) => bail!(
                    "{} is still in use: COMMAND left something behind that has files open there",
                    self.at.display()
                ),
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("cannot unmount {}", self.at.display()));
                }
            }
        }
    }
}
