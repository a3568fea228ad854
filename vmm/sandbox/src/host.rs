//! What the host has of a sandbox. Asked without starting a thread: a user
//! namespace is to be entered by a process that has one.
#![allow(unsafe_code)]

use landlock::{ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr};

/// What of the sandbox there can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    /// System calls can be refused.
    pub(crate) seccomp: bool,
    /// Files can be confined.
    pub(crate) landlock: bool,
}

impl Host {
    /// This one.
    pub(crate) fn ask() -> Self {
        Self {
            seccomp: has_seccomp(),
            landlock: has_landlock(),
        }
    }

    /// What is missing, for users.
    pub(crate) fn lacks(self) -> Option<String> {
        const SECCOMP: &str =
            "filters of system calls (seccomp(2) is refused, or not in its kernel)";
        const LANDLOCK: &str = "Landlock of Linux 5.19 or newer (refused, or not in its kernel, or not \
                                named in its lsm= parameter)";
        let lacks = [(self.seccomp, SECCOMP), (self.landlock, LANDLOCK)];
        let lacks: Vec<&str> = (lacks.iter())
            .filter(|(there, _)| !there)
            .map(|(_, what)| *what)
            .collect();
        (!lacks.is_empty()).then(|| lacks.join(" and "))
    }
}

/// Whether a filter could be installed that traps.
fn has_seccomp() -> bool {
    let action: u32 = libc::SECCOMP_RET_TRAP;
    // SAFETY: the call reads four bytes, those of `action`, and changes nothing.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_GET_ACTION_AVAIL,
            0,
            &raw const action,
        )
    };
    outcome == 0
}

/// Whether Landlock can do what a share needs: before its second version it lets
/// nobody rename or link from directory to directory.
fn has_landlock() -> bool {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V2))
        .and_then(Ruleset::create)
        .is_ok()
}
