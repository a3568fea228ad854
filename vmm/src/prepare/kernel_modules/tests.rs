//! Modules that are named, and modules that are found.

use super::*;
use std::fs;

const RELEASE: Option<&str> = Some("6.1.0");

fn write(path: &Path, contents: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, contents).unwrap();
}

fn find(
    named: Option<&Path>,
    beside: Option<&Beside>,
    release: Option<&str>,
) -> Result<Option<KernelModules>, Error> {
    super::find(named, beside, release, &mut Notes::default())
}

/// A build tree with a module.
fn tree() -> tempfile::TempDir {
    let top = tempfile::tempdir().unwrap();
    write(&top.path().join(".config"), "");
    write(&top.path().join("include/config/kernel.release"), "6.1.0\n");
    write(&top.path().join("modules.order"), "m.o\n");
    write(&top.path().join("m.ko"), "\0depends=\0");
    top
}

fn place(found: &KernelModules, others: &[Share]) -> PathBuf {
    let (share, plan) = found.given(others, RELEASE).unwrap().unwrap();
    assert!(share.service.server.read_only);
    assert_eq!((&share.tag, plan.asked), (&plan.tag, found.asked));
    share.at.unwrap()
}

#[test]
fn a_tree_is_one_whether_it_is_named_or_found() {
    let tree = tree();
    let beside = Beside::Tree(tree.path().to_owned());
    for (named, beside) in [(Some(tree.path()), None), (None, Some(&beside))] {
        let found = find(named, beside, RELEASE).unwrap().unwrap();
        assert_eq!(found.asked, named.is_some());
        assert_eq!(place(&found, &[]), Path::new("/lib/modules/6.1.0/build"));
        assert!(found.listing().is_some());
    }
}

#[test]
fn what_nobody_lists_is_listed_and_the_rest_is_as_it_is() {
    let top = tempfile::tempdir().unwrap();
    let package = top.path().join("lib/modules/6.1.0");
    write(&package.join("kernel/fs/m.ko"), "\0depends=\0");
    let beside = Beside::Installed(package.clone());
    let found = find(None, Some(&beside), RELEASE).unwrap().unwrap();
    assert_eq!(place(&found, &[]), Path::new("/lib/modules/6.1.0/files"));
    let found = find(Some(&package.join("kernel/fs")), None, RELEASE)
        .unwrap()
        .unwrap();
    assert_eq!(place(&found, &[]), Path::new("/lib/modules/6.1.0/files"));

    write(&package.join("modules.dep"), "kernel/fs/m.ko:\n");
    for named in [package.as_path(), top.path()] {
        let found = find(Some(named), None, RELEASE).unwrap().unwrap();
        assert_eq!(place(&found, &[]), Path::new("/lib/modules/6.1.0"));
        assert!(found.listing().is_none());
    }
}

#[test]
fn what_nobody_asked_for_is_no_error() {
    let tree = tree();
    let (tree, beside) = (tree.path(), Beside::Tree(tree.path().to_owned()));
    // A release that is no name of a directory.
    for release in [
        None,
        Some("../../etc"),
        Some(".."),
        Some("/etc"),
        Some("a/b"),
    ] {
        assert!(matches!(
            find(Some(tree), None, release),
            Err(Error::NoRelease)
        ));
        assert!(find(None, Some(&beside), release).unwrap().is_none());
    }
    fs::remove_file(tree.join("modules.order")).unwrap();
    let error = find(Some(tree), None, RELEASE).unwrap_err().to_string();
    assert!(error.contains("make modules"), "{error}");
    assert!(find(None, Some(&beside), RELEASE).unwrap().is_none());
    fs::create_dir(tree.join("modules.order")).unwrap();
    assert!(find(Some(tree), None, RELEASE).is_err());
    assert!(find(None, Some(&beside), RELEASE).unwrap().is_none());
    let gone = Beside::Installed(tree.join("gone"));
    assert!(find(None, Some(&gone), RELEASE).unwrap().is_none());
}

#[test]
fn modules_of_another_release_are_told() {
    let tree = tree();
    let (tree, beside) = (tree.path(), Beside::Tree(tree.path().to_owned()));
    let loose = tree.join("loose");
    let installed = tree.join("lib/modules/6.1.0");
    write(&installed.join("modules.dep"), "kernel/m.ko:\n");
    for (built_for, told) in [("6.1.0 SMP mod_unload", 0), ("6.2.0 SMP", 1), ("6.1", 1)] {
        let module = format!("\0depends=\0vermagic={built_for}\0");
        let files = [
            tree.join("m.ko"),
            loose.join("m.ko"),
            installed.join("kernel/m.ko"),
        ];
        for file in files {
            write(&file, &module);
        }
        for (named, beside) in [
            (Some(tree), None),
            (None, Some(&beside)),
            (Some(loose.as_path()), None),
            (Some(installed.as_path()), None),
        ] {
            let mut notes = Notes::default();
            super::find(named, beside, RELEASE, &mut notes).unwrap();
            let lines = notes.list();
            let of_release = lines.iter().filter(|line| line.contains("built for 6."));
            assert_eq!(of_release.count(), told, "{built_for} {named:?}: {lines:?}");
        }
    }
}

#[test]
fn a_share_of_the_users_takes_the_place_of_modules_that_were_found() {
    let tree = tree();
    let beside = Beside::Tree(tree.path().to_owned());
    let named = find(Some(tree.path()), None, RELEASE).unwrap().unwrap();
    let found = find(None, Some(&beside), RELEASE).unwrap().unwrap();
    let share = |at: &str| Share {
        tag: "modules".into(),
        directory: tree.path().to_owned(),
        at: Some(at.into()),
        service: Service::default(),
        maps: IdMaps::default(),
    };
    for at in [
        "/lib",
        "/lib/modules",
        "/lib/modules/6.1.0",
        "/lib/modules/6.1.0/x",
    ] {
        let error = named.given(&[share(at)], RELEASE).unwrap_err().to_string();
        assert!(error.contains("leave --modules out"), "{error}");
        assert!(found.given(&[share(at)], RELEASE).unwrap().is_none());
    }
    for at in ["/", "/lib/modules/6.1.0-other", "/mnt"] {
        let (share, _) = named.given(&[share(at)], RELEASE).unwrap().unwrap();
        assert_eq!(share.tag, "modules+");
    }
}
