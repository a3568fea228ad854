//! Locks: each owner's are those of an open file of its own.

use std::fs::File;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{Host, LAST, path_of};
use crate::actor::NodeId;
use crate::fcntl;
use crate::operation::LockKind;
use crate::outcome::Outcome;

impl Host {
    /// The open file that has the locks of `owner`.
    fn locks_of(&mut self, file: NodeId, owner: u64) -> &File {
        let open = self.file(file);
        let (stat, path) = (rustix::fs::fstat(&open.file).unwrap(), path_of(&open.file));
        let open = || File::from(rustix::fs::open(path, OFlags::RDWR, Mode::empty()).unwrap());
        let key = (stat.st_dev, stat.st_ino, owner);
        self.locks.entry(key).or_insert_with(open)
    }

    pub(super) fn setlk(
        &mut self,
        file: NodeId,
        owner: u64,
        kind: LockKind,
        (start, end): (u64, u64),
    ) -> Result<Outcome, Errno> {
        let (at, len) = at_and_len(start, end)?;
        let command = match kind {
            LockKind::Read => fcntl::OWN_READ,
            LockKind::Write => fcntl::OWN_WRITE,
            LockKind::Unlock => fcntl::OWN_UNLOCK,
        };
        fcntl::lock(self.locks_of(file, owner), command, at, len)?;
        Ok(Outcome::Done)
    }

    pub(super) fn getlk(
        &mut self,
        file: NodeId,
        owner: u64,
        kind: LockKind,
        (start, end): (u64, u64),
    ) -> Result<Outcome, Errno> {
        let (at, len) = at_and_len(start, end)?;
        let kind = match kind {
            LockKind::Read => fcntl::OWN_READ,
            LockKind::Write | LockKind::Unlock => fcntl::OWN_WRITE,
        };
        let found = fcntl::find_other(self.locks_of(file, owner), kind, at, len);
        Ok(found.map_or(Outcome::Done, |(kind, at, len)| {
            let end = if len == 0 {
                LAST
            } else {
                (at + len - 1).cast_unsigned()
            };
            Outcome::Lock(u8::try_from(kind).unwrap(), at.cast_unsigned(), end)
        }))
    }

    /// A program closes a file: its owner's locks are gone.
    pub(super) fn flush(&mut self, file: NodeId, owner: u64) {
        let stat = rustix::fs::fstat(&self.file(file).file).unwrap();
        self.locks.remove(&(stat.st_dev, stat.st_ino, owner));
    }
}

fn at_and_len(start: u64, end: u64) -> Result<(i64, i64), Errno> {
    if start > end || end > LAST {
        return Err(Errno::INVAL);
    }
    let len = if end == LAST { 0 } else { end - start + 1 };
    Ok((start.cast_signed(), len.cast_signed()))
}
