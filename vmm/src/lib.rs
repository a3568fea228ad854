//! The machine, and the command that runs it.
//!
//! [`machine`] knows KVM and nothing of the user; everything else is the
//! user's half: the command line, what is checked before anything starts, the
//! session through which a command in the guest has the user's streams, and
//! what is said about a run afterwards.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`options`] | the command line |
//! | [`prepare`] | the arguments, checked and completed; the initramfs |
//! | [`run`] | a run from start to end |
//! | [`console`] | the user's terminal and keys, the guest's console |
//! | [`session`] | the command's streams and status, as a file system |
//! | [`kernel`] | the kernel's file, recognized and read |
//! | [`outcome`] | how a run ended, the exit status, the report and the metrics |

pub mod console;
pub mod kernel;
pub mod machine;
pub mod options;
pub mod outcome;
pub mod prepare;
pub mod run;
pub mod session;
