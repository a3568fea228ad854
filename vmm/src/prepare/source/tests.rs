//! Directories as builds and packages leave them.

use super::*;

const CONFIGURED: [&str; 2] = [".config", "include/config/kernel.release"];

/// A directory with these files.
fn directory(files: &[&str]) -> tempfile::TempDir {
    let top = tempfile::tempdir().unwrap();
    for file in files {
        let path = top.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    top
}

fn in_directory(directory: &Path) -> Result<Source, Error> {
    find(Some(directory), None)
}

#[test]
fn a_build_tree_has_its_kernel_and_modules() {
    let tree = directory(&[&CONFIGURED[..], &BUILT].concat());
    let tree = tree.path();
    let modules = Some(Beside::Tree(tree.to_owned()));
    for built in BUILT {
        let image = tree.join(built);
        let found = in_directory(tree).unwrap();
        assert_eq!((&found.image, &found.modules), (&image, &modules));
        // Who names a file has not named its tree.
        let found = find(Some(&image), None).unwrap();
        assert_eq!((&found.image, &found.modules), (&image, &None));
        fs::remove_file(image).unwrap();
    }
    let error = in_directory(tree).unwrap_err();
    assert!(matches!(error, Error::NotBuilt(_)), "{error}");
}

#[test]
fn a_directory_may_have_nothing_but_a_kernel() {
    for name in ["bzImage", "vmlinux", "vmlinuz"] {
        let copy = directory(&[name]);
        let source = Source {
            image: copy.path().join(name),
            modules: None,
        };
        assert_eq!(in_directory(copy.path()).unwrap(), source);
    }
    let made = directory(&["bzImage", "vmlinux", "kernelrelease", "modules/dummy.ko"]);
    let found = in_directory(made.path()).unwrap();
    assert_eq!(found.image, made.path().join("bzImage"));
    let modules = made.path().join("modules");
    assert_eq!(found.modules, Some(Beside::Loose(modules)));
}

#[test]
fn what_was_built_may_be_all_that_was_kept_of_a_tree() {
    let [packed, plain] = BUILT;
    for kept in [&[packed][..], &[packed, plain, "modules.order"]] {
        let kept = directory(kept);
        let source = Source {
            image: kept.path().join(packed),
            modules: Some(Beside::Tree(kept.path().to_owned())),
        };
        assert_eq!(in_directory(kept.path()).unwrap(), source);
    }
}

#[test]
fn a_source_tree_is_built_elsewhere_or_not_yet() {
    let source = directory(&["Kbuild", "MAINTAINERS"]);
    let output = directory(&[&CONFIGURED[..], &BUILT[..1]].concat());
    let variable = Some(output.path().as_os_str());
    let found = find(Some(source.path()), variable).unwrap();
    assert_eq!(found.modules, Some(Beside::Tree(output.path().to_owned())));
    for nowhere in [None, Some(OsStr::new(""))] {
        let error = find(Some(source.path()), nowhere).unwrap_err();
        assert!(matches!(error, Error::NotBuilt(_)), "{error}");
    }
    // What the variable names is for trees of a kernel's sources.
    let other = directory(&[]);
    let error = find(Some(other.path()), variable).unwrap_err();
    assert!(matches!(error, Error::NoKernel { .. }), "{error}");
}

#[test]
fn an_unpacked_package_has_its_kernel_and_modules() {
    let debian = directory(&[
        "boot/vmlinuz-6.1.0-1",
        "boot/System.map-6.1.0-1",
        "usr/lib/modules/6.1.0-1/modules.order",
    ]);
    let found = in_directory(debian.path()).unwrap();
    assert_eq!(found.image, debian.path().join("boot/vmlinuz-6.1.0-1"));
    let modules = debian.path().join("usr/lib/modules/6.1.0-1");
    assert_eq!(found.modules, Some(Beside::Installed(modules)));
    let found = in_directory(&debian.path().join("boot")).unwrap();
    assert_eq!(found.modules, None);

    for (empty, full) in [(0, 1), (1, 0)] {
        let full = format!("{}/6.9.1.fc40/vmlinuz", MODULES[full]);
        let fedora = directory(&[&full, &format!("{}/6.9.1.fc40/build", MODULES[empty])]);
        let found = in_directory(fedora.path()).unwrap();
        assert_eq!(found.image, fedora.path().join(&full));
        let modules = found.image.parent().unwrap().to_owned();
        assert_eq!(found.modules, Some(Beside::Installed(modules.clone())));
        fs::write(modules.join("modules.order"), "").unwrap();
        let found = in_directory(&modules).unwrap();
        assert_eq!(found.modules, Some(Beside::Installed(modules)));
    }
    let merged = directory(&["usr/lib/modules/6.9.1.fc40/vmlinuz"]);
    std::os::unix::fs::symlink("usr/lib", merged.path().join("lib")).unwrap();
    assert!(in_directory(merged.path()).is_ok());
}

#[test]
fn several_kernels_are_named() {
    let both = directory(&["boot/vmlinuz-2", "boot/vmlinuz-1"]);
    let error = in_directory(both.path()).unwrap_err().to_string();
    let (one, two) = (error.find("vmlinuz-1"), error.find("vmlinuz-2"));
    assert!(one.is_some() && one < two, "{error}");
}
