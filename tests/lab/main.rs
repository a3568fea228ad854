//! The lab itself: what goes in, what comes back.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use rustix::fs::{FallocateFlags, XattrFlags, fallocate, getxattr, setxattr};

/// How often a lab may be lost, which has nothing to do with what is tested.
const TRIES: u32 = 3;
/// The status of a lab that was lost.
const LOST: i32 = 125;

/// Runs `script` in a lab. What it changes is changed once: a lab that was lost
/// brings nothing back.
fn lab(options: &[&str], script: &str) -> Output {
    for _ in 1..TRIES {
        let output = try_lab(options, script);
        if output.status.code() != Some(LOST) {
            return output;
        }
        eprintln!("the lab failed, not the test: {output:?}");
    }
    try_lab(options, script)
}

fn try_lab(options: &[&str], script: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lab"))
        .arg("exec")
        .args(options)
        .args(["--", "/bin/sh", "-exc", script])
        .output()
        .expect("the lab starts")
}

fn succeed(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

#[test]
fn a_directory_on_a_disk_is_ext4_and_comes_back_as_far_as_it_is_asked_for() {
    let writable = tempfile::tempdir().expect("a directory");
    let kept = tempfile::tempdir().expect("a directory");
    let path = |name: &str| writable.path().join(name);
    for name in ["same", "changed", "gone", "attributes"] {
        fs::write(path(name), name).expect("a file");
    }
    fs::hard_link(path("changed"), path("other-name")).expect("a link");
    let exact = SystemTime::UNIX_EPOCH + Duration::new(1_600_000_000, 123_456_789);
    let same = File::options()
        .write(true)
        .open(path("same"))
        .expect("a file");
    same.set_modified(exact).expect("a time");
    setxattr(path("same"), "user.name", b"value", XattrFlags::empty()).expect("an attribute");
    fs::set_permissions(writable.path(), fs::Permissions::from_mode(0o2751)).expect("a mode");
    fs::write(kept.path().join("file"), "before").expect("a file");

    let (inside, outside) = (text(writable.path()), text(kept.path()));
    let output = lab(
        &["--drive", inside, "--out", inside, "--drive", outside],
        &format!(
            "grep -c -E '^[^ ]+ ({inside}|{outside}) ext4 rw' /proc/mounts
             cd {inside}; ls -A; stat -c %a .; stat -c '%a %Y' same
             echo more >> changed; cat other-name; rm gone; chmod 600 attributes
             mkdir new; echo new > new/file; echo after > {outside}/file"
        ),
    );
    assert_eq!(
        succeed(&output),
        "2\nattributes\nchanged\ngone\nother-name\nsame\n2751\n644 1600000000\nchangedmore\n"
    );
    let read = |name: &str| fs::read_to_string(path(name)).unwrap_or_default();
    assert_eq!(read("changed"), "changedmore\n");
    assert_eq!(read("other-name"), "changedmore\n");
    assert_eq!(read("new/file"), "new\n");
    assert!(!path("gone").exists());
    assert_eq!(mode(&path("attributes")), 0o600);
    assert_eq!(mode(writable.path()), 0o2751);
    // What nobody touched was not written anew: the disk has no nanoseconds.
    let same = fs::metadata(path("same")).expect("a file");
    assert_eq!(same.modified().expect("a time"), exact);
    let mut value = [0; 16];
    let length = getxattr(path("same"), "user.name", &mut value).expect("an attribute");
    assert_eq!(&value[..length], b"value");
    let names = fs::read_dir(writable.path()).expect("a directory").count();
    assert_eq!(names, 5, "something else came back");
    let unasked = fs::read_to_string(kept.path().join("file"));
    assert_eq!(unasked.expect("a file"), "before");
}

#[test]
fn a_directory_larger_than_the_labs_memory_goes_in_and_its_changes_come_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = File::create(directory.path().join("large")).expect("a file");
    fallocate(&file, FallocateFlags::empty(), 0, 2 << 30).expect("2 GiB of disk");
    let path = text(directory.path());
    let output = lab(
        &["--memory", "768", "--out", path],
        &format!("cd {path}; stat -c %s large; echo small > added"),
    );
    assert_eq!(succeed(&output), "2147483648\n");
    let added = fs::read_to_string(directory.path().join("added"));
    assert_eq!(added.expect("a file"), "small\n");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a file").mode() & 0o7777
}
