//! `--sandbox`.

/// How much of the sandbox there has to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// All of it, or the run is refused
    On,
    /// What the host has of it; what it lacks is told
    #[default]
    Best,
    /// None
    Off,
}

impl Mode {
    /// As the command line has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Best => "best",
            Self::Off => "off",
        }
    }
}
