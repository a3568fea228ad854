//! The server over guest memory, with a file system that notes what it is
//! asked.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod data;
mod flags;
mod guest;
mod interrupts;
mod layout;
mod malformed;
mod mappings;
mod random;
mod readme;
mod recorder;
mod requests;
mod session;
mod xattrs;
