//! What users write for a share, and what they are told when it is wrong.

mod together;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;

use devices::passthrough::{CachePolicy, Config, Owners};
use devices::virtio::fs::QUEUE_SIZES;

use super::error::Error;
use super::option::Takes;
use super::table::OPTIONS;
use super::*;

fn parse(text: &str) -> Result<ShareArgument, Error> {
    share(OsStr::new(text))
}

fn message(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn a_directory_alone_is_enough() {
    let share = parse("./dir").unwrap();
    assert_eq!(
        share,
        ShareArgument {
            directory: "./dir".into(),
            ..ShareArgument::default()
        }
    );
}

#[test]
fn every_option_is_read() {
    let share = parse(
        "d,tag=t,at=/x,rw,cache=always,xattr,acl,submounts,idmap,export,owners=user,forget-owners,locks,dax=1G,queues=3,queue-size=64,access-platform",
    );
    let mut service = Service::default();
    service.server.cache = CachePolicy::Always;
    service.server.posix_acl = true;
    service.server.announce_submounts = true;
    service.server.idmap = true;
    service.server.remembered = Config::EXPORTED;
    service.server.owners = Owners::User;
    service.server.forget_owners = true;
    service.server.locks = true;
    service.queues.requests = 3;
    service.queues.size = 64;
    service.access_platform = true;
    service.window = Some("1G".parse().unwrap());
    assert_eq!(
        share.unwrap(),
        ShareArgument {
            directory: "d".into(),
            tag: Some("t".into()),
            at: Some("/x".into()),
            service,
            maps: IdMaps::default(),
            overlay_size: None,
        }
    );
    assert!(parse("d,ro").unwrap().service.server.read_only);
    assert!(parse("d,writeback").unwrap().service.server.writeback);
    let atomic = parse("d,writeback,atomic-truncate").unwrap();
    assert!(atomic.service.server.atomic_truncate && atomic.service.server.writeback);
    assert!(!parse("d,no-xattr").unwrap().service.server.xattr);
    assert!(parse("d").unwrap().service.server.xattr);
}

#[test]
fn every_option_that_is_explained_is_read_and_shown() {
    for option in OPTIONS {
        let words: Vec<String> = match &option.takes {
            Takes::Nothing(_) => vec![option.name.into()],
            Takes::Choice(choices) => (choices.iter())
                .map(|choice| format!("{}={}", option.name, choice.value))
                .collect(),
            Takes::Value { example, .. } | Takes::Several { example, .. } => {
                vec![format!("{}={example}", option.name)]
            }
            Takes::Directory => continue,
        };
        for word in words {
            let read = if option.root_only { root } else { share };
            let needed = option.needs.as_ref().map(|need| need.other);
            let needed = needed.map_or_else(String::new, |needed| format!(",{needed}"));
            let given = read(OsStr::new(&format!("d,{word}{needed}"))).unwrap();
            let Some((name, value)) = option.shown else {
                continue;
            };
            let plain = shown(&Service::default())[name].clone();
            let now = value(&given.service);
            assert_eq!(shown(&given.service)[name], now);
            let is_default = word.ends_with(&format!("={}", option.default));
            assert_eq!(now == plain, is_default, "{word}");
        }
    }
}

#[test]
fn the_defaults_that_are_explained_are_those_that_hold() {
    let plain = shown(&Service::default());
    for option in OPTIONS {
        let Some((name, _)) = option.shown else {
            continue;
        };
        match &option.takes {
            Takes::Choice(_) | Takes::Value { .. } | Takes::Several { .. } => {
                let given = parse(&format!("d,{}={}", option.name, option.default)).unwrap();
                assert_eq!(shown(&given.service)[name], plain[name], "{}", option.name);
            }
            Takes::Nothing(_) => match option.default {
                "off" => assert_eq!(plain[name], false, "{}", option.name),
                // The opposite of an option that is on.
                "" => assert_eq!(plain[name], true, "{}", option.name),
                other => panic!("{}: what is {other}?", option.name),
            },
            Takes::Directory => {}
        }
    }
}

#[test]
fn limits_that_are_explained_are_those_that_hold() {
    let help = |name: &str| OPTIONS.iter().find(|o| o.name == name).unwrap().help;
    let (least, most) = (QUEUE_SIZES.start(), QUEUE_SIZES.end());
    assert!(help("tag").contains(&format!("at most {MAX_TAG} bytes")));
    assert!(help("queue-size").contains(&format!("from {least} to {most}")));
}

#[test]
fn an_option_is_given_once() {
    for twice in ["ro", "queues=2", "dax=64M", "tag=a"] {
        let message = message(&format!("d,{twice},{twice}"));
        assert!(
            message.contains(&format!("{twice} is given twice")),
            "{message}"
        );
    }
    let message = message("d,cache=auto,cache=always");
    assert!(message.contains("cache=auto and cache=always"), "{message}");
    assert!(parse("d,tag=a,tag=b").is_err());
}

#[test]
fn maps_are_ranges_that_have_nobody_in_common() {
    let share = parse("d,uid-map=0:1000:1,uid-map=1:100000:65536,gid-map=0:1000:1").unwrap();
    assert_eq!(share.service.server.owners, Owners::Mapped);
    let shown = |map: &IdMap| {
        map.ranges()
            .iter()
            .map(IdRange::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(shown(&share.maps.uids), ["0:1000:1", "1:100000:65536"]);
    assert_eq!(shown(&share.maps.gids), ["0:1000:1"]);
    let last = parse("d,owners=map,uid-map=4294967294:4294967294:1").unwrap();
    assert!(last.maps.uids.ranges()[0].has_guest(u32::MAX - 1));
    assert!(message("d,gid-map=0:5:1,gid-map=0:5:1").contains("given twice"));
    let again = message("d,gid-map=0:5:1,gid-map=1:6:1,gid-map=0:5:1");
    assert!(again.contains("somebody in common"), "{again}");
    for wrong in [
        "",
        "0",
        "0:0",
        "0:0:0",
        "0:0:1:1",
        "0:0:x",
        "-1:0:1",
        "+1:0:1",
        "4294967295:0:1",
        "0:4294967295:1",
        "1:0:4294967295",
        "0:1:4294967295",
        "0:4294967296:1",
        " 0:0:1",
    ] {
        let message = message(&format!("d,uid-map={wrong}"));
        assert!(message.contains("three numbers such as"), "{message}");
    }
    assert!(parse("d,uid-map=0:0:4294967295").is_ok());
    for clash in [
        // In the guest, and on the host; at the ends.
        ("0:100:10", "9:500:1"),
        ("9:500:1", "0:100:10"),
        ("0:100:10", "50:109:5"),
        ("50:100:1", "0:95:10"),
    ] {
        let (one, other) = clash;
        let message = message(&format!("d,uid-map={one},uid-map={other}"));
        assert!(
            message.contains(&format!("uid-map={other} and uid-map={one}")),
            "{message}"
        );
    }
    assert!(parse("d,uid-map=0:100:10,uid-map=10:110:10").is_ok());
    let many: String = (0..341)
        .map(|n| format!(",uid-map={n}:{}:1", 2 * n))
        .collect();
    assert!(message(&format!("d{many}")).contains("more than 340 times"));
    assert!(parse(&format!("d{}", &many[..many.rfind(',').unwrap()])).is_ok());
}

#[test]
fn a_root_is_read_only_unless_asked_otherwise() {
    let read_only = |text: &str| root(OsStr::new(text)).unwrap().service.server.read_only;
    assert!(read_only("d"));
    assert!(read_only("d,ro"));
    assert!(!read_only("d,rw"));
    assert!(!parse("d").unwrap().service.server.read_only);
}

#[test]
fn only_a_root_has_an_overlay_and_the_overlay_has_a_size() {
    let root = |text: &str| root(OsStr::new(text));
    let size = root("d,overlay-size=64M").unwrap().overlay_size;
    assert_eq!(size.unwrap().bytes(), 64 << 20);
    for wrong in ["0", "0K", "x", "-1M", ""] {
        let message = root(&format!("d,overlay-size={wrong}")).unwrap_err();
        let message = message.to_string();
        assert!(message.contains("above 0, such as 64M"), "{message}");
    }
    assert!(message("d,overlay-size=64M").contains("for --root only"));
}

#[test]
fn a_window_is_whole_units_and_may_be_nothing() {
    let window = |text: &str| parse(text).unwrap().service.window;
    assert_eq!(window("d,dax=6M").unwrap().bytes(), 6 << 20);
    assert_eq!(window("d,ro,dax=2G").unwrap().bytes(), 2 << 30);
    assert_eq!(window("d,dax=0"), None);
    assert_eq!(window("d"), None);
    for wrong in ["1M", "3M", "2K", "x", "-2M", "", "99999999999T"] {
        let message = message(&format!("d,dax={wrong}"));
        assert!(message.contains("a multiple of 2M"), "{message}");
    }
}

#[test]
fn a_directory_with_commas_goes_last_as_path() {
    let share = parse("tag=t,path=/a,b,ro").unwrap();
    assert_eq!(share.directory, Path::new("/a,b,ro"));
    assert_eq!(share.tag.as_deref(), Some("t"));
    assert!(!share.service.server.read_only);
    assert!(message("d,path=e").contains("unknown option"));
}

#[test]
fn a_directory_named_like_a_flag_is_a_directory() {
    assert_eq!(parse("ro").unwrap().directory, Path::new("ro"));
}

#[test]
fn mistakes_are_explained() {
    assert!(message("d,foo").contains("unknown option 'foo'"));
    assert!(message("d,fax=1G").contains("unknown option 'fax=1G'"));
    assert!(message("d,a,b").contains("path=DIR"));
    assert!(message("d,foo").contains(
        "writeback, atomic-truncate, xattr, no-xattr, acl, submounts, idmap, export, owners=, uid-map=, gid-map=, forget-owners, locks, dax=, queues=, queue-size=, access-platform"
    ));
    assert!(message("d,cache=none").contains("never, metadata, auto, always"));
    assert!(message("d,cache").contains("cache=auto"));
    assert!(message("d,queues=0").contains("from 1 to 64"));
    assert!(message("d,queues=65").contains("from 1 to 64"));
    for size in ["8", "24", "2048", "65536", "x"] {
        let message = message(&format!("d,queue-size={size}"));
        assert!(message.contains("power of two from 16 to 1024"), "{size}");
    }
    assert!(message("d,queue-size").contains("queue-size=256"));
    assert!(message("d,dax").contains("dax=1G"));
    assert!(message("d,tag").contains("tag=NAME"));
    assert!(message("d,ro=1").contains("takes no value"));
    assert!(message("d,ro,rw").contains("exclude each other"));
    assert!(message("d,at=mnt").contains("absolute"));
    assert!(message("d,tag=").contains("empty"));
    assert!(message("d,tag=vmm.session").contains("reserved"));
    assert!(message("").contains("name a directory"));
    assert!(message("tag=x").contains("name a directory"));
}

#[test]
fn a_tag_has_36_bytes_at_most() {
    let longest = "x".repeat(36);
    assert_eq!(
        parse(&format!("d,tag={longest}")).unwrap().tag,
        Some(longest)
    );
    assert!(message(&format!("d,tag={}", "x".repeat(37))).contains("37 bytes"));
    assert!(message(&format!("d,tag={}", "é".repeat(19))).contains("38 bytes"));
}

#[test]
fn a_tag_that_the_guest_cannot_mount_is_refused() {
    assert!(message("d,tag=a\nb").contains("newline"));
    assert!(message("d,tag=a\0b").contains("NUL"));
}

#[test]
fn places_that_the_guest_cannot_have_are_refused() {
    let place = |name: usize, times: usize| format!("/{}", "a".repeat(name)).repeat(times);
    for at in [place(255, 1), place(1, 2047)] {
        let share = parse(&format!("d,at={at}")).unwrap();
        assert_eq!(share.at.as_deref(), Some(Path::new(&at)));
    }
    for at in [place(256, 1), place(1, 2048)] {
        assert!(message(&format!("d,at={at}")).contains("a path that Linux can have"));
    }
}

#[test]
fn places_that_hide_what_the_guest_needs_are_refused() {
    for place in ["/proc", "/dev", "/sys", "/sys/fs", "//dev/", "/proc/./x"] {
        let message = message(&format!("d,at={place}"));
        assert!(
            message.contains("would hide what the guest needs"),
            "{message}"
        );
    }
    assert!(message("d,at=/").contains("--root"));
    assert!(message("d,at=/mnt/../proc").contains("without '..'"));
    for (place, at) in [("/tmp", "/tmp"), ("//a/", "/a"), ("/process", "/process")] {
        let share = parse(&format!("d,at={place}")).unwrap();
        assert_eq!(share.at.as_deref(), Some(Path::new(at)));
    }
}

#[test]
fn the_readme_has_the_table_of_the_options() {
    let readme = include_str!("../../../../README.md");
    let table = text::markdown();
    assert!(readme.contains(&table), "the README should have:\n{table}");
}

#[test]
fn the_help_names_every_option() {
    let help = help();
    for option in OPTIONS {
        assert!(help.contains(&format!("\n{}", option.name)), "{help}");
    }
    assert!(!help.contains('`'));
}

#[test]
fn the_explanations_in_the_help_start_in_one_column() {
    let help = help();
    let options = help.lines().skip(2);
    let column = |line: &str| {
        line.find("  ")
            .map(|end| end + line[end..].len() - line[end..].trim_start().len())
    };
    let columns: BTreeSet<_> = options.map(column).collect();
    assert_eq!(columns.len(), 1, "{help}");
    assert!(!columns.contains(&None), "{help}");
}
