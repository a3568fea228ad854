//! SETUPMAPPING and REMOVEMAPPING: files of the share in the guest's window.
//!
//! Linux names no open file, only the node, so it is opened for each mapping and
//! closed again. What it asks for is what a program of the guest has opened the
//! file for, which the guest's kernel sees to as it does for its page cache.

use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, OFlags, SeekFrom};
use rustix::io::{Errno, retry_on_intr};

use super::Passthrough;
use super::budget::{Descriptor, Purpose};
use super::handle::Open;
use super::inode::Inode;
use super::inodes::Inodes;
use super::stat::{Kind, Stat};
use super::sys;
use crate::filesystem::{MappingOperations, NodeId, Request, Result, SetupMappingArgs, WindowPart};
use crate::window::{FilePart, Window};

impl MappingOperations for Passthrough {
    fn setup_mapping(&self, request: &Request<'_>, args: &SetupMappingArgs) -> Result<()> {
        let window = self.window.as_ref().ok_or(Errno::NOSYS)?;
        if args.writable {
            self.writable()?;
        }
        // What is refused changes nothing of the file.
        window.place_for(args.part, args.file_offset)?;
        let inode = self.inodes.get(request.node)?;
        if !self.is_mappable(&inode) {
            return Err(Errno::NODEV);
        }
        let file = match args.handle {
            Some(handle) => Mappable::Open(self.handles.get(request.node, handle)?),
            None => self.file_to_map(&inode, args.writable, request.may_wait())?,
        };
        if args.writable {
            inode.told.forget();
            allocate(file.as_fd(), args.file_offset, args.part.len)?;
            // What is stored in the window clears no set-ID bits, and Linux
            // leaves them to the server.
            if self.agreement().kill_privileges && request.caller.uid != 0 {
                self.clear_set_id(file.as_fd())?;
            }
        }
        let part = FilePart {
            node: inode.number,
            offset: args.file_offset,
            writable: args.writable,
        };
        self.map_known(window, args.part, &file, part)
    }

    fn remove_mapping(&self, _: &Request<'_>, parts: &[WindowPart]) -> Result<()> {
        let window = self.window.as_ref().ok_or(Errno::NOSYS)?;
        parts.iter().try_for_each(|part| window.unmap(*part))
    }
}

/// A file to be mapped.
enum Mappable {
    New(Descriptor<File>),
    Open(Arc<Open>),
}

impl AsFd for Mappable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::New(file) => file.as_fd(),
            Self::Open(open) => open.host().as_fd(),
        }
    }
}

/// Gives the file blocks where it has none, as far as it goes: what the host has no
/// space for is to be told now, since nobody can be told of a store.
fn allocate(file: BorrowedFd<'_>, offset: u64, len: u64) -> Result<()> {
    let size = rustix::fs::fstat(file)?.st_size.cast_unsigned();
    let end = offset.saturating_add(len).min(size);
    if offset >= end {
        return Ok(());
    }
    // Looking spares those the work that have no holes.
    if rustix::fs::seek(file, SeekFrom::Hole(offset)).is_ok_and(|hole| hole >= end) {
        return Ok(());
    }
    give_blocks(file, offset..end)
}

fn give_blocks(file: BorrowedFd<'_>, Range { start, end }: Range<u64>) -> Result<()> {
    let keep = FallocateFlags::KEEP_SIZE;
    match retry_on_intr(|| rustix::fs::fallocate(file, keep, start, end - start)) {
        // This file system gives blocks to nobody before there is data.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        outcome => outcome,
    }
}

impl Passthrough {
    /// Maps what a node is, unless the guest has forgotten that meanwhile: nobody
    /// would unmap it.
    pub(super) fn map_known(
        &self,
        window: &Window,
        to: WindowPart,
        file: impl AsFd,
        part: FilePart,
    ) -> Result<()> {
        window.map(to, file, part)?;
        if self.inodes.is_forgotten(part.node) {
            window.forget(part.node);
            return Err(Errno::STALE);
        }
        Ok(())
    }

    /// A file is about to have `size` bytes; what of that is mapped to be written to
    /// gets blocks, as if it were mapped then.
    pub(super) fn allocate_mapped(
        &self,
        node: NodeId,
        file: BorrowedFd<'_>,
        size: u64,
    ) -> Result<()> {
        let Some(window) = &self.window else {
            return Ok(());
        };
        let before = rustix::fs::fstat(file)?.st_size.cast_unsigned();
        let written = window.written(node, before..size);
        written
            .into_iter()
            .try_for_each(|part| give_blocks(file, part))
    }

    /// The same share, whose files can be mapped in `window`.
    #[must_use]
    pub fn with_window(mut self, window: Arc<Window>) -> Self {
        let inodes = Arc::clone(&self.inodes);
        window.ask_sizes(move |node, writable| size_of(&inodes, node, writable));
        self.window = Some(window);
        self
    }

    /// Whether the guest is to map the file and not to copy what is in it.
    pub(super) fn is_mappable(&self, inode: &Inode) -> bool {
        self.window.is_some()
            && inode.kind == Kind::Regular
            && inode.mount.host_fs.mappable
            && !self.config.cache.bypasses_pages()
    }

    /// Opens a file to map it, or finds it open: a program of the guest may have
    /// opened it before its mode forbade that.
    fn file_to_map(&self, inode: &Arc<Inode>, writable: bool, may_wait: bool) -> Result<Mappable> {
        let access = if writable {
            OFlags::RDWR
        } else {
            OFlags::RDONLY
        };
        let flags = self.host_flags(access.bits(), &inode.mount)?;
        let descriptor = self.descriptor(inode)?;
        let open = || {
            self.reopen_unless_leased(&descriptor, flags, may_wait)
                .map(File::from)
        };
        match self.hold(Purpose::Work, open) {
            Err(error @ (Errno::ACCESS | Errno::PERM)) => self
                .handles
                .of_file(inode.number, writable)
                .map(Mappable::Open)
                .ok_or(error),
            outcome => outcome.map(Mappable::New),
        }
    }

    /// The guest may be about to hear that the file has `size` bytes.
    pub(super) fn mend(&self, node: NodeId, size: u64) {
        let Some(window) = self.window.as_ref().filter(|window| window.is_torn()) else {
            return;
        };
        let Some(writable) = window.wants_mending(node, size) else {
            return;
        };
        let file =
            (self.inodes.get(node)).and_then(|inode| self.file_to_map(&inode, writable, true));
        match file {
            Ok(file) => window.mend(node, size, &file),
            Err(error) => log::debug!("cannot mend what is mapped of node {node}: {error}"),
        }
    }

    /// The same after the guest wrote to the file.
    pub(super) fn mend_written(&self, open: &Open) {
        if self.window.as_ref().is_some_and(|window| window.is_torn())
            && let Ok(status) = Stat::of(open.host())
        {
            self.mend(open.inode.number, status.raw.stx_size);
        }
    }
}

/// The size of a node that has its descriptor or a handle, unless what is missing of it
/// is a hole that is only read: zeros are what is there.
fn size_of(inodes: &Inodes, node: NodeId, writable: bool) -> Option<u64> {
    let inode = inodes.get(node).ok()?;
    if inode.mount.host_fs.holes_take_room && !writable {
        return None;
    }
    let status = match inode.descriptor() {
        Some(descriptor) => Stat::of(&*descriptor).ok()?,
        None => {
            let handle = inode.place().handle.clone()?;
            let fd = sys::open_by_handle(inode.mount.handles()?, &handle).ok()?;
            Stat::of(fd).ok()?
        }
    };
    (inode.mount.identity(&status) == inode.identity).then_some(status.raw.stx_size)
}
