//! The arenas of the C library's allocator.
#![allow(unsafe_code)]

use libc::c_int;

/// As many as glibc makes before it asks how many processors there are.
const LIMIT: c_int = 8;

/// Limits them, unless the user has, so that the thread which would make one more does not
/// ask: glibc opens files of `/sys` and `/proc` for that.
pub(crate) fn limit() {
    if std::env::var_os("MALLOC_ARENA_MAX").is_some() {
        return;
    }
    // SAFETY: it takes two numbers, and the allocator's own lock. What it says is whether it
    // knows the first.
    let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, LIMIT) };
}
