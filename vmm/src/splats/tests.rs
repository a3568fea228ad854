//! Reports as Linux writes them, line by line.

use super::*;

fn policy(fail_on: FailOn, allow: &[&str]) -> Policy {
    Policy {
        fail_on,
        allow: allow.iter().map(|text| Regex::new(text).unwrap()).collect(),
    }
}

fn splats_of(text: &str, policy: Policy) -> Splats {
    let mut scanner = Scanner::new(policy);
    for (line, time) in text.lines().map(str::trim_start).zip(0_u32..) {
        scanner.take(Line {
            time: Some(f64::from(time)),
            text: line,
            shown: line,
        });
    }
    scanner.splats()
}

fn on_warn(text: &str) -> Splats {
    splats_of(text, policy(FailOn::Warn, &[]))
}

fn kinds(splats: &Splats) -> Vec<Kind> {
    splats.list().iter().map(|splat| splat.kind).collect()
}

const WARNING: &str = "\
    all is well
    ------------[ cut here ]------------
    refcount_t: underflow; use-after-free.
    WARNING: CPU: 0 PID: 7 at lib/refcount.c:28 refcount_warn_saturate+0xba/0x110
    Modules linked in:
    RIP: 0010:refcount_warn_saturate+0xba/0x110
    Call Trace:
     f+0x1/0x2
    RIP: 0033:0x7f0000000000
    ---[ end trace 0000000000000000 ]---
    afterwards";

const OOPS: &str = "\
    BUG: kernel NULL pointer dereference, address: 0000000000000000
    #PF: supervisor write access in kernel mode
    #PF: error_code(0x0002) - not-present page
    PGD 0 P4D 0
    Oops: 0002 [#1] PREEMPT SMP NOPTI
    CPU: 0 PID: 96 Comm: insmod Tainted: G           OE
    RIP: 0010:broken_init+0x5/0x1000 [broken]
    Call Trace:
     <TASK>
    ---[ end trace 0000000000000000 ]---";

#[test]
fn a_warning_has_its_message_and_its_place() {
    let splats = on_warn(WARNING);
    let [splat] = splats.list() else {
        panic!("{splats:?}");
    };
    assert_eq!(
        (splat.kind, splat.severity),
        (Kind::Warning, Severity::Warn)
    );
    assert!(
        splat
            .line
            .starts_with("WARNING: CPU: 0 PID: 7 at lib/refcount.c:28")
    );
    let message = splat.message.as_deref();
    assert_eq!(message, Some("refcount_t: underflow; use-after-free."));
    let place = splat.location.as_deref();
    assert_eq!(place, Some("refcount_warn_saturate+0xba/0x110"));
    assert_eq!(splat.time, Some(3.0));
}

#[test]
fn an_oops_of_several_heads_is_one_splat() {
    let splats = on_warn(OOPS);
    assert_eq!(kinds(&splats), [Kind::Bug]);
    let failure = splats.failure().unwrap();
    assert_eq!(
        failure,
        "BUG: kernel NULL pointer dereference, address: 0000000000000000: \
         broken_init+0x5/0x1000 [broken]"
    );
    for one in [
        "kernel BUG at f.c:1!\ninvalid opcode: 0000 [#1] SMP",
        "Oops: general protection fault, probably for x: 0000 [#1] SMP",
        "int3: 0000 [#1] SMP",
    ] {
        assert_eq!(on_warn(one).list().len(), 1, "{one}");
    }
    // The next one is another.
    assert_eq!(on_warn(&[OOPS, OOPS].join("\n")).list().len(), 2);
    assert_eq!(on_warn("int3: 0000 [#1]\nint3: 0000 [#2]").list().len(), 2);
    // And nothing dies of a task that hangs.
    let hung = "INFO: task sh:1 blocked for more than 120 seconds.\nint3: 0000 [#1] SMP";
    assert_eq!(kinds(&on_warn(hung)), [Kind::HungTask, Kind::Oops]);
}

#[test]
fn a_report_between_rules_is_one_splat() {
    let rule = "=".repeat(66);
    let text = format!(
        "{rule}\nBUG: KASAN: use-after-free in f+0x1/0x2 [m]\nRead of size 1\n{rule}\n\n\
         {rule}\nWARNING: possible recursive locking detected\n6.1.0 Not tainted\n"
    );
    assert_eq!(kinds(&on_warn(&text)), [Kind::Kasan, Kind::Lockdep]);
    let splats = on_warn(&text);
    let excerpt = splats.excerpt(100);
    assert_eq!(excerpt.first(), Some(&rule.as_str()));
    assert_eq!(excerpt.join("\n"), text.trim_end());
}

#[test]
fn a_warning_that_makes_the_kernel_panic_is_worse() {
    let text = WARNING.replace(
        "Call Trace:",
        "Kernel panic - not syncing: panic_on_warn set",
    );
    let splats = splats_of(&text, policy(FailOn::Oops, &[]));
    assert_eq!(kinds(&splats), [Kind::Warning]);
    assert!(splats.failure().is_some());
    let excerpt = splats.excerpt(100);
    assert!(excerpt[0].contains("cut here"), "{excerpt:?}");
}

#[test]
fn a_panic_is_no_part_of_what_was_long_before() {
    let hung = "INFO: task sh:12 blocked for more than 120 seconds.";
    let panic = "Kernel panic - not syncing: hung_task: blocked tasks";
    let at_once = format!("{hung}\n task:sh state:D\n{panic}");
    assert_eq!(kinds(&on_warn(&at_once)), [Kind::HungTask]);
    // A line a second.
    let later = format!("{hung}\n{}{panic}", "all is well\n".repeat(60));
    assert_eq!(kinds(&on_warn(&later)), [Kind::HungTask, Kind::Panic]);
    // And where the kernel does not say when.
    for (lines, number) in [(60, 1), (200, 2)] {
        let mut scanner = Scanner::new(policy(FailOn::Warn, &[]));
        let text = format!("{hung}\n{}{panic}", "all is well\n".repeat(lines));
        for line in text.lines() {
            scanner.take(Line {
                time: None,
                text: line,
                shown: line,
            });
        }
        assert_eq!(scanner.splats().list().len(), number);
    }
}

#[test]
fn what_hangs_is_no_oops_and_fails_as_one() {
    for (line, kind) in [
        (
            "watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [sh:1]",
            "soft-lockup",
        ),
        (
            "rcu: INFO: rcu_preempt self-detected stall on CPU",
            "rcu-stall",
        ),
        (
            "INFO: task sh:12 blocked for more than 120 seconds.",
            "hung-task",
        ),
    ] {
        let splats = splats_of(line, policy(FailOn::Oops, &[]));
        assert!(splats.failure().is_some(), "{line}");
        let json = serde_json::to_value(&splats.list()[0]).unwrap();
        assert_eq!(
            (&json["kind"], &json["severity"]),
            (&kind.into(), &"hang".into())
        );
    }
    let unseen = splats_of("", policy(FailOn::Oops, &[])).with_taint(Some(1 << 14));
    assert!(unseen.failure().is_some());
}

#[test]
fn what_fails_is_as_asked() {
    let both = [WARNING, OOPS].join("\n");
    for (fail_on, warning, oops) in [
        (FailOn::Oops, false, true),
        (FailOn::Warn, true, true),
        (FailOn::Never, false, false),
    ] {
        let fails = |text| splats_of(text, policy(fail_on, &[])).failure();
        assert_eq!(fails(WARNING).is_some(), warning, "{fail_on:?}");
        assert_eq!(fails(OOPS).is_some(), oops, "{fail_on:?}");
        assert_eq!(fails(""), None);
    }
    assert!(on_warn(&both).failure().unwrap().ends_with("(and 1 more)"));
}

#[test]
fn what_is_expected_does_not_fail() {
    for pattern in ["refcount.c:28", "^refcount_t: under", r"_saturate\+"] {
        let splats = splats_of(WARNING, policy(FailOn::Warn, &[pattern]));
        assert!(splats.list()[0].allowed, "{pattern}");
        assert_eq!(splats.failure(), None);
        assert!(splats.excerpt(9).is_empty());
    }
    // What is further below is not what it is.
    let splats = splats_of(
        WARNING,
        policy(FailOn::Warn, &["Modules linked", "f\\+0x1"]),
    );
    assert!(splats.failure().is_some());
}

#[test]
fn the_excerpt_begins_at_the_first_that_counts() {
    let both = [WARNING, OOPS, "the end"].join("\n");
    let first = |policy| splats_of(&both, policy).excerpt(120)[0].to_owned();
    assert!(first(policy(FailOn::Oops, &[])).starts_with("BUG: kernel NULL"));
    assert!(first(policy(FailOn::Warn, &[])).contains("cut here"));
    assert!(first(policy(FailOn::Warn, &["refcount"])).starts_with("BUG: kernel NULL"));
    // One that counts for nothing is better than none.
    let splats = splats_of(WARNING, policy(FailOn::Oops, &[]));
    assert!(splats.excerpt(120)[0].contains("cut here"));

    let splats = on_warn(&both);
    let excerpt = splats.excerpt(120);
    assert_eq!(excerpt.len(), both.lines().count() - 1);
    assert_eq!(excerpt.last(), Some(&"the end"));
    assert_eq!(splats.excerpt(3).len(), 3);
    let long = format!("{OOPS}\n{}", "more\n".repeat(1000));
    assert_eq!(on_warn(&long).excerpt(5000).len(), 120);
}

#[test]
fn any_number_is_counted_and_few_are_kept() {
    let text = format!("{}{OOPS}", format!("{WARNING}\n").repeat(1000));
    let splats = on_warn(&text);
    assert_eq!(splats.list().len(), 64);
    assert!(splats.failure().unwrap().ends_with("(and 1000 more)"));
    let splats = splats_of(&text, policy(FailOn::Warn, &["refcount"]));
    let failure = splats.failure().unwrap();
    assert_eq!(failure, "1 splats after many that are allowed");
}

#[test]
fn a_taint_tells_of_what_was_not_seen() {
    let unseen = |text: &str, bits| on_warn(text).with_taint(Some(bits)).list().len();
    // Modules of one's own, and tests.
    let harmless = 1 << 0 | 1 << 12 | 1 << 13 | 1 << 18;
    assert_eq!(unseen("", harmless), 0);
    assert_eq!(unseen("", 1 << 7), 1);
    assert_eq!(unseen(OOPS, 1 << 7), 1);
    assert_eq!(unseen(WARNING, 1 << 9), 1);
    // BUGs such as "sleeping function called" leave the flag of a warning.
    assert_eq!(unseen(OOPS, 1 << 7 | 1 << 9), 1);
    assert_eq!(unseen("", 1 << 9), 1);
    let splats = splats_of("", policy(FailOn::Oops, &[])).with_taint(Some(1 << 9));
    assert_eq!(splats.failure(), None);
    let splats = splats_of("", policy(FailOn::Oops, &[])).with_taint(Some(1 << 7 | 1 << 9));
    assert!(splats.failure().unwrap().contains("D, an oops"));
    // Expected ones explain it, too.
    let expected = policy(FailOn::Warn, &["refcount"]);
    let splats = splats_of(WARNING, expected).with_taint(Some(1 << 9));
    assert_eq!(splats.failure(), None);
}
