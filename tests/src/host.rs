//! What this host can run itself, and what it needs the lab for.

use std::fmt;
use std::fs::{self, OpenOptions};

/// How Linux guests are run on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// The processor has vmx or svm and `/dev/kvm` opens.
    DirectKvm,
    /// Everything that boots Linux goes through the lab: there is neither.
    Lab,
    /// The same, though the processor could: `/dev/kvm` does not open.
    LabForWantOfKvm,
}

impl Host {
    /// Looks at this host's processor and `/dev/kvm`.
    #[must_use]
    pub fn detect() -> Self {
        let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let kvm = OpenOptions::new().read(true).write(true).open("/dev/kvm");
        match (has_virtualization(&cpus), kvm) {
            (true, Ok(_)) => Self::DirectKvm,
            (true, Err(_)) => Self::LabForWantOfKvm,
            (false, _) => Self::Lab,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DirectKvm => "direct KVM",
            Self::Lab => "lab (the processor shows neither vmx nor svm)",
            Self::LabForWantOfKvm => {
                "lab (/dev/kvm does not open: is the module loaded, and the user in the group kvm?)"
            }
        })
    }
}

/// Software KVM without hardware virtualization accepts the same ioctls, but
/// shows neither flag.
fn has_virtualization(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .filter(|line| line.starts_with("flags"))
        .any(|line| {
            line.split_ascii_whitespace()
                .any(|flag| flag == "vmx" || flag == "svm")
        })
}

#[cfg(test)]
mod tests {
    use super::has_virtualization;

    #[test]
    fn only_a_whole_flag_counts() {
        assert!(has_virtualization(
            "processor : 0\nflags\t\t: fpu svm npt\n"
        ));
        assert!(has_virtualization("flags\t\t: fpu vmx\n"));
        assert!(!has_virtualization(
            "flags\t\t: fpu vmxx svm_lock\nvmx flags\t: vnmi\n"
        ));
        assert!(!has_virtualization("model name : svm vmx\n"));
    }
}
