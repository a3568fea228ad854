//! The file systems below a share, fresh and in images of their own.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::mount::UnmountFlags;

/// A file system of the host.
#[derive(Debug)]
pub struct Backend {
    /// What it is called.
    pub name: &'static str,
    /// What it is to the server.
    pub about: &'static str,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// The program that makes it in an image, and its options.
    Image(&'static [&'static str]),
    Memory,
    Overlay,
}

/// All of them.
pub const BACKENDS: &[Backend] = &[
    Backend {
        name: "ext4",
        about: "what most hosts have",
        kind: Kind::Image(&["mkfs.ext4", "-q", "-F"]),
    },
    Backend {
        name: "tmpfs",
        about: "no disk behind it; its inodes' numbers come again",
        kind: Kind::Memory,
    },
    Backend {
        name: "xfs",
        about: "large inode numbers, reflinks",
        kind: Kind::Image(&["mkfs.xfs", "-q", "-f"]),
    },
    Backend {
        name: "btrfs",
        about: "directories of one link, reflinks, checksums",
        kind: Kind::Image(&["mkfs.btrfs", "-q", "-f"]),
    },
    Backend {
        name: "overlay",
        about: "no file handles: inodes are found by name",
        kind: Kind::Overlay,
    },
];

/// A file system that is there until this is dropped.
#[derive(Debug)]
pub struct Mounted {
    /// Where.
    pub at: PathBuf,
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // What a suite left behind may keep it busy.
        if let Err(error) = rustix::mount::unmount(&self.at, UnmountFlags::DETACH) {
            log::warn!("cannot unmount {}: {error}", self.at.display());
        }
    }
}

/// The length of an image.
const SIZE: u64 = 2 << 30;

impl Backend {
    /// The one called `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        BACKENDS.iter().find(|backend| backend.name == name)
    }

    /// Makes one below `place`. To be called in a mount namespace that ends
    /// with the process.
    ///
    /// # Errors
    ///
    /// When the host has no such file system, or no loop device.
    pub fn mount(&self, place: &Path) -> Result<Mounted> {
        let at = place.join(self.name);
        fs::create_dir_all(&at)?;
        match self.kind {
            Kind::Image(make) => {
                let image = place.join(format!("{}.image", self.name));
                File::create(&image)?.set_len(SIZE)?;
                let (program, options) = make.split_first().context("no program")?;
                let options = options.iter().map(OsStr::new);
                command(program, options.chain([image.as_os_str()]))?;
                let arguments = ["-o".as_ref(), "loop".as_ref(), image.as_os_str()];
                command("mount", arguments.into_iter().chain([at.as_os_str()]))?;
            }
            Kind::Memory => {
                let arguments = ["-t", "tmpfs", "-o", "size=2G,mode=0755", "none"];
                let arguments = arguments.iter().map(OsStr::new);
                command("mount", arguments.chain([at.as_os_str()]))?;
            }
            Kind::Overlay => {
                let layers = place.join("layers");
                let mut options = Vec::new();
                for (name, directory) in [("lowerdir", "lower"), ("upperdir", "upper")]
                    .into_iter()
                    .chain([("workdir", "work")])
                {
                    let directory = layers.join(directory);
                    fs::create_dir_all(&directory)?;
                    options.push(format!("{name}={}", directory.display()));
                }
                let options = options.join(",");
                let arguments = ["-t", "overlay", "-o", &options, "none"];
                let arguments = arguments.iter().map(OsStr::new);
                command("mount", arguments.chain([at.as_os_str()]))?;
            }
        }
        Ok(Mounted { at })
    }
}

fn command<'a>(program: &str, arguments: impl Iterator<Item = &'a OsStr>) -> Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    ensure!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
