//! What the threads that serve a share have to be able to do: nothing else is
//! to be left to them.
//!
//! Nothing outside the share but `/proc/self/fd`, and with `Owners::Xattr` the file
//! of `turns`, all opened by [`super::Passthrough::new`]; [`super::Passthrough::needs`] says it
//! for those who confine them. `CAP_SETUID`, `CAP_SETGID` and `CAP_DAC_OVERRIDE` to
//! give what is made to the guest's users, `CAP_CHOWN`, `CAP_FOWNER`,
//! `CAP_FSETID`, `CAP_LINUX_IMMUTABLE` and `CAP_MKNOD` to do for the guest's root what root may do,
//! `CAP_SETFCAP` to give files capabilities, `CAP_SYS_ADMIN` to keep the guest's
//! labels where links can have them too (see `attribute_names`), and
//! `CAP_DAC_READ_SEARCH` to open file handles. Whoever takes the last away
//! later turns off [`super::Config::file_handles`]. `unshare(CLONE_FS)` once per
//! thread, where the host lets us; elsewhere the umask of the process is 0.

use std::os::fd::OwnedFd;

use rustix::thread::CapabilitySet;

use super::{Owners, Passthrough};
use crate::filesystem::Result;

/// What serving a share takes of the host.
#[derive(Debug)]
pub struct Needs {
    /// The share's root, `O_PATH`.
    pub tree: OwnedFd,
    /// Anything in it may be changed; otherwise it is only read.
    pub writes: bool,
    /// A file outside of it that is opened again and again, to be locked
    /// ([`Owners::Xattr`]).
    pub locked: Option<OwnedFd>,
    /// As far as the process has them.
    pub capabilities: CapabilitySet,
}

impl Passthrough {
    /// What serving this share takes.
    ///
    /// # Errors
    ///
    /// When there are no descriptors left for it.
    pub fn needs(&self) -> std::io::Result<Needs> {
        let copy = |fd| rustix::io::fcntl_dupfd_cloexec(fd, 0);
        let locked: Result<Option<OwnedFd>> = (self.turns.as_ref())
            .map(|turns| copy(turns.file()))
            .transpose();
        Ok(Needs {
            tree: copy(self.root.fd())?,
            writes: !self.config.read_only,
            locked: locked?,
            capabilities: self.capabilities_needed(),
        })
    }

    fn capabilities_needed(&self) -> CapabilitySet {
        let owners = self.ownership.policy();
        // Not `DAC_READ_SEARCH`: it opens file handles, and so anything on the
        // file system that a share is on.
        let mut needed = CapabilitySet::DAC_OVERRIDE | CapabilitySet::FOWNER;
        if self.privileges.may_switch() {
            needed |= CapabilitySet::SETUID | CapabilitySet::SETGID;
        }
        if self.config.xattr && self.attribute_names.are_trusted() {
            needed |= CapabilitySet::SYS_ADMIN;
        }
        if !self.config.read_only {
            needed |=
                CapabilitySet::FSETID | CapabilitySet::SETFCAP | CapabilitySet::LINUX_IMMUTABLE;
            if owners != Owners::Xattr {
                needed |= CapabilitySet::CHOWN | CapabilitySet::MKNOD;
            }
        }
        needed
    }
}
