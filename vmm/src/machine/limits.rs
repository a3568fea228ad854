//! What of a machine can be checked and made without KVM: whether its numbers
//! are within the host's limits, and its memory, reserved and filled.
//! `--dry-run` does that much, and so refuses what the run would.

use kvm_bindings::CpuId;
use kvm_ioctls::Kvm;
use vm_memory::GuestMemoryMmap;

use super::boot::registers::Start;
use super::boot::{self, Hardware};
use super::{board, cpuid, host, memory, windows};
use vmm_kernel::Kernel;

/// APIC id 255 is the broadcast, so there are at most ids 0 to 254.
const MAX_CPUS: usize = 255;
/// The widest physical address there is on x86-64.
const MAX_ADDRESS_BITS: u32 = 52;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{cpus} CPUs are not possible: use --cpus from 1 to {limit}")]
    Cpus { cpus: u8, limit: usize },
    #[error(transparent)]
    Cpuid(#[from] cpuid::Error),
    #[error(transparent)]
    Devices(#[from] board::Error),
    #[error(transparent)]
    Memory(#[from] memory::Error),
    #[error(transparent)]
    Windows(#[from] windows::Error),
    #[error(transparent)]
    Boot(#[from] boot::Error),
}

/// What a machine on this host may have at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    cpus: usize,
    address_bits: u32,
}

impl Limits {
    pub(super) fn of(kvm: &Kvm, cpuid: &CpuId) -> Self {
        Self {
            cpus: kvm.get_max_vcpus().min(MAX_CPUS),
            address_bits: cpuid::address_bits(cpuid),
        }
    }

    /// What no host exceeds, for one without KVM.
    const WIDEST: Self = Self {
        cpus: MAX_CPUS,
        address_bits: MAX_ADDRESS_BITS,
    };
}

/// Reserves `memory` bytes for a machine with this hardware, and windows of these
/// sizes beside it, and lets `load` fill them.
pub(super) fn fill_memory(
    limits: Limits,
    hardware: Hardware,
    (memory, windows): (u64, &[u64]),
    load: impl FnOnce(&GuestMemoryMmap, Hardware) -> Result<Start, boot::Error>,
) -> Result<(GuestMemoryMmap, Start), Error> {
    let (cpus, limit) = (hardware.cpus, limits.cpus);
    if cpus == 0 || usize::from(cpus) > limit {
        return Err(Error::Cpus { cpus, limit });
    }
    board::check_number(hardware.devices)?;
    windows::check(memory, windows, limits.address_bits)?;
    let memory = memory::reserve(memory, limits.address_bits)?;
    let start = load(&memory, hardware)?;
    Ok((memory, start))
}

/// Does all of this for nothing but its errors, which
/// [`Machine::new`](super::Machine::new) would have, too.
///
/// # Errors
///
/// See [`Error`].
pub(crate) fn check(
    kernel: &Kernel,
    initramfs: &[u8],
    cmdline: &str,
    (cpus, devices): (u8, usize),
    memory: (u64, &[u64]),
) -> Result<(), Error> {
    let limits = match host::open() {
        Ok(kvm) => Limits::of(&kvm, &cpuid::supported(&kvm)?),
        Err(_) => Limits::WIDEST,
    };
    let five_levels = false; // Asks for no other memory.
    let hardware = Hardware {
        cpus,
        devices,
        five_levels,
    };
    fill_memory(limits, hardware, memory, |memory, hardware| {
        boot::load(memory, kernel, Some(initramfs), cmdline, hardware).map(|(start, _)| start)
    })
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_host_can_be_is_refused_without_one() {
        let refused = |cpus, devices, memory| {
            let five_levels = false;
            let hardware = Hardware {
                cpus,
                devices,
                five_levels,
            };
            fill_memory(
                Limits::WIDEST,
                hardware,
                (memory, &[]),
                |_, _| unreachable!(),
            )
            .map(drop)
            .map_err(|error| error.to_string())
        };
        let is = |text: &str, result: Result<(), String>| {
            assert!(
                result.as_ref().is_err_and(|e| e.contains(text)),
                "{result:?}"
            );
        };
        is("--cpus from 1 to 255", refused(0, 0, 64 << 20));
        is("too many", refused(1, 5000, 64 << 20));
        is("at least 32 MiB", refused(1, 0, 16 << 20));
        is("can address", refused(1, 0, 100_000 << 40));
        // More than a process can map.
        is("use less --memory", refused(1, 0, 1000 << 40));
    }
}
