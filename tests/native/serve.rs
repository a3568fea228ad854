//! The `serve` command itself.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;

use crate::fixture::{Place, text};

#[test]
fn the_status_is_that_of_the_command() {
    let place = Place::new();
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143)] {
        let output = place.shell("", script);
        assert_eq!(output.status.code(), Some(code), "{}", text(&output));
    }
    let missing = place.serve("").arg("/no/such/program").output().unwrap();
    assert_eq!(missing.status.code(), Some(127), "{}", text(&missing));
    let directory = place.serve("").arg("/").output().unwrap();
    assert_eq!(directory.status.code(), Some(126), "{}", text(&directory));
    let wrong = place.serve("cache=often").arg("true").output().unwrap();
    assert_eq!(wrong.status.code(), Some(125));
    assert!(text(&wrong).contains("cache=often is not one of"));
}

#[test]
fn the_mount_is_the_commands_alone_and_goes_with_it() {
    let place = Place::new();
    let mut serve = (place.serve(""))
        .args(["sh", "-c", "stat -fc %T \"$MOUNTPOINT\"; read line"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 5];
    std::io::Read::read_exact(serve.stdout.as_mut().unwrap(), &mut first).unwrap();
    assert_eq!(&first, b"fuseb");
    let mount = place.directory().with_file_name("mount");
    let parent = mount.parent().unwrap().metadata().unwrap().dev();
    assert_eq!(mount.metadata().unwrap().dev(), parent);
    drop(serve.stdin.take());
    assert_eq!(serve.wait().unwrap().code(), Some(1));
}

#[test]
fn it_is_the_server_that_refuses_changes_of_a_read_only_share() {
    let place = Place::new();
    fs::write(place.directory().join("file"), "text").unwrap();
    let output = place.shell(
        "ro",
        "cat file; grep ' '$PWD' ' /proc/mounts; if echo x >file; then exit 9; fi",
    );
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("text") && said.contains(" fuse.vmm rw,"),
        "{said}"
    );
    assert!(said.contains("Read-only file system"), "{said}");
}

#[test]
fn a_task_may_be_killed_while_it_waits() {
    let place = Place::new();
    let script = "for n in 1 2 3 4 5; do timeout -s KILL 0.05 sh -c 'while :; do date >file; done' \
                  || :; done; echo well >file; cat file";
    let output = place.shell("cache=never", script);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(output.stdout, b"well\n", "{}", text(&output));
}
