//! `--host`: the host's own root below an overlay, and the current directory in it.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use devices::passthrough::Owners;
use guest_init::protocol::HostUser;
use nix::unistd::{User, getegid, geteuid};
use vmm_options::share::ShareArgument;

use crate::options::RunArguments;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot tell which the current directory is: change to one that is there")]
    CurrentDirectory(#[source] io::Error),
    #[error(
        "--host shares the current directory to be written to, and that is {}: change to the \
         directory of your work, or use --root /", .0.display()
    )]
    Everything(PathBuf),
    #[error("cannot tell who the user {uid} is: name one with --user")]
    Nobody { uid: u32 },
}

/// What the guest has of its own of the host's.
const OWN: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Fills in what `--host` stands for; `None` without it.
pub(super) fn expand(arguments: &mut RunArguments) -> Result<Option<HostUser>, Error> {
    if !arguments.host {
        return Ok(None);
    }
    let directory = std::env::current_dir().map_err(Error::CurrentDirectory)?;
    let is_own = OWN.iter().any(|tree| directory.starts_with(tree));
    if directory.parent().is_none() || is_own {
        return Err(Error::Everything(directory));
    }
    let mut root = ShareArgument {
        directory: "/".into(),
        ..ShareArgument::default()
    };
    root.service.server.read_only = true;
    root.service.server.owners = Owners::Host;
    // What the host's kernel says of the host, and of this process, is nothing that a
    // guest is to read; it has its own.
    root.service.server.only_stored = true;
    arguments.root = Some(root);
    let mut work = ShareArgument {
        directory: directory.clone(),
        at: Some(directory.clone()),
        ..ShareArgument::default()
    };
    if arguments.user.is_some() {
        // Who is somebody on the host is the same in the guest.
        work.service.server.owners = Owners::Host;
    }
    arguments.shares.push(work);
    if arguments.cwd.is_none() {
        arguments.cwd = Some(directory);
    }
    user().map(Some)
}

/// Who runs this process.
pub(super) fn user() -> Result<HostUser, Error> {
    let uid = geteuid();
    let nobody = || Error::Nobody { uid: uid.as_raw() };
    let user = User::from_uid(uid).ok().flatten().ok_or_else(nobody)?;
    Ok(HostUser {
        name: user.name.into(),
        uid: uid.as_raw(),
        gid: getegid().as_raw(),
        home: user.dir.into(),
        shell: user.shell.into(),
    })
}

/// The name that `--user` says, or of who runs this process.
pub(super) fn name(written: &OsString) -> Result<OsString, Error> {
    match written.is_empty() {
        true => Ok(user()?.name.as_os_str().to_owned()),
        false => Ok(written.clone()),
    }
}

/// The directories for programs of who runs this process, and those that a guest
/// searches; the host's programs are the guest's.
pub(super) fn search_path(usual: &str) -> OsString {
    let own = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> = std::env::split_paths(&own)
        .filter(|directory| directory.is_absolute())
        .collect();
    for directory in usual.split(':').map(Path::new) {
        if !directories.iter().any(|other| other == directory) {
            directories.push(directory.to_owned());
        }
    }
    // They were split, so there is no colon in them.
    std::env::join_paths(directories).unwrap_or_else(|_| usual.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn who_runs_it_is_known_and_may_be_somebody_else_in_the_guest() {
        let user = user().unwrap();
        assert_eq!(user.uid, geteuid().as_raw());
        assert_eq!(name(&OsString::new()).unwrap(), user.name.as_os_str());
        assert_eq!(name(&"bob".into()).unwrap(), "bob");
    }

    #[test]
    fn programs_are_searched_for_where_the_host_has_them_too() {
        let path = search_path("/no/such:/sbin").into_string().unwrap();
        assert!(
            path.ends_with(":/no/such") || path.ends_with(":/no/such:/sbin"),
            "{path}"
        );
        let own = std::env::var("PATH").unwrap();
        let first = own.split(':').find(|directory| directory.starts_with('/'));
        assert!(path.starts_with(first.unwrap_or_default()));
    }
}
