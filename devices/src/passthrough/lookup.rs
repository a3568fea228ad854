//! From a name to an inode: LOOKUP and READLINK, and the entry that answers
//! every operation which leads to a node.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::io::Errno;

use super::Passthrough;
use super::budget::{Descriptor, Permit, Purpose};
use super::capacity::Room;
use super::inode::Inode;
use super::stat::{Kind, Source, Stat};
use crate::filesystem::{
    Attributes, Caller, Entry, LookupOperations, NodeId, ROOT, Request, Result, WOULD_WAIT,
};

/// What may be done to get at a node.
pub(super) struct Leave<'c> {
    /// To hold a descriptor.
    pub(super) permit: Permit,
    /// To remember the node, where that must not fail any more.
    pub(super) room: Option<Room<'c>>,
    /// To wait for somebody else.
    pub(super) may_wait: bool,
}

impl LookupOperations for Passthrough {
    fn lookup(&self, request: &Request<'_>, name: &CStr) -> Result<Entry> {
        let (parent, directory) = self.directory(request.node)?;
        match self.known_or_new_child(&parent, &*directory, name, request.may_wait()) {
            Ok((inode, status)) => {
                if inode.kind != Kind::Directory {
                    self.refusals.found(request.caller.pid, inode.number);
                }
                Ok(self.entry(&inode, &status))
            }
            Err(Errno::NOENT) => {
                self.coherently_missing(&parent, name, &request.caller)?;
                self.refusals.found_nothing(request.caller.pid);
                match self.config.cache.negative_timeout() {
                    Some(timeout) => Ok(nothing(timeout)),
                    None => Err(Errno::NOENT),
                }
            }
            Err(error) => Err(error),
        }
    }

    fn lookup_itself(&self, request: &Request<'_>) -> Result<Entry> {
        self.itself(request)
    }

    fn lookup_parent(&self, request: &Request<'_>) -> Result<Entry> {
        self.above_itself(request)
    }

    fn forget(&self, node: NodeId, count: u64) {
        self.forgotten(node, count);
    }

    fn readlink(&self, request: &Request<'_>) -> Result<Vec<u8>> {
        let inode = self.inodes.get(request.node)?;
        if inode.kind != Kind::Symlink {
            return Err(Errno::INVAL);
        }
        self.coherent(&inode, &request.caller)?;
        let descriptor = self.descriptor(&inode)?;
        let target = rustix::fs::readlinkat(&*descriptor, c"", Vec::new())?;
        Ok(target.into_bytes())
    }
}

impl Passthrough {
    /// As [`seen`](Self::seen), of what has a descriptor unless it is let go at
    /// this moment.
    pub(super) fn looks_into(&self, inode: &Arc<Inode>, status: Stat) -> Result<Stat> {
        match self.keeps_apart() || self.keeps_devices() {
            true => self.seen(status, &*self.descriptor(inode)?),
            false => self.seen(status, self.root.fd()),
        }
    }

    /// The guest drops `count` references.
    fn forgotten(&self, node: NodeId, count: u64) {
        if let Some(kept) = self.inodes.forget(node, count) {
            self.keep_forgotten(&kept);
        }
        if let Some(window) = &self.window
            && self.inodes.is_forgotten(node)
        {
            window.forget(node);
        }
    }

    /// The guest is not told after all of a node that a reference was taken to.
    pub(super) fn untold(&self, inode: &Inode) {
        self.forgotten(inode.number, 1);
    }

    /// The entry `name` of `parent`, which is open as `directory`, with a
    /// reference taken for the guest.
    ///
    /// To see that the guest knows a node takes one system call, or three if it is opened
    /// first. What it does not know is opened in any case.
    pub(super) fn known_or_new_child(
        &self,
        parent: &Arc<Inode>,
        directory: impl AsFd,
        name: &CStr,
        may_wait: bool,
    ) -> Result<(Arc<Inode>, Stat)> {
        let looked = parent.opened_in_vain.load(Ordering::Relaxed);
        if looked && let Some(found) = self.known_child(parent, &directory, name, may_wait)? {
            return Ok(found);
        }
        // There may be no descriptor left, and what is known needs none.
        let known_at_least = |error| match error {
            Errno::NFILE | Errno::MFILE if !looked => {
                let known = self.known_child(parent, &directory, name, may_wait)?;
                known.ok_or(error)
            }
            _ => Err(error),
        };
        let permit = match self.permit(Purpose::Work) {
            Ok(permit) => permit,
            Err(error) => return known_at_least(error),
        };
        let leave = Leave {
            permit,
            room: None,
            may_wait,
        };
        let in_vain = |yes| parent.opened_in_vain.store(yes, Ordering::Relaxed);
        let fd = match self.with_descriptors(|| self.root.open_child(&directory, name)) {
            Ok(fd) => fd,
            Err(error) => {
                if error == Errno::NOENT {
                    in_vain(true);
                }
                return known_at_least(error);
            }
        };
        let note = |inode: &Inode| self.told_name(inode, parent, name);
        let (inode, status, made) = self.adopt_noted(parent, note, fd, leave)?;
        in_vain(!made);
        Ok((inode, status))
    }

    /// The same, if the guest knows the node. One that has been let go is to be opened all the
    /// same, because it is about to be used and this is how one that cannot be
    /// found any more is found again.
    fn known_child(
        &self,
        parent: &Arc<Inode>,
        directory: impl AsFd,
        name: &CStr,
        may_wait: bool,
    ) -> Result<Option<(Arc<Inode>, Stat)>> {
        let status = self.status_below(parent, may_wait, |source| {
            Stat::of_child_from(source, &directory, name)
        })?;
        let known = self
            .mounts
            .known(status.mount)
            .map(|mount| mount.identity(&status))
            .filter(|identity| {
                let inode = self.inodes.find(identity);
                inode.is_some_and(|inode| inode.descriptor().is_some())
            })
            .and_then(|identity| self.inodes.reference(&identity));
        let Some(inode) = known else { return Ok(None) };
        let status = match self.looks_into(&inode, status) {
            Ok(status) => status,
            Err(error) => {
                self.untold(&inode);
                return Err(error);
            }
        };
        self.told_name(&inode, parent, name);
        Ok(Some((inode, status)))
    }

    /// The directory with this number and its descriptor, for reaching what
    /// is in it. `ESTALE` when the host has moved it out of the share.
    pub(super) fn directory(&self, number: NodeId) -> Result<(Arc<Inode>, Arc<Descriptor>)> {
        let inode = self.inodes.get(number)?;
        if inode.kind != Kind::Directory {
            return Err(Errno::NOTDIR);
        }
        let descriptor = self.descriptor(&inode)?;
        self.confine(&inode, &*descriptor)?;
        Ok((inode, descriptor))
    }

    /// As [`directory`](Self::directory), for changing or listing what is in
    /// it: `ESTALE` also when it is not what the caller takes it for.
    pub(super) fn coherent_directory(
        &self,
        number: NodeId,
        caller: &Caller,
    ) -> Result<(Arc<Inode>, Arc<Descriptor>)> {
        let inode = self.inodes.get(number)?;
        if inode.kind != Kind::Directory {
            return Err(Errno::NOTDIR);
        }
        let seen = self.coherent(&inode, caller)?;
        let descriptor = self.descriptor(&inode)?;
        if seen.is_none() {
            self.confine(&inode, &*descriptor)?;
        }
        Ok((inode, descriptor))
    }

    /// Leave for what is to be made: nothing may be, unless it can be answered
    /// with.
    pub(super) fn leave_to_make(&self) -> Result<Leave<'_>> {
        self.make_room();
        Ok(Leave {
            permit: self.permit(Purpose::Work)?,
            room: Some(self.capacity.room()?),
            may_wait: true,
        })
    }

    /// The entry `name` of `parent`, with leave that was got before.
    pub(super) fn child_permitted(
        &self,
        parent: &Arc<Inode>,
        directory: impl AsFd,
        name: &CStr,
        leave: Leave<'_>,
    ) -> Result<(Arc<Inode>, Stat)> {
        let fd = self.with_descriptors(|| self.root.open_child(&directory, name))?;
        self.adopt(parent, name, fd, leave)
    }

    /// Takes a reference for the guest to the node open as `fd`, an `O_PATH`
    /// descriptor that came from `name` in `parent`.
    pub(super) fn adopt(
        &self,
        parent: &Arc<Inode>,
        name: &CStr,
        fd: OwnedFd,
        leave: Leave<'_>,
    ) -> Result<(Arc<Inode>, Stat)> {
        let note = |inode: &Inode| self.told_name(inode, parent, name);
        let (inode, status, _) = self.adopt_noted(parent, note, fd, leave)?;
        Ok((inode, status))
    }

    /// As [`adopt`](Self::adopt), for a file that was made without a name.
    pub(super) fn adopt_unnamed(
        &self,
        parent: &Arc<Inode>,
        fd: OwnedFd,
        leave: Leave<'_>,
    ) -> Result<(Arc<Inode>, Stat)> {
        let (inode, status, _) = self.adopt_noted(parent, |_| (), fd, leave)?;
        Ok((inode, status))
    }

    /// Adopts a node; `note` writes down how it was reached before it can be let
    /// go. Says as well whether the guest did not know it.
    fn adopt_noted(
        &self,
        parent: &Arc<Inode>,
        note: impl FnOnce(&Inode),
        fd: OwnedFd,
        leave: Leave<'_>,
    ) -> Result<(Arc<Inode>, Stat, bool)> {
        let Leave {
            permit,
            room,
            may_wait,
        } = leave;
        let fd = Descriptor::new(fd, permit);
        self.make_room();
        let status = self.status_below(parent, may_wait, |source| Stat::of_from(source, &fd))?;
        let status = self.seen(status, &*fd)?;
        let mount = self.mount_of(&fd, &status, &parent.mount);
        if self.config.only_stored && mount.host_fs.synthetic {
            return Err(Errno::NOENT);
        }
        self.ensure_readable(status.kind, &mount)?;
        let identity = mount.identity(&status);
        let fd = Arc::new(fd);
        let (inode, made) = self.inodes.reference_or_insert(&identity, |number| {
            room.map_or_else(|| self.capacity.room(), Ok)?.keep();
            let mount_point = (identity.device, identity.mount)
                != (parent.identity.device, parent.identity.mount);
            let fd = Arc::clone(&fd);
            let kind = status.kind;
            Ok(Inode::new(number, identity, kind, mount, mount_point, fd))
        })?;
        note(&inode);
        if inode.kind == Kind::Directory {
            let above = parent.depth();
            let known = above > 0 || parent.number == ROOT;
            inode.set_depth(if known { above + 1 } else { 0 });
        }
        if made {
            self.took_descriptor(&inode);
        } else {
            self.give_descriptor(&inode, fd);
        }
        Ok((inode, status, made))
    }

    /// The status that `ask` gets of an entry of `parent`. An entry can be the
    /// root of another file system, whose server may be gone; that this is so
    /// is seen without asking it. `WOULD_WAIT` when it would have to be asked
    /// by somebody who must not wait.
    pub(super) fn status_below(
        &self,
        parent: &Inode,
        may_wait: bool,
        ask: impl Fn(Source) -> Result<Stat>,
    ) -> Result<Stat> {
        if !parent.mount.host_fs.up_to_date {
            return ask(Source::Server);
        }
        let status = ask(Source::Kernel)?;
        if status.mount == parent.identity.mount {
            return Ok(status);
        }
        let known = self.mounts.known(status.mount);
        let may_stall = known.is_none_or(|mount| mount.host_fs.may_stall);
        if may_stall && !may_wait {
            return Err(WOULD_WAIT);
        }
        ask(Source::Server)
    }

    /// What the guest is told of a node.
    pub(super) fn entry(&self, inode: &Inode, status: &Stat) -> Entry {
        Entry {
            inode: inode.number,
            generation: self.generation_of(inode),
            attributes: self.attributes(inode, status),
            attr_timeout: self.attribute_timeout(inode, status),
            entry_timeout: match inode.kind {
                // The guest opens these by itself, and we cannot refuse.
                Kind::Special => self.config.cache.unchecked_entry_timeout(),
                _ => self.config.cache.entry_timeout(),
            },
        }
    }
}

/// "This name does not exist", to be remembered for `timeout`.
fn nothing(timeout: Duration) -> Entry {
    Entry {
        inode: 0,
        generation: 0,
        attributes: Attributes::default(),
        attr_timeout: Duration::ZERO,
        entry_timeout: timeout,
    }
}
