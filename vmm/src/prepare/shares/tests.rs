//! Tags and places of shares, and mistakes in them.

use super::*;

fn argument(directory: &Path) -> ShareArgument {
    ShareArgument {
        directory: directory.to_owned(),
        ..ShareArgument::default()
    }
}

fn message(root: Option<&ShareArgument>, shares: &[ShareArgument]) -> String {
    resolve(root, shares).unwrap_err().to_string()
}

#[test]
fn default_tags_are_names_made_unique() {
    let top = tempfile::tempdir().unwrap();
    let (a, b) = (top.path().join("a/same"), top.path().join("b/same"));
    std::fs::create_dir_all(&a).unwrap();
    std::fs::create_dir_all(&b).unwrap();

    let shares = resolve(None, &[argument(&a), argument(&b)]).unwrap();

    let tags: Vec<_> = shares.iter().map(|share| share.tag.as_str()).collect();
    assert_eq!(tags, ["same", "same-2"]);
    assert_eq!(shares[1].at.as_deref(), Some(Path::new("/mnt/same-2")));
}

#[test]
fn nothing_else_writes_where_write_back_is_on() {
    let top = tempfile::tempdir().unwrap();
    let below = top.path().join("below");
    let beside = top.path().join("below-not");
    for directory in [&below, &beside] {
        std::fs::create_dir(directory).unwrap();
    }
    let mut collects = argument(&below);
    collects.service.server.writeback = true;
    let mut reads = argument(top.path());
    for other in [top.path(), &below] {
        let shares = [collects.clone(), argument(other)];
        let text = message(None, &shares);
        assert!(text.contains("leave writeback out"), "{text}");
        assert!(message(Some(&shares[1]), &shares[..1]).contains("writeback"));
    }
    assert!(resolve(None, &[collects.clone(), argument(&beside)]).is_ok());
    reads.service.server.read_only = true;
    assert!(resolve(None, &[reads, collects]).is_ok());
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
    let shares = resolve(None, &[argument(&directory), named]).unwrap();
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
fn what_no_tag_can_have_is_replaced_in_a_default_one() {
    let top = tempfile::tempdir().unwrap();
    let directory = top.path().join("two\nlines");
    std::fs::create_dir(&directory).unwrap();
    let shares = resolve(None, &[argument(&directory)]).unwrap();
    assert_eq!(shares[0].tag, "two-lines");
    assert_eq!(shares[0].at.as_deref(), Some(Path::new("/mnt/two-lines")));
}

#[test]
fn a_tag_without_a_name_in_it_makes_no_place() {
    assert_eq!(default_place("a/b").as_deref(), Some(Path::new("/mnt/a-b")));
    assert_eq!(default_place("...").as_deref(), Some(Path::new("/mnt/...")));
    for tag in [".", ".."] {
        assert_eq!(default_place(tag), None, "{tag}");
    }
}

#[test]
fn a_foreign_initramfs_gives_no_place() {
    let top = tempfile::tempdir().unwrap();
    let mut arguments = [argument(top.path())];
    let mut shares = resolve(None, &arguments).unwrap();
    leave_unmounted(&mut shares, &arguments).unwrap();
    assert_eq!(shares[0].at, None);
    arguments[0].at = Some("/x".into());
    assert!(leave_unmounted(&mut shares, &arguments).is_err());
}

#[test]
fn a_root_comes_first_and_is_at_the_root() {
    let top = tempfile::tempdir().unwrap();
    let root = argument(top.path());
    let shares = resolve(Some(&root), &[argument(top.path())]).unwrap();
    assert_eq!(shares[0].at.as_deref(), Some(Path::new("/")));
    assert_eq!(shares[0].tag, "root");
}

#[test]
fn conflicts_between_shares_are_found() {
    let top = tempfile::tempdir().unwrap();
    let with = |tag: Option<&str>, at: Option<&str>| ShareArgument {
        tag: tag.map(Into::into),
        at: at.map(Into::into),
        ..argument(top.path())
    };
    let twice = message(None, &[with(Some("t"), None), with(Some("t"), None)]);
    assert!(twice.contains("two shares have the tag 't'"), "{twice}");
    let root = message(Some(&with(None, Some("/a"))), &[]);
    assert!(root.contains("leave at= out"), "{root}");
}

#[test]
fn what_is_no_directory_is_refused() {
    let top = tempfile::tempdir().unwrap();
    let gone = top.path().join("gone");
    assert!(message(None, &[argument(&gone)]).ends_with("does not exist"));
    std::fs::write(&gone, "").unwrap();
    assert!(message(None, &[argument(&gone)]).contains("not a directory"));
}

#[test]
fn colons_in_place_of_commas_are_noticed() {
    let top = tempfile::tempdir().unwrap();
    let hint = |tail: &str| {
        let mut path = top.path().as_os_str().to_owned();
        path.push(tail);
        message(None, &[argument(Path::new(&path))])
    };
    let directory = top.path().display();
    assert!(hint(":rw").ends_with(&format!(": write {directory},rw")));
    assert!(hint(":/work:ro").ends_with(&format!(": write {directory},at=/work,ro")));
    for mistake in [":z", ":ro:rw", ":/x:/y", ":/proc"] {
        assert!(hint(mistake).contains("after commas"), "{mistake}");
    }
    assert!(message(None, &[argument(Path::new("/gone:rw"))]).ends_with("does not exist"));
}
