//! The tests of the guest's virtiofs driver, `guest-kernel/driver-tests`, each
//! in a guest of its own.
//!
//! They know themselves which strategy has to fail at what, and check that it
//! does. Here is what a guest must have for them, and that nothing is lost on
//! the way: every check, and the plan, which comes last.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::fs::{XattrFlags, setxattr};
use tempfile::TempDir;
use tests::fixtures::Fixtures;
use tests::kernels::{Kernel, Variant, Version};
use tests::tap;

use crate::theme::{Test, Theme};
use crate::vm::{Vm, complaint, stretched};

/// A guest and the tests it runs.
#[derive(Clone, Copy, Debug)]
struct Suite {
    name: &'static str,
    /// Files of `driver-tests/tests`.
    tests: &'static [&'static str],
    /// Tags and options of the shares to be tested.
    shares: &'static [(&'static str, &'static str)],
    /// The strategies: all where they differ in what they can, otherwise those
    /// that are to be used.
    modes: &'static str,
    cpus: &'static str,
    /// What the kernel's command line has besides.
    cmdline: &'static str,
    /// Which kernel.
    variant: Variant,
    /// Whether the kernel has to complain.
    warns: bool,
    /// Whether it can run on a kernel that watches itself.
    debug: bool,
}

/// Every strategy with a limit on the length of a request.
const ALL: &str = "flat scattered pages-flat pages";

/// What most suites have.
const SUITE: Suite = Suite {
    name: "",
    tests: &[],
    shares: &[("data", "cache=never,xattr")],
    modes: "scattered pages",
    cpus: "1",
    cmdline: "",
    variant: Variant::Test,
    warns: false,
    debug: true,
};

const SUITES: [Suite; 29] = [
    Suite {
        name: "kunit_passes",
        tests: &["kunit", "messages"],
        ..SUITE
    },
    Suite {
        name: "every_length_is_read_and_written_intact",
        tests: &["bytes", "messages"],
        modes: "flat scattered pages",
        ..SUITE
    },
    Suite {
        name: "every_length_is_read_and_written_intact_through_the_page_cache",
        tests: &["bytes", "messages"],
        shares: &[("data", "cache=auto")],
        modes: "pages",
        ..SUITE
    },
    Suite {
        name: "every_length_is_read_and_written_intact_with_four_processors",
        tests: &["bytes", "messages"],
        cpus: "4",
        ..SUITE
    },
    Suite {
        name: "32_readers_at_once_read_intact_with_four_processors",
        tests: &["concurrent", "messages"],
        shares: &[("data", "cache=never,queues=4")],
        cpus: "4",
        ..SUITE
    },
    Suite {
        name: "queues_of_every_size_carry_every_length",
        tests: &["bytes", "xattr", "messages"],
        // With 16 a request has 12 pages, and a long attribute no room for
        // single ones; the largest is more than the driver makes use of.
        shares: &[
            ("q16", "cache=never,xattr,queue-size=16"),
            ("q64", "cache=never,xattr,queue-size=64"),
            ("q256", "cache=never,xattr,queue-size=256"),
            ("q1024", "cache=never,xattr,queue-size=1024"),
        ],
        ..SUITE
    },
    Suite {
        name: "32_readers_at_once_read_intact",
        tests: &["concurrent", "messages"],
        ..SUITE
    },
    Suite {
        name: "64_mib_are_read_and_written_intact",
        tests: &["large", "messages"],
        ..SUITE
    },
    Suite {
        name: "firmware_is_loaded_intact",
        tests: &["firmware", "messages"],
        ..SUITE
    },
    Suite {
        name: "kexec_takes_a_kernel_and_an_initramfs",
        tests: &["kexec", "messages"],
        ..SUITE
    },
    Suite {
        name: "core_dumps_are_written_intact",
        tests: &["coredump", "messages"],
        ..SUITE
    },
    Suite {
        name: "extended_attributes_up_to_64_kib",
        tests: &["xattr", "messages"],
        modes: ALL,
        ..SUITE
    },
    Suite {
        name: "single_pages_are_enough_when_larger_allocations_fail",
        tests: &["injected", "messages"],
        modes: ALL,
        ..SUITE
    },
    Suite {
        name: "single_pages_are_enough_when_memory_is_fragmented",
        tests: &["fragmented", "messages"],
        modes: ALL,
        ..SUITE
    },
    Suite {
        name: "a_read_ends_when_there_is_no_memory_for_it",
        tests: &["starved", "messages"],
        // What watches the kernel takes memory for each allocation; with none left
        // the command is killed.
        debug: false,
        ..SUITE
    },
    Suite {
        name: "every_allocation_may_fail",
        tests: &["nth", "messages"],
        ..SUITE
    },
    Suite {
        name: "writeback_survives_a_shortage_of_memory",
        tests: &["writeback", "messages"],
        shares: &[("data", "cache=auto")],
        ..SUITE
    },
    Suite {
        name: "dirty_data_is_no_hole",
        tests: &["holes", "messages"],
        shares: &[
            ("written", "cache=always,writeback"),
            ("mapped", "cache=auto"),
        ],
        ..SUITE
    },
    Suite {
        name: "the_strategy_is_a_mount_option",
        tests: &["options", "messages"],
        ..SUITE
    },
    Suite {
        name: "the_device_goes_with_requests_in_flight",
        tests: &["unbind", "messages"],
        ..SUITE
    },
    Suite {
        name: "a_signal_ends_what_waits_in_the_device",
        tests: &["interrupt", "messages"],
        shares: &[("data", "cache=never,locks")],
        ..SUITE
    },
    Suite {
        name: "a_signal_ends_what_waits_in_the_device_with_four_processors",
        tests: &["interrupt", "messages"],
        shares: &[("data", "cache=never,locks,queues=4")],
        cpus: "4",
        ..SUITE
    },
    Suite {
        name: "more_wait_for_a_lock_than_the_device_has_room_for",
        tests: &["waiters", "messages"],
        shares: &[("data", "cache=never,locks,queue-size=16")],
        ..SUITE
    },
    Suite {
        name: "asynchronous_reads_complete_without_memory",
        tests: &["aio", "messages"],
        ..SUITE
    },
    Suite {
        name: "a_shared_mapping_is_coherent_with_direct_io",
        tests: &["mapped", "messages"],
        cpus: "2",
        ..SUITE
    },
    Suite {
        name: "bounce_buffers_of_the_dma_api_are_enough_for_single_pages",
        tests: &["dma", "messages"],
        shares: &[("data", "cache=never,xattr,access-platform")],
        modes: "flat scattered pages",
        cmdline: "swiotlb=1024,force",
        ..SUITE
    },
    Suite {
        name: "writeback_survives_a_shortage_of_bounce_buffers",
        tests: &["dma-writeback", "messages"],
        shares: &[("data", "cache=auto,access-platform")],
        cmdline: "swiotlb=1024,force",
        ..SUITE
    },
    Suite {
        name: "without_a_limit_4194265_bytes_are_too_many",
        tests: &["uncapped"],
        warns: true,
        // A warning would end the checks of a kernel with lockdep.
        debug: false,
        ..SUITE
    },
    Suite {
        name: "unpatched_kernel_needs_memory_in_one_piece",
        tests: &["stock"],
        variant: Variant::Stock,
        // The first allocation of 6.1 that fails is only told.
        ..SUITE
    },
];

/// A theme for each version, and one for each kernel that watches itself.
pub(crate) fn themes() -> Vec<Theme> {
    let versions = [
        (Version::V6_1, "driver_6_1", "driver_debug_6_1"),
        (Version::V6_12, "driver_6_12", "driver_debug_6_12"),
    ];
    let themes = versions.map(|(version, name, debug_name)| {
        let tests = SUITES.map(|suite| suite.test(Kernel::Built(version, suite.variant)));
        let watched = SUITES
            .into_iter()
            .filter(|suite| suite.variant == Variant::Test && suite.debug)
            // Those kernels take long to build and longer to run.
            .map(|suite| suite.test(Kernel::Built(version, Variant::Debug)).ignored());
        [Theme::new(name, tests), Theme::new(debug_name, watched)]
    });
    themes.into_iter().flatten().collect()
}

impl Suite {
    fn test(self, kernel: Kernel) -> Test {
        Test::new(self.name, [kernel], move |fixtures| {
            self.run(fixtures, kernel)
        })
    }

    fn run(&self, fixtures: &Fixtures, kernel: Kernel) -> Result<()> {
        let directory = fixtures.kernel(kernel)?;
        let is_debug = kernel.is_debug();
        // With KASAN or lockdep no process starts without four pages side by side.
        let order = if is_debug { 3 } else { 1 };
        let patience = stretched(Duration::from_secs(1)).as_secs();
        let mut vm = Vm::new(fixtures, &directory.join("bzImage"))?
            .option("--cpus", self.cpus)
            .option("--env", format!("MODES={}", self.modes))
            .option("--env", format!("ORDER={order}"))
            .option("--env", format!("PATIENCE={patience}"))
            .option("--cmdline", if is_debug { "page_poison=1" } else { "" })
            .option("--cmdline", self.cmdline)
            .option("--memory", if is_debug { "1G" } else { "512M" })
            .patience(Duration::from_secs(if is_debug { 120 } else { 30 }))
            .share(directory, "tag=kernel,ro")
            .share(&fixtures.driver_tests, "tag=driver-tests,ro");
        let mut tags = Vec::new();
        // Kept until the guest is gone.
        let mut shares = Vec::new();
        for (tag, options) in self.shares {
            let share = share()?;
            vm = vm.share(share.path(), &format!("tag={tag},{options}"));
            tags.push(*tag);
            shares.push(share);
        }
        let tags = tags.join(",");
        let mut running = vm
            .command(
                ["sh", "/mnt/driver-tests/run", &tags]
                    .into_iter()
                    .chain(self.tests.iter().copied()),
            )
            .start(Stdio::piped())?;
        // Where nobody types, but could.
        let _keyboard = running.stdin()?;
        let run = running.finish()?;
        let checks = match tap::parse(run.text()?) {
            Ok(checks) => checks,
            Err(error) => bail!("{error:#}\n{}", run.account()),
        };
        if !checks.failed.is_empty() {
            bail!(
                "{} of {} checks failed:\n{}\n\n{}",
                checks.failed.len(),
                checks.total,
                checks.failed.join("\n"),
                run.account()
            );
        }
        let run = run.expect(0, "exited")?;
        // A trace alone is an allocation that failed, which tests ask for.
        let log: String = run
            .console
            .lines()
            .filter(|line| !line.contains("Call Trace"))
            .flat_map(|line| [line, "\n"])
            .collect();
        match complaint(&log) {
            Some(line) if !self.warns => {
                bail!("the kernel complains: {line}\n{}", run.account())
            }
            None if self.warns => bail!("the kernel has nothing to say\n{}", run.account()),
            _ => Ok(()),
        }
    }
}

/// A directory for a share, where the host takes extended attributes of 64 KiB:
/// a tmpfs since Linux 6.6, xfs, btrfs.
fn share() -> Result<TempDir> {
    let temporary = std::env::temp_dir();
    for parent in [temporary.as_path(), Path::new("/dev/shm")] {
        let Ok(directory) = tempfile::tempdir_in(parent) else {
            continue;
        };
        let value = vec![0; 1 << 16];
        if setxattr(directory.path(), "user.size", &value, XattrFlags::empty()).is_ok() {
            return Ok(directory);
        }
    }
    Err(anyhow::anyhow!(
        "neither {} nor /dev/shm takes extended attributes of 64 KiB",
        temporary.display()
    ))
    .context("set TMPDIR to a directory on tmpfs (Linux 6.6 or newer), xfs or btrfs")
}
