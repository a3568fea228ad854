//! Suites that others wrote, in guests with a small system of Debian's: on shares with
//! every cache policy, and with every owner.
//!
//! `make test` has a small part of them, in some modes. All of it is in the tests that
//! are called `all_of`, which run the suites on the guest's own tmpfs too, as the control.

mod setting;

use anyhow::{Result, ensure};
use tests::conformance::known::Linux;
use tests::conformance::mode::{MODES, Mode, Owners};
use tests::fixtures::Fixtures;
use tests::kernels::{Kernel, Stock, Variant, Version};

use crate::theme::{Test, Theme};
use setting::{Setting, Size};

pub(crate) const THEMES: [&str; 3] = ["suites", "suites_6_12", "suites_newest"];

const OLDER: Kernel = Kernel::PATCHED;
const NEWER: Kernel = Kernel::Built(Version::V6_12, Variant::Patched);
const STOCK: Kernel = Kernel::Debian(Stock::Newest);

/// Those that need nothing but Debian's packages, and pjdfstest and fsx, which are programs
/// without libraries.
const ALL: [&str; 8] = [
    "copies",
    "dpkg",
    "fio",
    "fsx",
    "git",
    "pjdfstest",
    "sqlite3",
    "stress-ng",
];

/// A suite in these modes.
type Part = (&'static str, &'static [&'static str]);

/// What `make test` has time for: each suite, and each kind of cache with some of them.
const NEWER_HAS: [Part; 6] = [
    ("copies", &["auto"]),
    ("dpkg", &["never"]),
    ("fio", &["always,writeback"]),
    ("git", &["never"]),
    ("sqlite3", &["never", "always,writeback"]),
    ("stress-ng", &["auto"]),
];

const STOCK_HAS: [Part; 4] = [
    ("copies", &["always,writeback"]),
    ("dpkg", &["auto"]),
    ("git", &["auto"]),
    ("sqlite3", &["never"]),
];

pub(crate) fn themes() -> Vec<Theme> {
    let older = vec![
        Test::new("fsx_in_every_mode", [OLDER], |fixtures| {
            same_as_in_memory(&setting(OLDER, "fsx", MODES), fixtures)
        }),
        Test::new("fsx_in_a_window", [OLDER], |fixtures| {
            let plain = setting(OLDER, "fsx", &modes(&["auto", "always"]));
            same_as_in_memory(&plain.with(",dax=4M"), fixtures)
        }),
        Test::new("pjdfstest", [OLDER], |fixtures| {
            same_as_in_memory(&setting(OLDER, "pjdfstest", &modes(&["auto"])), fixtures)
        }),
        Test::new("sqlite3", [OLDER], |fixtures| {
            passes(&setting(OLDER, "sqlite3", &modes(&["never"])), fixtures)
        }),
        of_user("copies", Owners::Mapped),
        of_user("dpkg", Owners::Mapped),
        of_user("copies", Owners::Xattr),
        of_user("dpkg", Owners::Xattr),
    ];
    let mut newer: Vec<Test> = NEWER_HAS.map(|part| small(NEWER, part)).into();
    newer.push(Test::new("fsx_in_a_window", [NEWER], |fixtures| {
        let plain = setting(NEWER, "fsx", &modes(&["auto"]));
        same_as_in_memory(&plain.with(",dax=4M"), fixtures)
    }));
    let stock = STOCK_HAS.map(|part| small(STOCK, part)).into();
    let kernels = [(OLDER, older), (NEWER, newer), (STOCK, stock)];
    let theme = |(name, (kernel, mut tests)): (_, (_, Vec<Test>))| {
        tests.extend(ALL.map(|suite| all_of(kernel, suite)));
        Theme::new(name, tests).long()
    };
    THEMES.into_iter().zip(kernels).map(theme).collect()
}

/// None for a name that is none, which no test passes with.
fn modes(names: &[&str]) -> Vec<Mode> {
    let modes: Option<_> = names.iter().copied().map(Mode::named).collect();
    modes.unwrap_or_default()
}

fn setting(kernel: Kernel, suite: &'static str, modes: &[Mode]) -> Setting {
    Setting {
        kernel,
        suite,
        modes: modes.to_vec(),
        owners: Owners::Host,
        options: "",
        size: Size::Tiny,
        with_control: false,
    }
}

/// The least of a suite, whose cases have to pass.
fn small(kernel: Kernel, (suite, names): Part) -> Test {
    Test::new(suite, [kernel], move |fixtures| {
        passes(&setting(kernel, suite, &modes(names)), fixtures)
    })
}

/// The same where an ordinary user runs `vmm`, and the guest's root makes others of them.
fn of_user(suite: &'static str, owners: Owners) -> Test {
    Test::new(
        format!("{suite}_with_owners_{owners}"),
        [OLDER],
        move |fixtures| {
            let setting = Setting {
                owners,
                ..setting(OLDER, suite, &modes(&["auto"]))
            };
            passes(&setting, fixtures)
        },
    )
}

fn all_of(kernel: Kernel, suite: &'static str) -> Test {
    let body = move |fixtures: &Fixtures| {
        for owners in [Owners::Host, Owners::Mapped, Owners::Xattr] {
            let setting = Setting {
                owners,
                size: Size::of_all(suite),
                ..setting(kernel, suite, MODES)
            };
            same_as_in_memory(&setting, fixtures)?;
        }
        Ok(())
    };
    Test::new(format!("all_of_{suite}"), [kernel], body).ignored()
}

/// What this kernel can do on a share: our series gives 6.1 what counts of 6.6.
fn linux_of(kernel: Kernel) -> Linux {
    match kernel {
        Kernel::Built(Version::V6_1, Variant::Stock) | Kernel::Debian(Stock::Host) => (6, 1),
        Kernel::Built(Version::V6_1, _) => (6, 6),
        _ => (6, 12),
    }
}

/// Every case passes, or has a reason not to.
fn passes(setting: &Setting, fixtures: &Fixtures) -> Result<()> {
    let wrong = setting.run(fixtures)?;
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// The same, and every case ends as on the guest's tmpfs.
fn same_as_in_memory(setting: &Setting, fixtures: &Fixtures) -> Result<()> {
    let setting = Setting {
        with_control: true,
        ..setting.clone()
    };
    passes(&setting, fixtures)
}
