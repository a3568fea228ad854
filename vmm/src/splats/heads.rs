//! How reports of the kernel begin.

use serde::Serialize;

/// How bad it is. A later one is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Severity {
    /// Something is not as it should be.
    Warn,
    /// Something does not go on.
    Hang,
    /// A bug has done damage.
    Oops,
}

/// What is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    Bug,
    Oops,
    Panic,
    Kasan,
    Kfence,
    Kmsan,
    Kcsan,
    Ubsan,
    Warning,
    Lockdep,
    HungTask,
    RcuStall,
    SoftLockup,
    HardLockup,
    Kmemleak,
    /// An interrupt that nobody handles.
    Irq,
    /// Nothing was seen, but the kernel says that it is tainted.
    Tainted,
}

impl Kind {
    /// As reports have it.
    pub(crate) fn name(self) -> String {
        let name = serde_json::to_value(self).unwrap_or_default();
        name.as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn severity(self) -> Severity {
        match self {
            Self::Kcsan
            | Self::Ubsan
            | Self::Warning
            | Self::Lockdep
            | Self::Kmemleak
            | Self::Irq
            | Self::Tainted => Severity::Warn,
            Self::HungTask | Self::RcuStall | Self::SoftLockup | Self::HardLockup => Severity::Hang,
            _ => Severity::Oops,
        }
    }
}

/// Texts with which a line begins, and what else is in it. The first that fits
/// counts.
const HEADS: &[(&str, &str, Kind)] = &[
    ("BUG: KASAN: ", "", Kind::Kasan),
    ("BUG: KFENCE: ", "", Kind::Kfence),
    ("BUG: KMSAN: ", "", Kind::Kmsan),
    ("BUG: KCSAN: ", "", Kind::Kcsan),
    ("BUG: soft lockup", "", Kind::SoftLockup),
    ("watchdog: BUG: soft lockup", "", Kind::SoftLockup),
    ("NMI watchdog: BUG: soft lockup", "", Kind::SoftLockup),
    (
        "NMI watchdog: Watchdog detected hard LOCKUP",
        "",
        Kind::HardLockup,
    ),
    (
        "watchdog: Watchdog detected hard LOCKUP",
        "",
        Kind::HardLockup,
    ),
    ("watchdog: CPU", "hard LOCKUP", Kind::HardLockup),
    ("BUG: ", "", Kind::Bug),
    // The allocator's checks: "BUG kmalloc-64 (Not tainted): ...".
    ("BUG ", "ainted", Kind::Bug),
    ("kernel BUG at ", "", Kind::Bug),
    ("CFI failure at ", "", Kind::Bug),
    ("general protection fault", "", Kind::Oops),
    ("PANIC: double fault", "", Kind::Oops),
    ("traps: PANIC: double fault", "", Kind::Oops),
    ("Kernel panic - not syncing", "", Kind::Panic),
    ("INFO: task ", "for more than", Kind::HungTask),
    ("rcu: INFO: ", "stall", Kind::RcuStall),
    ("INFO: rcu", "stall", Kind::RcuStall),
    ("UBSAN: ", "", Kind::Ubsan),
    ("[ BUG: ", "", Kind::Lockdep),
    ("INFO: trying to register non-static key", "", Kind::Lockdep),
    ("WARNING: CPU: ", "", Kind::Warning),
    // Linux 6.19 and newer: "WARNING: FILE:LINE at FUNCTION, CPU#0: ...".
    ("WARNING: ", " at ", Kind::Warning),
    ("kmemleak: ", "new suspected memory leak", Kind::Kmemleak),
    ("irq ", ": nobody cared", Kind::Irq),
    // Only below a rule, as `of` sees to.
    ("WARNING: ", "", Kind::Lockdep),
];

/// What the line is the head of. `below_rule`: there is a rule of `=` above it,
/// as above all reports of lockdep.
pub(super) fn of(text: &str, below_rule: bool) -> Option<Kind> {
    let is_head = |(begin, part, kind): &&(&str, &str, Kind)| {
        let needs_rule = *kind == Kind::Lockdep && begin.starts_with("WARNING");
        text.starts_with(begin) && text.contains(part) && (below_rule || !needs_rule)
    };
    HEADS.iter().find(is_head).map(|(.., kind)| *kind)
}

/// Whether the line is the one of `die()`, such as `Oops: 0002 [#1] SMP` or
/// `invalid opcode: 0000 [#1]`: an error code and the number of the oops.
pub(super) fn is_die(text: &str) -> bool {
    let Some((before, after)) = text.split_once(" [#") else {
        return false;
    };
    let number = after
        .split_once(']')
        .is_some_and(|(number, _)| is_number(number, u8::is_ascii_digit));
    let code = before
        .rsplit_once(": ")
        .is_some_and(|(_, code)| code.len() == 4 && is_number(code, u8::is_ascii_hexdigit));
    number && code
}

fn is_number(text: &str, is_digit: fn(&u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(|byte| is_digit(&byte))
}

/// Whether the line is a rule, above and below reports.
pub(super) fn is_rule(text: &str) -> bool {
    text.len() >= 20 && text.bytes().all(|byte| byte == b'=')
}

/// Whether the line is above a `WARNING` or a `kernel BUG`; what is between the two is what
/// the code has to say.
pub(super) fn is_cut(text: &str) -> bool {
    text.starts_with("------------[ cut here ]")
}

/// Whether a report ends here.
pub(super) fn is_end(text: &str) -> bool {
    text.starts_with("---[ end trace") || text.starts_with("---[ end Kernel panic")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_recognized_by_its_head() {
        for (text, kind) in [
            (
                "BUG: KASAN: slab-out-of-bounds in f+0x1/0x2 [m]",
                Kind::Kasan,
            ),
            ("BUG: KFENCE: use-after-free read in f", Kind::Kfence),
            ("BUG: KMSAN: uninit-value in f", Kind::Kmsan),
            ("BUG: KCSAN: data-race in f / g", Kind::Kcsan),
            (
                "watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [sh:1]",
                Kind::SoftLockup,
            ),
            (
                "watchdog: CPU0: Watchdog detected hard LOCKUP on cpu 0",
                Kind::HardLockup,
            ),
            (
                "BUG: kernel NULL pointer dereference, address: 0",
                Kind::Bug,
            ),
            (
                "BUG: sleeping function called from invalid context at f.c:1",
                Kind::Bug,
            ),
            (
                "BUG kmalloc-64 (Not tainted): Poison overwritten",
                Kind::Bug,
            ),
            ("kernel BUG at mm/slub.c:1!", Kind::Bug),
            (
                "general protection fault, probably for x: 0000 [#1] SMP",
                Kind::Oops,
            ),
            ("Kernel panic - not syncing: Fatal exception", Kind::Panic),
            (
                "INFO: task sh:12 blocked for more than 120 seconds.",
                Kind::HungTask,
            ),
            (
                "INFO: task sh:12 blocked in I/O wait for more than 120 seconds.",
                Kind::HungTask,
            ),
            (
                "rcu: INFO: rcu_preempt self-detected stall on CPU",
                Kind::RcuStall,
            ),
            (
                "rcu: INFO: rcu_sched detected expedited stalls on CPUs/tasks: {",
                Kind::RcuStall,
            ),
            ("UBSAN: array-index-out-of-bounds in f.c:1:2", Kind::Ubsan),
            ("WARNING: CPU: 0 PID: 1 at f.c:3 f+0x1/0x2", Kind::Warning),
            ("WARNING: f.c:3 at f+0x1/0x2, CPU#0: sh/1", Kind::Warning),
            ("INFO: trying to register non-static key.", Kind::Lockdep),
            (
                "kmemleak: 3 new suspected memory leaks (see /sys/...)",
                Kind::Kmemleak,
            ),
            (
                "irq 9: nobody cared (try booting with the \"irqpoll\" option)",
                Kind::Irq,
            ),
        ] {
            assert_eq!(of(text, false), Some(kind), "{text}");
        }
    }

    #[test]
    fn lockdep_speaks_below_a_rule() {
        for text in [
            "WARNING: possible circular locking dependency detected",
            "WARNING: suspicious RCU usage",
            "WARNING: lock held when returning to user space!",
            "[ BUG: Invalid wait context ]",
        ] {
            assert_eq!(of(text, true), Some(Kind::Lockdep), "{text}");
        }
        assert_eq!(of("WARNING: suspicious RCU usage", false), None);
        let warning = "WARNING: CPU: 0 PID: 1 at kernel/locking/lockdep.c:3 f+0x1/0x2";
        assert_eq!(of(warning, true), Some(Kind::Warning));
        assert!(is_rule("=============================") && !is_rule("=== TEST ==="));
    }

    #[test]
    fn what_only_mentions_one_is_none() {
        for text in [
            "",
            "module: BUG: not",
            "INFO: task scheduler ready",
            "INFO: lockdep is turned off.",
            "rcu: INFO: nothing",
            "Oops",
            "BUG",
            "BUG x",
            "WARNING: Spectre is about",
            "traps: sh[1] trap invalid opcode ip:0 sp:0 error:0 in sh",
            "sh[1]: segfault at 0 ip 0 sp 0 error 4 in sh",
        ] {
            assert_eq!(of(text, false), None, "{text}");
            assert!(!is_die(text), "{text}");
        }
    }

    #[test]
    fn the_line_of_an_oops_has_a_code_and_a_number() {
        for text in [
            "Oops: 0002 [#1] PREEMPT SMP NOPTI",
            "invalid opcode: 0000 [#12] SMP",
            "Oops: general protection fault, probably for address 0x1: 0000 [#1]",
        ] {
            assert!(is_die(text), "{text}");
        }
        for text in [
            "Oops: 0002 [#x]",
            "Oops: 2 [#1]",
            "Oops: 0002",
            "a [#1]: 0000",
        ] {
            assert!(!is_die(text), "{text}");
        }
    }
}
