//! The user's terminal and the guest's console.

pub mod keyboard;
pub mod keys;
pub mod log;
pub mod terminal;
