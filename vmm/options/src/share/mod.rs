//! Shares as users write them: `DIR[,option[=value]]...`.

mod argument;
mod error;
mod ids;
mod option;
mod parser;
mod table;
mod tag;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod text;
mod value;

pub use argument::{Service, ShareArgument};
pub use error::Error;
pub use ids::{IdMap, IdMaps, IdRange};
pub use parser::{root, share};
pub use tag::{MAX_TAG, is_refused as is_refused_in_tag};
pub use text::{help, shown};
