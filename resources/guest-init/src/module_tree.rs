//! Kernel modules where `modprobe` looks for them.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::MountFlags;

use crate::mounts::{self, Error as MountError};
use crate::protocol::{ModulesPlan, RootPlan};

/// Where all kernels have theirs.
const ALL: &str = "/lib/modules";

/// Why there are no modules.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A mount failed.
    #[error("cannot mount the kernel's modules")]
    Mount(#[from] MountError),
    /// The root is written on the host, and has no place for them.
    #[error("the root file system has no {ALL} for the kernel's modules: make it, or leave rw out")]
    NoPlace,
    /// The place cannot be made.
    #[error("cannot make {}", path.display())]
    Place {
        /// The place.
        path: PathBuf,
        /// What the guest's kernel said.
        source: io::Error,
    },
    /// The initramfs does not have their lists, or these cannot be mounted.
    #[error("cannot use the lists of modules of the initramfs")]
    Lists(#[source] io::Error),
}

/// Modules of which the initramfs may have a part.
#[derive(Debug)]
pub struct ModuleTree<'p> {
    plan: &'p ModulesPlan,
    place: PathBuf,
    /// The directory with their lists, open, so that a change of the root does not
    /// hide it.
    lists: Option<File>,
}

impl<'p> ModuleTree<'p> {
    /// To be called in the initramfs.
    pub fn prepare(plan: &'p ModulesPlan) -> Result<Self, Error> {
        let place = Path::new(ALL).join(&plan.release);
        let lists = plan.below.as_ref().map(|_| File::open(&place));
        Ok(Self {
            plan,
            lists: lists.transpose().map_err(Error::Lists)?,
            place,
        })
    }

    /// Makes them visible below the `root` that has taken the initramfs's place, if one
    /// has. Nothing of it changes on the host.
    pub fn attach(&self, root: Option<&RootPlan>) -> Result<(), Error> {
        let read_only = MountFlags::RDONLY;
        let Some(below) = &self.plan.below else {
            self.make_place(root)?;
            return Ok(mounts::mount_virtiofs(
                &self.plan.tag,
                &self.place,
                read_only,
            )?);
        };
        if let (Some(lists), Some(_)) = (&self.lists, root) {
            self.make_place(root)?;
            self.bind(lists).map_err(Error::Lists)?;
        }
        let share = self.place.join(below);
        Ok(mounts::mount_virtiofs(&self.plan.tag, &share, read_only)?)
    }

    /// The directory to mount on. A root that is written on the host gets none: there
    /// the guest has a file system of its own in place of the directory of all
    /// kernels' modules.
    fn make_place(&self, root: Option<&RootPlan>) -> Result<(), Error> {
        if self.place.is_dir() {
            return Ok(());
        }
        let make = || {
            std::fs::create_dir_all(&self.place).map_err(|source| Error::Place {
                path: self.place.clone(),
                source,
            })
        };
        let written_on_host = root.is_some_and(|root| !root.read_only);
        if !written_on_host {
            match make() {
                // A root without an overlay.
                Err(_) if Path::new(ALL).is_dir() => {}
                made => return made,
            }
        }
        if !Path::new(ALL).is_dir() {
            return Err(Error::NoPlace);
        }
        let flags = MountFlags::NOSUID.union(MountFlags::NODEV);
        mounts::mount("tmpfs", ALL.as_ref(), "tmpfs", flags, Some(c"mode=0755"))?;
        make()
    }

    /// Mounts the directory with the lists at its place. It is out of reach by now but
    /// for who stands in it.
    fn bind(&self, lists: &File) -> io::Result<()> {
        rustix::process::fchdir(lists)?;
        let bound = rustix::mount::mount_bind(".", &self.place);
        rustix::process::chdir("/")?;
        Ok(bound?)
    }
}
