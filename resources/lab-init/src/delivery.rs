//! Unpacks what the host put on the drive.

use std::fs::{self, File, FileTimes};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{PermissionsExt, fchown};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use lab_init::{Attributes, BUSYBOX, Content, Delivery};

use crate::{drive, tar};

/// Unpacks every delivery, in order.
pub(crate) fn unpack_all(deliveries: &[Delivery]) -> Result<()> {
    if deliveries.is_empty() {
        return Ok(());
    }
    let mut drive = drive::open_for_reading(lab_init::DRIVE_IN)?;
    for delivery in deliveries {
        unpack(delivery, &mut drive)
            .with_context(|| format!("cannot unpack {}", delivery.to.display()))?;
    }
    install_busybox()
}

/// Gives the lab its userland, if it got one: a shell and the usual tools.
fn install_busybox() -> Result<()> {
    if !Path::new(BUSYBOX).exists() {
        return Ok(());
    }
    let status = Command::new(BUSYBOX)
        .args(["--install", "-s", "/bin"])
        .status();
    let status = status.context("cannot run busybox")?;
    if !status.success() {
        bail!("busybox --install: {status}");
    }
    Ok(())
}

fn unpack(delivery: &Delivery, drive: &mut File) -> Result<()> {
    let to = Path::new(&delivery.to);
    drive.seek(SeekFrom::Start(delivery.region.offset))?;
    let mut source = drive.take(delivery.region.length);
    match delivery.content {
        Content::File(attributes) => {
            if let Some(parent) = to.parent() {
                fs::create_dir_all(parent)?;
            }
            let mut file = File::create(to)?;
            let copied = io::copy(&mut source, &mut file)?;
            if copied != delivery.region.length {
                bail!(
                    "the drive ends after {copied} of {} bytes",
                    delivery.region.length
                );
            }
            apply(&attributes, &file)?;
        }
        Content::Tree => {
            fs::create_dir_all(to)?;
            let mut command = tar::command();
            command.args(["--extract", "--preserve-permissions", "--same-owner"]);
            command.arg("--directory").arg(to).stdin(Stdio::piped());
            let mut child = command.spawn().context("cannot run tar")?;
            let mut sink = child.stdin.take().context("tar has no input")?;
            io::copy(&mut source, &mut sink)?;
            drop(sink);
            let status = child.wait()?;
            if !status.success() {
                bail!("tar: {status}; its messages are on the lab's console");
            }
        }
    }
    Ok(())
}

/// Gives `file`, which may be a directory, its attributes.
pub(crate) fn apply(attributes: &Attributes, file: &File) -> Result<()> {
    fchown(file, Some(attributes.uid), Some(attributes.gid))?;
    file.set_permissions(fs::Permissions::from_mode(attributes.mode))?;
    let times = FileTimes::new().set_modified(time(attributes.modified)?);
    Ok(file.set_times(times)?)
}

fn time((seconds, nanoseconds): (i64, u32)) -> Result<SystemTime> {
    let magnitude = Duration::from_secs(seconds.unsigned_abs());
    let whole = if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(magnitude)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(magnitude)
    };
    whole
        .and_then(|time| time.checked_add(Duration::from_nanos(nanoseconds.into())))
        .context("a time out of range")
}
