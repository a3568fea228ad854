//! What survives the journey, and what is refused.

use super::*;

#[test]
fn a_plan_survives_the_journey_byte_for_byte() {
    let plan = Plan {
        command: vec!["printf".into(), OsString::from_vec(vec![b'a', 0xff]).into()],
        environment: vec!["A=b c".into()],
        working_directory: Some("/mnt".into()),
        hostname: "vm".into(),
        init: Some("/sbin/init".into()),
        user: Some("alice".into()),
        root: Some(RootPlan {
            host: Some(HostUser {
                name: "alice".into(),
                uid: 1000,
                gid: 1000,
                home: "/home/alice".into(),
                shell: "/bin/zsh".into(),
            }),
            overlay_bytes: Some(1 << 30),
            tag: "root".into(),
            read_only: true,
        }),
        modules: Some(ModulesPlan {
            tag: "modules".into(),
            release: "6.1.0".into(),
            below: Some("build".into()),
            asked: true,
        }),
        shares: vec![SharePlan {
            tag: "t".into(),
            at: "/mnt/t".into(),
            read_only: false,
        }],
        terminal: Some(WindowSize {
            rows: 24,
            columns: 80,
        }),
        interactive: false,
        power_off: true,
    };
    let json = serde_json::to_vec(&plan).unwrap();
    assert_eq!(serde_json::from_slice::<Plan>(&json).unwrap(), plan);
}

#[test]
fn a_status_reads_as_documented() {
    let json = serde_json::to_string(&Status::Exited { code: 3 }).unwrap();
    assert_eq!(json, r#"{"outcome":"exited","code":3}"#);
}

#[test]
fn a_status_with_surplus_fields_is_refused() {
    let json = r#"{"outcome":"exited","code":3,"signal":9}"#;
    assert!(serde_json::from_str::<Status>(json).is_err());
}

#[test]
fn a_status_out_of_range_is_refused() {
    let json = r#"{"outcome":"exited","code":256}"#;
    assert!(serde_json::from_str::<Status>(json).is_err());
}

#[test]
fn a_moment_survives_the_journey_to_the_nanosecond() {
    let moment = WallTime {
        seconds: 1_700_000_000,
        nanoseconds: 42,
    };
    assert_eq!(moment.to_string(), "1700000000.000000042");
    assert_eq!(WallTime::from_text(b"1700000000.000000042"), Some(moment));
}

#[test]
fn a_moment_in_any_other_form_is_refused() {
    for text in [
        "",
        ".",
        "1",
        "1.",
        ".000000001",
        "1.5",
        "1.0000000000",
        "-1.000000000",
        "+1.000000000",
        "1.+00000000",
        "1.000000000\n",
        " 1.000000000",
        "1.000000000.0",
        "18446744073709551616.000000000",
    ] {
        assert_eq!(WallTime::from_text(text.as_bytes()), None, "{text:?}");
    }
    assert_eq!(WallTime::from_text(b"1.00000000\xff"), None);
}

#[test]
fn marks_are_found_by_their_exact_names_only() {
    assert_eq!(Mark::from_name(b"init-started"), Some(Mark::InitStarted));
    assert_eq!(Mark::from_name(b"init-started\n"), None);
}
