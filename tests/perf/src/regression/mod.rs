//! `make perf`: whether a revision costs more than another, or than what is on
//! record.
//!
//! There is one source of numbers so far, **native**: the device in a process of its
//! own (`device-bench`), over registers and guest memory but without a machine. What its
//! threads do is counted, by callgrind and by strace, and not timed, so the numbers are
//! the same on a busy machine.

pub mod base;
pub mod baseline;
pub mod measure;
pub mod metric;
pub mod page;
pub mod plots;
pub mod profile;
pub mod record;
pub mod runs;
pub mod table;
pub mod tolerance;
pub mod trace;
pub mod verdict;
