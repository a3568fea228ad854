//! Acting as the guest's caller.
//!
//! What a guest task creates belongs to that task. A process that may change
//! its credentials takes on the caller's user and group for the system call
//! that creates, in the calling thread alone; one that may not, or is not to,
//! creates as its own user, whoever asks ("squashing"), and so does one whose
//! user namespace has no such user, unless its owners are mapped.
//!
//! Permissions are the guest's kernel's business (virtiofs mounts with
//! `default_permissions`): it knows the caller's groups and capabilities and
//! we do not. So the caller's credentials decide here who owns what is made,
//! not whether it may be made, and `CAP_DAC_OVERRIDE` stays. Only ACCESS asks
//! the host for its opinion and goes without.

use std::cell::Cell;
use std::marker::PhantomData;
use std::os::fd::AsFd;

use rustix::fs::{Gid, Mode, Uid};
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use super::owners::NOBODY;
use super::sys::{self, count_call};
use crate::filesystem::{Caller, Result};

/// What the process itself is and may become.
#[derive(Debug)]
pub(super) struct Privileges {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
    may_switch: bool,
    /// User namespaces made by unprivileged users forbid `setgroups(2)`.
    may_set_groups: bool,
    /// Whom our user namespace does not know is nobody, and not ourselves.
    strangers_refused: bool,
}

/// What of the process's power over the host's files stays with a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Power {
    /// Permission bits do not count: the guest's kernel has checked them.
    Override,
    /// Permission bits count.
    Plain,
}

impl Privileges {
    /// Finds out what the calling thread may do.
    pub(super) fn of_process() -> Self {
        let needed = CapabilitySet::SETUID | CapabilitySet::SETGID;
        let groups = rustix::process::getgroups().unwrap_or_default();
        // One that our user namespace does not know could not be had again.
        let known = !groups.contains(&Gid::from_raw(NOBODY));
        Self {
            uid: rustix::process::geteuid(),
            gid: rustix::process::getegid(),
            may_switch: capabilities(None).is_ok_and(|sets| sets.effective.contains(needed)),
            may_set_groups: known && set_thread_groups(&groups).is_ok(),
            groups,
            strangers_refused: false,
        }
    }

    /// Callers whom our user namespace does not know make nothing.
    pub(super) fn without_strangers(self) -> Self {
        Self {
            strangers_refused: true,
            ..self
        }
    }

    /// Callers have no identity of their own on the host.
    pub(super) fn squashed(self) -> Self {
        Self {
            may_switch: false,
            ..self
        }
    }

    /// Whether callers keep their own identity on the host.
    pub(super) fn may_switch(&self) -> bool {
        self.may_switch
    }

    /// Takes on the caller's user and group until the guard is dropped.
    pub(super) fn assume(&self, caller: &Caller, power: Power) -> Result<Assumed<'_>> {
        let mut assumed = Assumed {
            own: self,
            saved: None,
            not_send: PhantomData,
        };
        // -1 is no user (setresuid would change nothing).
        if caller.uid == u32::MAX || caller.gid == u32::MAX {
            return Err(Errno::INVAL);
        }
        let (uid, gid) = (Uid::from_raw(caller.uid), Gid::from_raw(caller.gid));
        let group = caller
            .supplementary_gid
            .filter(|g| *g != u32::MAX)
            .map(Gid::from_raw);
        let itself = uid == self.uid && gid == self.gid && group.is_none();
        if !self.may_switch || itself {
            return Ok(assumed);
        }
        let saved = capabilities(None)?;
        assumed.saved = Some(saved);
        match assumed.switch(uid, gid, group, saved, power) {
            Ok(()) => Ok(assumed),
            // No such user in our user namespace: as our own then.
            Err(Errno::INVAL) => {
                assumed.restore();
                match self.strangers_refused {
                    true => Err(Errno::OVERFLOW),
                    false => Ok(assumed),
                }
            }
            Err(error) => Err(error),
        }
    }
}

/// The calling thread acts as somebody else. It is itself again when this is
/// dropped.
#[derive(Debug)]
pub(super) struct Assumed<'a> {
    own: &'a Privileges,
    saved: Option<CapabilitySets>,
    /// Credentials belong to the thread.
    not_send: PhantomData<*const ()>,
}

impl Assumed<'_> {
    fn switch(
        &self,
        uid: Uid,
        gid: Gid,
        group: Option<Gid>,
        saved: CapabilitySets,
        power: Power,
    ) -> Result<()> {
        let other_groups = group.is_some() || !self.own.groups.is_empty();
        if other_groups && self.own.may_set_groups {
            set_thread_groups(group.as_slice())?;
        }
        set_thread_res_gid(None, gid, None)?;
        if uid == self.own.uid {
            return Ok(());
        }
        set_thread_res_uid(None, uid, None)?;
        let keep = match power {
            // A member of the directory's group, which cannot be said otherwise,
            // may give a file there set-group-ID.
            Power::Override if group.is_some() && !self.own.may_set_groups => {
                CapabilitySet::DAC_OVERRIDE | CapabilitySet::FSETID
            }
            Power::Override => CapabilitySet::DAC_OVERRIDE,
            Power::Plain => CapabilitySet::empty(),
        };
        set_capabilities(
            None,
            CapabilitySets {
                effective: saved.effective & keep,
                ..saved
            },
        )
    }

    /// Back to what the thread was. A thread that cannot become itself again
    /// must not serve anybody else.
    fn restore(&mut self) {
        let Some(saved) = self.saved.take() else {
            return;
        };
        // The capabilities first: they are what allows the rest.
        let restored = set_capabilities(None, saved)
            .and_then(|()| set_thread_res_uid(None, self.own.uid, None))
            .and_then(|()| set_thread_res_gid(None, self.own.gid, None))
            .and_then(|()| match self.own.may_set_groups {
                true => set_thread_groups(&self.own.groups),
                false => Ok(()),
            })
            // Becoming root again raises every permitted capability.
            .and_then(|()| set_capabilities(None, saved));
        if let Err(error) = restored {
            log::error!("a thread cannot take its own credentials back: {error}");
            std::process::abort();
        }
    }
}

impl Drop for Assumed<'_> {
    fn drop(&mut self) {
        self.restore();
    }
}

thread_local! {
    /// The thread has a working directory and umask of its own, and the
    /// former is `/proc/self/fd`.
    static APART: Cell<bool> = const { Cell::new(false) };
    /// The umask that it gave itself.
    static UMASK: Cell<Option<u32>> = const { Cell::new(None) };
}

/// Sets the calling thread apart from the process, once: its umask can then
/// change without other threads' noticing, and its working directory is
/// `/proc/self/fd`, the only way to the extended attributes of an `O_PATH`
/// descriptor. `proc` is that directory.
pub(super) fn set_thread_apart(proc: impl AsFd) -> Result<()> {
    if APART.get() {
        return Ok(());
    }
    sys::unshare_fs()?;
    rustix::process::fchdir(proc)?;
    APART.set(true);
    Ok(())
}

/// Gives the calling thread an umask, which it keeps: nearly always the next one is the
/// same. Only for threads that are [set apart](set_thread_apart).
pub(super) fn set_umask(mask: u32) {
    let mask = mask & 0o777;
    if UMASK.replace(Some(mask)) != Some(mask) {
        count_call();
        rustix::process::umask(Mode::from_raw_mode(mask));
    }
}
