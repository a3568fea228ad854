//! What `make perf-slower` makes slower is still there.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

#[test]
fn every_patch_applies() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let patches = std::fs::read_dir(root.join("tests/perf/slower")).unwrap();
    let patches = patches.map(|entry| entry.unwrap().path());
    let patches: Vec<_> = patches
        .filter(|path| path.extension().is_some_and(|kind| kind == "patch"))
        .collect();
    assert!(!patches.is_empty());
    for patch in patches {
        let mut git = Command::new("git");
        git.current_dir(&root)
            .args(["apply", "--check"])
            .arg(&patch);
        let output = git.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", patch.display());
    }
}
