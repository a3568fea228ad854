//! Directory listings: OPENDIR, READDIR, READDIRPLUS, RELEASEDIR.
//!
//! The offsets told to the guest are the host's own, so a listing can be
//! taken up anywhere at any time, also after the directory changed.

use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::Passthrough;
use super::budget::{Descriptor, Purpose};
use super::cursor::Record;
use super::handle::{OpenDirectory, OpenNode};
use super::inode::Inode;
use crate::filesystem::{
    DirectoryEntry, DirectoryOperations, Handle, Listing, Opened, ROOT, Request, Result,
};

impl DirectoryOperations for Passthrough {
    fn opendir(&self, request: &Request<'_>) -> Result<Opened> {
        if self.agreement().no_open {
            return Err(Errno::NOSYS);
        }
        let (inode, descriptor) = self.coherent_directory(request.node, &request.caller)?;
        let permit = self.permit(Purpose::Open)?;
        let mut flags = OFlags::RDONLY | OFlags::DIRECTORY;
        if self.config.read_only {
            flags |= OFlags::NOATIME;
        }
        let fd = self.reopen(&*descriptor, flags)?;
        let node = OpenNode::Directory(OpenDirectory {
            file: Descriptor::new(File::from(fd), permit),
            cursor: Mutex::default(),
        });
        Ok(Opened {
            handle: self.handles.insert(inode, node),
            behaviour: self.config.cache.directory_behaviour(),
        })
    }

    fn readdir(
        &self,
        request: &Request<'_>,
        handle: Handle,
        offset: u64,
        listing: &mut dyn Listing,
    ) -> Result<()> {
        let open = self.opened_by(request, handle)?;
        let directory = open.directory()?;
        self.confine(&open.inode, &directory.file)?;
        let mut guard = directory
            .cursor
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let cursor = &mut *guard;
        cursor.go_to(&directory.file, offset)?;
        let mut told = false;
        loop {
            match cursor.fill(&directory.file) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                // What was told must reach the guest; it meets the error when
                // it goes on.
                Err(_) if told => return Ok(()),
                Err(error) => return Err(error),
            }
            let unread = cursor.batch.get(cursor.unread.clone());
            let record = unread.and_then(Record::first_of).ok_or(Errno::IO)?;
            if !self.tell(
                &open.inode,
                &directory.file,
                &record,
                request.may_wait(),
                listing,
            ) {
                // Nothing fits at all: an empty reply would mean the end.
                return if told { Ok(()) } else { Err(Errno::INVAL) };
            }
            told = true;
            cursor.offset = record.next_offset;
            cursor.unread.start += record.length;
        }
    }

    fn releasedir(&self, request: &Request<'_>, handle: Handle) -> Result<()> {
        self.handles.remove(request.node, handle).map(drop)
    }

    fn fsyncdir(&self, request: &Request<'_>, handle: Handle, data_only: bool) -> Result<()> {
        if self.agreement().no_open {
            return Err(Errno::NOSYS);
        }
        self.sync(request.node, handle, data_only)
    }
}

impl Passthrough {
    /// Adds one record to the listing; false when it does not fit.
    fn tell(
        &self,
        directory: &Arc<Inode>,
        file: &File,
        record: &Record<'_>,
        may_wait: bool,
        listing: &mut dyn Listing,
    ) -> bool {
        let name = record.name.to_bytes();
        if !listing.fits(name.len()) {
            return false;
        }
        let dots = name == b"." || name == b"..";
        // What is above the share is nobody's business.
        let ino = if directory.number == ROOT && dots {
            directory.identity.ino
        } else {
            record.ino
        };
        let mut entry = DirectoryEntry {
            ino: self.mounts.guest_ino(directory.identity.device, ino),
            next_offset: record.next_offset,
            kind: match record.kind {
                // A device may be one.
                libc::DT_REG if self.keeps_apart() || self.keeps_devices() => libc::DT_UNKNOWN,
                kind => kind,
            }
            .into(),
            name,
        };
        if dots || !listing.wants_entries() {
            if record.kind == libc::DT_REG
                && self.is_no_device(directory, file, record.name, may_wait)
            {
                entry.kind = libc::DT_REG.into();
            }
            return listing.push(entry, None);
        }
        // A name that cannot be looked up now (gone, or the host is short of
        // something, or it would have to be waited for) is still told: leaving
        // it out would make files vanish.
        match self.known_or_new_child(directory, file, record.name, may_wait) {
            Ok((inode, status)) => {
                let node = self.entry(&inode, &status);
                let entry = DirectoryEntry {
                    // `IFTODT`.
                    kind: (status.seen.mode & libc::S_IFMT) >> 12,
                    ..entry
                };
                let fitted = listing.push(entry, Some(&node));
                if !fitted {
                    self.untold(&inode);
                }
                fitted
            }
            Err(_) => listing.push(entry, None),
        }
    }
}
