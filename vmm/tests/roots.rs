//! Roots, the host's own and others, as far as it goes without booting.

#![allow(clippy::unwrap_used, missing_docs)]

mod bench;

use std::fs;
use std::process::{Command, Output};

use bench::Bench;
use serde_json::{Value, json};

#[test]
fn an_init_has_the_machine_and_a_command_is_one_of_its_services() {
    let bench = Bench::new();
    let plan = |arguments: &[&str]| {
        let json = bench.dry_run(&[&["--root", "share"], arguments].concat());
        (json["boot"].clone(), json["plan"]["init"].clone())
    };
    assert_eq!(plan(&[]), (json!("command"), Value::Null));
    assert_eq!(plan(&["--init"]), (json!("system"), json!("/sbin/init")));
    let with_command = ["--init", "--", "true"];
    assert_eq!(plan(&with_command), (json!("unit"), json!("/sbin/init")));
    // As the kernel understands it.
    for (cmdline, init) in [
        ("quiet init=/bin/own", json!("/bin/own")),
        ("init=/a init=/b -- init=/c", json!("/b")),
        ("rdinit=/bin/own", Value::Null),
        ("-- init=/c", Value::Null),
    ] {
        let boot = if init.is_null() { "command" } else { "system" };
        assert_eq!(
            plan(&["--cmdline", cmdline]),
            (json!(boot), init),
            "{cmdline}"
        );
    }
    let both = ["--init", "--cmdline", "init=/own", "--", "true"];
    assert_eq!(plan(&both), (json!("unit"), json!("/own")));
    let json = bench.dry_run(&["--root", "share", "--init", "--", "true"]);
    assert!(
        json["cmdline"]
            .as_str()
            .unwrap()
            .contains("console_msg_format=syslog")
    );
}

#[test]
fn what_makes_no_sense_together_is_refused() {
    let bench = Bench::new();
    fs::write(bench.path("initramfs"), "070701").unwrap();
    for (arguments, part) in [
        (&["--init"][..], "--root"),
        (&["--cmdline", "init=/x"], "add --root"),
        (&["--host", "--cmdline", "init=/x"], "--root / in its place"),
        (&["--host", "--root", "share"], "cannot be used with"),
        (
            &["--host", "--initramfs", "initramfs"],
            "cannot be used with",
        ),
        (&["--host", "--init"], "cannot be used with"),
        (
            &["--initramfs", "initramfs", "--user", "x"],
            "cannot be used with",
        ),
        (&["--root", "share", "--init", "--user"], "leave --user out"),
        (
            &["--root", "share", "--init", "--grace", "1s"],
            "leave --grace out",
        ),
        (
            &["--root", "share", "--init", "--cwd", "/x"],
            "leave --cwd out",
        ),
    ] {
        let message = bench.mistake(arguments);
        assert!(message.contains(part), "{arguments:?}: {message}");
    }
    // What a foreign initramfs makes of it is its own.
    bench.dry_run(&["--initramfs", "initramfs", "--cmdline", "init=/x"]);
}

fn run(bench: &Bench, arguments: &[&str]) -> Output {
    let kernel = bench.path("bzImage");
    let mut command = Command::new(env!("CARGO_BIN_EXE_vmm"));
    command
        .current_dir(bench.path("share"))
        .args(["run", "--dry-run", "--host", "--kernel"])
        .arg(kernel)
        .args(arguments)
        .output()
        .unwrap()
}

fn shown(output: &Output) -> Value {
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{message}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_hosts_root_is_read_only_and_the_current_directory_is_not() {
    let bench = Bench::new();
    let json = shown(&run(&bench, &["--", "true"]));
    let here = bench.path("share").canonicalize().unwrap();
    let here = here.to_str().unwrap();
    let is_root = rustix::process::geteuid().is_root();
    let share = |index: usize| {
        let share = &json["shares"][index];
        let owners = share["owners"].as_str().unwrap();
        (
            share["at"].as_str().unwrap(),
            share["read_only"] == true,
            owners,
        )
    };
    assert_eq!(share(0), ("/", true, "host"));
    let owners = if is_root { "host" } else { "user" };
    assert_eq!(share(1), (here, false, owners));
    assert_eq!(json["plan"]["working_directory"], here);
    assert_eq!(
        json["plan"]["root"]["host"]["uid"],
        rustix::process::geteuid().as_raw()
    );
    assert!(json["plan"]["user"].is_null());
    assert_eq!(json["shares"][0]["xattr"], is_root);
    assert_eq!(json["shares"][1]["xattr"], true);

    // Who is somebody is the same in the guest.
    let json = shown(&run(&bench, &["--user", "--", "true"]));
    assert_eq!(json["shares"][1]["owners"], "host");
    assert_eq!(json["plan"]["user"], json["plan"]["root"]["host"]["name"]);
    let json = shown(&run(&bench, &["--user", "alice", "--cwd", "/etc"]));
    assert_eq!(json["plan"]["user"], "alice");
    assert_eq!(json["plan"]["working_directory"], "/etc");
    assert_eq!(json["plan"]["interactive"], true);
}

#[test]
fn nobody_shares_all_of_the_host_to_be_written_to() {
    let bench = Bench::new();
    let kernel = bench.path("bzImage");
    for directory in ["/", "/proc", "/proc/self", "/sys", "/dev"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vmm"));
        let arguments = ["run", "--dry-run", "--host", "--kernel"];
        command.current_dir(directory).args(arguments).arg(&kernel);
        let output = command.output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{directory}: {message}");
        assert!(message.contains("use --root /"), "{message}");
    }
}
