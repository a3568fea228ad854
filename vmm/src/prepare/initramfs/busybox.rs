//! The shell and the small tools of the built-in initramfs: the host's static
//! busybox, taken at run time.

use std::io;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use super::elf;
use crate::prepare::input;

/// The largest that is packed.
const LARGEST: u64 = 256 << 20;

/// Where Debian's `busybox-static` has it.
const DEFAULT: &str = "/bin/busybox";
/// Names another one.
pub(crate) const VARIABLE: &str = "VMM_BUSYBOX";

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "no busybox at {}, which the built-in initramfs takes its shell and tools from: \
         apt-get install busybox-static, or name one with {VARIABLE}", .0.display()
    )]
    Missing(PathBuf),
    #[error("cannot use the busybox {}", path.display())]
    Unusable { path: PathBuf, source: io::Error },
    #[error(
        "{} cannot be used as busybox in the guest, {reason}: \
         apt-get install busybox-static, or name one with {VARIABLE}", path.display()
    )]
    NotStatic { path: PathBuf, reason: elf::Error },
}

/// A busybox that runs in the guest.
#[derive(Debug)]
pub(crate) struct Busybox {
    pub executable: Vec<u8>,
    /// Where its tools belong, as paths without a leading slash.
    pub links: Vec<String>,
}

impl Busybox {
    /// Reads the host's busybox and asks it for its tools.
    pub(crate) fn load() -> Result<Self, Error> {
        let path = std::env::var_os(VARIABLE).map_or_else(|| DEFAULT.into(), PathBuf::from);
        Self::load_from(&path)
    }

    fn load_from(path: &Path) -> Result<Self, Error> {
        let unusable = |source| Error::Unusable {
            path: path.to_owned(),
            source,
        };
        let executable = input::read(path, LARGEST).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::Missing(path.to_owned()),
            _ => unusable(error),
        })?;
        elf::check_static(&executable).map_err(|reason| Error::NotStatic {
            path: path.to_owned(),
            reason,
        })?;
        let list = Command::new(path)
            .arg("--list-full")
            .output()
            .map_err(unusable)?;
        let links = String::from_utf8_lossy(&list.stdout)
            .lines()
            .filter(|link| is_plain(link))
            .map(str::to_owned)
            .collect();
        Ok(Self { executable, links })
    }
}

/// Whether a path stays where it is put.
fn is_plain(path: &str) -> bool {
    !path.is_empty()
        && Path::new(path)
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_busybox_has_a_shell_and_insmod() {
        let busybox = Busybox::load_from(Path::new(DEFAULT)).unwrap();
        for tool in ["bin/sh", "sbin/insmod", "bin/ls"] {
            assert!(busybox.links.iter().any(|link| link == tool), "{tool}");
        }
    }

    #[test]
    fn a_missing_busybox_says_how_to_get_one() {
        let error = Busybox::load_from(Path::new("/no/busybox")).unwrap_err();
        assert!(error.to_string().contains("apt-get install busybox-static"));
    }

    #[test]
    fn a_busybox_without_an_end_is_refused() {
        let error = Busybox::load_from(Path::new("/dev/zero")).unwrap_err();
        assert!(matches!(error, Error::Unusable { .. }), "{error}");
    }

    #[test]
    fn a_dynamic_busybox_is_refused() {
        let error = Busybox::load_from(Path::new("/proc/self/exe")).unwrap_err();
        assert!(error.to_string().contains("dynamically linked"));
    }

    #[test]
    fn links_that_lead_elsewhere_are_left_out() {
        assert!(is_plain("usr/bin/["));
        assert!(!is_plain("../sh"));
        assert!(!is_plain("/bin/sh"));
    }
}
