//! Shares as users write them: `DIR[,option[=value]]...`.

mod argument;
mod error;
mod parser;
mod table;
mod tag;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod text;

pub(crate) use argument::{Service, ShareArgument};
pub(crate) use parser::{root, share};
pub(crate) use table::{OPTIONS, Takes};
pub(crate) use tag::{MAX_TAG, is_refused as is_refused_in_tag};
pub(crate) use text::{help, shown};
