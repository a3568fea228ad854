//! A kernel's build configuration, as `.config` writes it.

use std::collections::HashMap;

/// What the configuration says about one option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionState {
    /// `=y`, or a value.
    BuiltIn,
    /// `=m`.
    Module,
    /// Not set.
    Absent,
}

/// The options of one kernel.
#[derive(Clone, Debug, Default)]
pub struct KernelConfig {
    options: HashMap<String, String>,
}

impl KernelConfig {
    /// Reads the text of a `.config`; lines of any other form are ignored.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let options = text
            .lines()
            .filter(|line| line.starts_with("CONFIG_"))
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Self { options }
    }

    /// Whether nothing is set: it was no configuration.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.options.is_empty()
    }

    /// How an option, named with its `CONFIG_`, is set.
    #[must_use]
    pub fn state(&self, option: &str) -> OptionState {
        match self.options.get(option).map(String::as_str) {
            None | Some("n") => OptionState::Absent,
            Some("m") => OptionState::Module,
            Some(_) => OptionState::BuiltIn,
        }
    }

    /// Whether an option is built in.
    #[must_use]
    pub fn has(&self, option: &str) -> bool {
        self.state(option) == OptionState::BuiltIn
    }
}
