//! `make perf`: whether a revision costs more than another, or than what is on
//! record.
//!
//! Numbers have a [`source::Source`], and those of two are never compared. **native**: the
//! device in a process of its own (`device-bench`), over registers and guest memory but
//! without a machine; what its threads do is counted, by callgrind and by strace. **lab**: a
//! guest, `vmm` and the host's kernel, by the clock of a deterministic lab. Nothing is timed,
//! so the numbers are the same on a busy machine.

pub mod base;
pub mod baseline;
pub mod judgement;
pub mod lab;
pub mod measure;
pub mod metric;
pub mod page;
pub mod plots;
pub mod profile;
pub mod record;
pub mod runs;
pub mod source;
pub mod table;
pub mod task;
pub mod tolerance;
pub mod trace;
pub mod verdict;
