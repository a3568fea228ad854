//! The built-in initramfs: our init, a shell, and the modules that the guest
//! needs to reach its shares.

pub(super) mod busybox;
pub(super) mod cpio;
mod elf;
pub(super) mod foreign;
pub(super) mod modules;

use std::collections::BTreeSet;

use guest_init::protocol::{MODULE_ORDER, MODULES};

use busybox::Busybox;
use cpio::{Archive, Error};
use modules::Module;

use super::listing::Listing;

/// The guest's init: a static executable, built by this crate's build script.
pub(crate) const INIT: &[u8] = include_bytes!(env!("VMM_GUEST_INIT"));

/// The directories that the init mounts file systems on, and those that
/// programs expect.
const DIRECTORIES: [(&str, u32); 10] = [
    ("dev", 0o755),
    ("etc", 0o755),
    ("mnt", 0o755),
    ("proc", 0o755),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o755),
    ("tmp", 0o1777),
    ("var", 0o755),
    (MODULES, 0o755),
];

/// Enough for the C library and busybox to know who root is.
const PASSWD: &[u8] =
    b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n";
const GROUP: &[u8] = b"root:x:0:\nnogroup:x:65534:\n";
const HOSTS: &[u8] = b"127.0.0.1 localhost\n::1 localhost\n";

/// The files that are always there, with their modes and contents.
const FILES: [(&str, u32, &[u8]); 4] = [
    ("init", 0o755, INIT),
    ("etc/passwd", 0o644, PASSWD),
    ("etc/group", 0o644, GROUP),
    ("etc/hosts", 0o644, HOSTS),
];
/// Where busybox is; its tools are links to it.
const BUSYBOX: &str = "bin/busybox";

/// The files of the initramfs that stay for the command, as paths without a
/// leading slash.
pub(super) fn files(busybox: Option<&Busybox>) -> Vec<String> {
    let mut files: Vec<String> = FILES.iter().map(|(path, ..)| (*path).to_owned()).collect();
    if let Some(busybox) = busybox {
        files.push(BUSYBOX.to_owned());
        files.extend(busybox.libraries.iter().map(|(path, _)| path.clone()));
        files.extend(busybox.links.iter().cloned());
    }
    files
}

/// Builds the initramfs. `listing` is of modules for a kernel's release.
pub(crate) fn build(
    busybox: Option<&Busybox>,
    modules: &[Module],
    listing: Option<(&Listing, &str)>,
) -> Result<Vec<u8>, Error> {
    let mut archive = Archive::default();
    for (path, mode) in DIRECTORIES {
        archive.directory(path, mode)?;
    }
    // The kernel opens it as the init's standard streams.
    archive.character_device("dev/console", 0o600, (5, 1))?;
    for (path, mode, contents) in FILES {
        archive.file(path, mode, contents)?;
    }
    if let Some(busybox) = busybox {
        add_busybox(&mut archive, busybox)?;
    }
    if let Some((listing, release)) = listing {
        add_listing(&mut archive, listing, release)?;
    }
    let mut order = String::new();
    for module in modules {
        let name = format!("{}.ko", module.name);
        archive.file(&format!("{MODULES}/{name}"), 0o644, &module.contents)?;
        order.push_str(&name);
        order.push('\n');
    }
    archive.file(
        &format!("{MODULES}/{MODULE_ORDER}"),
        0o644,
        order.as_bytes(),
    )?;
    archive.finish()
}

fn add_busybox(archive: &mut Archive, busybox: &Busybox) -> Result<(), Error> {
    let mut directories = BTreeSet::from(["bin"]);
    let libraries = busybox.libraries.iter().map(|(path, _)| path);
    for path in busybox.links.iter().chain(libraries) {
        directories.extend(
            path.match_indices('/')
                .filter_map(|(end, _)| path.get(..end)),
        );
    }
    // In order, so that a parent comes before what is in it.
    for directory in directories {
        archive.directory(directory, 0o755)?;
    }
    archive.file(BUSYBOX, 0o755, &busybox.executable)?;
    for (path, contents) in &busybox.libraries {
        archive.file(path, 0o755, contents)?;
    }
    for link in &busybox.links {
        if link != BUSYBOX {
            archive.symlink(link, "/bin/busybox")?;
        }
    }
    Ok(())
}

/// Adds the lists and links of `listing`, and the place for the share they lead to.
fn add_listing(archive: &mut Archive, listing: &Listing, release: &str) -> Result<(), Error> {
    let top = format!("lib/modules/{release}");
    let links = || listing.links.iter();
    let places = links().map(|(link, _)| format!("{top}/{link}"));
    let places = places.chain([format!("{top}/{}/", listing.mount)]);
    let mut directories = BTreeSet::new();
    for place in places {
        let ends = place.match_indices('/').map(|(end, _)| end);
        directories.extend(ends.filter_map(|end| place.get(..end)).map(str::to_owned));
    }
    // In order, so that a parent comes before what is in it.
    for directory in directories {
        archive.directory(&directory, 0o755)?;
    }
    for (name, contents) in &listing.lists {
        archive.file(&format!("{top}/{name}"), 0o644, contents)?;
    }
    for (link, target) in links() {
        archive.symlink(&format!("{top}/{link}"), target)?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[test]
    fn the_archive_holds_the_init_the_tools_and_the_modules_in_order() {
        let busybox = Busybox {
            executable: b"busybox".to_vec(),
            links: vec!["bin/busybox".into(), "usr/bin/env".into(), "bin/sh".into()],
            libraries: vec![("lib64/ld.so".to_owned(), b"loader".to_vec())],
        };
        let module = |name: &str| Module {
            name: name.into(),
            contents: name.into(),
        };
        let bytes = build(Some(&busybox), &[module("virtio"), module("fuse")], None).unwrap();

        let directory = tempfile::tempdir().unwrap();
        let mut cpio = Command::new("busybox")
            .args(["cpio", "-idm"])
            .current_dir(&directory)
            .stdin(Stdio::piped())
            // Without privilege the console's node cannot be made.
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let _ = cpio.stdin.take().unwrap().write_all(&bytes);
        let _ = cpio.wait();

        let read = |path: &str| std::fs::read(directory.path().join(path)).unwrap();
        assert!(read("init") == INIT);
        assert_eq!(read("modules/order"), b"virtio.ko\nfuse.ko\n");
        assert_eq!(read("modules/fuse.ko"), b"fuse");
        assert_eq!(read("lib64/ld.so"), b"loader");
        assert_eq!(
            std::fs::read_link(directory.path().join("usr/bin/env")).unwrap(),
            std::path::Path::new("/bin/busybox")
        );
    }
}
