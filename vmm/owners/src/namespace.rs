//! User namespaces.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;

use nix::sched::CloneFlags;
use nix::unistd::{ForkResult, Pid};
use vmm_options::share::{IdMap, IdMaps, IdRange};

use crate::delegation::{self, Kind};
use crate::error::Error;
use crate::process::Process;

/// A user namespace that nobody need be in.
#[derive(Debug)]
pub(crate) struct Namespace(File);

/// A child that is in a new user namespace, until this is dropped.
#[derive(Debug)]
struct Child {
    pid: Pid,
    /// It ends when this does.
    _life: UnixStream,
}

impl Namespace {
    /// One in which the user of `process` is root, and nobody else is anybody.
    pub(crate) fn of_oneself(process: &Process) -> Result<Self, Error> {
        let alone = |host| {
            let mut map = IdMap::default();
            // The first range has nobody in common with another.
            let _ = map.add(IdRange {
                guest: 0,
                host,
                count: 1,
            });
            map
        };
        let maps = IdMaps {
            uids: alone(process.uid),
            gids: alone(process.gid),
        };
        Self::of_guest(&maps, process)
    }

    /// One in which the users are those of the guest.
    pub(crate) fn of_guest(maps: &IdMaps, process: &Process) -> Result<Self, Error> {
        let child = Child::new()?;
        let both = [(Kind::Groups, &maps.gids), (Kind::Users, &maps.uids)];
        // Users may map themselves, without other groups: who could set these could
        // leave those that are denied something.
        let oneself = |(kind, map): &(Kind, &IdMap)| {
            matches!(
                map.ranges(),
                [range] if range.count == 1 && range.host == kind.own(process)
            )
        };
        let alone = !process.may_switch && both.iter().all(oneself);
        if alone {
            child.write("setgroups", "deny")?;
        }
        for (kind, map) in both {
            let line =
                |range: &IdRange| format!("{} {} {}\n", range.guest, range.host, range.count);
            match process.may_switch || alone {
                true => child.write_map(kind, map, line)?,
                false => child.have_mapped(kind, map, process)?,
            }
        }
        child.namespace()
    }

    /// One by which a mount is mapped: owners on the disk are inside of it, and
    /// those that are seen outside.
    pub(crate) fn of_mount(maps: &IdMaps) -> Result<Self, Error> {
        let child = Child::new()?;
        for (kind, map) in [(Kind::Groups, &maps.gids), (Kind::Users, &maps.uids)] {
            let line =
                |range: &IdRange| format!("{} {} {}\n", range.host, range.guest, range.count);
            child.write_map(kind, map, line)?;
        }
        child.namespace()
    }

    /// Goes into it. There may be one thread only.
    pub(crate) fn enter(&self) -> Result<(), Error> {
        nix::sched::setns(&self.0, CloneFlags::CLONE_NEWUSER)
            .map_err(|error| Error::NoNamespace(error.into()))
    }

    pub(crate) fn file(&self) -> &File {
        &self.0
    }
}

impl Child {
    fn new() -> Result<Self, Error> {
        let (mut ours, mut theirs) = UnixStream::pair().map_err(Error::Map)?;
        // SAFETY: what the child calls until it ends are system calls alone, of which
        // none takes a lock or memory of this process's: there may be threads that
        // hold any.
        let forked = unsafe { nix::unistd::fork() };
        let pid = match forked.map_err(|error| Error::NoNamespace(error.into()))? {
            ForkResult::Parent { child } => child,
            ForkResult::Child => {
                drop(ours);
                let unshared = nix::sched::unshare(CloneFlags::CLONE_NEWUSER);
                let errno = unshared.err().map_or(0, |errno| errno as i32);
                let _ = theirs.write_all(&errno.to_ne_bytes());
                let _ = theirs.read(&mut [0]);
                // SAFETY: it ends the process and does nothing else.
                unsafe { libc::_exit(0) }
            }
        };
        drop(theirs);
        let mut errno = [0; 4];
        let told = ours.read_exact(&mut errno);
        let child = Self { pid, _life: ours };
        told.map_err(Error::Map)?;
        match i32::from_ne_bytes(errno) {
            0 => Ok(child),
            errno => Err(Error::NoNamespace(io::Error::from_raw_os_error(errno))),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        format!("/proc/{}/{name}", self.pid).into()
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Error> {
        // In one call: a map is written once.
        let file = File::options().write(true).open(self.path(name));
        file.and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(Error::Map)
    }

    fn write_map(
        &self,
        kind: Kind,
        map: &IdMap,
        line: impl Fn(&IdRange) -> String,
    ) -> Result<(), Error> {
        let text: String = map.ranges().iter().map(line).collect();
        self.write(&format!("{}_map", kind.name()), &text)
    }

    /// Has it written by the program that may.
    fn have_mapped(&self, kind: Kind, map: &IdMap, process: &Process) -> Result<(), Error> {
        let program = kind.program();
        let mut command = Command::new(program);
        command.arg(self.pid.to_string());
        for range in map.ranges() {
            command.args([range.guest, range.host, range.count].map(|number| number.to_string()));
        }
        let output = command.output().map_err(|source| match source.kind() {
            ErrorKind::NotFound => Error::NoProgram { program },
            _ => Error::Program { program, source },
        })?;
        if output.status.success() {
            return Ok(());
        }
        Err(refusal(kind, map, process).unwrap_or_else(|| {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.lines().next().unwrap_or("it does not say why");
            Error::Refused {
                program,
                said: said
                    .trim_start_matches(program)
                    .trim_start_matches(": ")
                    .to_owned(),
            }
        }))
    }

    fn namespace(&self) -> Result<Namespace, Error> {
        let file = File::open(self.path("ns/user")).map_err(Error::Map)?;
        Ok(Namespace(file))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(self.pid, nix::sys::signal::Signal::SIGKILL);
        let _ = nix::sys::wait::waitpid(self.pid, None);
    }
}

/// Why a map is refused, as far as the files say.
fn refusal(kind: Kind, map: &IdMap, process: &Process) -> Option<Error> {
    let delegated = delegation::of(kind, process).ok()?;
    let own = kind.own(process);
    let allowed = |range: &&IdRange| {
        (range.count == 1 && range.host == own)
            || delegated.iter().any(|(first, count)| {
                let skipped = range.host.checked_sub(*first);
                skipped.is_some_and(|skipped| skipped < *count && range.count <= *count - skipped)
            })
    };
    let range = *map.ranges().iter().find(|range| !allowed(range))?;
    let ranges = delegated
        .iter()
        .map(|(first, count)| format!("{count} from {first} on"));
    let ranges: Vec<String> = ranges.collect();
    Some(Error::Beyond {
        kind: kind.name(),
        range,
        user: process.user(),
        delegated: match ranges.is_empty() {
            true => "nobody".to_owned(),
            false => ranges.join(" and "),
        },
        file: kind.file(),
    })
}
