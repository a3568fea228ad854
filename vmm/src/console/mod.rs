//! The user's terminal and the guest's console.

pub(crate) mod feed;
pub(crate) mod keyboard;
pub(crate) mod keys;
pub(crate) mod log;
pub(crate) mod marks;
pub(crate) mod terminal;
pub(crate) mod traces;
