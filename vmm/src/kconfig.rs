//! `vmm kconfig`: what a guest needs of its kernel's configuration, as a
//! fragment for the kernel's `scripts/kconfig/merge_config.sh`, and what a
//! `.config` lacks of it.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::prepare::input;
use vmm_kernel::KernelConfig;
use vmm_kernel::requirements::{self, Fit, Purpose, REQUIREMENTS, Requirement};

/// The largest `.config` that is read; they have some 300 KiB.
const LARGEST: u64 = 8 << 20;

const CHECK_STATUS: &str = "\
Exit status:
  0    the fragment was printed, or nothing is missing that every run needs
  1    --check: something is
  125  the file cannot be read";

#[derive(Debug, Args)]
#[command(after_help = CHECK_STATUS)]
pub(crate) struct Arguments {
    /// Say what this .config lacks, a line each, and why it is needed
    #[arg(long, value_name = "CONFIG")]
    check: Option<PathBuf>,
}

/// What is to be printed, and whether all that is needed is there.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) complete: bool,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot read the configuration {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "{} is no .config: it sets no option; name the file that make defconfig or make \
         menuconfig wrote", .0.display()
    )]
    NoConfig(PathBuf),
}

/// What the arguments ask for.
pub(crate) fn answer(arguments: &Arguments) -> Result<Answer, Error> {
    match &arguments.check {
        None => Ok(Answer {
            text: fragment(),
            complete: true,
        }),
        Some(path) => check(path),
    }
}

/// The options as `.config` has them, each after those it depends on.
fn fragment() -> String {
    let mut text = "\
# What a guest of vmm needs of its kernel. In the kernel's source, after make
# defconfig or another:
#   vmm kconfig >vmm.config
#   scripts/kconfig/merge_config.sh .config vmm.config
"
    .to_owned();
    for (purpose, title) in [
        (Purpose::Boot, "every run needs"),
        (Purpose::Shares, "shares and COMMAND need"),
        (Purpose::Discovery, "how the devices are found"),
        (Purpose::Comfort, "not every run needs"),
    ] {
        let _ = write!(text, "\n# --- {title}\n");
        for requirement in requirements::of(purpose) {
            let _ = writeln!(text, "# {}", requirement.why);
            for option in requirement.with.iter().chain([&requirement.option]) {
                let _ = writeln!(text, "{option}=y");
            }
        }
    }
    text
}

fn check(path: &Path) -> Result<Answer, Error> {
    let contents = input::read(path, LARGEST).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })?;
    let config = KernelConfig::parse(&String::from_utf8_lossy(&contents));
    if config.is_empty() {
        return Err(Error::NoConfig(path.to_owned()));
    }
    let mut answer = Answer {
        text: String::new(),
        complete: true,
    };
    for requirement in &REQUIREMENTS {
        let Some(line) = finding(requirement, &config) else {
            continue;
        };
        let _ = writeln!(answer.text, "{line}");
        let is_there = requirements::fit(requirement, &config) == Fit::AsModule;
        answer.complete &= is_there || requirement.purpose == Purpose::Comfort;
    }
    Ok(answer)
}

/// What is to be said of one option, if anything.
fn finding(requirement: &Requirement, config: &KernelConfig) -> Option<String> {
    let Requirement { option, why, .. } = requirement;
    let weight = match requirement.purpose {
        Purpose::Comfort => "wanted",
        _ => "needed",
    };
    match requirements::fit(requirement, config) {
        Fit::Good => None,
        Fit::Missing => {
            let with: Vec<&str> = (requirement.with.iter().copied())
                .filter(|option| !config.has(option))
                .collect();
            let with = match with.as_slice() {
                [] => String::new(),
                with => format!(" (set {} as well)", with.join(", ")),
            };
            Some(format!("{weight}: {option} is not set: {why}{with}"))
        }
        Fit::NotAsModule => Some(format!(
            "{weight}: {option} is a module and has to be built in: {why}"
        )),
        Fit::AsModule => Some(format!(
            "module: {option} may be one, where vmm finds it (--modules): {why}"
        )),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Answer {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(".config");
        std::fs::write(&path, text).unwrap();
        check(&path).unwrap()
    }

    #[test]
    fn the_fragment_is_all_that_a_config_has_to_have() {
        let answer = checked(&fragment());
        assert_eq!((answer.text.as_str(), answer.complete), ("", true));
    }

    #[test]
    fn what_every_run_needs_decides_and_each_lack_has_its_line() {
        let without = |option: &str, value: &str| {
            let line = format!("{option}=y\n");
            checked(&fragment().replace(&line, &format!("{option}={value}\n")))
        };
        for requirement in &REQUIREMENTS {
            let answer = without(requirement.option, "n");
            let comfort = requirement.purpose == Purpose::Comfort;
            assert_eq!(answer.complete, comfort, "{}", answer.text);
            assert_eq!(answer.text.lines().count(), 1, "{}", answer.text);
            assert!(answer.text.contains(requirement.why), "{}", answer.text);
        }
        let module = without("CONFIG_VIRTIO_FS", "m");
        assert!(module.complete && module.text.starts_with("module: CONFIG_VIRTIO_FS"));
        let module = without("CONFIG_BLK_DEV_INITRD", "m");
        assert!(!module.complete && module.text.contains("built in"));
    }

    /// The table as the README has it.
    fn markdown() -> String {
        let mut table = "| option | may be a module | for |\n| --- | --- | --- |\n".to_owned();
        for requirement in &REQUIREMENTS {
            let Requirement { option, why, .. } = requirement;
            let option = option.trim_start_matches("CONFIG_");
            let weight = match requirement.purpose {
                Purpose::Comfort => "",
                _ => "**needed**: ",
            };
            let module = requirement.module.map_or("", |_| "yes");
            let _ = writeln!(table, "| `{option}` | {module} | {weight}{why} |");
        }
        table
    }

    #[test]
    fn the_readme_has_the_table() {
        let readme = include_str!("../../README.md");
        let table = markdown();
        assert!(readme.contains(&table), "the README should have:\n{table}");
    }

    #[test]
    fn what_kconfig_does_not_offer_yet_is_named() {
        let answer = checked("CONFIG_64BIT=y\n");
        let line = (answer.text.lines()).find(|line| line.contains("CONFIG_VIRTIO_FS "));
        let line = line.unwrap();
        assert!(line.starts_with("needed: "), "{line}");
        assert!(line.ends_with("(set CONFIG_FUSE_FS as well)"), "{line}");
    }
}
