//! Kernels and modules that are found, as far as it goes without booting.

#![allow(clippy::unwrap_used, missing_docs)]

mod bench;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use bench::{Bench, bzimage};
use serde_json::Value;

/// Makes a build tree with a module, in `directory`.
fn build_tree(directory: &Path) {
    for (file, contents) in [
        ("arch/x86/boot/bzImage", bzimage()),
        (".config", Vec::new()),
        ("include/config/kernel.release", b"6.1.0-none\n".to_vec()),
        ("modules.order", b"fs/a.o\n".to_vec()),
        (
            "modules.builtin",
            b"kernel/fs/fuse/virtiofs.ko\nkernel/d/virtio_mmio.ko\n".to_vec(),
        ),
        ("fs/a.ko", b"\0depends=\0".to_vec()),
    ] {
        let path = directory.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }
}

/// A program, in a directory of its own.
fn program(bench: &Bench, name: &str, script: &str) -> std::path::PathBuf {
    let directory = bench.path(&format!("bin-{name}"));
    fs::create_dir(&directory).unwrap();
    let file = directory.join(name);
    fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

fn vmm(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vmm"));
    command.current_dir(directory).args(["run", "--dry-run"]);
    command.args(arguments).env_remove("KBUILD_OUTPUT");
    command
}

fn json(output: &Output) -> Value {
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{message}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The places of all shares.
fn places(json: &Value) -> Vec<&str> {
    let shares = json["shares"].as_array().unwrap();
    shares
        .iter()
        .map(|share| share["at"].as_str().unwrap())
        .collect()
}

#[test]
fn a_build_tree_is_enough() {
    let bench = Bench::new();
    let tree = bench.path("tree");
    build_tree(&tree);
    let out = json(&vmm(&tree, &[]).output().unwrap());
    assert_eq!(out["kernel"]["path"], "./arch/x86/boot/bzImage");
    assert_eq!(places(&out), ["/lib/modules/6.1.0-none/build"]);
    assert_eq!(out["shares"][0]["read_only"], true);
    assert_eq!(out["plan"]["modules"]["release"], "6.1.0-none");
    assert_eq!(out["plan"]["modules"]["asked"], false);
    assert_eq!(out["plan"]["shares"], Value::Array(Vec::new()));
    let plain = json(&vmm(&bench.path("."), &[]).output().unwrap());
    let bytes = |json: &Value| json["initramfs_bytes"].as_u64().unwrap();
    assert!(bytes(&out) > bytes(&plain), "no lists are packed");

    // A root may have its own, which are not for this kernel.
    let rooted = ["-k", "tree", "--root", "share", "--", "true"];
    let rooted = json(&vmm(&bench.path("."), &rooted).output().unwrap());
    assert_eq!(places(&rooted), ["/", "/lib/modules/6.1.0-none/build"]);

    // Only what was named is given to the guest.
    for file in ["tree/arch/x86/boot/bzImage", "bzImage"] {
        let json = json(&vmm(&bench.path("."), &["-k", file]).output().unwrap());
        assert_eq!(places(&json), [""; 0], "{file}");
        assert!(json["plan"]["modules"].is_null());
    }
    let named = ["-k", "bzImage", "--modules", "tree"];
    let named = json(&vmm(&bench.path("."), &named).output().unwrap());
    assert_eq!(places(&named), ["/lib/modules/6.1.0-none/build"]);
    assert_eq!(named["plan"]["modules"]["asked"], true);
}

#[test]
fn make_may_have_put_it_elsewhere() {
    let bench = Bench::new();
    let source = bench.path("source");
    fs::create_dir(&source).unwrap();
    for name in ["Kbuild", "MAINTAINERS"] {
        fs::write(source.join(name), "").unwrap();
    }
    build_tree(&source.join("out"));
    let output = vmm(&source, &[]).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125));
    assert!(
        message.contains("the kernel in the current directory is not built"),
        "{message}"
    );
    let output = vmm(&source, &[]).env("KBUILD_OUTPUT", "out").output();
    let out = json(&output.unwrap());
    assert_eq!(out["kernel"]["path"], "./out/arch/x86/boot/bzImage");
    assert_eq!(places(&out), ["/lib/modules/6.1.0-none/build"]);
    let named = json(&vmm(&source, &["-k", "out"]).output().unwrap());
    assert_eq!(places(&named), places(&out));
}

#[test]
fn no_kernel_is_told_and_so_are_several() {
    let bench = Bench::new();
    let output = vmm(&bench.path("share"), &[]).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125));
    assert!(
        message.contains("there is no kernel in the current directory"),
        "{message}"
    );
    assert_eq!(message.lines().count(), 1);
    fs::create_dir(bench.path("package")).unwrap();
    fs::create_dir(bench.path("package/boot")).unwrap();
    for version in ["1", "2"] {
        let image = bench.path(&format!("package/boot/vmlinuz-{version}"));
        fs::write(image, bzimage()).unwrap();
    }
    let message = bench.failure(&["run", "--kernel", "package"]);
    assert!(
        message.contains("vmlinuz-1, package/boot/vmlinuz-2"),
        "{message}"
    );
}

/// The guest does without, and the user hears of it.
#[test]
fn modules_that_nobody_asked_for_are_no_mistake() {
    let bench = Bench::new();
    let tree = bench.path("tree");
    build_tree(&tree);
    let run = |arguments: &[&str], variable: (&str, &str)| {
        let mut command = vmm(&tree, arguments);
        command.env(variable.0, variable.1).output().unwrap()
    };
    // No directory for depmod: the modules say what they need.
    let output = run(&[], ("TMPDIR", "/no/such/directory"));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.starts_with("vmm: note: "), "{message}");
    assert!(!message.contains("--modules"), "{message}");
    assert_eq!(places(&json(&output)), ["/lib/modules/6.1.0-none/build"]);

    let nothing = ("NOTHING", "");
    fs::write(
        tree.join("modules.order"),
        b"fs/a.o\nfs/a.o\nfs/gone.o\n\xff\n",
    )
    .unwrap();
    let output = run(&[], nothing);
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("note: 2 of the modules"), "{message}");
    assert_eq!(places(&json(&output)), ["/lib/modules/6.1.0-none/build"]);

    // Where its owner may not look either.
    fs::remove_file(tree.join("modules.order")).unwrap();
    fs::create_dir(tree.join("modules.order")).unwrap();
    let output = run(&[], nothing);
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("the guest gets none"), "{message}");
    assert!(!message.contains("--modules"), "{message}");
    assert_eq!(places(&json(&output)), [""; 0]);
    let output = run(&["--modules", "."], nothing);
    assert_eq!(output.status.code(), Some(125));
}

#[test]
fn depmod_leaves_nothing_behind_when_it_ends_and_when_vmm_is_told_to() {
    let bench = Bench::new();
    let tree = bench.path("tree");
    build_tree(&tree);
    let temporary = bench.path("tmp");
    fs::create_dir(&temporary).unwrap();
    let entries = || fs::read_dir(&temporary).unwrap().count();
    let before = entries_of(&tree);
    let run = |path: &Path| {
        let mut command = vmm(&tree, &[]);
        let others = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{others}", path.display()));
        command.env("TMPDIR", &temporary);
        command
    };
    let usual = program(&bench, "true", "exit 0");
    json(&run(&usual).output().unwrap());
    assert_eq!(entries(), 0);

    let started = temporary.join("started");
    let script = format!("echo > {}\nsleep 2", started.display());
    let slow = program(&bench, "depmod", &script);
    let mut child = run(&slow).stdout(Stdio::null()).spawn().unwrap();
    while !started.exists() {
        assert!(child.try_wait().unwrap().is_none(), "depmod is not run");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(entries(), 2);
    let kill = Command::new("kill").arg(child.id().to_string()).status();
    assert!(kill.unwrap().success());
    assert_eq!(child.wait().unwrap().signal(), Some(15));
    assert_eq!(entries(), 1);

    // Who is killed can remove nothing: the next one does, but not what another one uses.
    let killed = temporary.join("vmm-modules-killed");
    fs::create_dir_all(killed.join("lib")).unwrap();
    fs::remove_file(&started).unwrap();
    let mut child = run(&slow).stdout(Stdio::null()).spawn().unwrap();
    while !started.exists() {
        assert!(child.try_wait().unwrap().is_none(), "depmod is not run");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!killed.exists());
    json(&run(&usual).output().unwrap());
    assert_eq!(entries(), 2);
    assert!(child.wait().unwrap().success());
    assert_eq!(entries(), 1);
    assert_eq!(entries_of(&tree), before);
}

fn entries_of(directory: &Path) -> Vec<String> {
    let output = Command::new("find").arg(directory).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn a_switch_of_the_cache_is_on_or_off() {
    let bench = Bench::new();
    build_tree(&bench.path("tree"));
    let run = |value: &str| {
        vmm(&bench.path("tree"), &["--", "true"])
            .env("VMM_KERNEL_CACHE", value)
            .output()
            .unwrap()
    };
    for value in ["on", "off", ""] {
        json(&run(value));
    }
    let refused = run("no");
    assert_eq!(refused.status.code(), Some(125));
    let message = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(
        message,
        "vmm: error: VMM_KERNEL_CACHE=no: it is on or off\n"
    );
}

#[test]
fn a_dry_run_keeps_nothing() {
    let bench = Bench::new();
    build_tree(&bench.path("tree"));
    let image = bench.path("tree/arch/x86/boot/bzImage");
    let options = vmm_kernel::requirements::REQUIREMENTS.iter();
    let config: String = options
        .map(|needed| format!("{}=y\n", needed.option))
        .collect();
    fs::write(&image, vmm_kernel::samples::packed(&config)).unwrap();
    // For longer than a kernel has to be left alone to be kept.
    std::thread::sleep(Duration::from_secs(3));
    let cache = bench.path("cache");
    let output = vmm(&bench.path("tree"), &["--", "true"])
        .env("XDG_CACHE_HOME", &cache)
        .output()
        .unwrap();
    json(&output);
    assert!(!cache.exists());
}
