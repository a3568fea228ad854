//! Whether what the guest has in its cache is true: close-to-open.
//!
//! With `cache=auto` the guest may use a name and the attributes of a node for
//! a second without asking. What it opens has nevertheless to be what is there
//! at that time. The answer to OPEN cannot say so, but it can refuse: on
//! `ESTALE` Linux walks the path again, once, and asks for each name on it
//! (`LOOKUP_REVAL` in `do_filp_open`, `retry_estale` elsewhere), which brings
//! the attributes along. So before a node is opened, or a directory changed,
//!
//! * every name by which the guest may know the node without asking has to
//!   lead to it, from the root or from the nearest directory that it has to ask
//!   for down. A name that the guest itself removed is none of them.
//! * a file's size, mode, owner and time of modification have to be those that
//!   the guest was told last, unless it changed the file itself since: then it
//!   asks by itself, or has what the host had when it closed the file.
//!
//! For a LOOKUP that finds nothing, and a compiler makes many in one directory,
//! the directory is taken to be where it was found until the coarse clock goes
//! on, a few milliseconds later. What is opened or changed is always checked.
//!
//! A task is refused once (see `refusals`). What this cannot do is left to the
//! timeout: `stat` may be a second late, and so may the time of last change and
//! the number of links of an open file. And where the second walk ends before
//! anything is opened, for want of a right or of a directory, what the same task
//! does next with what it found there cannot be told from the end of that walk.

use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::io::Errno;

use super::Passthrough;
use super::clock::Moment;
use super::config::CachePolicy;
use super::finding::{DEEPEST, astray};
use super::handle::Open;
use super::inode::{Inode, Place};
use super::names::{Name, Names};
use super::refusals::Asked;
use super::stat::{Kind, Stat};
use crate::filesystem::{Caller, NodeId, ROOT, Result};

/// The guest counts from when it gets an answer, by a clock of its own.
const LATE: u32 = 2;

/// Names that the guest may use without asking.
fn trusted(names: &Names, now: Moment, trust: Duration) -> impl Iterator<Item = &Name> {
    names.iter().filter(move |name| name.told.age(now) <= trust)
}

/// Where a name leads.
#[allow(clippy::large_enum_variant, reason = "lives for a moment")]
enum Leads {
    Here(Stat),
    Elsewhere,
    /// The guest has forgotten a directory on the way, so it cannot come by it.
    Nowhere,
}

impl Passthrough {
    /// For how long a name or attribute may be in the guest's cache that must
    /// be true when something is opened by it; `None` when nothing is promised
    /// or the guest always asks.
    fn trust(&self) -> Option<Duration> {
        let cache = self.config.cache;
        (cache == CachePolicy::Auto).then(|| cache.entry_timeout() * LATE)
    }

    /// Makes sure that the guest does not take `inode` for what is elsewhere by
    /// now. Gives its status when that was seen by the way, which also shows
    /// that the node is under the share.
    pub(super) fn coherent(&self, inode: &Arc<Inode>, caller: &Caller) -> Result<Option<Stat>> {
        self.coherent_for(inode, caller, Asked::Use)
    }

    /// As [`coherent`](Self::coherent), for a file that is to have another name.
    pub(super) fn coherent_to_link(
        &self,
        inode: &Arc<Inode>,
        caller: &Caller,
    ) -> Result<Option<Stat>> {
        self.coherent_for(inode, caller, Asked::Link)
    }

    /// As [`coherent`](Self::coherent), for a node that is to be truncated by its path.
    pub(super) fn coherent_to_truncate(&self, node: NodeId, caller: &Caller) -> Result<()> {
        let inode = self.inodes.get(node)?;
        let now = self.clock.now();
        let by_open = self.refusals.has_opened(caller.pid, node, now)
            && inode.writers.load(Ordering::Relaxed) > 0;
        match by_open {
            true => Ok(()),
            false => self.coherent(&inode, caller).map(drop),
        }
    }

    fn coherent_for(
        &self,
        inode: &Arc<Inode>,
        caller: &Caller,
        what: Asked,
    ) -> Result<Option<Stat>> {
        let Some(trust) = self.trust().filter(|_| inode.number != ROOT) else {
            return Ok(None);
        };
        let now = self.clock.now();
        let place = inode.place();
        let names: Vec<Name> = trusted(&place.names, now, trust).cloned().collect();
        let dropped = place.names.dropped();
        drop(place);
        // By another name, which is true.
        let found = self.refusals.has_found(caller.pid, inode.number, what, now);
        let mut seen = None;
        for name in &names {
            match self.leads(name, inode, now, trust)? {
                Leads::Here(status) => seen = Some(status),
                Leads::Elsewhere if found => {}
                Leads::Elsewhere => self.blame(name, inode, caller, what, now, trust)?,
                Leads::Nowhere => {}
            }
        }
        if !found && dropped.is_some_and(|told| told.age(now) <= trust) {
            self.refuse_once(inode, caller, what, now)?;
        }
        Ok(seen)
    }

    /// As [`coherent`](Self::coherent), for a file that is to be opened.
    pub(super) fn coherent_file(&self, inode: &Arc<Inode>, caller: &Caller) -> Result<bool> {
        let Some(status) = self.coherent(inode, caller)? else {
            return Ok(false);
        };
        let now = self.clock.now();
        let status = self.looks_into(inode, status)?;
        if let Some(trust) = self.trust()
            && inode.told.contradicts(&status, now, trust)
            && !(self.refusals).has_found(caller.pid, inode.number, Asked::Use, now)
        {
            self.refuse_once(inode, caller, Asked::Use, now)?;
        }
        Ok(true)
    }

    /// Makes sure that `name`, which is not in `directory`, is not in what the
    /// guest takes the directory for either. Only then: what is to be made under
    /// a name that is nowhere is better refused by itself (see `refusals`).
    pub(super) fn coherently_missing(
        &self,
        directory: &Arc<Inode>,
        name: &CStr,
        caller: &Caller,
    ) -> Result<()> {
        let Some(trust) = self.trust().filter(|_| directory.number != ROOT) else {
            return Ok(());
        };
        let now = self.clock.now();
        if directory.is_verified(self.clock.tick(now)) {
            return Ok(());
        }
        let own = trusted(&directory.place().names, now, trust)
            .next()
            .cloned();
        let Some(own) = own else { return Ok(()) };
        if !matches!(self.leads(&own, directory, now, trust)?, Leads::Elsewhere) {
            return Ok(());
        }
        let asked_for =
            |_: &Inode, place: &Place| trusted(&place.names, now, trust).next().is_none();
        let way = self.way(directory.number, asked_for)?;
        let base = self.descriptor(&way.base)?;
        match self.follow(&*base, &way, Some(name)) {
            Ok(_) => self.blame(&own, directory, caller, Asked::Lookup, now, trust),
            Err(Errno::STALE) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn leads(&self, name: &Name, inode: &Inode, now: Moment, trust: Duration) -> Result<Leads> {
        let asked_for =
            |_: &Inode, place: &Place| trusted(&place.names, now, trust).next().is_none();
        let Ok(way) = self.way(name.parent, asked_for) else {
            return Ok(Leads::Nowhere);
        };
        // No LOOKUP succeeds there any more, so the guest does not come by this
        // name; another may be true.
        let base = self.descriptor(&way.base);
        let base = base.and_then(|base| self.confine(&way.base, &*base).map(|()| base));
        let base = match base {
            Err(Errno::STALE) => return Ok(Leads::Nowhere),
            outcome => outcome?,
        };
        let status = if way.is_empty() {
            Stat::of_child(&*base, &name.name)
        } else {
            self.follow(&*base, &way, None)
                .and_then(|directory| Stat::of_child(directory, &name.name))
        };
        match status.map_err(astray) {
            Ok(status) if inode.mount.identity(&status) == inode.identity => {
                if inode.kind == Kind::Directory {
                    inode.verify(self.clock.tick(now));
                }
                Ok(Leads::Here(status))
            }
            Ok(_) | Err(Errno::STALE) => Ok(Leads::Elsewhere),
            // A directory that this side may not search says nothing.
            Err(Errno::ACCESS) => Ok(Leads::Nowhere),
            Err(error) => Err(error),
        }
    }

    /// Finds out which name on the way to `name` is not true, and refuses what
    /// the task wants with the node that it thinks is there.
    fn blame(
        &self,
        name: &Name,
        inode: &Arc<Inode>,
        caller: &Caller,
        what: Asked,
        now: Moment,
        trust: Duration,
    ) -> Result<()> {
        let mut links = vec![(Arc::clone(inode), name.clone())];
        let mut at = self.inodes.get(name.parent)?;
        while at.number != ROOT && links.len() < DEEPEST {
            let name = trusted(&at.place().names, now, trust).next().cloned();
            let Some(name) = name else { break };
            let parent = self.inodes.get(name.parent)?;
            links.push((at, name));
            at = parent;
        }
        for (node, name) in links.into_iter().rev() {
            let directory = self.descriptor(&at)?;
            let status = Stat::of_child(&*directory, &name.name);
            if !status.is_ok_and(|s| node.mount.identity(&s) == node.identity) {
                self.refuse_once(&node, caller, what, now)?;
            }
            at = node;
        }
        Ok(())
    }

    fn refuse_once(&self, inode: &Inode, caller: &Caller, what: Asked, now: Moment) -> Result<()> {
        if self.refusals.excuse(caller.pid, inode.number, what, now) {
            return Ok(());
        }
        let directory = inode.kind == Kind::Directory;
        let refusals = &self.refusals;
        refusals.refuse(caller.pid, inode.number, directory, what, now);
        Err(Errno::STALE)
    }

    /// The guest is told that an entry leads to `inode`.
    pub(super) fn told_name(&self, inode: &Inode, parent: &Inode, name: &CStr) {
        inode.told_name(parent.number, name, self.clock.now());
        if inode.kind == Kind::Directory {
            self.refusals.told(inode.number);
        }
    }

    /// The guest is told a node's attributes.
    pub(super) fn told_attributes(&self, inode: &Inode, status: &Stat) {
        if inode.kind == Kind::Regular && self.trust().is_some() {
            // With a write-back cache it trusts its own.
            if !self.agreement().writeback_cache {
                inode.told.set(status, self.clock.now());
            }
        }
    }

    /// The guest closes a file. If it wrote to it, it now has what the host
    /// has.
    pub(super) fn told_by_closing(&self, open: &Open) {
        // Elsewhere nothing goes by what was told.
        if self.trust().is_some()
            && !self.agreement().writeback_cache
            && open.inode.told.is_none()
            && let Ok(status) = self.status(open.host())
        {
            self.told_attributes(&open.inode, &status);
        }
    }
}
