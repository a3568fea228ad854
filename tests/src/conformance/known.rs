//! What a share does differently from the host's directory, and why that is
//! right or cannot be helped.

use super::mode::Mode;
use super::run::Outcome;

/// A difference with a reason.
#[derive(Debug)]
pub struct Known {
    /// The suite.
    pub suite: &'static str,
    /// The case, or the beginnings of several before a `*`.
    pub case: &'static str,
    /// The policies under which it is so; all if there is none.
    pub caches: &'static [&'static str],
    /// What it is on the share.
    pub outcome: Outcome,
    /// Why.
    pub reason: &'static str,
}

/// All of them.
pub const KNOWN: &[Known] = &[
    Known {
        suite: "pjdfstest",
        case: "link::link_count_max",
        caches: &[],
        outcome: Outcome::Skip,
        reason: "the C library's pathconf(_PC_LINK_MAX) goes by the type of the file system, and \
                 knows none for FUSE",
    },
    Known {
        suite: "pjdfstest",
        case: "open::etxtbsy",
        caches: &[],
        outcome: Outcome::Fail,
        reason: "at times: Linux sends OPEN with O_TRUNC before it asks whether the file is being \
                 executed, so open(O_RDONLY | O_TRUNC) empties a running program, which may be \
                 gone before the question comes",
    },
    Known {
        suite: "sqlite3",
        case: "*wal",
        caches: &["never", "metadata"],
        outcome: Outcome::Fail,
        reason: "the index of a write-ahead log is mapped shared, and a file under direct I/O has \
                 no pages to map (ENODEV)",
    },
    Known {
        suite: "fio",
        case: "mapped",
        caches: &["never", "metadata"],
        outcome: Outcome::Fail,
        reason: "mmap(MAP_SHARED) under direct I/O is ENODEV",
    },
];

/// The reason for `case` of `suite` to have `outcome` in `mode` where the
/// control has another.
#[must_use]
pub fn reason(suite: &str, case: &str, mode: Mode, outcome: Outcome) -> Option<&'static str> {
    let known = KNOWN.iter().find(|known| {
        known.suite == suite
            && known.outcome == outcome
            && is_meant(known.case, case)
            && (known.caches.is_empty() || known.caches.contains(&mode.cache))
    });
    known.map(|known| known.reason)
}

/// Whether `pattern`, with a `*` at its beginning or its end, means `name`.
fn is_meant(pattern: &str, name: &str) -> bool {
    if let Some(end) = pattern.strip_prefix('*') {
        name.ends_with(end)
    } else if let Some(start) = pattern.strip_suffix('*') {
        name.starts_with(start)
    } else {
        pattern == name
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_known_for_what_it_is_and_where() {
        let (never, auto) = (Mode::named("never").unwrap(), Mode::named("auto").unwrap());
        let wal = |mode, outcome| reason("sqlite3", "killed-wal", mode, outcome).is_some();
        assert!(wal(never, Outcome::Fail));
        assert!(!wal(auto, Outcome::Fail));
        assert!(!wal(never, Outcome::Skip));
        assert!(reason("sqlite3", "rollback", never, Outcome::Fail).is_none());
        assert!(reason("git", "wal", never, Outcome::Fail).is_none());
    }
}
