//! What a program is told when the host fails.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use crate::fixture::{MODES, Place, text};

/// Runs `script` on a share whose server's calls fail as `rules` say, and
/// sees to it that every rule did something.
pub(crate) fn failing(options: &str, rules: &str, script: &str) -> Output {
    let place = Place::new();
    let output = place.failing_shell(options, rules, script);
    let said = text(&output);
    assert!(said.contains("serve: "), "{options}: {said}");
    assert!(!said.contains(": 0 of"), "{options}: {said}");
    output
}

#[test]
fn a_write_without_space_says_so() {
    for mode in MODES {
        let rules = "%write:ENOSPC@2";
        let script = "dd if=/dev/urandom of=file bs=1M count=4 conv=fsync";
        let output = failing(mode, rules, script);
        assert!(!output.status.success(), "{mode}: {}", text(&output));
        assert!(text(&output).contains("No space left"), "{}", text(&output));
    }
}

#[test]
fn a_write_in_pieces_is_whole() {
    for mode in MODES {
        let script = "dd if=/dev/urandom of=file bs=1M count=4 conv=fsync; sha1sum file >sum; \
                      dd if=file iflag=nocache count=0; sha1sum -c sum";
        for rules in ["%write:short@1/2,seed=3", "%write:short=1@2..3"] {
            let output = failing(mode, rules, script);
            assert!(output.status.success(), "{mode}: {}", text(&output));
        }
    }
}

#[test]
fn what_the_disk_did_not_take_is_told_by_fsync() {
    for mode in MODES {
        let script = "echo text >file; if sync file; then exit 9; fi; sync file";
        let output = failing(mode, "%sync:EIO@1", script);
        assert!(output.status.success(), "{mode}: {}", text(&output));
        assert!(text(&output).contains("Input/output error"), "{mode}");
    }
}

#[test]
fn an_owner_that_cannot_be_kept_changes_no_mode() {
    let place = Place::new();
    let file = place.directory().join("file");
    // The first is of the file when it is made.
    let script = "echo text >file; chmod 4711 file";
    let output = place.failing_shell("owners=xattr", "setxattr:ENOSPC@2", script);
    assert!(!output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("No space left"), "{}", text(&output));
    let mode = fs::metadata(file).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode, 0o600);
}

#[test]
fn a_call_that_takes_long_keeps_nobody_waiting() {
    // With one thread: an fsync goes to another.
    let script = "echo text >file; sync file & sleep 0.2; timeout 1 cat file; wait";
    let output = failing("cache=never,queues=1", "%sync:delay=3s", script);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(output.stdout, b"text\n");
}

#[test]
fn rules_that_cannot_be_are_refused() {
    let place = Place::new();
    for rules in ["", "fsync", "fsync:short", "nocall:EIO", "fsync:EIO@0"] {
        let output = place.failing_shell("", rules, "echo started");
        assert_eq!(
            output.status.code(),
            Some(125),
            "{rules}: {}",
            text(&output)
        );
        assert!(!text(&output).contains("started"), "{rules}");
    }
}

#[test]
fn a_directory_that_fails_half_way_is_whole_or_an_error() {
    for mode in MODES {
        // Some 340 names are read at once. The host makes them: through the mount that
        // is thousands of requests.
        let make = "(cd ../shared && touch $(seq 700))";
        let once = failing(mode, "getdents64:EIO@3", &format!("{make}; ls | wc -l"));
        assert_eq!(text(&once).lines().next(), Some("700"), "{mode}");
        let script = format!("{make}; if ls >/dev/null; then exit 9; fi");
        let for_good = failing(mode, "getdents64:EIO@3+", &script);
        let said = text(&for_good);
        assert!(for_good.status.success(), "{mode}: {said}");
        assert!(said.contains("Input/output error"), "{mode}: {said}");
    }
}

#[test]
fn a_descriptor_that_is_not_to_be_had_is_made_room_for() {
    for mode in MODES {
        let script = "for n in $(seq 40); do echo $n >$n; done; for n in $(seq 40); do \
                      grep -qx $n $n; mkdir d$n; done; ls | wc -l";
        let output = failing(mode, "%open:EMFILE@60..65", script);
        assert!(output.status.success(), "{mode}: {}", text(&output));
        assert_eq!(output.stdout, b"80\n", "{mode}");
    }
}

#[test]
fn a_host_without_descriptors_refuses_and_makes_nothing() {
    for mode in MODES {
        let place = Place::new();
        let script = "if echo x >f; then exit 9; fi; if mkdir d; then exit 9; fi
                      if ln -s x l; then exit 9; fi";
        // The last of these are had by opening no file.
        let output = place.failing_shell(mode, "%open+fcntl:EMFILE", script);
        let said = text(&output);
        assert!(output.status.success(), "{mode}: {said}");
        assert!(said.contains("Too many open files in system"), "{said}");
        let made = fs::read_dir(place.directory()).unwrap().count();
        assert_eq!(made, 0, "{mode}: {said}");
    }
}
