//! What a share does differently from the host's directory, and why that is
//! right or cannot be helped.

use super::mode::Mode;
use super::run::Outcome;

/// A version, major and minor.
pub type Linux = (u32, u32);

/// A difference with a reason.
#[derive(Debug)]
pub struct Known {
    /// The suite.
    pub suite: &'static str,
    /// The case, or the beginnings of several before a `*`.
    pub case: &'static str,
    /// The policies under which it is so; all if there is none.
    pub caches: &'static [&'static str],
    /// Where the Linux that mounts the share is older than this; anywhere if there is none.
    pub before: Option<Linux>,
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
        before: None,
        outcome: Outcome::Skip,
        reason: "the C library's pathconf(_PC_LINK_MAX) goes by the type of the file system, and \
                 knows none for FUSE",
    },
    Known {
        suite: "sqlite3",
        case: "*wal",
        caches: &["never", "metadata"],
        before: Some((6, 6)),
        outcome: Outcome::Fail,
        reason: "the index of a write-ahead log is mapped shared, and a file under direct I/O has \
                 no pages to map there (ENODEV)",
    },
    Known {
        suite: "fio",
        case: "mapped",
        caches: &["never", "metadata"],
        before: Some((6, 6)),
        outcome: Outcome::Fail,
        reason: "mmap(MAP_SHARED) under direct I/O is ENODEV there",
    },
];

/// The reason for `case` of `suite` to have `outcome` in `mode` where the
/// control has another, on a share that `linux` mounts.
#[must_use]
pub fn reason(
    linux: Linux,
    suite: &str,
    case: &str,
    mode: Mode,
    outcome: Outcome,
) -> Option<&'static str> {
    let known = KNOWN.iter().find(|known| {
        known.suite == suite
            && known.outcome == outcome
            && is_meant(known.case, case)
            && known.before.is_none_or(|version| linux < version)
            && (known.caches.is_empty() || known.caches.contains(&mode.cache))
    });
    known.map(|known| known.reason)
}

/// That of this host's kernel.
#[must_use]
pub fn this_linux() -> Linux {
    let names = rustix::system::uname();
    let release = names.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next().and_then(|n| n.parse().ok()).unwrap_or(0);
    (next(), next())
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
        let on =
            |linux, suite, case, mode, outcome| reason(linux, suite, case, mode, outcome).is_some();
        let wal = |mode, outcome| on((6, 5), "sqlite3", "killed-wal", mode, outcome);
        assert!(wal(never, Outcome::Fail));
        assert!(!wal(auto, Outcome::Fail));
        assert!(!wal(never, Outcome::Skip));
        assert!(!on((6, 5), "sqlite3", "rollback", never, Outcome::Fail));
        assert!(!on((6, 5), "git", "wal", never, Outcome::Fail));
        assert!(!on((6, 6), "sqlite3", "killed-wal", never, Outcome::Fail));
        assert!(this_linux() > (2, 6));
    }
}
