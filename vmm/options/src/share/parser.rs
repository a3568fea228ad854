//! Reads a share as users write it, `DIR[,option[=value]]...`.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use devices::passthrough::Owners;

use super::argument::ShareArgument;
use super::error::Error;
use super::option::{ShareOption, Takes};
use super::table::{self, OPTIONS};
use super::text;
use super::value::{lossy, path_of};

/// What the options are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Share,
    /// The tree of a system is easily spoilt: read-only unless `rw` is given.
    Root,
}

/// Reads the value of `--share`: the options follow the directory, or come
/// before `path=DIR` if there is a comma in its name.
pub fn share(text: &OsStr) -> Result<ShareArgument, Error> {
    parse(text.as_bytes(), Use::Share)
}

/// Reads the value of `--root`.
pub fn root(text: &OsStr) -> Result<ShareArgument, Error> {
    parse(text.as_bytes(), Use::Root)
}

fn parse(text: &[u8], of: Use) -> Result<ShareArgument, Error> {
    let mut share = ShareArgument::default();
    if of == Use::Root {
        share.service.server.read_only = true;
        // Root's programs of a tree have to be root's in the guest.
        share.service.server.owners = Owners::Host;
    }
    let mut given = Given::default();
    let mut rest = Some(text);
    let mut first = true;
    while let Some(bytes) = rest {
        if let Some(path) = bytes.strip_prefix(b"path=") {
            if !share.directory.as_os_str().is_empty() {
                return Err(unknown(bytes));
            }
            share.directory = path_of(path);
            break;
        }
        let end = bytes.iter().position(|byte| *byte == b',');
        let word = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
        rest = end.and_then(|end| bytes.get(end + 1..));
        // A directory comes first; where the options come first, so must
        // path= come last. `./tag=x` names a directory like that.
        if first && !is_option(word) {
            share.directory = path_of(word);
        } else {
            set(&mut share, &mut given, word)?;
        }
        first = false;
    }
    if share.directory.as_os_str().is_empty() {
        return Err(Error::NoDirectory);
    }
    if of == Use::Root && !given.has("rw") && !given.has("ro") {
        given.0.insert("ro", "ro".to_owned());
    }
    given.check(of)?;
    Ok(share)
}

fn set(share: &mut ShareArgument, given: &mut Given, word: &[u8]) -> Result<(), Error> {
    let mut parts = word.splitn(2, |byte| *byte == b'=');
    let option = parts.next().and_then(table::named);
    let value = parts.next();
    let Some(option) = option else {
        return Err(unknown(word));
    };
    given.add(option, lossy(word))?;
    match (&option.takes, value) {
        (Takes::Nothing(set), None) => set(share),
        (Takes::Nothing(_), Some(_)) => return Err(Error::SurplusValue(option.name)),
        (Takes::Choice(choices), Some(value)) => {
            let choice = choices
                .iter()
                .find(|choice| choice.value.as_bytes() == value)
                .ok_or_else(|| {
                    let values: Vec<&str> = choices.iter().map(|choice| choice.value).collect();
                    Error::Value {
                        name: option.name,
                        value: lossy(value),
                        expected: format!("one of {}", values.join(", ")),
                    }
                })?;
            (choice.set)(share);
        }
        (Takes::Choice(_), None) => {
            return Err(Error::NoValue {
                name: option.name,
                example: option.default,
            });
        }
        (Takes::Value { set, .. }, Some(value)) => set(share, value)?,
        (Takes::Value { example, .. }, None) => {
            return Err(Error::NoValue {
                name: option.name,
                example,
            });
        }
        (Takes::Several { add, .. }, Some(value)) => add(share, value)?,
        (Takes::Several { example, .. }, None) => {
            return Err(Error::NoValue {
                name: option.name,
                example,
            });
        }
        (Takes::Directory, _) => return Err(unknown(word)),
    }
    Ok(())
}

fn unknown(word: &[u8]) -> Error {
    Error::UnknownOption {
        option: lossy(word),
        known: text::known(),
    }
}

/// Whether a first word is meant as an option. A directory named `ro` is
/// likelier than a flag without one.
fn is_option(word: &[u8]) -> bool {
    let mut parts = word.splitn(2, |byte| *byte == b'=');
    let option = parts.next().and_then(table::named);
    let takes_value = |option: &ShareOption| !matches!(option.takes, Takes::Nothing(_));
    parts.next().is_some() && option.is_some_and(takes_value)
}

/// The options that were given, as they were written.
#[derive(Default)]
struct Given(HashMap<&'static str, String>);

impl Given {
    fn add(&mut self, option: &ShareOption, written: String) -> Result<(), Error> {
        let repeatable = matches!(option.takes, Takes::Several { .. });
        match self.0.get(option.name) {
            Some(first) if *first == written => Err(Error::Twice(written)),
            Some(first) if !repeatable => Err(Error::Repeated {
                first: first.clone(),
                second: written,
            }),
            _ => {
                self.0.insert(option.name, written);
                Ok(())
            }
        }
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether `written`, a flag or an option with a value, was given.
    fn has_written(&self, written: &str) -> bool {
        self.0.values().any(|given| given == written)
    }

    /// Checks the options against each other and against their `Use`.
    fn check(&self, of: Use) -> Result<(), Error> {
        for option in OPTIONS.iter().filter(|option| self.has(option.name)) {
            if option.root_only && of == Use::Share {
                return Err(Error::RootOnly(option.name));
            }
            let mut excluded = option.excludes.iter();
            if let Some(found) = excluded.find(|excluded| self.has_written(excluded.other)) {
                return Err(Error::Contradiction {
                    one: found.other,
                    other: option.name,
                    mend: found.mend,
                });
            }
            if let Some(need) = &option.needs
                && !self.has_written(need.other)
            {
                return Err(Error::Needs {
                    option: option.name,
                    other: need.other,
                    why: need.why,
                });
            }
        }
        Ok(())
    }
}
