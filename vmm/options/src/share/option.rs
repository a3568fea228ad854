//! An option of a share: how it is written, what it does and what it excludes.

use serde_json::Value;

use super::argument::{Service, ShareArgument};
use super::error::Error;

/// An option of a share.
pub(crate) struct ShareOption {
    pub name: &'static str,
    pub takes: Takes,
    /// What it does, in one line; code is between backticks.
    pub help: &'static str,
    /// What holds without it, in the same form.
    pub default: &'static str,
    /// What it cannot be given with.
    pub excludes: &'static [Exclusion],
    /// What it cannot be given without.
    pub needs: Option<Need>,
    /// It means nothing to a `--share`.
    pub root_only: bool,
    /// Its name and value in the JSON of `--dry-run`.
    pub shown: Option<Shown>,
}

/// A name, and its value for a service.
type Shown = (&'static str, fn(&Service) -> Value);

/// What follows an option's name.
pub(crate) enum Takes {
    Nothing(fn(&mut ShareArgument)),
    /// One of these values.
    Choice(&'static [Choice]),
    Value {
        placeholder: &'static str,
        example: &'static str,
        set: fn(&mut ShareArgument, &[u8]) -> Result<(), Error>,
    },
    /// As `Value`, and may be given more than once.
    Several {
        placeholder: &'static str,
        example: &'static str,
        add: fn(&mut ShareArgument, &[u8]) -> Result<(), Error>,
    },
    /// All that is left, commas too: the directory.
    Directory,
}

/// A value that an option may have.
pub(crate) struct Choice {
    pub value: &'static str,
    pub help: &'static str,
    pub set: fn(&mut ShareArgument),
}

/// An option without which another is of no use.
pub(crate) struct Need {
    /// As the user writes it.
    pub other: &'static str,
    pub why: &'static str,
}

/// An option that another excludes.
pub(crate) struct Exclusion {
    /// As the user writes it.
    pub other: &'static str,
    /// How to mend it, and why.
    pub mend: &'static str,
}
