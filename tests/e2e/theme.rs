//! Tests by theme: what belongs together and shares a lab.
//!
//! A test says in code which kernels it boots. Its name is for people, and for
//! the filter they give; nothing is read out of it.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};
use tests::fixtures::Fixtures;
use tests::kernels::Kernel;

/// The kernel that most tests boot, alone.
pub(crate) const PATCHED: [Kernel; 1] = [Kernel::PATCHED];

/// What the tests are given when they run. Which fixtures are needed is known
/// only once the tests to run are.
pub(crate) type Bench = Arc<OnceLock<Fixtures>>;

/// Tests that share a lab.
pub(crate) struct Theme {
    /// The first part of its tests' names.
    pub(crate) name: &'static str,
    long: bool,
    tests: Vec<Test>,
}

impl Theme {
    pub(crate) fn new(name: &'static str, tests: impl IntoIterator<Item = Test>) -> Self {
        Self {
            name,
            long: false,
            tests: tests.into_iter().collect(),
        }
    }

    /// Takes so long that it has to start before the others.
    pub(crate) fn long(self) -> Self {
        Self { long: true, ..self }
    }

    /// What `arguments` ask for of it, if that is anything.
    pub(crate) fn select(&self, arguments: &Arguments) -> Option<Selection> {
        let selected = |test: &&Test| test.is_selected(self.name, arguments);
        let tests: Vec<&Test> = self.tests.iter().filter(selected).collect();
        (!tests.is_empty()).then(|| Selection {
            theme: self.name,
            long: self.long,
            tests: tests.len(),
            ignored: tests.iter().any(|test| test.ignored),
            boots: tests.iter().flat_map(|test| test.boots.clone()).collect(),
        })
    }

    /// Its tests, as the test runner wants them.
    pub(crate) fn trials(self, bench: &Bench) -> Vec<Trial> {
        let name = self.name;
        self.tests
            .into_iter()
            .map(|test| test.trial(name, bench))
            .collect()
    }
}

/// The tests of a theme that are to be run.
pub(crate) struct Selection {
    pub(crate) theme: &'static str,
    /// Whether it has to start before the others.
    pub(crate) long: bool,
    /// How many tests.
    pub(crate) tests: usize,
    /// Whether one of them runs only when `--ignored` asks for it.
    pub(crate) ignored: bool,
    /// The kernels they boot.
    pub(crate) boots: BTreeSet<Kernel>,
}

type Body = Box<dyn FnOnce(&Fixtures) -> Result<()> + Send>;

/// One test.
pub(crate) struct Test {
    name: String,
    boots: BTreeSet<Kernel>,
    ignored: bool,
    body: Body,
}

impl Test {
    /// A test that boots these kernels and no other.
    pub(crate) fn new(
        name: impl Into<String>,
        boots: impl IntoIterator<Item = Kernel>,
        body: impl FnOnce(&Fixtures) -> Result<()> + Send + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            boots: boots.into_iter().collect(),
            ignored: false,
            body: Box::new(body),
        }
    }

    /// Runs only with `--ignored` or `--include-ignored`.
    pub(crate) fn ignored(self) -> Self {
        Self {
            ignored: true,
            ..self
        }
    }

    fn is_selected(&self, theme: &str, arguments: &Arguments) -> bool {
        // The runner's own rules, so that what is made is what will be used.
        let listed =
            Trial::test(full_name(theme, &self.name), || Ok(())).with_ignored_flag(self.ignored);
        !arguments.is_filtered_out(&listed) && !arguments.is_ignored(&listed)
    }

    fn trial(self, theme: &str, bench: &Bench) -> Trial {
        let bench = Arc::clone(bench);
        let Self {
            name,
            boots,
            ignored,
            body,
        } = self;
        let run = move || {
            let fixtures = bench.get().ok_or("the tests are only being listed")?;
            // A kernel that the test does not name is not there for it.
            let fixtures = fixtures.with_kernels(&boots);
            body(&fixtures).map_err(|error| Failed::from(format!("{error:?}")))
        };
        Trial::test(full_name(theme, &name), run).with_ignored_flag(ignored)
    }
}

fn full_name(theme: &str, test: &str) -> String {
    format!("{theme}::{test}")
}
