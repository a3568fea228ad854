//! Finds the lab's virtio-blk drives by the serial number QEMU gave them.

use std::fs::{self, File, OpenOptions};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Opens the drive that brings files in.
pub(crate) fn open_for_reading(serial: &str) -> Result<File> {
    let path = find(serial)?;
    File::open(&path).with_context(|| format!("cannot open {}", path.display()))
}

/// Opens the drive that takes files out.
pub(crate) fn open_for_writing(serial: &str) -> Result<File> {
    let path = find(serial)?;
    let file = OpenOptions::new().write(true).open(&path);
    file.with_context(|| format!("cannot open {}", path.display()))
}

/// The block device of that serial number.
pub(crate) fn find(serial: &str) -> Result<PathBuf> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        for disk in fs::read_dir("/sys/block").context("cannot list the drives")? {
            let disk = disk?;
            let found = fs::read_to_string(disk.path().join("serial")).unwrap_or_default();
            let path = PathBuf::from("/dev").join(disk.file_name());
            if found.trim_end() == serial && path.exists() {
                return Ok(path);
            }
        }
        if Instant::now() > deadline {
            bail!("the drive {serial} did not appear");
        }
        thread::sleep(Duration::from_millis(5));
    }
}
