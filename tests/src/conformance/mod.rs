//! Suites that others wrote, run on native mounts and, as the control, on the
//! host's own directories: what a share does differently is a mistake, or it
//! is known with its reason.
//!
//! | module | what |
//! | --- | --- |
//! | [`suite`] | the suites; their scripts are in `tests/conformance/suites` |
//! | [`backend`] | the file systems below a share |
//! | [`mode`] | how a share is cached, who serves it, and who uses it |
//! | [`plan`] | which of them are run together |
//! | [`run`] | one suite in one place, to its outcomes |
//! | [`known`] | the differences that have a reason |
//! | [`results`] | what came out, and what differs |
//! | [`page`] | the table of all of it, which stays |

pub mod backend;
pub mod known;
pub mod mode;
pub mod page;
pub mod plan;
pub mod results;
pub mod run;
pub mod suite;
