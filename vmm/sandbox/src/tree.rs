//! What of the host's files a thread reaches.
//!
//! What it has open stays open to it. Landlock says what may be opened, made,
//! removed, moved and cut off; not whose attributes may be changed by a path,
//! which is why a thread has no more capabilities than it needs.

use std::os::fd::{AsFd, OwnedFd};

use devices::passthrough::Needs;
use landlock::{
    ABI, Access, AccessFs, BitFlags, PathBeneath, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr,
};
use rustix::thread::CapabilitySet;

use crate::error::Error;

/// Rights up to those of Linux 6.10; the kernel says which of them it knows.
const KNOWN: ABI = ABI::V5;

/// The part of the host that a thread has to do with.
#[derive(Debug)]
pub struct Place {
    tree: Option<(OwnedFd, BitFlags<AccessFs>)>,
    locked: Option<OwnedFd>,
    pub(crate) capabilities: CapabilitySet,
    pub(crate) writes: bool,
}

impl Place {
    /// No file at all.
    pub(crate) const fn nowhere() -> Self {
        Self {
            tree: None,
            locked: None,
            capabilities: CapabilitySet::empty(),
            writes: false,
        }
    }

    /// Leaves the calling thread here.
    pub(crate) fn enter(&self) -> Result<(), Error> {
        let mut rules = all_refused()?;
        if let Some((tree, rights)) = &self.tree {
            rules = rules.add_rule(PathBeneath::new(tree.as_fd(), *rights))?;
        }
        if let Some(locked) = &self.locked {
            let rights = AccessFs::ReadFile | AccessFs::WriteFile;
            rules = rules.add_rule(PathBeneath::new(locked.as_fd(), rights))?;
        }
        rules.restrict_self()?;
        Ok(())
    }
}

/// The share's tree, with what its mode takes.
impl From<Needs> for Place {
    fn from(needs: Needs) -> Self {
        // Nothing is executed, and no device is told anything.
        let rights = match needs.writes {
            true => AccessFs::from_all(KNOWN) & !(AccessFs::Execute | AccessFs::IoctlDev),
            false => AccessFs::ReadFile | AccessFs::ReadDir,
        };
        Self {
            tree: Some((needs.tree, rights)),
            locked: needs.locked,
            capabilities: needs.capabilities,
            writes: needs.writes,
        }
    }
}

fn all_refused() -> Result<RulesetCreated, Error> {
    let all = Ruleset::default().handle_access(AccessFs::from_all(KNOWN))?;
    Ok(all.create()?)
}
