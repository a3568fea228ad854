//! The text of `--share` and `--root`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use vmm_options::share::{root, share, shown};

/// Parses `data`; what is wrong with it is said.
pub fn run(data: &[u8]) {
    for parse in [share, root] {
        match parse(OsStr::from_bytes(data)) {
            Ok(argument) => drop(shown(&argument.service)),
            Err(error) => {
                assert!(!error.to_string().is_empty());
            }
        }
    }
}
