//! The machine, and the command that runs it.
//!
//! [`machine`] knows KVM and nothing of the user; everything else is the
//! user's half: the command line, what is checked before anything starts, the
//! session through which a command in the guest has the user's streams, and
//! what is said about a run afterwards.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`cli`] | the command line |
//! | [`configuration`] | the arguments, checked and completed |
//! | [`run`] | a run from start to end |
//! | [`session`] | the command's streams and status, as a file system |
//! | [`outcome`] | how a run ended, and the exit status |

pub mod chain;
pub mod cli;
pub mod configuration;
pub mod console_log;
pub mod initramfs;
pub mod kernel;
pub mod keyboard;
pub mod keys;
pub mod machine;
pub mod metrics;
pub mod outcome;
pub mod output_file;
pub mod preflight;
pub mod report;
pub mod run;
pub mod session;
pub mod share;
pub mod size;
pub mod terminal;
pub mod watch;
