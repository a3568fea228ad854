//! The shell and the small tools of the built-in initramfs: the host's busybox,
//! taken at run time.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use super::elf;
use crate::prepare::input;

/// The largest that is packed, and library of one.
const LARGEST: u64 = 256 << 20;

/// What distributions call it.
const NAMES: [&str; 3] = ["busybox", "busybox-static", "busybox.static"];
/// Where it is looked for besides the user's PATH, in which an ordinary one may
/// have no sbin.
const DIRECTORIES: &str = "/bin:/usr/bin:/sbin:/usr/sbin:/usr/local/bin:/usr/local/sbin";
/// Names another one.
pub(crate) const VARIABLE: &str = "VMM_BUSYBOX";

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "no busybox in PATH, which the built-in initramfs takes its shell and tools from: \
         apt-get install busybox-static, or name one with {VARIABLE}"
    )]
    NotFound,
    #[error(
        "no busybox at {}: apt-get install busybox-static, or name another with {VARIABLE}",
        .0.display()
    )]
    Missing(PathBuf),
    #[error("cannot use the busybox {}", path.display())]
    Unusable { path: PathBuf, source: io::Error },
    #[error(
        "{} cannot be used as busybox in the guest: \
         apt-get install busybox-static, or name one with {VARIABLE}", path.display()
    )]
    Foreign { path: PathBuf, source: elf::Error },
}

/// A busybox that runs in the guest.
#[derive(Debug)]
pub(crate) struct Busybox {
    pub executable: Vec<u8>,
    /// Where its tools belong, as paths without a leading slash.
    pub links: Vec<String>,
    /// What it is linked with, by such paths; nothing if it is static.
    pub libraries: Vec<(String, Vec<u8>)>,
}

impl Busybox {
    /// Reads the host's busybox and asks it for its tools.
    pub(crate) fn load() -> Result<Self, Error> {
        match env::var_os(VARIABLE) {
            Some(path) => Self::load_from(Path::new(&path)),
            None => Self::find(&env::var_os("PATH").unwrap_or_default()),
        }
    }

    /// The first that is static, or else the first.
    fn find(path: &OsStr) -> Result<Self, Error> {
        let mut directories: Vec<PathBuf> = env::split_paths(path).collect();
        directories.extend(env::split_paths(DIRECTORIES));
        let mut dynamic = None;
        let mut failed = None;
        for directory in directories.iter().filter(|path| path.is_absolute()) {
            for name in NAMES {
                match Self::load_from(&directory.join(name)) {
                    Ok(busybox) if busybox.libraries.is_empty() => return Ok(busybox),
                    Ok(busybox) => dynamic = dynamic.or(Some(busybox)),
                    Err(Error::Missing(_)) => {}
                    Err(error) => failed = failed.or(Some(error)),
                }
            }
        }
        dynamic.ok_or_else(|| failed.unwrap_or(Error::NotFound))
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
        let loader = elf::loader(&executable).map_err(|source| Error::Foreign {
            path: path.to_owned(),
            source,
        })?;
        // By another name it would be the tool of that name.
        let list = Command::new(path)
            .arg0("busybox")
            .arg("--list-full")
            .output()
            .map_err(unusable)?;
        let links = String::from_utf8_lossy(&list.stdout)
            .lines()
            .filter(|link| is_plain(link))
            .map(str::to_owned)
            .collect();
        let libraries = match loader {
            Some(loader) => libraries(&loader, path).map_err(unusable)?,
            None => Vec::new(),
        };
        Ok(Self {
            executable,
            links,
            libraries,
        })
    }
}

/// What `loader` loads with `program`, itself included.
fn libraries(loader: &Path, program: &Path) -> io::Result<Vec<(String, Vec<u8>)>> {
    let list = Command::new(loader).arg("--list").arg(program).output()?;
    if !list.status.success() {
        let said = String::from_utf8_lossy(&list.stderr);
        return Err(io::Error::other(format!("its libraries: {}", said.trim())));
    }
    let list = String::from_utf8_lossy(&list.stdout);
    let mut paths: Vec<&Path> = list.lines().filter_map(library).collect();
    paths.push(loader);
    paths.sort_unstable();
    paths.dedup();
    paths
        .into_iter()
        .map(|path| {
            let place = path.strip_prefix("/").unwrap_or(path).to_string_lossy();
            Ok((place.into_owned(), input::read(path, LARGEST)?))
        })
        .collect()
}

/// The file in a line such as `libc.so.6 => /lib/libc.so.6 (0x7f00)`.
fn library(line: &str) -> Option<&Path> {
    let file = line.split_once("=>").map_or(line, |(_, file)| file);
    let file = Path::new(file.split_whitespace().next()?);
    (file.is_absolute() && file.components().skip(1).all(is_normal)).then_some(file)
}

/// Whether a path stays where it is put.
fn is_plain(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(is_normal)
}

fn is_normal(part: Component<'_>) -> bool {
    matches!(part, Component::Normal(_))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_hosts_busybox_has_a_shell_and_insmod() {
        let busybox = Busybox::find(OsStr::new("")).unwrap();
        for tool in ["bin/sh", "sbin/insmod", "bin/ls"] {
            assert!(busybox.links.iter().any(|link| link == tool), "{tool}");
        }
        assert!(busybox.libraries.is_empty());
    }

    #[test]
    fn it_is_found_by_any_of_its_names_and_a_static_one_is_preferred() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        // Not what it says it is, but dynamic.
        fs::copy("/proc/self/exe", at("busybox")).unwrap();
        // No copy: a child of another test's could have it open for writing, and it
        // is executed.
        std::os::unix::fs::symlink("/bin/busybox", at("busybox.static")).unwrap();
        let found = Busybox::find(directory.path().as_os_str()).unwrap();
        assert_eq!(found.executable, fs::read("/bin/busybox").unwrap());
    }

    #[test]
    fn it_may_be_called_anything() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tools");
        std::os::unix::fs::symlink("/bin/busybox", &path).unwrap();
        let busybox = Busybox::load_from(&path).unwrap();
        assert!(busybox.links.iter().any(|link| link == "bin/sh"));
    }

    #[test]
    fn one_that_is_dynamic_comes_with_what_it_needs() {
        let busybox = Busybox::load_from(&env::current_exe().unwrap()).unwrap();
        let names: Vec<_> = busybox.libraries.iter().map(|(name, _)| name).collect();
        for part in ["libc.so.6", "ld-linux-x86-64.so.2"] {
            assert!(names.iter().any(|name| name.ends_with(part)), "{names:?}");
        }
        assert!(names.iter().all(|name| is_plain(name)), "{names:?}");
    }

    #[test]
    fn a_line_of_the_loader_names_one_file_or_none() {
        let path = |line| library(line).and_then(Path::to_str);
        assert_eq!(path("\tlinux-vdso.so.1 (0x7ffd)"), None);
        assert_eq!(
            path("\tlibc.so.6 => /lib/libc.so.6 (0x7f)"),
            Some("/lib/libc.so.6")
        );
        assert_eq!(path("\t/lib64/ld.so (0x7f)"), Some("/lib64/ld.so"));
        assert_eq!(path("\tlibx.so => not found"), None);
        assert_eq!(path("x => /a/../b (0)"), None);
        assert_eq!(path(""), None);
    }

    #[test]
    fn a_missing_busybox_says_how_to_get_one() {
        let error = Busybox::load_from(Path::new("/no/busybox")).unwrap_err();
        assert!(error.to_string().contains("apt-get install busybox-static"));
        assert!(Error::NotFound.to_string().contains("busybox-static"));
    }

    #[test]
    fn a_busybox_without_an_end_is_refused() {
        let error = Busybox::load_from(Path::new("/dev/zero")).unwrap_err();
        assert!(matches!(error, Error::Unusable { .. }), "{error}");
    }

    #[test]
    fn what_is_no_executable_is_refused() {
        let error = Busybox::load_from(Path::new("/etc/passwd")).unwrap_err();
        assert!(matches!(error, Error::Foreign { .. }), "{error}");
    }

    #[test]
    fn links_that_lead_elsewhere_are_left_out() {
        assert!(is_plain("usr/bin/["));
        assert!(!is_plain("../sh"));
        assert!(!is_plain("/bin/sh"));
    }
}
