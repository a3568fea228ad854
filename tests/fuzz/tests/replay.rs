//! What the fuzzer has kept runs once more.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use fuzz::{TARGETS, Target};

/// Runs the corpus of the target `name`.
fn replay(name: &str) {
    let _ = env_logger::builder().is_test(true).try_init();
    let Target { run, .. } = *TARGETS.iter().find(|target| target.name == name).unwrap();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(name);
    let mut files: Vec<_> = (fs::read_dir(&corpus).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() > 9, "{}", corpus.display());
    for file in files {
        println!("{}", file.display());
        run(&fs::read(file).unwrap());
    }
}

#[test]
fn chains() {
    replay("chain");
}

#[test]
fn kernels() {
    replay("kernels");
}

#[test]
fn registers() {
    replay("registers");
}

#[test]
fn sessions() {
    replay("session");
}

#[test]
fn shares() {
    replay("shares");
}
