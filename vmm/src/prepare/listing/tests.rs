//! Trees and packages as they are left, with and without `depmod`.

use super::*;

const NO_DEPMOD: &str = "/no/depmod";

fn write(top: &Path, path: &str, contents: &[u8]) {
    let path = top.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, contents).unwrap();
}

/// A tree with `virtiofs`, which needs `fuse`, listed as in `order`.
fn tree(order: &[u8]) -> tempfile::TempDir {
    let top = tempfile::tempdir().unwrap();
    write(top.path(), "modules.order", order);
    write(
        top.path(),
        "modules.builtin",
        b"kernel/fs/overlayfs/overlay.ko\n",
    );
    write(
        top.path(),
        "fs/fuse/virtiofs.ko",
        b"\0depends=fuse\0name=virtiofs\0",
    );
    write(top.path(), "fs/fuse/fuse.ko", b"\0depends=\0");
    top
}

fn text<'a>(listing: &'a Listing, name: &str) -> &'a str {
    std::str::from_utf8(&listing.lists[name]).unwrap()
}

#[test]
fn modules_of_a_tree_are_links_into_it() {
    for order in [
        &b"kernel/fs/fuse/fuse.ko\nkernel/fs/fuse/virtiofs.ko\n"[..],
        b"fs/fuse/fuse.ko\nfs/fuse/virtiofs.ko\n",
        b"fs/fuse/fuse.o\nfs/fuse/virtiofs.o\n",
    ] {
        let tree = tree(order);
        let listing = of_tree(tree.path(), "6.1.0").unwrap();
        assert_eq!(listing.root, tree.path().canonicalize().unwrap());
        let link = |name: &str| {
            let place = format!("kernel/fs/fuse/{name}.ko");
            (place, format!("../../../build/fs/fuse/{name}.ko"))
        };
        assert_eq!(listing.links, [link("fuse"), link("virtiofs")]);
        let order = "kernel/fs/fuse/fuse.ko\nkernel/fs/fuse/virtiofs.ko\n";
        assert_eq!(text(&listing, ORDER), order);
        assert!(text(&listing, "modules.builtin").contains("overlay"));
        assert_eq!(listing.notes, [""; 0]);
    }
}

/// What a build leaves that was broken off, or that somebody else wrote.
#[test]
fn lines_that_lead_nowhere_are_left_out_and_told() {
    let tree = tree(
        b"fs/fuse/fuse.o\nfs/fuse/fuse.o\n\nfs/gone.o\n../../etc/passwd\n/etc/passwd\n\xff.o\n",
    );
    let listing = of_tree(tree.path(), "6.1.0").unwrap();
    assert_eq!(listing.links.len(), 1);
    let [note] = listing.notes.as_slice() else {
        panic!("{:?}", listing.notes);
    };
    assert!(note.contains("4 of the modules"), "{note}");
}

#[test]
fn a_package_has_its_modules_where_it_would_install_them() {
    let package = tempfile::tempdir().unwrap();
    for file in [
        "kernel/fs/fuse/fuse.ko.xz",
        "updates/own.ko",
        "loose.ko",
        "vmlinuz",
        "notes.ko.txt",
    ] {
        write(package.path(), file, b"");
    }
    std::os::unix::fs::symlink(".", package.path().join("source")).unwrap();
    let listing = of_directory(package.path(), "6.1.0").unwrap();
    let links: Vec<_> = (listing.links.iter())
        .map(|(link, target)| (link.as_str(), target.as_str()))
        .collect();
    assert_eq!(
        links,
        [
            (
                "kernel/fs/fuse/fuse.ko.xz",
                "../../../files/kernel/fs/fuse/fuse.ko.xz"
            ),
            ("kernel/loose.ko", "../files/loose.ko"),
            ("updates/own.ko", "../files/updates/own.ko"),
        ]
    );
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(
        of_directory(empty.path(), "6.1.0"),
        Err(Error::None(_))
    ));
}

#[test]
fn without_depmod_modules_say_themselves_what_they_need() {
    let tree = tree(b"fs/fuse/fuse.o\nfs/fuse/virtiofs.o\n");
    let modules = ["fs/fuse/fuse.ko", "fs/fuse/virtiofs.ko"].map(|file| Module {
        file: file.to_owned(),
        place: format!("kernel/{file}"),
    });
    for (program, reason) in [
        (NO_DEPMOD, "apt-get install kmod"),
        ("false", "false failed"),
    ] {
        let listing = list(tree.path(), BUILD, &modules, "6.1.0", program.as_ref()).unwrap();
        assert!(listing.notes[0].contains(reason), "{:?}", listing.notes);
        assert_eq!(
            text(&listing, "modules.dep"),
            "kernel/fs/fuse/fuse.ko:\nkernel/fs/fuse/virtiofs.ko: kernel/fs/fuse/fuse.ko\n"
        );
        // And the initramfs gets what they are.
        let order = listing.modules.load_order(&["virtiofs"]).unwrap();
        let names: Vec<_> = order.iter().map(|module| module.name.as_str()).collect();
        assert_eq!(names, ["fuse", "virtiofs"]);
        assert_eq!(order[0].contents, b"\0depends=\0");
    }
}
