//! What the guest's processors say about themselves: what KVM supports, with
//! the topology of this machine instead of the host's.
//!
//! One socket, one thread per core, APIC id = index.

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2};
use kvm_ioctls::{Cap, Kvm};

/// Leaf 1 ECX: the x2APIC is there; KVM emulates it.
const X2APIC: u32 = 1 << 21;
/// Leaf 1 ECX: the APIC timer takes a TSC deadline. KVM emulates it but does
/// not report it among the supported bits.
const TSC_DEADLINE: u32 = 1 << 24;
/// Leaf 1 ECX: there is a hypervisor, whose leaves start at 0x4000_0000.
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 1 EDX: more than one logical processor in the package.
const HTT: u32 = 1 << 28;
/// Leaf 0x8000_0001 ECX, AMD: the logical processors are cores, not threads.
const CMP_LEGACY: u32 = 1 << 1;
/// Leaf 0xb ECX bits 15:8: what a level of the topology is made of.
const LEVEL_THREAD: u32 = 1 << 8;
const LEVEL_CORE: u32 = 2 << 8;
/// The address width of the first x86-64 processors, for hosts that say none.
const DEFAULT_ADDRESS_BITS: u32 = 36;

#[derive(Debug, thiserror::Error)]
#[error("KVM does not say what its processors can do")]
pub(crate) struct Error(#[from] kvm_ioctls::Error);

/// What KVM can show to a guest on this host.
pub(super) fn supported(kvm: &Kvm) -> Result<CpuId, Error> {
    let mut cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?;
    let deadline_timer = kvm.check_extension(Cap::TscDeadlineTimer);
    for entry in cpuid.as_mut_slice() {
        if entry.function == 1 {
            entry.ecx |= HYPERVISOR | X2APIC;
            if deadline_timer {
                entry.ecx |= TSC_DEADLINE;
            }
        }
    }
    Ok(cpuid)
}

/// Whether page tables can have five levels (leaf 7, ECX, LA57).
pub(super) fn five_levels(cpuid: &CpuId) -> bool {
    const LA57: u32 = 1 << 16;
    let mut leaves = cpuid.as_slice().iter();
    leaves.any(|entry| entry.function == 7 && entry.index == 0 && entry.ecx & LA57 != 0)
}

/// How many bits a guest-physical address has.
pub(super) fn address_bits(cpuid: &CpuId) -> u32 {
    cpuid
        .as_slice()
        .iter()
        .find(|entry| entry.function == 0x8000_0008)
        .map_or(DEFAULT_ADDRESS_BITS, |entry| entry.eax & 0xff)
}

/// The leaves of processor `index` of `count`.
pub(super) fn for_vcpu(supported: &CpuId, index: u8, count: u8) -> CpuId {
    let mut cpuid = supported.clone();
    for entry in cpuid.as_mut_slice() {
        set_topology(entry, u32::from(index), u32::from(count));
    }
    cpuid
}

/// How many bits of an APIC id number `count` processors.
fn id_bits(count: u32) -> u32 {
    count.next_power_of_two().trailing_zeros()
}

fn set_topology(entry: &mut kvm_cpuid_entry2, index: u32, count: u32) {
    let ids = 1 << id_bits(count);
    match entry.function {
        1 => {
            // EBX 31:24 initial APIC id, 23:16 addressable ids in the package.
            entry.ebx = (entry.ebx & 0xffff) | (index << 24) | (ids.min(0xff) << 16);
            entry.edx = with_bit(entry.edx, HTT, count > 1);
        }
        // Caches, Intel. EAX 25:14 addressable ids sharing the cache less 1,
        // 31:26 addressable cores in the package less 1 (6 bits).
        4 if entry.eax & 0x1f != 0 => {
            let cores = (ids - 1).min(0x3f);
            entry.eax = (entry.eax & 0x3fff) | (sharing(entry.eax, ids) << 14) | (cores << 26);
        }
        // Extended topology, Intel: subleaf 0 threads, subleaf 1 cores.
        0xb | 0x1f => {
            (entry.eax, entry.ebx, entry.ecx) = match entry.index {
                0 => (0, 1, LEVEL_THREAD),
                1 => (id_bits(count), count, LEVEL_CORE | 1),
                other => (0, 0, other),
            };
            entry.edx = index;
        }
        // AMD: cores, not threads, make up the logical processors.
        0x8000_0001 => entry.ecx = with_bit(entry.ecx, CMP_LEGACY, count > 1 && is_amd(entry)),
        // ECX 15:12 bits of an APIC id for the core, 7:0 cores less 1 (AMD).
        0x8000_0008 if entry.ecx != 0 => {
            entry.ecx = (entry.ecx & !0xf0ff) | (id_bits(count) << 12) | (count - 1);
        }
        // Caches, AMD. EAX 25:14 as in leaf 4.
        0x8000_001d if entry.eax & 0x1f != 0 => {
            entry.eax = (entry.eax & 0x3fff) | (sharing(entry.eax, ids) << 14);
        }
        // AMD: EAX APIC id; EBX 15:8 threads per core less 1, 7:0 core id;
        // ECX 10:8 nodes less 1, 7:0 node id.
        0x8000_001e => {
            entry.eax = index;
            entry.ebx = index & 0xff;
            entry.ecx = 0;
        }
        // AMD extended topology would repeat the host's; without it Linux
        // takes the leaves above.
        0x8000_0026 => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0),
        _ => {}
    }
}

/// ECX of leaf 0x8000_0001 has AMD's bits only on AMD and Hygon, which the bit
/// of SVM or of the topology extensions gives away.
fn is_amd(entry: &kvm_cpuid_entry2) -> bool {
    const SVM: u32 = 1 << 2;
    const TOPOLOGY_EXTENSIONS: u32 = 1 << 22;
    entry.ecx & (SVM | TOPOLOGY_EXTENSIONS) != 0
}

/// A cache of the first or second level belongs to one core, one of the third
/// to all.
fn sharing(cache: u32, ids: u32) -> u32 {
    let level = (cache >> 5) & 7;
    if level >= 3 { ids - 1 } else { 0 }
}

fn with_bit(value: u32, bit: u32, on: bool) -> u32 {
    if on { value | bit } else { value & !bit }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn leaf(function: u32, index: u32) -> kvm_cpuid_entry2 {
        kvm_cpuid_entry2 {
            function,
            index,
            ..Default::default()
        }
    }

    fn with_topology(mut entry: kvm_cpuid_entry2, index: u32, count: u32) -> kvm_cpuid_entry2 {
        set_topology(&mut entry, index, count);
        entry
    }

    #[test]
    fn leaf_1_names_the_apic_id_and_the_processors() {
        let entry = with_topology(leaf(1, 0), 2, 3);
        assert_eq!(entry.ebx, (2 << 24) | (4 << 16));
        assert_eq!(entry.edx & HTT, HTT);
    }

    #[test]
    fn a_single_processor_has_no_siblings() {
        let entry = with_topology(leaf(1, 0), 0, 1);
        assert_eq!(entry.ebx, 1 << 16);
        assert_eq!(entry.edx & HTT, 0);
    }

    #[test]
    fn the_extended_topology_is_cores_of_one_thread() {
        let threads = with_topology(leaf(0xb, 0), 5, 6);
        let cores = with_topology(leaf(0xb, 1), 5, 6);
        let end = with_topology(leaf(0xb, 2), 5, 6);
        assert_eq!((threads.eax, threads.ebx, threads.edx), (0, 1, 5));
        assert_eq!((cores.eax, cores.ebx, cores.edx), (3, 6, 5));
        assert_eq!((end.eax, end.ebx, end.ecx), (0, 0, 2));
    }

    #[test]
    fn only_the_third_level_of_cache_is_shared() {
        let mut second = leaf(4, 2);
        second.eax = (2 << 5) | 3 | (0x3ff << 14);
        let mut third = leaf(4, 3);
        third.eax = (3 << 5) | 3;
        assert_eq!((with_topology(second, 0, 4).eax >> 14) & 0xfff, 0);
        assert_eq!((with_topology(third, 0, 4).eax >> 14) & 0xfff, 3);
    }

    #[test]
    fn as_many_processors_as_an_apic_id_can_number_fit_the_leaves() {
        let first = with_topology(leaf(1, 0), 254, 255);
        assert_eq!(first.ebx, (254 << 24) | (0xff << 16));
        let mut caches = leaf(4, 3);
        caches.eax = (3 << 5) | 3;
        assert_eq!(with_topology(caches, 254, 255).eax >> 26, 0x3f);
    }
}
