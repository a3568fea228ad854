//! Mounts the disks that carry what is too large for the lab's memory.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result};
use lab_init::Disk;
use rustix::mount::{MountFlags, mount};

use crate::{delivery, drive};

/// Mounts every disk, in order.
pub(crate) fn mount_all(disks: &[Disk]) -> Result<()> {
    for disk in disks {
        mount_one(disk).with_context(|| format!("cannot mount {}", disk.to.display()))?;
    }
    Ok(())
}

fn mount_one(disk: &Disk) -> Result<()> {
    let to = Path::new(&disk.to);
    fs::create_dir_all(to)?;
    let device = CString::new(drive::find(&disk.serial)?.into_os_string().as_bytes())?;
    // The inode tables are zeros of a sparse file: writing them anew would only
    // make the file large.
    let options = c"noinit_itable";
    mount(device.as_c_str(), to, "ext4", MountFlags::empty(), options)?;
    if !disk.has_lost_found {
        match fs::remove_dir(to.join("lost+found")) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    // Last, because all else changes the directory.
    delivery::apply(&disk.attributes, &File::open(to)?)
}
