//! What all shares of a process take together.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use devices::passthrough::Owners;
use vmm_options::share::IdMaps;

use crate::error::Error;
use crate::map;
use crate::mount;
use crate::namespace::Namespace;
use crate::process::Process;

/// What the user wants for one share.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// What is shared.
    pub directory: &'a Path,
    /// Whose the files are to be.
    pub owners: Owners,
    /// The maps, as far as they were given.
    pub maps: &'a IdMaps,
}

/// What it takes.
#[derive(Debug)]
pub struct Plan {
    /// For the process to be in, and what comes of having none.
    namespace: Option<(Namespace, Need)>,
    /// What the host refuses that there is a run without.
    pub refused: Option<Error>,
    /// In the order of the wishes.
    pub shares: Vec<Planned>,
}

/// What a user namespace is needed for.
#[derive(Debug)]
enum Need {
    /// For the maps of shares.
    Maps,
    /// For what the user asked for, for this directory.
    Asked(PathBuf),
    /// For what is better with it.
    Better,
}

impl Need {
    /// What it comes to where the host refuses one: to no run, or to less than was
    /// meant.
    fn without(&self, error: Error) -> Result<Error, Error> {
        let source = match error {
            Error::NoNamespace(source) | Error::Map(source) if !matches!(self, Self::Maps) => {
                source
            }
            other => return Err(other),
        };
        match self {
            Self::Asked(path) => Err(Error::AskedForUser {
                path: path.clone(),
                source,
            }),
            _ => Ok(Error::Unprivileged(source)),
        }
    }
}

/// One share.
#[derive(Debug)]
pub struct Planned {
    /// Never `Automatic`.
    pub owners: Owners,
    /// In full, with `owners=map`.
    pub maps: Option<IdMaps>,
    mount: Option<OwnedFd>,
}

impl Planned {
    /// The path by which `directory` has the owners that it is to have. It is good
    /// as long as this is there.
    #[must_use]
    pub fn path(&self, directory: &Path) -> PathBuf {
        match &self.mount {
            Some(mount) => format!("/proc/self/fd/{}", mount.as_raw_fd()).into(),
            None => directory.to_owned(),
        }
    }
}

impl Plan {
    /// Makes what the shares need; this process stays what it is.
    ///
    /// # Errors
    ///
    /// When they cannot be had, or not together.
    pub fn make(wishes: &[Wish<'_>]) -> Result<Self, Error> {
        Self::make_for(&Process::current(), wishes)
    }

    /// Makes this process what the shares need, for good: where that is a user
    /// namespace it has every capability there, over what belongs to its users. To
    /// be called before the shares are opened, and while there is one thread.
    ///
    /// Says what the host refuses that there is a run without, as [`refused`](Self::refused).
    ///
    /// # Errors
    ///
    /// When the host refuses it, and then nothing has changed.
    pub fn enter(&self) -> Result<Option<Error>, Error> {
        let Some((namespace, need)) = &self.namespace else {
            return Ok(None);
        };
        match namespace.enter() {
            Ok(()) => Ok(None),
            Err(error) => need.without(error).map(Some),
        }
    }

    fn make_for(process: &Process, wishes: &[Wish<'_>]) -> Result<Self, Error> {
        let mut shares = Vec::new();
        for wish in wishes {
            let owners = wish.owners.resolved();
            let mapped = owners == Owners::Mapped;
            let maps = mapped
                .then(|| map::complete(wish.maps, process))
                .transpose()?;
            let mount = match &maps {
                Some(maps) if process.maps_mounts() => Some(mount::mapped(wish.directory, maps)?),
                _ => None,
            };
            shares.push(Planned {
                owners,
                maps,
                mount,
            });
        }
        let mut refused = None;
        let namespace = match process.maps_mounts() {
            true => None,
            false => namespace(process, wishes, &shares, &mut refused)?,
        };
        Ok(Self {
            namespace,
            refused,
            shares,
        })
    }
}

/// The user namespace for a process that has to be in one.
fn namespace(
    process: &Process,
    wishes: &[Wish<'_>],
    shares: &[Planned],
    refused: &mut Option<Error>,
) -> Result<Option<(Namespace, Need)>, Error> {
    let all = || wishes.iter().zip(shares);
    let mapped = all().find_map(|(wish, share)| Some((wish, share.maps.as_ref()?)));
    let host = all().find(|(_, share)| share.owners == Owners::Host);
    let Some((first, maps)) = mapped else {
        // Without one root of the guest may do what the user may, and no more.
        if process.may_switch || host.is_some() || shares.is_empty() {
            return Ok(None);
        }
        let asked = wishes.iter().find(|wish| wish.owners == Owners::User);
        let need = asked.map_or(Need::Better, |wish| Need::Asked(wish.directory.to_owned()));
        return match Namespace::of_oneself(process) {
            Ok(namespace) => Ok(Some((namespace, need))),
            Err(error) => {
                *refused = Some(need.without(error)?);
                Ok(None)
            }
        };
    };
    if let Some((host, _)) = host {
        return Err(Error::HostBesideMap {
            host: host.directory.to_owned(),
            mapped: first.directory.to_owned(),
        });
    }
    let other = all().find(|(_, share)| share.maps.as_ref().is_some_and(|other| other != maps));
    if let Some((other, _)) = other {
        return Err(Error::TwoMaps {
            one: first.directory.to_owned(),
            other: other.directory.to_owned(),
        });
    }
    Ok(Some((Namespace::of_guest(maps, process)?, Need::Maps)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::ffi::OsStr;

    use vmm_options::share;

    use super::*;

    const ALICE: Process = Process {
        uid: 1000,
        gid: 1001,
        may_switch: false,
        sees_all: true,
    };

    /// What becomes of these shares of an ordinary user's.
    fn refusal(shares: &[&str]) -> String {
        let parse = |text: &&str| share::share(OsStr::new(text)).unwrap();
        let arguments: Vec<_> = shares.iter().map(parse).collect();
        let wishes = arguments.iter().map(|argument| Wish {
            directory: &argument.directory,
            owners: argument.service.server.owners,
            maps: &argument.maps,
        });
        let plan = Plan::make_for(&ALICE, &wishes.collect::<Vec<_>>());
        plan.err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn what_a_host_refuses_is_less_or_an_end() {
        let why = || std::io::Error::from_raw_os_error(28);
        let refused = |need: &Need, error| match need.without(error) {
            Ok(less) => (true, less.to_string()),
            Err(end) => (false, end.to_string()),
        };
        for error in [Error::NoNamespace, Error::Map] {
            let (goes_on, said) = refused(&Need::Better, error(why()));
            assert!(goes_on && said.contains("only what the user may"), "{said}");
            let (goes_on, said) = refused(&Need::Asked("/a".into()), error(why()));
            assert!(!goes_on && said.contains("files in /a"), "{said}");
            let (goes_on, said) = refused(&Need::Maps, error(why()));
            assert!(!goes_on && said == error(why()).to_string(), "{said}");
        }
        let program = Error::NoProgram {
            program: "newuidmap",
        };
        assert!(!refused(&Need::Better, program).0);
    }

    #[test]
    fn all_shares_of_a_user_have_one_user_namespace() {
        let own = "uid-map=0:1000:1,gid-map=0:1001:1";
        let two = refusal(&[
            &format!("/a,{own}"),
            &format!("/b,{own}"),
            "/c,uid-map=7:1000:1,gid-map=0:1001:1",
        ]);
        assert!(two.contains("those of /a and /c differ"), "{two}");
        let host = refusal(&["/a,owners=user", &format!("/b,{own}"), "/c,owners=host"]);
        assert!(
            host.contains("the owners of /c cannot be the host's"),
            "{host}"
        );
        assert!(host.contains("those of /b are mapped"), "{host}");
        assert_eq!(refusal(&["/a,owners=host", "/b,owners=user"]), "");
    }
}
