//! The `vmm` command as a process, as far as it goes without booting: every
//! mistake is one line on standard error and status 125.

#![allow(clippy::unwrap_used, missing_docs)]

mod bench;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use bench::Bench;

#[test]
fn a_wrong_command_line_is_one_line() {
    let bench = Bench::new();
    assert!(bench.failure(&[]).contains("run"));
    assert!(bench.failure(&["walk"]).contains("walk"));
    assert!(
        bench
            .failure(&["run", "--kernel", "share"])
            .contains("there is no kernel in share")
    );
    assert!(bench.mistake(&["--nonsense"]).contains("--nonsense"));
    assert!(bench.mistake(&["--memory", "x"]).contains("512M"));
    assert!(bench.mistake(&["--timeout", "x"]).contains("30s"));
    assert!(bench.mistake(&["--cpus", "256"]).contains("256"));
    assert!(bench.mistake(&["stray"]).contains("stray"));
}

#[test]
fn every_mistake_points_to_the_help_of_its_own_task() {
    let bench = Bench::new();
    let other = bench.path("another-name");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_vmm"), &other).unwrap();
    for (arguments, help) in [
        (
            &["run", "--cpus", "x"][..],
            "(vmm run --help has the options)",
        ),
        (&["man", "x"], "(vmm man --help has the options)"),
        (&["man", "vmm", "x"], "(vmm man --help has the options)"),
        (&["completions"], "(vmm completions --help has the options)"),
        (
            &["completions", "x"],
            "(vmm completions --help has the options)",
        ),
        (
            &["kconfig", "--check"],
            "(vmm kconfig --help has the options)",
        ),
        (&["kconfig", "x"], "(vmm kconfig --help has the options)"),
        (&["walk"], "(vmm --help has the commands)"),
        (&["--walk"], "(vmm --help has the commands)"),
        (&["help", "walk"], "(vmm --help has the commands)"),
        (&[], "(vmm --help has the commands)"),
    ] {
        let output = Command::new(&other).args(arguments).output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(125), "{message}");
        assert!(message.trim_end().ends_with(help), "{message}");
        assert!(!message.contains("another-name"), "{message}");
    }
}

#[test]
fn help_and_version_are_no_mistakes() {
    let bench = Bench::new();
    for arguments in [&["--help"][..], &["run", "--help"], &["--version"]] {
        let output = bench.vmm(arguments);
        assert_eq!(output.status.code(), Some(0));
        assert!(!output.stdout.is_empty());
        assert!(output.stderr.is_empty());
    }
}

#[test]
fn text_that_cannot_be_printed_is_a_failure() {
    let bench = Bench::new();
    let dry_run = ["run", "--dry-run", "--kernel", "bzImage"];
    for arguments in [&["--help"][..], &["--version"], &dry_run] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vmm"));
        command.current_dir(&bench.directory).args(arguments);
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = command.stdout(full).output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(125), "{message}");
        assert!(message.contains("standard output"), "{message}");

        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command.stdout(writer).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert!(output.stderr.is_empty());
    }
}

#[test]
fn what_a_kernel_needs_is_printed_and_looked_for() {
    let bench = Bench::new();
    let output = bench.vmm(&["kconfig"]);
    assert_eq!(output.status.code(), Some(0));
    fs::write(bench.path(".config"), &output.stdout).unwrap();
    let output = bench.vmm(&["kconfig", "--check", ".config"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout.is_empty());

    fs::write(
        bench.path(".config"),
        "CONFIG_64BIT=y\nCONFIG_VIRTIO_FS=m\n",
    )
    .unwrap();
    let output = bench.vmm(&["kconfig", "--check", ".config"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "needed: CONFIG_BINFMT_ELF is not set: ",
        "module: CONFIG_VIRTIO_FS may be one",
        "wanted: CONFIG_OVERLAY_FS is not set: ",
    ] {
        assert!(text.contains(part), "{text}");
    }

    let check = |path: &str| bench.failure(&["kconfig", "--check", path]);
    assert!(check("gone").contains("gone"));
    assert!(check("share").contains("is a directory"));
    assert!(check("bzImage").contains("is no .config"));
    let message = bench.failure(&["kconfig", "stray"]);
    assert!(
        message.ends_with("(vmm kconfig --help has the options)\n"),
        "{message}"
    );
}

#[test]
fn a_wrong_share_is_one_line() {
    let bench = Bench::new();
    let share = |text: &str| bench.mistake(&["--share", text]);
    assert!(share("gone").contains("does not exist"));
    assert!(share("bzImage").contains("not a directory"));
    assert!(share("share,tag=").contains("empty"));
    assert!(share(&format!("share,tag={}", "x".repeat(37))).contains("37 bytes"));
    assert!(share("share,at=here").contains("absolute"));
    assert!(share("share,cache=none").contains("cache=none"));
    assert!(share("share,fax=1G").contains("unknown option"));
    assert!(share("share:rw").contains("write share,rw"));
    assert!(share("share,cache=never,writeback").contains("exclude each other"));
    let twice = ["--share", "share,tag=t", "--share", "share,tag=t"];
    assert!(
        bench
            .mistake(&twice)
            .contains("two shares have the tag 't'")
    );
    let twice = ["--share", "share,at=/a", "--share", "share,at=/a"];
    assert!(bench.mistake(&twice).contains("mounted at /a"));
    assert!(
        bench
            .mistake(&["--root", "gone"])
            .contains("does not exist")
    );
}

#[test]
fn a_directory_that_cannot_be_served_is_refused_before_it_is_tried() {
    let bench = Bench::new();
    let message = bench.mistake(&["--dry-run", "--share", "/proc,owners=xattr"]);
    assert!(message.contains("cannot share /proc"), "{message}");
    // What is done about owners is said, and depends on who asks.
    let owners = |options: &str| {
        let json = bench.dry_run(&["--share", options]);
        json["shares"][0]["owners"].as_str().unwrap().to_owned()
    };
    let is_root = rustix::process::geteuid().is_root();
    assert_eq!(owners("share"), if is_root { "host" } else { "user" });
    assert_eq!(owners("share,owners=user"), "user");
    // Maps are made as for a run, of mounts for root and of the process for others.
    let id = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    let maps = format!("uid-map=7:{id}:1,gid-map=8:{group}:1");
    let json = bench.dry_run(&["--share", &format!("share,{maps}")]);
    let share = &json["shares"][0];
    assert_eq!(share["owners"], "map");
    assert_eq!(share["uid_map"], serde_json::json!([format!("7:{id}:1")]));
    assert_eq!(
        share["gid_map"],
        serde_json::json!([format!("8:{group}:1")])
    );
    let message = bench.mistake(&["--dry-run", "--share", "/proc,uid-map=0:0:1,gid-map=0:0:1"]);
    let said = if is_root {
        "cannot be mapped"
    } else {
        "leaves out"
    };
    assert!(message.contains(said), "{message}");
}

#[test]
fn what_is_expected_of_nothing_is_a_mistake() {
    let bench = Bench::new();
    let message = bench.mistake(&["--fail-on", "never", "--allow-splat", "x"]);
    assert!(message.contains("leave one of them out"), "{message}");
}

#[test]
fn a_wrong_kernel_is_one_line() {
    let bench = Bench::new();
    let kernel = |path: &str| bench.failure(&["run", "--kernel", path]);
    assert!(kernel("gone").contains("gone"));
    assert!(kernel("share").contains("there is no kernel in share"));
    fs::write(bench.path("empty"), "").unwrap();
    assert!(kernel("empty").contains("empty"));
    fs::write(bench.path("text"), "#!/bin/sh\n").unwrap();
    assert!(kernel("text").contains("script"));
}

#[test]
fn a_wrong_file_to_write_is_one_line() {
    let bench = Bench::new();
    for option in ["--report", "--metrics", "--console-log"] {
        let message = bench.mistake(&[option, "no/such/file"]);
        assert!(message.contains(option), "{message}");
        assert!(message.contains("no/such/file"), "{message}");
        assert!(bench.mistake(&[option, "share"]).contains("share"));
    }
}

#[test]
fn other_wrong_files_are_one_line() {
    let bench = Bench::new();
    assert!(bench.mistake(&["--initramfs", "gone"]).contains("gone"));
    fs::write(bench.path("empty"), "").unwrap();
    assert!(bench.mistake(&["--initramfs", "empty"]).contains("empty"));
    let initramfs = |path: &str| bench.mistake(&["--dry-run", "--initramfs", path]);
    assert!(initramfs("/dev/zero").contains("neither a file nor a pipe"));
    assert!(initramfs("share").contains("is a directory"));
    fs::write(bench.path("script"), "#!/bin/sh\n").unwrap();
    assert!(initramfs("script").contains("is no initramfs"));
    assert!(
        bench
            .mistake(&["--modules", "share"])
            .contains("no kernel modules")
    );
    assert!(bench.mistake(&["--cwd", "here"]).contains("absolute"));
    assert!(bench.mistake(&["--env", "=x"]).contains("NAME=VALUE"));
}

#[test]
fn a_missing_busybox_says_what_to_install() {
    let bench = Bench::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_vmm"));
    command
        .current_dir(&bench.directory)
        .args(["run", "--kernel", "bzImage"])
        .env("VMM_BUSYBOX", "/no/busybox");
    let output = command.output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(
        message.contains("apt-get install busybox-static"),
        "{message}"
    );
}

#[test]
fn a_failure_before_the_start_is_in_the_report() {
    let bench = Bench::new();
    bench.mistake(&["--share", "gone", "--report", "report.json"]);
    let json = fs::read(bench.path("report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(report["schema"], 1);
    assert_eq!(report["outcome"], "vmm-error");
    assert_eq!(report["code"], 125);
    assert!(report["message"].as_str().unwrap().contains("gone"));
}

#[test]
fn a_command_line_with_a_mistake_leaves_no_old_report() {
    let bench = Bench::new();
    bench.mistake(&["--share", "gone", "--report", "report.json"]);
    bench.mistake(&["--report=report.json", "--nonsense"]);
    let report = fs::read_to_string(bench.path("report.json")).unwrap();
    assert!(report.contains("--nonsense"), "{report}");

    fs::write(bench.path("notes"), "mine").unwrap();
    bench.mistake(&["--report", "notes", "--cpus", "0"]);
    assert_eq!(fs::read(bench.path("notes")).unwrap(), b"mine");
}

#[test]
fn a_failure_before_the_start_is_in_the_junit_file() {
    let bench = Bench::new();
    let path = bench.path("junit.xml");
    bench.mistake(&["--junit", "junit.xml", "--share", "gone"]);
    let xml = fs::read_to_string(&path).unwrap();
    for part in ["<testsuites ", "<error ", "vmm-error", "does not exist"] {
        assert!(xml.contains(part), "{xml}");
    }
    // Of a command line that is not understood only such a file is believed to be one.
    bench.mistake(&["--junit", "junit.xml", "--nonsense"]);
    assert!(fs::read_to_string(&path).unwrap().contains("--nonsense"));
    fs::write(bench.path("notes"), "mine").unwrap();
    bench.mistake(&["--junit", "notes", "--nonsense"]);
    assert_eq!(fs::read(bench.path("notes")).unwrap(), b"mine");
    assert!(
        bench
            .mistake(&["--dry-run", "--junit", "no/file"])
            .contains("--junit")
    );
    bench.dry_run(&["--junit", "new.xml"]);
    assert!(!bench.path("new.xml").exists());
}

#[test]
fn gdb_is_waited_for_where_that_is_possible() {
    let bench = Bench::new();
    let gdb = |place: &str| bench.mistake(&["--dry-run", "--gdb", place]);
    assert!(gdb("x").contains("HOST:PORT"));
    assert!(gdb("-1").contains("HOST:PORT"));
    assert!(gdb("./bzImage").contains("name another port or path"));
    assert!(gdb("no/such/socket").contains("name another port or path"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    assert!(gdb(&port).contains(&port));

    let shown = bench.dry_run(&["--gdb", "./socket"]);
    assert_eq!(shown["gdb"], "./socket");
    let cmdline = shown["cmdline"].as_str().unwrap();
    assert!(cmdline.contains(" nokaslr"), "{cmdline}");
    assert!(!bench.path("socket").exists());
    let shown = bench.dry_run(&[]);
    assert!(!shown["cmdline"].as_str().unwrap().contains("nokaslr"));
}

#[test]
fn a_report_that_nobody_reads_is_told_and_not_waited_for() {
    let bench = Bench::new();
    let fifo = bench.path("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    let output = Command::new("timeout")
        .args(["60", env!("CARGO_BIN_EXE_vmm"), "run", "--kernel", "gone"])
        .arg("--report")
        .arg(&fifo)
        .output()
        .unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(125), "{message}");
    // timeout(1) warns where the host has no timer for it.
    let own = |line: &&str| line.starts_with("vmm: ");
    let lines: Vec<&str> = message.lines().filter(own).collect();
    assert!(
        lines[0].contains("cannot read the kernel gone"),
        "{message}"
    );
    assert!(lines[1].contains("nobody reads the FIFO"), "{message}");
}

/// In a directory as `/tmp` is, another's file is written and not replaced. Two users
/// are had by root alone.
#[test]
fn a_report_goes_into_a_file_of_somebody_elses() {
    if !rustix::process::geteuid().is_root() {
        let line = b"\nnot tried: a report into another user's file: only root gives files away\n";
        std::io::Write::write_all(&mut std::io::stderr(), line).unwrap();
        return;
    }
    let bench = Bench::new();
    // Not below a home directory, where the other user may not look.
    let program = bench.path("vmm");
    // By another process: what this one has open for writing the children of other
    // tests have too, and it cannot be executed then.
    let copied = Command::new("cp")
        .arg(env!("CARGO_BIN_EXE_vmm"))
        .arg(&program)
        .status()
        .unwrap();
    assert!(copied.success());
    let directory = bench.directory.path();
    fs::set_permissions(directory, fs::Permissions::from_mode(0o1777)).unwrap();
    let report = bench.path("report.json");
    fs::write(&report, "x".repeat(10_000)).unwrap();
    fs::set_permissions(&report, fs::Permissions::from_mode(0o666)).unwrap();
    chown(&report, Some(1234), Some(1234)).unwrap();
    let before = fs::metadata(&report).unwrap();
    let run = || {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=2345", "--regid=2345", "--clear-groups"])
            .arg(&program)
            .args(["run", "--kernel", "gone", "--report", "report.json"])
            .current_dir(directory);
        let output = command.output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(125), "{message}");
        message
    };

    let message = run();
    assert_eq!(message.lines().count(), 1, "{message}");
    let written: serde_json::Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    assert_eq!(written["code"], 125);
    let after = fs::metadata(&report).unwrap();
    assert_eq!((after.ino(), after.uid()), (before.ino(), 1234));
    assert_eq!(names(directory).len(), 4);

    // What may not be written is left alone, and told.
    fs::set_permissions(&report, fs::Permissions::from_mode(0o644)).unwrap();
    let message = run();
    assert!(message.contains("Permission denied"), "{message}");
    assert_eq!(names(directory).len(), 4);
}

#[test]
fn a_limit_of_file_sizes_is_an_error_and_no_signal() {
    let bench = Bench::new();
    for script in [
        "exec \"$0\" run --kernel gone --report report.json",
        "exec \"$0\" run --dry-run --kernel bzImage > out",
        "exec \"$0\" run --help > out",
    ] {
        let mut command = Command::new("sh");
        command
            .current_dir(&bench.directory)
            .args(["-c", &format!("ulimit -f 0; {script}")])
            .arg(env!("CARGO_BIN_EXE_vmm"));
        let output = command.output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(125), "{script}: {message}");
        assert!(message.contains("File too large"), "{script}: {message}");
    }
}

#[test]
fn a_file_of_the_run_is_no_other_ones() {
    let bench = Bench::new();
    std::os::unix::fs::symlink("bzImage", bench.path("link")).unwrap();
    let kernel = fs::read(bench.path("bzImage")).unwrap();
    for (arguments, names) in [
        (
            ["--report", "r", "--metrics", "r"],
            ["--metrics", "--report"],
        ),
        (
            ["--report", "r", "--console-log", "./r"],
            ["--console-log", "--report"],
        ),
        (
            ["--cpus", "1", "--console-log", "bzImage"],
            ["--kernel", "--console-log"],
        ),
        (
            ["--cpus", "1", "--report", "link"],
            ["--kernel", "--report"],
        ),
        (
            ["--initramfs", "link", "--metrics", "bzImage"],
            ["--kernel", "--metrics"],
        ),
    ] {
        for run in [&["--dry-run"][..], &[]] {
            let message = bench.mistake(&[run, &arguments].concat());
            assert!(message.contains("are the same file"), "{message}");
            for name in names {
                assert!(message.contains(name), "{message}");
            }
        }
    }
    assert!(fs::read(bench.path("bzImage")).unwrap() == kernel);
    assert!(!bench.path("r").exists());
    let terminal = ["--report", "/dev/null", "--metrics", "/dev/null"];
    bench.dry_run(&terminal);
}

/// A file in the place of the one that standard output is would be another.
#[test]
fn a_report_to_standard_output_follows_what_is_there() {
    let bench = Bench::new();
    let mut command = Command::new("sh");
    command
        .current_dir(&bench.directory)
        .args([
            "-c",
            "{ echo first; \"$0\" run --kernel gone --report /proc/self/fd/1; } > out",
        ])
        .arg(env!("CARGO_BIN_EXE_vmm"));
    assert_eq!(command.output().unwrap().status.code(), Some(125));
    let out = fs::read_to_string(bench.path("out")).unwrap();
    assert!(out.starts_with("first\n{") && out.ends_with("}\n"), "{out}");
}

#[test]
fn a_place_that_the_guest_cannot_do_without_is_refused() {
    let bench = Bench::new();
    let share = |text: &str| bench.mistake(&["--dry-run", "--share", text]);
    assert!(share("share,tag=..").contains("say with at="));
    assert!(share("share,tag=.").contains("say with at="));
    assert!(share("share,at=/bin").contains("the guest's shell"));
    assert!(share("share,at=/init").contains("is a file there"));
    let json = bench.dry_run(&["--share", "share,tag=..,at=/x"]);
    assert_eq!(json["shares"][0]["at"], "/x");

    fs::write(bench.path("initramfs"), "070701").unwrap();
    let foreign = ["--initramfs", "initramfs", "--share"];
    let json = bench.dry_run(&[&foreign[..], &["share,tag=.."]].concat());
    assert!(json["shares"][0]["at"].is_null());
    let message = bench.mistake(&[&foreign[..], &["share,at=/x"]].concat());
    assert!(message.contains("leave at= out"), "{message}");
}

#[test]
fn threads_are_confined_unless_that_is_turned_off() {
    let bench = Bench::new();
    let holds = |arguments: &[&str]| bench.dry_run(arguments)["sandbox"].clone();
    let default = holds(&[]);
    assert_eq!(default, holds(&["--sandbox", "best"]));
    // The rest is as the host has it.
    assert_eq!(default["capabilities"], true);
    assert_eq!(default["no_new_privileges"], true);
    let off = holds(&["--sandbox", "off"]);
    let parts: Vec<_> = off.as_object().unwrap().values().collect();
    assert_eq!(parts, [false; 4]);
}

#[test]
fn a_dry_run_shows_the_configuration_and_touches_nothing() {
    let bench = Bench::new();
    fs::write(bench.path("console.log"), "old").unwrap();
    let before = names(bench.directory.path());
    let json = bench.dry_run(&[
        "--share",
        "share,ro",
        "--cmdline",
        "loglevel=7",
        "--cmdline",
        "quiet",
        "--cpus",
        "2",
        "--memory",
        "1G",
        "--console-log",
        "console.log",
        "--report",
        "report.json",
        "--timeout",
        "30s",
        "--",
        "echo",
        "a b",
        "",
    ]);
    assert_eq!(json["schema"], 1);
    assert_eq!(json["boot"], "command");
    assert_eq!(json["cpus"], 2);
    assert_eq!(json["memory_bytes"], 1 << 30);
    assert_eq!(json["timeout_ms"], 30_000);
    assert_eq!(json["console_log"], "console.log");
    assert_eq!(json["report"], "report.json");
    assert!(json["metrics"].is_null());
    assert_eq!(json["verbose"], false);
    assert_eq!(json["plan"]["power_off"], true);
    assert_eq!(
        json["kernel"]["version"],
        "6.1.0-none (builder@host) #1 SMP"
    );
    let cmdline = json["cmdline"].as_str().unwrap();
    assert!(cmdline.ends_with(" loglevel=7 quiet"), "{cmdline}");
    assert!(cmdline.contains("console=ttyS0"), "{cmdline}");
    assert_eq!(json["shares"][0]["tag"], "share");
    assert_eq!(json["shares"][0]["at"], "/mnt/share");
    assert_eq!(json["shares"][0]["read_only"], true);
    assert_eq!(
        json["plan"]["command"],
        serde_json::json!(["echo", "a b", ""])
    );
    assert_eq!(names(bench.directory.path()), before);
    assert_eq!(fs::read(bench.path("console.log")).unwrap(), b"old");
}

#[test]
fn a_dry_run_refuses_what_the_run_would() {
    let bench = Bench::new();
    let refused = |arguments: &[&str]| bench.mistake(&[&["--dry-run"], arguments].concat());
    let message = refused(&["--memory", "16M"]);
    assert!(message.contains("at least 32 MiB"), "{message}");
    let message = refused(&["--memory", "100000T"]);
    assert!(message.contains("can address"), "{message}");
    let message = refused(&["--memory", "100000T", "--report", "report.json"]);
    let report = fs::read_to_string(bench.path("report.json")).unwrap();
    assert!(report.contains("vmm-error"), "{message}: {report}");

    let message = refused(&["--cmdline", &"x".repeat(5000)]);
    assert!(message.contains("this kernel takes 2047"), "{message}");
    let message = refused(&["--cmdline", "one\ntwo"]);
    assert!(message.contains("newline"), "{message}");

    let mut large = vec![0; 20 << 20];
    large[..6].copy_from_slice(b"070701");
    fs::write(bench.path("large"), large).unwrap();
    let message = refused(&["--memory", "32M", "--initramfs", "large"]);
    assert!(message.contains("use --memory 52M"), "{message}");
    // Of no length but in the file system's books.
    let huge = fs::File::create(bench.path("huge")).unwrap();
    huge.set_len(3_400 << 20).unwrap();
    let message = refused(&["--memory", "8G", "--initramfs", "huge"]);
    assert!(message.contains("larger than 3328 MiB"), "{message}");

    fs::write(bench.path("initramfs"), "070701").unwrap();
    let shares: Vec<String> = (0..2000)
        .map(|number| format!("share,tag=t{number}"))
        .collect();
    let mut many = vec!["--initramfs", "initramfs"];
    for share in &shares {
        many.extend(["--share", share]);
    }
    let message = refused(&many);
    assert!(message.contains("use fewer shares"), "{message}");
}

#[test]
fn a_share_that_is_served_without_an_option_is_told() {
    let bench = Bench::new();
    let notes = |options: &str| {
        let base = ["run", "--dry-run", "--kernel", "bzImage", "--share"];
        let output = bench.vmm(&[&base, &[options][..]].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let notes = json["notes"].as_array().unwrap().iter();
        let notes: Vec<_> = notes
            .map(|note| note.as_str().unwrap().to_owned())
            .collect();
        let lines: Vec<_> = notes
            .iter()
            .map(|note| format!("vmm: note: {note}\n"))
            .collect();
        assert_eq!(said, lines.concat());
        notes
    };
    for (options, told) in [
        ("/proc,dax=2M", &["dax= does nothing"][..]),
        ("/proc,acl", &["acl does nothing"]),
        ("/proc,writeback", &["writeback does nothing"]),
        (
            "/proc,acl,dax=2M",
            &["dax= does nothing", "acl does nothing"],
        ),
        ("/proc", &[]),
        ("share,dax=2M,acl", &[]),
        ("share,writeback", &[]),
    ] {
        let notes = notes(options);
        assert_eq!(notes.len(), told.len(), "{options}: {notes:?}");
        for (note, part) in notes.iter().zip(told) {
            assert!(
                note.starts_with("in /proc ") && note.contains(part),
                "{note}"
            );
        }
    }
}

#[test]
fn a_window_that_cannot_be_is_refused_and_one_that_can_is_shown() {
    let bench = Bench::new();
    let json = bench.dry_run(&["--share", "share,ro,dax=1G", "--root", "share,dax=2M"]);
    assert_eq!(json["shares"][0]["dax_bytes"], 2 << 20);
    assert_eq!(json["shares"][1]["dax_bytes"], 1 << 30);
    let json = bench.dry_run(&["--share", "share"]);
    assert_eq!(json["shares"][0]["dax_bytes"], 0);
    let refused = |share: &str, memory: &str| {
        let other = "share,tag=other,dax=2M";
        bench.mistake(&[
            "--dry-run",
            "--share",
            share,
            "--share",
            other,
            "--memory",
            memory,
        ])
    };
    let message = refused("share,dax=8G", "512M");
    assert!(
        message.contains("use at most 8G, or raise --memory"),
        "{message}"
    );
    let message = refused("share,dax=8000T", "512T");
    assert!(message.contains("vm.max_map_count"), "{message}");
    for option in ["cache=never", "cache=metadata", "writeback"] {
        let message = refused(&format!("share,dax=1G,{option}"), "512M");
        assert!(message.contains("exclude each other"), "{message}");
    }
}

#[test]
fn a_share_below_another_is_mounted_after_it() {
    let bench = Bench::new();
    let places = ["/a/b/c", "/x", "/a/b", "/a", "/a/d"];
    let shares = places.map(|place| format!("share,at={place}"));
    let mut arguments = Vec::new();
    for share in &shares {
        arguments.extend(["--share", share]);
    }
    arguments.extend(["--", "/a/program"]);
    let json = bench.dry_run(&arguments);
    let ats: Vec<&str> = (json["plan"]["shares"].as_array().unwrap().iter())
        .map(|share| share["at"].as_str().unwrap())
        .collect();
    // Otherwise in the order given.
    assert_eq!(ats, ["/x", "/a", "/a/b", "/a/d", "/a/b/c"]);
}

#[test]
fn a_root_is_an_overlay_with_a_shell() {
    let bench = Bench::new();
    let json = bench.dry_run(&["--root", "share"]);
    assert_eq!(json["boot"], "command");
    assert_eq!(json["plan"]["root"]["read_only"], true);
    assert_eq!(json["plan"]["command"], serde_json::json!([]));
    assert_eq!(json["plan"]["interactive"], true);

    assert!(json["plan"]["root"]["overlay_bytes"].is_null());

    let sized = ["--root", "share,overlay-size=1G"];
    let message = bench.mistake(&sized);
    assert!(message.contains("more than the guest's memory (512M)"));
    let json = bench.dry_run(&[&sized[..], &["--memory", "1G"]].concat());
    assert_eq!(json["plan"]["root"]["overlay_bytes"], 1 << 30);

    let json = bench.dry_run(&["--root", "share,rw", "--", "true"]);
    assert_eq!(json["boot"], "command");
    assert_eq!(json["plan"]["root"]["read_only"], false);
}

#[test]
fn a_foreign_initramfs_has_no_plan() {
    let bench = Bench::new();
    fs::write(bench.path("initramfs"), "070701").unwrap();
    let graceful = ["--initramfs", "initramfs", "--grace", "1s"];
    assert!(bench.mistake(&graceful).contains("leave --grace out"));
    let json = bench.dry_run(&["--initramfs", "initramfs"]);
    assert_eq!(json["boot"], "initramfs");
    assert!(json["plan"].is_null());
    assert_eq!(json["initramfs_bytes"], 6);
}

#[test]
fn named_modules_are_packed_and_shared() {
    let bench = Bench::new();
    let modules = bench.path("modules/6.1.0-none/kernel");
    fs::create_dir_all(&modules).unwrap();
    for (name, depends) in [
        ("virtio", ""),
        ("virtio_ring", "virtio"),
        ("virtio_mmio", "virtio_ring,virtio"),
        ("fuse", ""),
        ("virtiofs", "fuse,virtio_ring"),
    ] {
        let contents = format!("license=GPL\0depends={depends}\0");
        fs::write(modules.join(format!("{name}.ko")), contents).unwrap();
    }
    let json = bench.dry_run(&["--modules", "modules"]);
    assert_eq!(
        json["modules"],
        serde_json::json!(["virtio", "virtio_ring", "virtio_mmio", "fuse", "virtiofs"])
    );
    // Nobody has listed them.
    assert_eq!(json["shares"][0]["at"], "/lib/modules/6.1.0-none/files");
    let directory = json["modules_directory"].as_str().unwrap();
    assert!(directory.ends_with("modules/6.1.0-none"), "{directory}");
    assert_eq!(json["shares"][0]["read_only"], true);

    let place = "share,at=/lib/modules/6.1.0-none";
    let message = bench.mistake(&["--modules", "modules", "--share", place]);
    assert!(message.contains("or leave --modules out"), "{message}");

    fs::remove_file(modules.join("virtiofs.ko")).unwrap();
    fs::write(modules.join("../modules.builtin"), "kernel/a.ko\n").unwrap();
    let message = bench.mistake(&["--modules", "modules"]);
    assert!(message.contains("no virtiofs"), "{message}");
}

#[test]
fn arguments_that_are_not_utf8_reach_the_plan() {
    use std::os::unix::ffi::OsStrExt;
    let bench = Bench::new();
    let output = Command::new(env!("CARGO_BIN_EXE_vmm"))
        .current_dir(&bench.directory)
        .args(["run", "--dry-run", "--kernel", "bzImage", "--"])
        .arg(OsStr::from_bytes(b"\xff\x01"))
        .output()
        .unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["plan"]["command"][0], serde_json::json!([255, 1]));
}

#[test]
fn a_guest_that_is_to_do_without_acpi_is_not_told_to_power_off() {
    let bench = Bench::new();
    let json = bench.dry_run(&["--cmdline", "acpi=off"]);
    assert_eq!(json["plan"]["power_off"], false);
}

#[test]
fn paths_that_are_not_utf8_are_shown_byte_for_byte() {
    use std::os::unix::ffi::OsStrExt;
    let bench = Bench::new();
    let name = OsStr::from_bytes(b"\xff");
    fs::create_dir(bench.directory.path().join(name)).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_vmm"))
        .current_dir(&bench.directory)
        .args(["run", "--dry-run", "--kernel", "bzImage", "--share"])
        .arg(name)
        .output()
        .unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let directory = json["shares"][0]["directory"].as_array().unwrap();
    assert_eq!(directory.last(), Some(&serde_json::json!(255)));
}

/// On a host that boots no Linux this is the way to the lab; elsewhere the
/// kernel of zeros fails in its own way.
#[test]
fn a_run_that_cannot_be_reports_why_and_leaves_nothing() {
    let bench = Bench::new();
    let before = names(bench.directory.path());
    let output = bench.vmm(&[
        "run",
        "--kernel",
        "bzImage",
        "--timeout",
        "5s",
        "--",
        "true",
    ]);
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.lines().last().unwrap().starts_with("vmm: error: "));
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap();
    let boots = cpuinfo
        .split_whitespace()
        .any(|flag| flag == "vmx" || flag == "svm");
    let status = output.status.code().unwrap();
    let kvm = fs::File::options().read(true).write(true).open("/dev/kvm");
    if boots && kvm.is_ok() {
        // Zeros are instructions that go on to the end of memory, or fault before.
        assert!(status == 124 || status == 255, "{status}: {message}");
    } else {
        assert_eq!(status, 125, "{message}");
    }
    assert_eq!(names(bench.directory.path()), before);
}

fn names(directory: &Path) -> Vec<PathBuf> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    names
}
