//! Directories of modules as distributions, builds and packages leave them.

use super::*;
use std::io::Write;

/// A `/lib/modules/RELEASE` with the modules of virtiofs, whose contents are
/// their `.modinfo`.
fn tree(release: &Path) {
    let file = |path: &str, contents: &[u8]| {
        let path = release.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    };
    file(
        "kernel/fs/fuse/virtiofs.ko",
        b"license=GPL\0depends=fuse,virtio,virtio_ring\0name=virtiofs\0",
    );
    file("kernel/fs/fuse/fuse.ko", b"license=GPL\0depends=\0");
    file("kernel/drivers/virtio/virtio.ko", b"depends=\0");
    file("kernel/drivers/virtio/virtio_ring.ko", b"depends=virtio\0");
    file(
        "kernel/drivers/virtio/virtio-mmio.ko",
        b"depends=virtio_ring,virtio\0",
    );
    file("modules.builtin", b"kernel/fs/overlayfs/overlay.ko\n");
}

fn names(modules: &[Module]) -> Vec<&str> {
    modules.iter().map(|module| module.name.as_str()).collect()
}

#[test]
fn without_modules_dep_the_modules_say_what_they_need() {
    let top = tempfile::tempdir().unwrap();
    tree(top.path());
    let modules = Modules::find(Some(top.path()), None).unwrap().unwrap();
    let order = modules.load_order(&["virtio_mmio", "virtiofs"]).unwrap();
    assert_eq!(
        names(&order),
        ["virtio", "virtio_ring", "virtio_mmio", "fuse", "virtiofs"]
    );
}

#[test]
fn modules_dep_is_read_from_its_end() {
    let top = tempfile::tempdir().unwrap();
    tree(top.path());
    fs::write(
        top.path().join("modules.dep"),
        "kernel/fs/fuse/virtiofs.ko: kernel/fs/fuse/fuse.ko kernel/drivers/virtio/virtio_ring.ko \
         kernel/drivers/virtio/virtio.ko\nkernel/fs/fuse/fuse.ko:\n\
         kernel/drivers/virtio/virtio.ko:\n\
         kernel/drivers/virtio/virtio_ring.ko: kernel/drivers/virtio/virtio.ko\n",
    )
    .unwrap();
    let modules = Modules::find(Some(top.path()), None).unwrap().unwrap();
    let order = modules.load_order(&["virtiofs"]).unwrap();
    assert_eq!(names(&order), ["virtio", "virtio_ring", "fuse", "virtiofs"]);
}

#[test]
fn built_in_and_absent_are_told_apart() {
    let top = tempfile::tempdir().unwrap();
    tree(top.path());
    let modules = Modules::find(Some(top.path()), None).unwrap().unwrap();
    assert_eq!(modules.presence("overlay"), Presence::BuiltIn);
    assert_eq!(modules.presence("virtio_mmio"), Presence::File);
    assert_eq!(modules.presence("btrfs"), Presence::Absent);
    assert!(modules.load_order(&["overlay"]).unwrap().is_empty());
}

#[test]
fn the_parent_directory_and_an_install_path_lead_to_the_release() {
    let top = tempfile::tempdir().unwrap();
    tree(&top.path().join("lib/modules/6.1.0"));
    for named in [top.path().to_owned(), top.path().join("lib/modules")] {
        let modules = Modules::find(Some(&named), Some("6.1.0")).unwrap().unwrap();
        assert!(modules.directory().ends_with("lib/modules/6.1.0"));
    }
}

#[test]
fn a_directory_without_modules_is_an_error_and_an_uninstalled_release_is_not() {
    let top = tempfile::tempdir().unwrap();
    let error = Modules::find(Some(top.path()), Some("6.1.0")).unwrap_err();
    assert!(error.to_string().contains("for 6.1.0"), "{error}");
    assert!(Modules::find(None, Some("0.0.0")).unwrap().is_none());
    assert!(Modules::find(None, None).unwrap().is_none());
}

#[test]
fn a_dependency_that_is_missing_is_named() {
    let top = tempfile::tempdir().unwrap();
    tree(top.path());
    fs::remove_file(top.path().join("kernel/fs/fuse/fuse.ko")).unwrap();
    let modules = Modules::find(Some(top.path()), None).unwrap().unwrap();
    let error = modules.load_order(&["virtiofs"]).unwrap_err();
    assert!(error.to_string().contains("virtiofs needs fuse"), "{error}");
}

#[test]
fn compressed_modules_are_unpacked() {
    let top = tempfile::tempdir().unwrap();
    let contents = b"depends=\0some module".repeat(1000);
    let gzip = top.path().join("a.ko.gz");
    let mut encoder = flate2::write::GzEncoder::new(
        fs::File::create(&gzip).unwrap(),
        flate2::Compression::fast(),
    );
    encoder.write_all(&contents).unwrap();
    encoder.finish().unwrap();
    assert_eq!(read_module(&gzip).unwrap(), contents);

    let xz = top.path().join("b.ko");
    fs::write(&xz, &contents).unwrap();
    assert!(Command::new("xz").arg(&xz).status().unwrap().success());
    assert_eq!(read_module(&top.path().join("b.ko.xz")).unwrap(), contents);
}

#[test]
fn a_damaged_compressed_module_is_an_error() {
    let top = tempfile::tempdir().unwrap();
    let path = top.path().join("a.ko.xz");
    fs::write(&path, "not xz").unwrap();
    assert!(matches!(read_module(&path), Err(Error::Unpack { .. })));
}
