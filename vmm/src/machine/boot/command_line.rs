//! The kernel command line: what this machine's kernels want to hear, then
//! what the user said, so that the user has the last word.

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_kernel::{Discovery, Image, Kernel};

use super::error::Error;
use crate::machine::layout;
use crate::machine::wiring::Wiring;

/// `COMMAND_LINE_SIZE` of x86 less the NUL, in bytes: the limit of a
/// `vmlinux`, which has no setup header to say it.
const VMLINUX_LIMIT: u32 = 2047;

/// The parameters every kernel gets, with their reasons.
const DEFAULTS: &[&str] = &[
    // The only console there is.
    "console=ttyS0",
    // A panic ends the machine at once, instead of stopping it for ever.
    "panic=-1",
    // By the keyboard controller, which the kernel can do whether it has ACPI
    // or not, and at once.
    "reboot=k",
    // There is no PCI bus. The code for it has to be built in for ACPI to
    // work, but it need not look.
    "pci=off",
    // One serial port: more are probed for, port by port, each an exit.
    "8250.nr_uarts=1",
    // There is no keyboard or mouse: ask for no answers that never come.
    "i8042.nokbd",
    "i8042.noaux",
    "i8042.nomux",
    "i8042.nopnp",
    "i8042.dumbkbd",
    // RDRAND is the host's: no waiting for entropy, which a guest without
    // disks and keyboards has none of.
    "random.trust_cpu=on",
    // KVM keeps the TSCs of the vCPUs together, and where the host's is no
    // good the kernel takes kvm-clock: no need for a watchdog that takes a
    // host under load for a broken clock, nor for a slow check of each CPU.
    "tsc=reliable",
    // The PIT's interrupt need not be proven to arrive: kvm-clock and the
    // APIC timer keep time.
    "no_timer_check",
    // Only vmm itself can send a SysRq, and does where the guest hangs.
    "sysrq_always_enabled",
    // By its time a line is known to be the kernel's, and splats have one. Without
    // CONFIG_PRINTK_TIME there is none unless it is asked for.
    "printk.time=1",
];

/// The whole command line of a machine with `devices` virtio-mmio devices.
#[must_use]
pub(crate) fn compose(discovery: Discovery, devices: usize, user: &str) -> String {
    let mut words: Vec<String> = DEFAULTS.iter().map(|&word| word.to_owned()).collect();
    if !has_acpi(discovery, user) {
        words.push("acpi=off".to_owned());
        words.extend((0..devices).map(|index| {
            format!(
                "virtio_mmio.device={}K@{:#x}:{}",
                layout::VIRTIO_MMIO_SIZE >> 10,
                layout::virtio_window(index),
                layout::virtio_pin(index)
            )
        }));
    }
    let user = user.trim();
    if !user.is_empty() {
        words.push(user.to_owned());
    }
    words.join(" ")
}

/// Whether the kernel uses ACPI, and so knows what the tables say of the
/// devices and how to power off. The user may turn it off.
#[must_use]
pub(crate) fn has_acpi(discovery: Discovery, user: &str) -> bool {
    let mut words = user.split_whitespace().take_while(|&word| word != "--");
    discovery == Discovery::Acpi && !words.any(|word| word == "acpi=off")
}

/// Which interrupts of the devices the kernel can have.
#[must_use]
pub(in crate::machine) fn wiring(discovery: Discovery, user: &str) -> Wiring {
    let mut words = user.split_whitespace().take_while(|&word| word != "--");
    // With either Linux takes the IO-APIC from the MP table, which has only KVM's
    // (`Documentation/admin-guide/kernel-parameters.txt`).
    let without = |word: &str| {
        let mut pci = word.strip_prefix("pci=").unwrap_or_default().split(',');
        word == "acpi=noirq" || pci.any(|option| option == "noacpi")
    };
    if has_acpi(discovery, user) && !words.any(without) {
        Wiring::Messages
    } else {
        Wiring::Pins
    }
}

/// The program that `user` wants to be the init of the root file system. As for the
/// kernel the last one counts.
#[must_use]
pub(crate) fn init(user: &str) -> Option<&str> {
    let words = user.split_whitespace().take_while(|&word| word != "--");
    let programs = words.filter_map(|word| word.strip_prefix("init="));
    programs.filter(|program| !program.is_empty()).last()
}

/// Checks a command line against the kernel's limit and writes it to guest
/// memory.
pub(super) fn write(memory: &GuestMemoryMmap, kernel: &Kernel, text: &str) -> Result<(), Error> {
    let limit = match &kernel.image {
        Image::BzImage(header) => header.cmdline_size,
        Image::Elf(_) => VMLINUX_LIMIT,
    } as usize;
    let limit = limit.min(layout::COMMAND_LINE_ROOM - 1);
    if text.contains(['\0', '\n']) {
        return Err(Error::CommandLineText);
    }
    if text.len() > limit {
        return Err(Error::CommandLineLength {
            length: text.len(),
            limit,
        });
    }
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    memory
        .write_slice(&bytes, GuestAddress(layout::COMMAND_LINE))
        .map_err(Error::Write)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_has_the_last_word() {
        let line = compose(Discovery::Acpi, 2, " panic=5 -- sh ");
        assert!(line.contains(" printk.time=1 ") && line.ends_with(" panic=5 -- sh"));
        assert!(line.contains("console=ttyS0"));
        assert!(!line.contains("virtio_mmio"));
    }

    #[test]
    fn a_user_who_turns_acpi_off_keeps_the_devices() {
        assert!(compose(Discovery::Acpi, 1, "acpi=off").contains("virtio_mmio.device=4K"));
        assert!(!has_acpi(Discovery::Acpi, "quiet acpi=off"));
        assert!(has_acpi(Discovery::Acpi, "quiet -- acpi=off"));
        assert!(!has_acpi(Discovery::CommandLine, ""));
        assert!(!compose(Discovery::Acpi, 1, "-- acpi=off").contains("virtio_mmio"));
    }

    #[test]
    fn a_kernel_with_acpi_gets_messages_unless_it_is_told_to_do_without() {
        let acpi = |line| wiring(Discovery::Acpi, line);
        assert_eq!(acpi("quiet -- acpi=noirq"), Wiring::Messages);
        for line in ["acpi=off", "quiet acpi=noirq", "pci=nocrs,noacpi x"] {
            assert_eq!(acpi(line), Wiring::Pins, "{line}");
        }
        assert_eq!(wiring(Discovery::CommandLine, ""), Wiring::Pins);
    }

    #[test]
    fn devices_are_named_for_a_kernel_without_acpi() {
        let line = compose(Discovery::CommandLine, 2, "");
        assert!(line.ends_with(
            "acpi=off virtio_mmio.device=4K@0xd0000fa0:5 virtio_mmio.device=4K@0xd0002fa0:6"
        ));
    }
}
