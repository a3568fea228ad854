//! What is wrong with a share as it was written, and how to mend it.

use guest_init::protocol::SESSION_TAG;

use super::ids::IdRange;

/// A mistake in a share.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // Each says itself what it is.
pub enum Error {
    #[error("name a directory before the options, for example ./dir,ro")]
    NoDirectory,
    #[error(
        "unknown option '{option}': there are {known}; a directory with a comma in its name goes \
         last, as path=DIR"
    )]
    UnknownOption { option: String, known: String },
    #[error("the option '{name}' needs a value, as in {name}={example}")]
    NoValue {
        name: &'static str,
        example: &'static str,
    },
    #[error("the option '{0}' takes no value")]
    SurplusValue(&'static str),
    #[error("{name}={value} is not {expected}")]
    Value {
        name: &'static str,
        value: String,
        expected: String,
    },
    #[error("{first} and {second} contradict each other: leave one of them out")]
    Repeated { first: String, second: String },
    #[error("{0} is given twice: leave one of them out")]
    Twice(String),
    #[error("{name}={range} and {name}={other} have somebody in common: nobody can be two")]
    Overlap {
        name: &'static str,
        range: IdRange,
        other: IdRange,
    },
    #[error("{name}= is given more than {limit} times, and Linux takes no more")]
    TooMany { name: &'static str, limit: usize },
    #[error("{0} is for --root only: leave it out")]
    RootOnly(&'static str),
    #[error("{one} and {other} exclude each other: {mend}")]
    Contradiction {
        one: &'static str,
        other: &'static str,
        mend: &'static str,
    },
    #[error("{option} needs {other}: {why}; add {other}, or leave {option} out")]
    Needs {
        option: &'static str,
        other: &'static str,
        why: &'static str,
    },
    #[error("the tag '{tag}' has {length} bytes, and at most {limit} fit: give a shorter tag=")]
    TagTooLong {
        tag: String,
        length: usize,
        limit: usize,
    },
    #[error("the tag is empty: give it a name, or leave tag= out")]
    EmptyTag,
    #[error("the tag '{0}' has a newline or a NUL in it or is not UTF-8 text: give another tag=")]
    TagNotText(String),
    #[error("the tag '{SESSION_TAG}' is reserved: give another tag=")]
    ReservedTag,
    #[error("at=/ would hide the guest's root: use --root for a root file system")]
    AtRoot,
    #[error("at={at} would hide what the guest needs in {tree}: give another place, such as /mnt")]
    AtSystem { at: String, tree: &'static str },
}
