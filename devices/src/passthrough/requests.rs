//! Every request the guest can make, and which operation serves it.
//!
//! The server calls these methods; all they do is to leave out the arguments
//! that a host directory has no use for.

use std::ffi::CStr;
use std::time::Duration;

use rustix::fs::AtFlags;

use super::{CachePolicy, Passthrough};
use crate::filesystem::{
    Agreement, Attributes, Caller, Entry, FileSystem, Handle, Listing, NewNode, NodeId, Opened,
    ReplyData, RequestData, Result, SetAttributes, Statistics, Wishes, WriteRequest,
};

/// Opcodes of requests that wait for the host's disk or for another task
/// (linux/fuse.h): FSYNC, FSYNCDIR, SETLKW, FALLOCATE, SYNCFS.
const SLOW_OPCODES: [u32; 5] = [20, 30, 33, 43, 50];

impl FileSystem for Passthrough {
    fn wishes(&self) -> Wishes {
        let cache = self.config.cache;
        Wishes {
            agreement: Agreement {
                writeback_cache: self.config.writeback && !self.config.read_only,
                kill_privileges: true,
                dont_mask: self.config.posix_acl,
                posix_acl: self.config.posix_acl,
                submounts: self.config.announce_submounts,
            },
            // Attributes that may not be trusted are not worth their cost.
            readdirplus: cache != CachePolicy::Never,
            readdirplus_auto: cache != CachePolicy::Never,
            cache_symlinks: cache == CachePolicy::Always,
            auto_invalidate: cache != CachePolicy::Always,
        }
    }

    fn init(&self, agreement: Agreement) {
        self.destroy();
        self.agree(agreement);
    }

    fn destroy(&self) {
        self.handles.clear();
        self.inodes.clear();
        self.agree(Agreement::default());
    }

    fn may_block(&self, opcode: u32, _inode: NodeId) -> bool {
        SLOW_OPCODES.contains(&opcode)
    }

    fn lookup(&self, _caller: &Caller, parent: NodeId, name: &CStr) -> Result<Entry> {
        self.do_lookup(parent, name)
    }

    fn forget(&self, inode: NodeId, count: u64) {
        self.inodes.forget(inode, count);
    }

    fn getattr(
        &self,
        _caller: &Caller,
        inode: NodeId,
        handle: Option<Handle>,
    ) -> Result<(Attributes, Duration)> {
        self.do_getattr(inode, handle)
    }

    fn setattr(
        &self,
        _caller: &Caller,
        inode: NodeId,
        handle: Option<Handle>,
        changes: &SetAttributes,
    ) -> Result<(Attributes, Duration)> {
        self.do_setattr(inode, handle, changes)
    }

    fn readlink(&self, _caller: &Caller, inode: NodeId) -> Result<Vec<u8>> {
        self.do_readlink(inode)
    }

    fn symlink(
        &self,
        caller: &Caller,
        target: &CStr,
        parent: NodeId,
        name: &CStr,
        _umask: u32,
    ) -> Result<Entry> {
        self.do_symlink(caller, target, parent, name)
    }

    fn mknod(&self, caller: &Caller, parent: NodeId, name: &CStr, node: NewNode) -> Result<Entry> {
        self.do_mknod(caller, parent, name, node)
    }

    fn mkdir(&self, caller: &Caller, parent: NodeId, name: &CStr, node: NewNode) -> Result<Entry> {
        self.do_mkdir(caller, parent, name, node)
    }

    fn unlink(&self, _caller: &Caller, parent: NodeId, name: &CStr) -> Result<()> {
        self.do_remove(parent, name, AtFlags::empty())
    }

    fn rmdir(&self, _caller: &Caller, parent: NodeId, name: &CStr) -> Result<()> {
        self.do_remove(parent, name, AtFlags::REMOVEDIR)
    }

    fn rename(
        &self,
        _caller: &Caller,
        parent: NodeId,
        name: &CStr,
        new_parent: NodeId,
        new_name: &CStr,
        flags: u32,
    ) -> Result<()> {
        self.do_rename(parent, name, new_parent, new_name, flags)
    }

    fn link(
        &self,
        _caller: &Caller,
        inode: NodeId,
        new_parent: NodeId,
        new_name: &CStr,
    ) -> Result<Entry> {
        self.do_link(inode, new_parent, new_name)
    }

    fn open(
        &self,
        _caller: &Caller,
        inode: NodeId,
        flags: u32,
        kill_privileges: bool,
    ) -> Result<Opened> {
        self.do_open(inode, flags, kill_privileges)
    }

    fn create(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: &CStr,
        node: NewNode,
        flags: u32,
        kill_privileges: bool,
    ) -> Result<(Entry, Opened)> {
        self.do_create(caller, parent, name, node, flags, kill_privileges)
    }

    fn read(
        &self,
        _caller: &Caller,
        _unique: u64,
        inode: NodeId,
        handle: Handle,
        data: &mut dyn ReplyData,
        size: u32,
        offset: u64,
        _flags: u32,
    ) -> Result<usize> {
        self.do_read(inode, handle, data, size, offset)
    }

    fn write(
        &self,
        _caller: &Caller,
        inode: NodeId,
        handle: Handle,
        data: &mut dyn RequestData,
        request: &WriteRequest,
    ) -> Result<usize> {
        self.do_write(inode, handle, data, request)
    }

    fn statfs(&self, _caller: &Caller, inode: NodeId) -> Result<Statistics> {
        self.do_statfs(inode)
    }

    fn flush(
        &self,
        _caller: &Caller,
        inode: NodeId,
        handle: Handle,
        _lock_owner: u64,
    ) -> Result<()> {
        self.do_flush(inode, handle)
    }

    fn release(&self, _caller: &Caller, inode: NodeId, handle: Handle) -> Result<()> {
        self.do_release(inode, handle)
    }

    fn fsync(
        &self,
        _caller: &Caller,
        inode: NodeId,
        handle: Handle,
        data_only: bool,
    ) -> Result<()> {
        self.do_fsync(inode, handle, data_only)
    }

    fn opendir(&self, _caller: &Caller, inode: NodeId, _flags: u32) -> Result<Opened> {
        self.do_opendir(inode)
    }

    fn readdir(
        &self,
        _caller: &Caller,
        inode: NodeId,
        handle: Handle,
        offset: u64,
        listing: &mut dyn Listing,
    ) -> Result<()> {
        self.do_readdir(inode, handle, offset, listing)
    }

    fn releasedir(&self, _caller: &Caller, inode: NodeId, handle: Handle) -> Result<()> {
        self.do_release(inode, handle)
    }

    fn fsyncdir(
        &self,
        _caller: &Caller,
        inode: NodeId,
        handle: Handle,
        data_only: bool,
    ) -> Result<()> {
        self.do_fsync(inode, handle, data_only)
    }

    fn access(&self, caller: &Caller, inode: NodeId, mask: u32) -> Result<()> {
        self.do_access(caller, inode, mask)
    }

    fn setxattr(
        &self,
        _caller: &Caller,
        inode: NodeId,
        name: &CStr,
        value: &[u8],
        flags: u32,
        clear_set_gid: bool,
    ) -> Result<()> {
        self.do_setxattr(inode, name, value, flags, clear_set_gid)
    }

    fn getxattr(&self, _caller: &Caller, inode: NodeId, name: &CStr, size: u32) -> Result<Vec<u8>> {
        self.do_getxattr(inode, name, size)
    }

    fn listxattr(&self, _caller: &Caller, inode: NodeId, size: u32) -> Result<Vec<u8>> {
        self.do_listxattr(inode, size)
    }

    fn removexattr(&self, _caller: &Caller, inode: NodeId, name: &CStr) -> Result<()> {
        self.do_removexattr(inode, name)
    }

    fn fallocate(
        &self,
        _caller: &Caller,
        inode: NodeId,
        handle: Handle,
        mode: u32,
        offset: u64,
        length: u64,
    ) -> Result<()> {
        self.do_fallocate(inode, handle, mode, offset, length)
    }

    fn lseek(
        &self,
        _caller: &Caller,
        inode: NodeId,
        handle: Handle,
        offset: u64,
        whence: u32,
    ) -> Result<u64> {
        self.do_lseek(inode, handle, offset, whence)
    }
}
