//! Options that exclude each other, and those that need another.

use super::*;

#[test]
fn every_exclusion_names_options_that_there_are_and_is_found() {
    for option in OPTIONS {
        for exclusion in option.excludes {
            let other = exclusion.other;
            let read = if option.root_only { root } else { share };
            let read = |text: &str| read(OsStr::new(text));
            assert!(read(&format!("d,{other}")).is_ok(), "{other}");
            let written = match &option.takes {
                Takes::Value { example, .. } | Takes::Several { example, .. } => {
                    format!("{}={example}", option.name)
                }
                _ => option.name.to_owned(),
            };
            for text in [
                format!("d,{other},{written}"),
                format!("d,{written},{other}"),
            ] {
                let message = read(&text).unwrap_err().to_string();
                assert!(message.contains(other), "{message}");
                assert!(message.contains(option.name), "{message}");
                assert!(message.contains("exclude each other"), "{message}");
                assert!(!message.contains('\n'), "{message}");
            }
        }
    }
}

#[test]
fn an_option_that_needs_another_says_so() {
    let needy = OPTIONS.iter().filter_map(|option| {
        let need = option.needs.as_ref()?;
        Some((option.name, need.other))
    });
    let mut found = 0;
    for (name, other) in needy {
        assert!(parse(&format!("d,{other},{name}")).is_ok(), "{name}");
        assert!(parse(&format!("d,{name},{other}")).is_ok(), "{name}");
        let message = message(&format!("d,{name}"));
        assert!(
            message.contains(&format!("{name} needs {other}")),
            "{message}"
        );
        assert!(message.contains(&format!("leave {name} out")), "{message}");
        found += 1;
    }
    assert_eq!(found, 1);
    // What that other excludes is excluded all the same.
    let message = message("d,ro,writeback,atomic-truncate");
    assert!(message.contains("ro and writeback exclude"), "{message}");
}

#[test]
fn write_back_excludes_policies_under_which_the_host_may_append() {
    for policy in ["never", "metadata"] {
        let message = message(&format!("d,writeback,cache={policy}"));
        assert!(message.contains("overwrite what the host appends"));
    }
    assert!(parse("d,cache=auto,writeback").is_ok());
    assert!(message("d,ro,writeback").contains("read-only"));
    assert!(message("d,locks,writeback").contains("locks are for files that others write"));
    let root = |text: &str| root(OsStr::new(text));
    assert!(root("d,writeback").is_err());
    assert!(root("d,rw,writeback").is_ok());
    let forgets = message("d,forget-owners,owners=host");
    assert!(forgets.contains("owners=user"), "{forgets}");
    let forgets = message("d,forget-owners,owners=xattr");
    assert!(forgets.contains("leave forget-owners out"), "{forgets}");
    assert!(parse("d,forget-owners").is_ok());
    assert!(parse("d,owners=xattr,acl").is_ok());
}
