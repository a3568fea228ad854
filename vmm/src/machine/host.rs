//! What this host's KVM can do, asked before anything is set up, so that the
//! answer is one line.

use std::path::Path;

use kvm_ioctls::{Cap, Kvm};

const DEVICE: &str = "/dev/kvm";
const CPUINFO: &str = "/proc/cpuinfo";
/// The one version of the KVM API there has been since 2007.
const API_VERSION: i32 = 12;

const NEEDED: [(Cap, &str); 8] = [
    (Cap::Irqchip, "KVM_CAP_IRQCHIP"),
    (Cap::Ioeventfd, "KVM_CAP_IOEVENTFD"),
    (Cap::Irqfd, "KVM_CAP_IRQFD"),
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
    (Cap::SetTssAddr, "KVM_CAP_SET_TSS_ADDR"),
    (Cap::Pit2, "KVM_CAP_PIT2"),
    (Cap::ExtCpuid, "KVM_CAP_EXT_CPUID"),
    (Cap::MpState, "KVM_CAP_MP_STATE"),
];

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "no /dev/kvm on this host: load the kvm_intel or kvm_amd module, enable virtualization \
         in the firmware, or have the same arguments run in the lab, by `lab run` of `make build`"
    )]
    NoDevice,
    #[error("no permission to open /dev/kvm: add the user to the group kvm, or run as root")]
    NoPermission,
    #[error("cannot open /dev/kvm")]
    Open(#[source] kvm_ioctls::Error),
    #[error("/dev/kvm speaks API version {0}, not 12: it is not usable")]
    ApiVersion(i32),
    /// Something is missing that this machine is built on.
    #[error("/dev/kvm is not usable: it lacks {0}; a newer host kernel has it")]
    MissingCapability(&'static str),
    /// Software KVM: fine for short programs, but no Linux boots on it.
    #[error(
        "this host cannot boot Linux directly: its CPU shows neither vmx nor svm, so its \
         /dev/kvm is software only; the same arguments run in the lab, by `lab run` of `make build`"
    )]
    NoHardware,
}

/// Opens KVM and checks that it has what this machine needs.
///
/// # Errors
///
/// One of [`Error`], but never [`Error::NoHardware`].
pub(crate) fn open() -> Result<Kvm, Error> {
    let kvm = Kvm::new().map_err(|error| match error.errno() {
        libc::ENOENT | libc::ENXIO | libc::ENODEV => Error::NoDevice,
        libc::EACCES | libc::EPERM => Error::NoPermission,
        _ if !Path::new(DEVICE).exists() => Error::NoDevice,
        _ => Error::Open(error),
    })?;
    let version = kvm.get_api_version();
    if version != API_VERSION {
        return Err(Error::ApiVersion(version));
    }
    match NEEDED.iter().find(|(cap, _)| !kvm.check_extension(*cap)) {
        Some((_, name)) => Err(Error::MissingCapability(name)),
        None => Ok(kvm),
    }
}

/// Checks that KVM stands on hardware virtualization, without which no Linux
/// gets through its boot.
///
/// # Errors
///
/// [`Error::NoHardware`]; when `/proc/cpuinfo` cannot be read, nothing is
/// known and the boot is tried.
pub(crate) fn check_hardware() -> Result<(), Error> {
    match std::fs::read_to_string(CPUINFO) {
        Ok(text) if !shows_hardware(&text) => Err(Error::NoHardware),
        _ => Ok(()),
    }
}

/// Whether a Linux kernel can be booted here: everything [`open`] and
/// [`check_hardware`] say, for the command line to ask before it starts.
///
/// # Errors
///
/// One of [`Error`].
pub(crate) fn check() -> Result<(), Error> {
    open()?;
    check_hardware()
}

fn shows_hardware(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .filter(|line| line.starts_with("flags"))
        .flat_map(str::split_whitespace)
        .any(|flag| flag == "vmx" || flag == "svm")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vmx_and_svm_are_hardware() {
        assert!(shows_hardware("processor\t: 0\nflags\t\t: fpu vmx sse\n"));
        assert!(shows_hardware("flags\t\t: fpu svm\n"));
    }

    #[test]
    fn other_flags_and_other_lines_are_not() {
        assert!(!shows_hardware(
            "model name\t: svm vmx\nflags\t\t: fpu svm_lock\n"
        ));
    }
}
