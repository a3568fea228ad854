//! What `owners=` comes to on a host that refuses user namespaces.

#![allow(clippy::unwrap_used, missing_docs)]

mod bench;

use std::process::{Command, Output};

use bench::Bench;

/// `vmm run --dry-run` with a share, by a user without rights who cannot have a user
/// namespace. That user is the root of one that has no other in it, and may not act
/// as others there.
fn without_namespaces(bench: &Bench, share: &str) -> Output {
    let script = "echo 0 >/proc/sys/user/max_user_namespaces
        exec setpriv --bounding-set -all -- \"$0\" \"$@\"";
    let vmm = env!("CARGO_BIN_EXE_vmm");
    let unshare = |rest: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user"]).args(rest);
        command
    };
    // A host that refuses all of them is what it takes.
    let mut command = match unshare(&["true"]).status().unwrap().success() {
        true => unshare(&["sh", "-euc", script, vmm]),
        false => Command::new(vmm),
    };
    command.args(["run", "--dry-run", "--kernel", "bzImage", "--share", share]);
    command.current_dir(&bench.directory).output().unwrap()
}

#[test]
fn less_than_was_meant_is_told_and_less_than_was_asked_for_is_refused() {
    let bench = Bench::new();
    for options in ["", ",owners=auto", ",owners=xattr"] {
        let output = without_namespaces(&bench, &format!("share{options}"));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{options}: {said}");
        assert_eq!(said.lines().count(), 1, "{options}: {said}");
        assert!(
            said.starts_with("vmm: note: root of the guest may do"),
            "{said}"
        );
        assert!(said.contains("this host refuses user namespaces"), "{said}");
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let owners = json["shares"][0]["owners"].as_str().unwrap();
        assert!(["user", "xattr"].contains(&owners), "{owners}");
    }
    for (options, expected) in [
        (",owners=user", "as owners=user has it: allow them"),
        (",owners=user,forget-owners", "leave owners= out"),
        (
            ",uid-map=0:0:1,gid-map=0:0:1",
            "refuses user namespaces, which owners=map needs",
        ),
    ] {
        let output = without_namespaces(&bench, &format!("share{options}"));
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(125), "{options}: {said}");
        assert_eq!(said.lines().count(), 1, "{options}: {said}");
        assert!(said.contains(expected), "{options}: {said}");
        assert!(output.stdout.is_empty());
    }
    // Nothing is less for the host's owners.
    let output = without_namespaces(&bench, "share,owners=host");
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
}
