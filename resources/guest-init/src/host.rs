//! A root that is the host's own. Some of it is for the host's root alone, and the
//! guest has something else there, in its own memory: who may become whom in the
//! guest is nobody's secret, since its user has all of it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::MountFlags;

use crate::mounts;
use crate::protocol::HostUser;

/// Where files are that cannot be in the root itself.
const ASIDE: &str = "/run/vmm-host";

/// Why it cannot be made up.
#[derive(Debug, thiserror::Error)]
#[error("cannot make {path} for the guest")]
pub struct Error {
    path: &'static str,
    source: io::Error,
}

/// A file of the guest's own.
struct OwnFile {
    path: &'static str,
    mode: u32,
    group: u32,
    contents: Vec<u8>,
}

/// Puts the guest's own in place of what only the host's root may read. `user` may
/// become root without a password, and so may who `runs` the command; with sudo anybody
/// may. One after the other is tried; the first error is told.
pub fn make_up(user: &HostUser, runs: Option<&OsStr>, hostname: &str) -> Result<(), Error> {
    let read = |path: &str| fs::read(path).unwrap_or_default();
    let files = own_files(
        (user, runs),
        hostname,
        &read("/etc/passwd"),
        &read("/etc/group"),
        &read("/etc/hosts"),
    );
    // Nobody but root has a look into root's home on the host.
    let mut result = match user.uid {
        0 => Ok(()),
        _ => mount_home(),
    };
    for file in files {
        let made = replace(&file).map_err(|source| Error {
            path: file.path,
            source,
        });
        result = result.and(made);
    }
    result
}

/// An empty home of root's.
fn mount_home() -> Result<(), Error> {
    let flags = MountFlags::NOSUID.union(MountFlags::NODEV);
    mounts::mount(
        "tmpfs",
        "/root".as_ref(),
        "tmpfs",
        flags,
        Some(c"mode=0700"),
    )
    .map_err(|error| Error {
        path: "/root",
        source: io::Error::other(error),
    })
}

fn own_files(
    (user, runs): (&HostUser, Option<&OsStr>),
    hostname: &str,
    passwd: &[u8],
    group: &[u8],
    hosts: &[u8],
) -> Vec<OwnFile> {
    let names = |text: &[u8]| -> Vec<Vec<u8>> {
        let lines = text.split(|byte| *byte == b'\n');
        let name = |line: &[u8]| {
            line.split(|byte| *byte == b':')
                .next()
                .unwrap_or_default()
                .to_vec()
        };
        lines
            .map(name)
            .filter(|name| !name.is_empty() && name[0] != b'#')
            .collect()
    };
    let own = user.name.as_os_str().to_owned().into_vec();
    let runs = runs.map(OsStr::as_bytes);
    let before = passwd;
    let mut passwd = with_shadow(passwd);
    let mut files = Vec::new();
    if !names(&passwd).contains(&own) {
        // Some directory service knows who that is, and the guest does not ask it.
        passwd.extend(line_of(user));
    }
    if passwd != before {
        files.push(file("/etc/passwd", 0o644, passwd.clone()));
    }
    let mut shadow = Vec::new();
    for name in names(&passwd) {
        let open = name == own || name == b"root" || Some(name.as_slice()) == runs;
        shadow.extend(&name);
        // Without a password, or with none that fits.
        shadow.extend(if open {
            &b"::19000:0:99999:7:::\n"[..]
        } else {
            b":*:19000:0:99999:7:::\n"
        });
    }
    let gshadow = names(group)
        .into_iter()
        .flat_map(|name| [&name[..], b":*::\n"].concat());
    let keepers = number_of(group, b"shadow").unwrap_or(0);
    for (path, contents) in [("/etc/shadow", shadow), ("/etc/gshadow", gshadow.collect())] {
        files.push(OwnFile {
            group: keepers,
            ..file(path, 0o640, contents)
        });
    }
    let sudoers = b"Defaults env_reset\n\
        Defaults secure_path=\"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\"\n\
        ALL ALL=(ALL:ALL) NOPASSWD: ALL\n"
        .to_vec();
    files.push(file("/etc/sudoers", 0o440, sudoers));
    let mut hosts = with_newline(hosts);
    hosts.extend(format!("127.0.1.1 {hostname}\n").into_bytes());
    files.push(file("/etc/hosts", 0o644, hosts));
    files
}

fn file(path: &'static str, mode: u32, contents: Vec<u8>) -> OwnFile {
    OwnFile {
        path,
        mode,
        group: 0,
        contents,
    }
}

/// With every password elsewhere.
fn with_shadow(passwd: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for line in passwd
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let mut fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
        if let [_, password, ..] = fields.as_mut_slice() {
            *password = b"x";
        }
        text.extend(fields.join(&b':'));
        text.push(b'\n');
    }
    text
}

fn with_newline(text: &[u8]) -> Vec<u8> {
    let mut text = text.to_vec();
    if text.last().is_some_and(|byte| *byte != b'\n') {
        text.push(b'\n');
    }
    text
}

fn line_of(user: &HostUser) -> Vec<u8> {
    let mut line = user.name.as_os_str().to_owned();
    line.push(format!(":x:{}:{}::", user.uid, user.gid));
    line.push(user.home.as_os_str());
    line.push(":");
    line.push(user.shell.as_os_str());
    line.push("\n");
    OsString::into_vec(line)
}

/// The number in the line of `wanted`: a user's, or a group's.
fn number_of(text: &[u8], wanted: &[u8]) -> Option<u32> {
    let lines = text.split(|byte| *byte == b'\n');
    let mut numbers = lines.filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        (fields.next()? == wanted).then_some(())?;
        std::str::from_utf8(fields.nth(1)?).ok()?.parse().ok()
    });
    numbers.next()
}

/// In the overlay, or on top of a root without one.
fn replace(file: &OwnFile) -> io::Result<()> {
    let path = Path::new(file.path);
    match fs::remove_file(path) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::ROFS) => {
            let name = path.file_name().unwrap_or_default();
            let aside = Path::new(ASIDE).join(name);
            fs::create_dir_all(ASIDE)?;
            write(&aside, file)?;
            Ok(rustix::mount::mount_bind(&aside, path)?)
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => write(path, file),
    }
}

fn write(path: &Path, file: &OwnFile) -> io::Result<()> {
    use std::io::Write;
    let mut options = fs::OpenOptions::new();
    let mut target = options
        .write(true)
        .create_new(true)
        .mode(file.mode)
        .open(path)?;
    target.write_all(&file.contents)?;
    chown(path, Some(0), Some(file.group))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn user(name: &str) -> HostUser {
        HostUser {
            name: name.into(),
            uid: 1000,
            gid: 100,
            home: "/home/alice".into(),
            shell: "/bin/zsh".into(),
        }
    }

    fn made(user: &HostUser, runs: Option<&OsStr>) -> Vec<(&'static str, String)> {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nalice:x:1000:100::/home/alice:/bin/zsh\n";
        let group = b"root:x:0:\nshadow:x:42:\n";
        let files = own_files((user, runs), "vmm", passwd, group, b"127.0.0.1 localhost");
        let text = |file: OwnFile| (file.path, String::from_utf8(file.contents).unwrap());
        files.into_iter().map(text).collect()
    }

    #[test]
    fn the_user_and_root_need_no_password_and_nobody_else_has_one() {
        let files = made(&user("alice"), None);
        let of = |path: &str| &files.iter().find(|(name, _)| *name == path).unwrap().1;
        let shadow = of("/etc/shadow");
        assert_eq!(
            shadow,
            "root::19000:0:99999:7:::\nalice::19000:0:99999:7:::\n"
        );
        assert_eq!(of("/etc/gshadow"), "root:*::\nshadow:*::\n");
        assert!(of("/etc/sudoers").ends_with("\nALL ALL=(ALL:ALL) NOPASSWD: ALL\n"));
        assert_eq!(of("/etc/hosts"), "127.0.0.1 localhost\n127.0.1.1 vmm\n");
        assert!(files.iter().all(|(path, _)| *path != "/etc/passwd"));
    }

    #[test]
    fn who_runs_the_command_needs_no_password_either() {
        let mut root = user("root");
        root.uid = 0;
        let files = made(&root, Some("alice".as_ref()));
        let of = |path: &str| &files.iter().find(|(name, _)| *name == path).unwrap().1;
        assert!(of("/etc/shadow").contains("alice::19000"));
    }

    #[test]
    fn no_password_is_where_everybody_reads_it() {
        let passwd = with_shadow(b"root:*:0:0::/:/bin/sh\n\nbroken\na::1:1::/:");
        assert_eq!(passwd, b"root:x:0:0::/:/bin/sh\nbroken\na:x:1:1::/:\n");
    }

    #[test]
    fn a_user_of_a_directory_service_is_one_of_the_guest() {
        let files = made(&user("corp-bob"), None);
        let (path, passwd) = &files[0];
        assert_eq!(*path, "/etc/passwd");
        assert!(passwd.ends_with("\ncorp-bob:x:1000:100::/home/alice:/bin/zsh\n"));
        let shadow = &files[1].1;
        assert!(
            shadow.contains("\nalice:*:") && shadow.contains("\ncorp-bob::"),
            "{shadow}"
        );
    }
}
