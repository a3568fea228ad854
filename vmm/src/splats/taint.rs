//! What `/proc/sys/kernel/tainted` says of splats that nobody saw: the
//! console of a kernel with `quiet`, or after `dmesg -n 1`, shows few.

use super::{Kind, Severity, Splat};

/// Flags that say that there was a splat, from
/// `Documentation/admin-guide/tainted-kernels.rst`, and how bad it was. The
/// others are about modules, hardware and settings.
const FLAGS: [(u32, char, &str, Severity); 4] = [
    (5, 'B', "a bad page, or memory misused", Severity::Oops),
    (7, 'D', "an oops or BUG", Severity::Oops),
    (9, 'W', "a warning", Severity::Warn),
    (14, 'L', "a soft lockup", Severity::Hang),
];

/// The splat that the flags in `bits` stand for and `seen` does not explain.
pub(super) fn unexplained(bits: u64, seen: &[Splat]) -> Option<Splat> {
    let explained = |severity| match severity {
        Severity::Hang | Severity::Oops => seen.iter().any(|splat| splat.severity >= severity),
        // Lockdep and others leave no such flag; some BUGs do.
        Severity::Warn => {
            (seen.iter()).any(|splat| matches!(splat.kind, Kind::Warning | Kind::Bug | Kind::Oops))
        }
    };
    let flags: Vec<_> = FLAGS
        .iter()
        .filter(|(bit, .., severity)| bits & (1 << bit) != 0 && !explained(*severity))
        .collect();
    let severity = flags.iter().map(|(.., severity)| *severity).max()?;
    let named: Vec<String> = flags
        .iter()
        .map(|(_, letter, meaning, _)| format!("{letter}, {meaning}"))
        .collect();
    Some(Splat {
        kind: Kind::Tainted,
        severity,
        line: format!(
            "the kernel is tainted ({}), and its console does not show by what",
            named.join("; ")
        ),
        message: None,
        location: None,
        time: None,
        allowed: false,
        lines: Vec::new(),
    })
}
