//! Builds the guest's init as a static executable, which `vmm` carries.
//!
//! The init is another program for another machine, so it cannot be an
//! ordinary dependency: it is built by a cargo of its own, with a target
//! directory of its own, from the same workspace and lock file.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Names a finished init, for whoever builds it in another way.
const VARIABLE: &str = "VMM_GUEST_INIT";

fn main() {
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    let init = match env::var_os(VARIABLE) {
        Some(path) => PathBuf::from(path),
        None => build(),
    };
    println!("cargo::rerun-if-changed={}", init.display());
    println!("cargo::rustc-env=VMM_GUEST_INIT={}", init.display());
}

fn build() -> PathBuf {
    let variable = |name: &str| {
        env::var_os(name).unwrap_or_else(|| panic!("{name} is set by cargo for build scripts"))
    };
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_owned)
        .expect("the package is in a workspace");
    let source = root.join("resources/guest-init");
    for path in [source.join("src"), source.join("Cargo.toml")] {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    println!(
        "cargo::rerun-if-changed={}",
        root.join("Cargo.lock").display()
    );

    let target = PathBuf::from(variable("OUT_DIR")).join("guest-init");
    let mut cargo = Command::new(variable("CARGO"));
    cargo
        .current_dir(&root)
        .args(["build", "--release", "--locked", "--quiet"])
        .args(["--package", "guest-init", "--bin", "guest-init"])
        .args(["--target", TARGET])
        .arg("--target-dir")
        .arg(&target)
        // A guest has no libraries.
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "s");
    // What the outer build is told about flags and wrappers (clippy is one)
    // is not meant for the inner one.
    for name in [
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "CARGO_TARGET_DIR",
        "RUSTC_WORKSPACE_WRAPPER",
    ] {
        cargo.env_remove(name);
    }
    let status = cargo
        .status()
        .unwrap_or_else(|error| panic!("cannot run cargo to build the guest's init: {error}"));
    assert!(status.success(), "the guest's init does not build");
    target.join(TARGET).join("release/guest-init")
}
