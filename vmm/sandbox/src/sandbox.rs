//! The sandbox of a process.

use serde::Serialize;

use crate::arenas;
use crate::capability;
use crate::error::Error;
use crate::filter::Filter;
use crate::host::Host;
use crate::mode::Mode;
use crate::refusal;
use crate::role::Role;
use crate::tree::Place;

/// What a process and its threads are confined by, or nothing.
#[derive(Clone, Debug)]
pub struct Sandbox {
    mode: Mode,
    host: Host,
}

/// What of the sandbox holds, for the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Holds {
    /// System calls are refused (seccomp).
    pub system_calls: bool,
    /// Files are confined (Landlock).
    pub files: bool,
    /// What root may is given up.
    pub capabilities: bool,
    /// No program gives rights.
    pub no_new_privileges: bool,
}

/// What confines a run, and what that came to, for the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Record {
    #[serde(flatten)]
    holds: Holds,
    /// The system calls that were refused so far: mistakes of the lists, or a
    /// guest that took over a thread.
    refused: Vec<&'static str>,
}

impl Holds {
    /// With what was refused so far.
    #[must_use]
    pub fn record(self) -> Record {
        Record {
            holds: self,
            refused: refusal::refused(),
        }
    }
}

impl Record {
    /// The system calls that were refused so far.
    #[must_use]
    pub fn refused(&self) -> &[&'static str] {
        &self.refused
    }
}

impl Sandbox {
    /// The one that `mode` is on this host. Nothing is confined yet.
    ///
    /// # Errors
    ///
    /// [`Error::Lacks`] when there has to be all of it and the host has not.
    pub fn plan(mode: Mode) -> Result<Self, Error> {
        let host = Host::ask();
        match host.lacks() {
            Some(lacks) if mode == Mode::On => Err(Error::Lacks(lacks)),
            _ => Ok(Self { mode, host }),
        }
    }

    /// None.
    #[must_use]
    pub const fn off() -> Self {
        Self {
            mode: Mode::Off,
            host: Host {
                seccomp: false,
                landlock: false,
            },
        }
    }

    /// What `--sandbox` says.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether anything is confined.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.mode != Mode::Off
    }

    /// What holds.
    #[must_use]
    pub fn holds(&self) -> Holds {
        Holds {
            system_calls: self.is_on() && self.host.seccomp,
            files: self.is_on() && self.host.landlock,
            capabilities: self.is_on(),
            no_new_privileges: self.is_on(),
        }
    }

    /// What the host has not of it, if that is wanted: users are to know.
    #[must_use]
    pub fn lacks(&self) -> Option<String> {
        self.host.lacks().filter(|_| self.is_on())
    }

    /// Prepares the process. Before it starts threads, which inherit this; and
    /// after it has started the programs that give it rights.
    ///
    /// # Errors
    ///
    /// When the host refuses it.
    pub fn begin(&self) -> Result<(), Error> {
        if !self.is_on() {
            return Ok(());
        }
        rustix::thread::set_no_new_privs(true)
            .map_err(|error| Error::NoNewPrivileges(error.into()))?;
        self.handle_refusals()
    }

    /// Has refused calls fail, of whatever thread.
    pub(crate) fn handle_refusals(&self) -> Result<(), Error> {
        // Once in a process these look at the host, for which a confined thread has no call.
        let _ = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        if !self.holds().system_calls {
            return Ok(());
        }
        arenas::limit();
        refusal::handle().map_err(Error::Handler)
    }

    /// Leaves the calling thread with what `role` takes, and those it starts.
    ///
    /// # Errors
    ///
    /// When the host refuses it.
    pub fn enter(&self, role: Role) -> Result<(), Error> {
        match role {
            // Those of a share, of the session as well, come from their keeper.
            Role::Share { .. } | Role::Session => self.filter(role),
            Role::Vcpu | Role::Windows => self.enter_at(role, &Place::nowhere()),
            Role::Debugger => self.enter_at(role, &Place::nowhere()),
            Role::Main if self.is_on() => {
                capability::keep(capability::OF_MAIN)?;
                self.filter(role)
            }
            Role::Main => Ok(()),
        }
    }

    pub(crate) fn enter_at(&self, role: Role, place: &Place) -> Result<(), Error> {
        if !self.is_on() {
            return Ok(());
        }
        if self.host.landlock {
            place.enter()?;
        }
        capability::keep(place.capabilities)?;
        self.filter(role)
    }

    fn filter(&self, role: Role) -> Result<(), Error> {
        match self.holds().system_calls {
            true => Filter::of(role)?.apply(),
            false => Ok(()),
        }
    }
}
