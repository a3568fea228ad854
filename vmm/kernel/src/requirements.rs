//! What a guest needs of its kernel's configuration. The check before a run and
//! `vmm kconfig` go by this table.

use super::config::{KernelConfig, OptionState};

/// What is missing without an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Every run.
    Boot,
    /// Runs with shares; COMMAND's streams are one.
    Shares,
    /// The same, but there is another way: see [`cannot_find_devices`].
    Discovery,
    /// Less than the run.
    Comfort,
}

/// One option.
#[derive(Clone, Copy, Debug)]
pub struct Requirement {
    /// Its name, `CONFIG_` included.
    pub option: &'static str,
    /// What it is called as a module that the guest's init loads. Others have to
    /// be built in.
    pub module: Option<&'static str>,
    /// What it is for.
    pub purpose: Purpose,
    /// What has to be set for Kconfig to offer it.
    pub with: &'static [&'static str],
    /// What there is not without it, for users.
    pub why: &'static str,
}

impl Requirement {
    const fn new(option: &'static str, purpose: Purpose, why: &'static str) -> Self {
        Self {
            option,
            module: None,
            purpose,
            with: &[],
            why,
        }
    }

    const fn or_module(mut self, module: &'static str) -> Self {
        self.module = Some(module);
        self
    }

    const fn with(mut self, with: &'static [&'static str]) -> Self {
        self.with = with;
        self
    }
}

/// The module that makes a read-only root writable for the guest.
pub const OVERLAY: &str = "overlay";

/// The other way to find devices.
const COMMAND_LINE_DEVICES: &str = "CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES";

/// Every option, those that others need first.
pub const REQUIREMENTS: [Requirement; 27] = [
    Requirement::new(
        "CONFIG_64BIT",
        Purpose::Boot,
        "the machine starts in 64-bit mode",
    ),
    Requirement::new(
        "CONFIG_BLK_DEV_INITRD",
        Purpose::Boot,
        "the guest's init is in an initramfs",
    ),
    Requirement::new(
        "CONFIG_BINFMT_ELF",
        Purpose::Boot,
        "the guest's init is an ELF executable",
    ),
    Requirement::new(
        "CONFIG_VIRTIO_MMIO",
        Purpose::Shares,
        "the bus of the devices",
    )
    .or_module("virtio_mmio")
    .with(&["CONFIG_VIRTIO_MENU"]),
    Requirement::new(
        "CONFIG_VIRTIO_FS",
        Purpose::Shares,
        "the file system of shares, and of COMMAND's streams and status",
    )
    .or_module("virtiofs")
    .with(&["CONFIG_FUSE_FS"]),
    Requirement::new(
        "CONFIG_ACPI",
        Purpose::Discovery,
        "how devices are found, unless by VIRTIO_MMIO_CMDLINE_DEVICES",
    ),
    Requirement::new(
        "CONFIG_PCI",
        Purpose::Discovery,
        "without it ACPI does not load the table of the devices",
    ),
    Requirement::new(
        "CONFIG_SERIAL_8250_CONSOLE",
        Purpose::Comfort,
        "the console, and so the kernel's splats and panics",
    )
    .with(&["CONFIG_PRINTK", "CONFIG_TTY", "CONFIG_SERIAL_8250"]),
    Requirement::new(
        "CONFIG_IKCONFIG",
        Purpose::Comfort,
        "so that vmm can tell before a run what a kernel lacks",
    ),
    Requirement::new("CONFIG_SMP", Purpose::Comfort, "--cpus above 1"),
    Requirement::new(
        "CONFIG_KVM_GUEST",
        Purpose::Comfort,
        "a clock that needs no exits, and the host's time of day",
    )
    .with(&["CONFIG_HYPERVISOR_GUEST", "CONFIG_PARAVIRT"]),
    Requirement::new(
        "CONFIG_PROC_FS",
        Purpose::Comfort,
        "/proc, and whether the kernel is tainted",
    ),
    Requirement::new("CONFIG_SYSFS", Purpose::Comfort, "/sys"),
    Requirement::new("CONFIG_TMPFS", Purpose::Comfort, "/tmp, /run and /dev/shm")
        .with(&["CONFIG_SHMEM"]),
    Requirement::new(
        "CONFIG_DEVTMPFS",
        Purpose::Comfort,
        "the nodes of all devices in /dev",
    ),
    Requirement::new(
        "CONFIG_UNIX98_PTYS",
        Purpose::Comfort,
        "terminals, as the one of a shell",
    ),
    Requirement::new(
        "CONFIG_UNIX",
        Purpose::Comfort,
        "a COMMAND that is searched for in PATH, and one with a terminal",
    )
    .with(&["CONFIG_NET"]),
    Requirement::new(
        "CONFIG_FUTEX",
        Purpose::Comfort,
        "threads that wait without work, as those of the guest's init",
    ),
    Requirement::new("CONFIG_MULTIUSER", Purpose::Comfort, "--user"),
    Requirement::new(
        "CONFIG_FILE_LOCKING",
        Purpose::Comfort,
        "flock and fcntl, and locks of a share",
    ),
    Requirement::new("CONFIG_BINFMT_SCRIPT", Purpose::Comfort, "scripts with #!"),
    Requirement::new("CONFIG_MODULES", Purpose::Comfort, "insmod"),
    Requirement::new(
        "CONFIG_OVERLAY_FS",
        Purpose::Comfort,
        "a --root whose changes stay in the guest",
    )
    .or_module(OVERLAY),
    Requirement::new("CONFIG_FUSE_DAX", Purpose::Comfort, "dax= of a share").with(&[
        "CONFIG_SPARSEMEM_VMEMMAP",
        "CONFIG_MIGRATION",
        "CONFIG_MEMORY_HOTPLUG",
        "CONFIG_MEMORY_HOTREMOVE",
        "CONFIG_ZONE_DEVICE",
        "CONFIG_DAX",
        "CONFIG_FS_DAX",
    ]),
    Requirement::new(
        "CONFIG_MAGIC_SYSRQ_SERIAL",
        Purpose::Comfort,
        "where the guest hangs when the time of --timeout is up",
    )
    .with(&["CONFIG_MAGIC_SYSRQ"]),
    Requirement::new("CONFIG_BUG", Purpose::Comfort, "WARN and BUG are seen"),
    Requirement::new(
        "CONFIG_KALLSYMS",
        Purpose::Comfort,
        "names in back traces and splats",
    ),
];

/// The options with this purpose.
pub fn of(purpose: Purpose) -> impl Iterator<Item = &'static Requirement> {
    (REQUIREMENTS.iter()).filter(move |requirement| requirement.purpose == purpose)
}

/// Why a kernel with this configuration can find no virtio-mmio device at all, in
/// words for the user; `None` when it can.
#[must_use]
pub fn cannot_find_devices(config: &KernelConfig) -> Option<String> {
    if config.has(COMMAND_LINE_DEVICES) || has_working_acpi(config) {
        return None;
    }
    let needed: Vec<String> = of(Purpose::Discovery)
        .map(|requirement| format!("{}=y", requirement.option))
        .collect();
    Some(format!(
        "it finds no virtio-mmio device: build it with {COMMAND_LINE_DEVICES}=y, or with {}",
        needed.join(" and ")
    ))
}

/// Whether devices are only to be found by the command line.
#[must_use]
pub fn finds_by_command_line(config: &KernelConfig) -> bool {
    !has_working_acpi(config) && config.has(COMMAND_LINE_DEVICES)
}

/// ACPI without PCI loads no DSDT on Linux 6.1 and 6.12: the table of default
/// address spaces names PCI_CONFIG while its handler is compiled out.
fn has_working_acpi(config: &KernelConfig) -> bool {
    of(Purpose::Discovery).all(|requirement| config.has(requirement.option))
}

/// How far a configuration is from what an option is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It is as it is needed.
    Good,
    /// A module that `vmm` has to be able to find.
    AsModule,
    /// A module, but it is needed before any can be loaded, or cannot be one.
    NotAsModule,
    /// It is not set.
    Missing,
}

/// What `config` makes of a requirement.
#[must_use]
pub fn fit(requirement: &Requirement, config: &KernelConfig) -> Fit {
    if requirement.purpose == Purpose::Discovery && config.has(COMMAND_LINE_DEVICES) {
        return Fit::Good;
    }
    match (config.state(requirement.option), requirement.module) {
        (OptionState::BuiltIn, _) => Fit::Good,
        (OptionState::Module, Some(_)) => Fit::AsModule,
        (OptionState::Module, None) => Fit::NotAsModule,
        (OptionState::Absent, _) => Fit::Missing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_is_named_once_and_after_those_it_needs() {
        let mut seen: Vec<&str> = Vec::new();
        for requirement in &REQUIREMENTS {
            for option in requirement.with.iter().chain([&requirement.option]) {
                assert!(option.starts_with("CONFIG_"), "{option}");
                assert!(!seen.contains(option), "{option}");
                seen.push(option);
            }
        }
    }

    #[test]
    fn a_module_is_as_good_only_where_the_init_can_load_it() {
        let config = KernelConfig::parse("CONFIG_VIRTIO_FS=m\nCONFIG_BINFMT_ELF=m\nCONFIG_PCI=y\n");
        let fit = |option| {
            let requirement = REQUIREMENTS.iter().find(|other| other.option == option);
            requirement.map(|requirement| fit(requirement, &config))
        };
        assert_eq!(fit("CONFIG_VIRTIO_FS"), Some(Fit::AsModule));
        assert_eq!(fit("CONFIG_BINFMT_ELF"), Some(Fit::NotAsModule));
        assert_eq!(fit("CONFIG_PCI"), Some(Fit::Good));
        assert_eq!(fit("CONFIG_ACPI"), Some(Fit::Missing));
    }

    #[test]
    fn one_way_to_find_devices_is_enough() {
        let acpi = KernelConfig::parse("CONFIG_ACPI=y\nCONFIG_PCI=y\n");
        let command_line = KernelConfig::parse("CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES=y\n");
        for config in [&acpi, &command_line] {
            assert_eq!(cannot_find_devices(config), None);
            assert!(of(Purpose::Discovery).all(|needed| fit(needed, config) == Fit::Good));
        }
        let neither = KernelConfig::parse("CONFIG_ACPI=y\n");
        assert!(cannot_find_devices(&neither).is_some_and(|why| why.contains("CONFIG_PCI=y")));
    }
}
