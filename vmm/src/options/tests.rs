//! Command lines as people write them.

use super::*;

fn parse(arguments: &[&str]) -> Result<RunArguments, String> {
    let all = ["vmm", "run"].iter().chain(arguments);
    match Cli::try_parse_from(all) {
        Ok(Cli {
            command: Task::Run(arguments),
        }) => Ok(*arguments),
        Ok(other) => Err(format!("{other:?}")),
        Err(error) => Err(mistake(&error, Some("run".as_ref()))),
    }
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn a_kernel_and_a_share_are_enough() {
    let arguments = parse(&["--kernel", "bzImage", "--share", "./dir"]).unwrap();
    assert_eq!(arguments.kernel, Some(PathBuf::from("bzImage")));
    assert_eq!(arguments.shares.len(), 1);
    assert_eq!(arguments.memory, Size::from_mebibytes(512));
}

#[test]
fn what_is_typed_every_day_is_short() {
    let line = [
        "-k", "bzImage", "-m", "1G", "-c", "2", "-a", "x", "--append", "y",
    ];
    let arguments = parse(&line).unwrap();
    assert_eq!(arguments.kernel, Some(PathBuf::from("bzImage")));
    assert_eq!(
        (arguments.cpus, arguments.memory),
        (2, Size::from_mebibytes(1024))
    );
    assert_eq!(arguments.cmdline, ["x", "y"]);
}

#[test]
fn everything_after_the_dashes_is_the_command() {
    let arguments = parse(&["--kernel", "k", "--", "ls", "-l", "--", "--share"]).unwrap();
    assert_eq!(arguments.command, ["ls", "-l", "--", "--share"]);
}

#[test]
fn mistakes_take_one_line() {
    for (arguments, part) in [
        (&["--kernel", "k", "--cpus", "0"][..], "from 1 to 255"),
        (&["--kernel", "k", "--cpus", ""], "from 1 to 255"),
        (&["--kernel", "k", "--cpus", "256"], "from 1 to 255"),
        (&["--kernel", "k", "--memory", "lots"], "whole number"),
        (&["--kernel", "k", "--memory", "-1"], "whole number"),
        (&["--kernel", "k", "--timeout", "-1"], "500ms, 30s"),
        (&["--kernel", "k", "--timeout", "soon"], "500ms, 30s"),
        (&["--kernel", "k", "--timeout", "0"], "leaves no time"),
        (&["--kernel", "k", "--grace", "soon"], "500ms, 30s"),
        (
            &["--kernel", "k", "--share", "d,foo"],
            "unknown option 'foo'",
        ),
        (&["--kernel", "k", "--chare", "d"], "found; tip: a similar"),
        (&["--krnel", "k"], "exists: '--kernel' (vmm run --help"),
        (
            &["--kernel", "k", "--env", "-x"],
            "unexpected argument '-x' found (vmm run --help",
        ),
        (&["--kernel", "k", "ls"], "'ls'"),
        (
            &["--kernel", "k", "ls", "-l"],
            "COMMAND and its arguments after --",
        ),
        (&["bzImage"], "the kernel goes after --kernel"),
        (&["--kernel", "k", "-x"], "'-x' found (vmm run --help"),
        (&["--kernel", "k", "--fail-on", "x"], "oops, warn, never"),
        (&["--kernel", "k", "--allow-splat", "a(b"], "unclosed group"),
        (&["--kernel", "k", "--allow-splat", ""], "every splat"),
        (&["--kernel", "k", "--allow-splat", ".*|x"], "every splat"),
        (
            &["--kernel", "k", "--initramfs", "i", "--", "ls"],
            "cannot be used with",
        ),
        (
            &["--kernel", "k", "--initramfs", "i", "--root", "d"],
            "cannot be used with",
        ),
    ] {
        let message = parse(arguments).unwrap_err();
        assert!(message.contains(part), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }
}

#[test]
fn the_report_is_found_in_a_command_line_with_mistakes() {
    let report = |arguments: &[&str]| value_of("--report", arguments.iter().map(Into::into));
    let found = Some(PathBuf::from("r"));
    assert_eq!(report(&["run", "--nonsense", "--report", "r"]), found);
    assert_eq!(report(&["run", "--report=r", "--cpus", "0"]), found);
    for without in [
        &["run", "--", "--report", "r"][..],
        &["run", "--report", "--kernel", "r"],
        &["run", "--report"],
        &["run", "--reports", "r"],
    ] {
        assert_eq!(report(without), None, "{without:?}");
    }
}

#[test]
fn durations_have_a_unit_or_are_seconds() {
    assert_eq!(parse_duration("30"), Ok(Duration::from_secs(30)));
    assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
    assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
    assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
    for endless in [
        "18446744073709551615",
        "18446744073709552",
        "99999999999999h",
    ] {
        assert!(parse_duration(endless).is_err(), "{endless}");
    }
}
