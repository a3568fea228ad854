//! What goes into a lab: on a disk of its own, or on the drive whose contents
//! are unpacked into memory.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use lab_init::{BUSYBOX, Delivery, TOOLS_PATH};

use super::disk::{self, Size};
use super::drive::DriveIn;
use super::{Order, libraries, static_busybox};

/// Pairs of a host's path and the lab's.
type Paths = Vec<(PathBuf, PathBuf)>;

impl Order {
    /// What goes in on a disk, and what on the drive that is unpacked. What is
    /// inside a directory with a disk is there already.
    pub(super) fn sort_inputs(&self) -> Result<(Paths, Paths)> {
        let mut disks = self.disks.clone();
        let mut others = Paths::new();
        for (host, lab) in &self.inputs {
            // A mount there would hide what the lab itself needs.
            let mountable = !Path::new(TOOLS_PATH).starts_with(lab);
            let large = mountable
                && host.is_dir()
                && Size::of(host)
                    .with_context(|| format!("cannot look through {}", host.display()))?
                    .bytes
                    > disk::LARGE;
            let pair = (host.clone(), lab.clone());
            if large { &mut disks } else { &mut others }.push(pair);
        }
        // The outer directory first: what is mounted later is seen.
        disks.sort_by_key(|(_, lab)| lab.components().count());
        let mut outer = Paths::new();
        for disk in disks {
            if !is_inside(&disk, &outer) {
                outer.push(disk);
            }
        }
        others.retain(|input| !is_inside(input, &outer));
        Ok((outer, others))
    }

    /// Everything else that goes in, on its drive.
    pub(super) fn pack(&self, inputs: &Paths) -> Result<(File, Vec<Delivery>, u64)> {
        let mut drive = DriveIn::new()?;
        match static_busybox()? {
            Some(busybox) => drive.add(&busybox, Path::new(BUSYBOX))?,
            None => eprintln!("lab: no shell in the lab; try apt-get install busybox-static"),
        }
        for (host, lab) in inputs {
            drive.add(host, lab)?;
        }
        for program in &self.programs {
            drive.add(program, program)?;
            for library in libraries::of(program)? {
                drive.add(&library, &library)?;
            }
        }
        let size = drive.size();
        let (file, deliveries) = drive.finish()?;
        Ok((file, deliveries, size))
    }
}

/// Whether one of `disks` brings `input` to where it belongs.
fn is_inside((host, lab): &(PathBuf, PathBuf), disks: &Paths) -> bool {
    disks.iter().any(|(disk_host, disk_lab)| {
        match (host.strip_prefix(disk_host), lab.strip_prefix(disk_lab)) {
            (Ok(from), Ok(to)) => from == to,
            _ => false,
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn pair(path: &Path) -> (PathBuf, PathBuf) {
        (path.to_owned(), path.to_owned())
    }

    #[test]
    fn a_large_directory_gets_a_disk_and_what_is_in_it_none() {
        let small = tempfile::tempdir().unwrap();
        let large = tempfile::tempdir().unwrap();
        let inner = large.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        let file = std::fs::File::create(inner.join("file")).unwrap();
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 257 << 20).unwrap();
        let mut order = Order::new(Vec::new());
        order.inputs = vec![
            pair(&inner),
            pair(&inner.join("file")),
            pair(small.path()),
            pair(large.path()),
        ];
        let (disks, others) = order.sort_inputs().unwrap();
        assert_eq!(disks, [pair(large.path())]);
        assert_eq!(others, [pair(small.path())]);
        order.disks = vec![pair(small.path())];
        order.inputs = vec![(inner.clone(), PathBuf::from("/elsewhere"))];
        let (disks, others) = order.sort_inputs().unwrap();
        assert_eq!(disks.len(), 2);
        assert_eq!(others, []);
    }
}
