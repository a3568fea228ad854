//! What users write for a share, and what they are told when it is wrong.

use super::*;

fn parse(text: &str) -> Result<ShareArgument, Error> {
    ShareArgument::parse(OsStr::new(text))
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
    let share =
        parse("d,tag=t,at=/x,ro,cache=never,writeback,xattr,queues=3,queue-size=64").unwrap();
    assert_eq!(
        share,
        ShareArgument {
            directory: "d".into(),
            tag: Some("t".into()),
            at: Some("/x".into()),
            read_only: Some(true),
            cache: Cache::Never,
            writeback: true,
            xattr: true,
            queues: Some(3),
            queue_size: Some(64),
        }
    );
}

#[test]
fn a_directory_with_commas_goes_last_as_path() {
    let share = parse("tag=t,path=/a,b,ro").unwrap();
    assert_eq!(share.directory, Path::new("/a,b,ro"));
    assert_eq!(share.tag.as_deref(), Some("t"));
    assert_eq!(share.read_only, None);
}

#[test]
fn a_directory_named_like_a_flag_is_a_directory() {
    assert_eq!(parse("ro").unwrap().directory, Path::new("ro"));
}

#[test]
fn mistakes_are_explained() {
    assert!(message("d,foo").contains("unknown option 'foo'"));
    assert!(message("d,a,b").contains("path=DIR"));
    assert!(message("d,dax=1G").contains("'dax' is not supported yet"));
    assert!(message("d,cache=none").contains("never, auto, always and metadata"));
    assert!(message("d,queues=0").contains("from 1 to 64"));
    assert!(message("d,queues=65").contains("from 1 to 64"));
    for size in ["8", "24", "2048", "65536", "x"] {
        let message = message(&format!("d,queue-size={size}"));
        assert!(message.contains("power of two from 16 to 1024"), "{size}");
    }
    assert!(message("d,queue-size").contains("queue-size=256"));
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

fn argument(directory: &Path) -> ShareArgument {
    ShareArgument {
        directory: directory.to_owned(),
        ..ShareArgument::default()
    }
}

#[test]
fn default_tags_are_names_made_unique() {
    let top = tempfile::tempdir().unwrap();
    let (a, b) = (top.path().join("a/same"), top.path().join("b/same"));
    std::fs::create_dir_all(&a).unwrap();
    std::fs::create_dir_all(&b).unwrap();

    let shares = settle(None, &[argument(&a), argument(&b)]).unwrap();

    let tags: Vec<_> = shares.iter().map(|share| share.tag.as_str()).collect();
    assert_eq!(tags, ["same", "same-2"]);
    assert_eq!(shares[1].at, Path::new("/mnt/same-2"));
    assert!(!shares[0].read_only);
}

#[test]
fn a_default_tag_never_takes_the_tag_of_another_share() {
    let top = tempfile::tempdir().unwrap();
    let directory = top.path().join("x");
    std::fs::create_dir(&directory).unwrap();
    let named = ShareArgument {
        tag: Some("x".into()),
        ..argument(top.path())
    };
    let shares = settle(None, &[argument(&directory), named]).unwrap();
    assert_eq!(shares[0].tag, "x-2");
    assert_eq!(shares[1].tag, "x");
}

#[test]
fn a_long_directory_name_is_cut_to_a_tag_of_whole_characters() {
    let name = "é".repeat(30);
    let tag = default_tag(Path::new(&name));
    assert_eq!(tag, "é".repeat(18));
    let mut tags = HashSet::from([tag.clone()]);
    assert_eq!(unique(&tag, &mut tags), format!("{}-2", "é".repeat(17)));
}

#[test]
fn a_root_is_read_only_unless_asked_otherwise_and_comes_first() {
    let top = tempfile::tempdir().unwrap();
    let root = argument(top.path());
    let settled = settle(Some(&root), &[argument(top.path())]).unwrap();
    assert_eq!(settled[0].at, Path::new("/"));
    assert!(settled[0].read_only);
    let writable = ShareArgument {
        read_only: Some(false),
        ..root
    };
    assert!(!settle(Some(&writable), &[]).unwrap()[0].read_only);
}

#[test]
fn conflicts_between_shares_are_found() {
    let top = tempfile::tempdir().unwrap();
    let with = |tag: Option<&str>, at: Option<&str>| ShareArgument {
        tag: tag.map(Into::into),
        at: at.map(Into::into),
        ..argument(top.path())
    };
    assert_eq!(
        settle(None, &[with(Some("t"), None), with(Some("t"), None)]),
        Err(Error::TagTwice("t".into()))
    );
    assert_eq!(
        settle(None, &[with(None, Some("/a")), with(None, Some("//a/"))]),
        Err(Error::AtTwice("/a".into()))
    );
    assert_eq!(settle(None, &[with(None, Some("/"))]), Err(Error::AtRoot));
    assert_eq!(
        settle(Some(&with(None, Some("/a"))), &[]),
        Err(Error::RootAt)
    );
}

#[test]
fn what_is_no_directory_is_refused() {
    let top = tempfile::tempdir().unwrap();
    let gone = top.path().join("gone");
    assert_eq!(
        settle(None, &[argument(&gone)]),
        Err(Error::Missing(gone.clone()))
    );
    std::fs::write(&gone, "").unwrap();
    assert_eq!(
        settle(None, &[argument(&gone)]),
        Err(Error::NotADirectory(gone))
    );
}
