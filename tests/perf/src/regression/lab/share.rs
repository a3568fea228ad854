//! What guests find in their share, and the scripts beside it.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::workload::{CROWD, FILES, MODULE};

/// What the lab and its guests run.
const SCRIPTS: [(&str, &str); 5] = [
    ("vmm", include_str!("../../../lab/vmm")),
    ("peer", include_str!("../../../lab/peer")),
    ("resident", include_str!("../../../lab/resident")),
    ("share/clock", include_str!("../../../lab/clock")),
    ("share/work", include_str!("../../../lab/work")),
];
const INIT: &str = include_str!("../../../lab/init");
/// The file that is read, in bytes.
const FILE: u64 = 16 << 20;

/// Makes `share`, the scripts and the initramfs of QEMU's guest in `place`. Of what is used
/// up by seeing it once there are two.
pub(super) fn make(place: &Path, repository: &Path) -> Result<()> {
    let share = place.join("share");
    fs::create_dir(&share)?;
    for (name, text) in SCRIPTS {
        fs::write(place.join(name), text)?;
    }
    // Not a sparse one, which is read in another way.
    fs::write(share.join("file"), vec![1; usize::try_from(FILE)?])?;
    for turn in 1..=2 {
        let directory = |name| share.join(format!("{name}{turn}"));
        let (small, crowd) = (directory("small"), directory("crowd"));
        fs::create_dir(&small)?;
        fs::create_dir(&crowd)?;
        for number in 0..FILES {
            fs::write(small.join(number.to_string()), [b'x'; 4096])?;
        }
        for number in 0..CROWD {
            File::create(crowd.join(number.to_string()))?;
        }
        let module = share.join(format!("module{turn}.ko"));
        let status = Command::new(repository.join("guest-kernel/payload/make-module"))
            .args(["--version", "6.1", &MODULE.to_string()])
            .arg(&module)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .context("cannot run guest-kernel/payload/make-module")?;
        ensure!(status.success(), "no module was made");
    }
    initramfs(place)
}

/// What QEMU's guest boots: busybox, and an init.
fn initramfs(place: &Path) -> Result<()> {
    let busybox = tests::lab::static_busybox()?;
    let busybox = busybox.context("there is no busybox without libraries: run make setup")?;
    let root = place.join("root");
    for directory in ["bin", "dev", "proc", "sys", "mnt"] {
        fs::create_dir_all(root.join(directory))?;
    }
    fs::copy(&busybox, root.join("bin/busybox"))?;
    fs::write(root.join("init"), INIT)?;
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;
    let status = Command::new("sh")
        .args([
            "-c",
            "find . | \"$0\" cpio -o -H newc >../initramfs 2>/dev/null",
        ])
        .arg(&busybox)
        .current_dir(&root)
        .stdin(Stdio::null())
        .status()
        .context("cannot run sh")?;
    ensure!(status.success(), "the initramfs was not made");
    Ok(fs::remove_dir_all(&root)?)
}
