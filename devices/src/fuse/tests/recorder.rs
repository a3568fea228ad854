//! A file system that notes what it is asked and answers with numbers a test
//! knows.

use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::io::Errno;

use crate::filesystem::*;
use crate::fuse::Server;
use crate::fuse::tests::guest::exchange;
use crate::fuse::tests::requests::init;

#[derive(Default)]
pub(super) struct Recorder {
    pub(super) wishes: Wishes,
    /// What was asked, in words.
    calls: Mutex<Vec<String>>,
    /// The last caller.
    pub(super) caller: Mutex<Option<Caller>>,
    /// What every operation fails with, if anything.
    pub(super) failure: Mutex<Option<Errno>>,
    /// Whether an interrupted request is found.
    pub(super) finds_interrupted: AtomicBool,
    /// What READLINK, GETXATTR, LISTXATTR and READ answer.
    pub(super) content: Mutex<Vec<u8>>,
    /// The names READDIR answers.
    pub(super) names: Mutex<Vec<Vec<u8>>>,
    /// What READDIR fails with after these names.
    pub(super) listing_failure: Mutex<Option<Errno>>,
}

impl Recorder {
    /// What was asked since this was called last.
    pub(super) fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    pub(super) fn fail(&self, errno: Errno) {
        *self.failure.lock().unwrap() = Some(errno);
    }

    pub(super) fn set_content(&self, content: &[u8]) {
        *self.content.lock().unwrap() = content.to_vec();
    }

    fn content_now(&self) -> Vec<u8> {
        self.content.lock().unwrap().clone()
    }

    fn note(&self, call: String) {
        self.calls.lock().unwrap().push(call);
    }

    fn call<T>(&self, caller: &Caller, call: String, answer: T) -> Result<T> {
        self.note(call);
        *self.caller.lock().unwrap() = Some(*caller);
        match *self.failure.lock().unwrap() {
            Some(errno) => Err(errno),
            None => Ok(answer),
        }
    }
}

/// What makes a server agree on all it can.
pub(super) const ALL_WISHES: Wishes = Wishes {
    agreement: Agreement {
        writeback_cache: true,
        kill_privileges: true,
        dont_mask: true,
        posix_acl: true,
        submounts: true,
    },
    readdirplus: true,
    readdirplus_auto: true,
    cache_symlinks: true,
    auto_invalidate: true,
};

/// A server in session with a guest that knows every flag, and what its file
/// system sees.
pub(super) fn in_session(wishes: Wishes) -> (Server, Arc<Recorder>) {
    let (server, recorder) = before_session(wishes);
    exchange(&server, &init(7, 38, u64::MAX), 80).assert_success(64);
    recorder.calls();
    (server, recorder)
}

/// A server that waits for INIT.
pub(super) fn before_session(wishes: Wishes) -> (Server, Arc<Recorder>) {
    let recorder = Arc::new(Recorder {
        wishes,
        finds_interrupted: AtomicBool::new(true),
        content: Mutex::new(b"content".to_vec()),
        names: Mutex::new(vec![b"a".to_vec(), b"bcd".to_vec()]),
        ..Recorder::default()
    });
    (Server::new(recorder.clone()), recorder)
}

pub(super) const ATTRIBUTES: Attributes = Attributes {
    ino: 11,
    size: 12,
    blocks: 13,
    atime: Timestamp {
        seconds: -14,
        nanoseconds: 15,
    },
    mtime: Timestamp {
        seconds: 16,
        nanoseconds: 17,
    },
    ctime: Timestamp {
        seconds: 18,
        nanoseconds: 19,
    },
    btime: None,
    mode: 20,
    nlink: 21,
    uid: 22,
    gid: 23,
    rdev: 24,
    blksize: 25,
    submount: true,
};

pub(super) const TIMEOUT: Duration = Duration::new(7, 8);

pub(super) const ENTRY: Entry = Entry {
    inode: 31,
    generation: 32,
    attributes: ATTRIBUTES,
    attr_timeout: TIMEOUT,
    entry_timeout: Duration::new(9, 10),
};

pub(super) const OPENED: Opened = Opened {
    handle: 41,
    behaviour: OpenBehaviour {
        direct_io: true,
        keep_cache: false,
        cache_dir: true,
        stream: false,
        no_flush: true,
        parallel_direct_writes: true,
    },
};

impl FileSystem for Recorder {
    fn wishes(&self) -> Wishes {
        self.wishes
    }

    fn init(&self, agreement: Agreement) {
        self.note(format!("init {agreement:?}"));
    }

    fn destroy(&self) {
        self.note("destroy".into());
    }

    fn may_block(&self, opcode: u32, inode: NodeId) -> bool {
        self.note(format!("may_block {opcode} {inode}"));
        true
    }

    fn interrupt(&self, unique: u64) -> bool {
        self.note(format!("interrupt {unique:#x}"));
        self.finds_interrupted.load(Ordering::Relaxed)
    }

    fn lookup(&self, caller: &Caller, parent: NodeId, name: &CStr) -> Result<Entry> {
        self.call(caller, format!("lookup {parent} {name:?}"), ENTRY)
    }

    fn forget(&self, inode: NodeId, count: u64) {
        self.note(format!("forget {inode} {count}"));
    }

    fn getattr(
        &self,
        caller: &Caller,
        inode: NodeId,
        handle: Option<Handle>,
    ) -> Result<(Attributes, Duration)> {
        let call = format!("getattr {inode} {handle:?}");
        self.call(caller, call, (ATTRIBUTES, TIMEOUT))
    }

    fn setattr(
        &self,
        caller: &Caller,
        inode: NodeId,
        handle: Option<Handle>,
        changes: &SetAttributes,
    ) -> Result<(Attributes, Duration)> {
        let call = format!("setattr {inode} {handle:?} {changes:?}");
        self.call(caller, call, (ATTRIBUTES, TIMEOUT))
    }

    fn readlink(&self, caller: &Caller, inode: NodeId) -> Result<Vec<u8>> {
        self.call(caller, format!("readlink {inode}"), self.content_now())
    }

    fn symlink(
        &self,
        caller: &Caller,
        target: &CStr,
        parent: NodeId,
        name: &CStr,
        umask: u32,
    ) -> Result<Entry> {
        let call = format!("symlink {target:?} {parent} {name:?} {umask}");
        self.call(caller, call, ENTRY)
    }

    fn mknod(&self, caller: &Caller, parent: NodeId, name: &CStr, node: NewNode) -> Result<Entry> {
        self.call(caller, format!("mknod {parent} {name:?} {node:?}"), ENTRY)
    }

    fn mkdir(&self, caller: &Caller, parent: NodeId, name: &CStr, node: NewNode) -> Result<Entry> {
        self.call(caller, format!("mkdir {parent} {name:?} {node:?}"), ENTRY)
    }

    fn unlink(&self, caller: &Caller, parent: NodeId, name: &CStr) -> Result<()> {
        self.call(caller, format!("unlink {parent} {name:?}"), ())
    }

    fn rmdir(&self, caller: &Caller, parent: NodeId, name: &CStr) -> Result<()> {
        self.call(caller, format!("rmdir {parent} {name:?}"), ())
    }

    fn rename(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: &CStr,
        new_parent: NodeId,
        new_name: &CStr,
        flags: u32,
    ) -> Result<()> {
        let call = format!("rename {parent} {name:?} {new_parent} {new_name:?} {flags}");
        self.call(caller, call, ())
    }

    fn link(
        &self,
        caller: &Caller,
        inode: NodeId,
        new_parent: NodeId,
        new_name: &CStr,
    ) -> Result<Entry> {
        let call = format!("link {inode} {new_parent} {new_name:?}");
        self.call(caller, call, ENTRY)
    }

    fn open(
        &self,
        caller: &Caller,
        inode: NodeId,
        flags: u32,
        kill_privileges: bool,
    ) -> Result<Opened> {
        let call = format!("open {inode} {flags} {kill_privileges}");
        self.call(caller, call, OPENED)
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
        let call = format!("create {parent} {name:?} {node:?} {flags} {kill_privileges}");
        self.call(caller, call, (ENTRY, OPENED))
    }

    fn read(
        &self,
        caller: &Caller,
        unique: u64,
        inode: NodeId,
        handle: Handle,
        data: &mut dyn ReplyData,
        size: u32,
        offset: u64,
        flags: u32,
    ) -> Result<usize> {
        let content = self.content_now();
        let count = content.len().min(data.space());
        data.put(&content[..count])?;
        let call = format!("read {unique:#x} {inode} {handle} {size} {offset} {flags}");
        self.call(caller, call, count)
    }

    fn write(
        &self,
        caller: &Caller,
        inode: NodeId,
        handle: Handle,
        data: &mut dyn RequestData,
        request: &WriteRequest,
    ) -> Result<usize> {
        let mut bytes = vec![0; data.remaining()];
        data.take(&mut bytes)?;
        let call = format!("write {inode} {handle} {request:?} {bytes:?}");
        self.call(caller, call, bytes.len())
    }

    fn statfs(&self, caller: &Caller, inode: NodeId) -> Result<Statistics> {
        let statistics = Statistics {
            blocks: 51,
            blocks_free: 52,
            blocks_available: 53,
            files: 54,
            files_free: 55,
            block_size: 56,
            name_max: 57,
            fragment_size: 58,
        };
        self.call(caller, format!("statfs {inode}"), statistics)
    }

    fn flush(&self, caller: &Caller, inode: NodeId, handle: Handle, lock_owner: u64) -> Result<()> {
        self.call(caller, format!("flush {inode} {handle} {lock_owner}"), ())
    }

    fn release(&self, caller: &Caller, inode: NodeId, handle: Handle) -> Result<()> {
        self.call(caller, format!("release {inode} {handle}"), ())
    }

    fn fsync(&self, caller: &Caller, inode: NodeId, handle: Handle, data_only: bool) -> Result<()> {
        self.call(caller, format!("fsync {inode} {handle} {data_only}"), ())
    }

    fn opendir(&self, caller: &Caller, inode: NodeId, flags: u32) -> Result<Opened> {
        self.call(caller, format!("opendir {inode} {flags}"), OPENED)
    }

    fn readdir(
        &self,
        caller: &Caller,
        inode: NodeId,
        handle: Handle,
        offset: u64,
        listing: &mut dyn Listing,
    ) -> Result<()> {
        let plus = listing.wants_entries();
        for (index, name) in (1..).zip(self.names.lock().unwrap().iter()) {
            let entry = DirectoryEntry {
                ino: 100 + index,
                next_offset: index,
                kind: 8,
                name,
            };
            assert_eq!(
                listing.fits(name.len()),
                listing.push(entry, plus.then_some(&ENTRY))
            );
        }
        let failure = *self.listing_failure.lock().unwrap();
        self.call(
            caller,
            format!("readdir {inode} {handle} {offset} {plus}"),
            (),
        )?;
        failure.map_or(Ok(()), Err)
    }

    fn releasedir(&self, caller: &Caller, inode: NodeId, handle: Handle) -> Result<()> {
        self.call(caller, format!("releasedir {inode} {handle}"), ())
    }

    fn fsyncdir(
        &self,
        caller: &Caller,
        inode: NodeId,
        handle: Handle,
        data_only: bool,
    ) -> Result<()> {
        self.call(caller, format!("fsyncdir {inode} {handle} {data_only}"), ())
    }

    fn access(&self, caller: &Caller, inode: NodeId, mask: u32) -> Result<()> {
        self.call(caller, format!("access {inode} {mask}"), ())
    }

    fn setxattr(
        &self,
        caller: &Caller,
        inode: NodeId,
        name: &CStr,
        value: &[u8],
        flags: u32,
        clear_set_gid: bool,
    ) -> Result<()> {
        let call = format!("setxattr {inode} {name:?} {value:?} {flags} {clear_set_gid}");
        self.call(caller, call, ())
    }

    fn getxattr(&self, caller: &Caller, inode: NodeId, name: &CStr, size: u32) -> Result<Vec<u8>> {
        let call = format!("getxattr {inode} {name:?} {size}");
        self.call(caller, call, self.content_now())
    }

    fn listxattr(&self, caller: &Caller, inode: NodeId, size: u32) -> Result<Vec<u8>> {
        let call = format!("listxattr {inode} {size}");
        self.call(caller, call, self.content_now())
    }

    fn removexattr(&self, caller: &Caller, inode: NodeId, name: &CStr) -> Result<()> {
        self.call(caller, format!("removexattr {inode} {name:?}"), ())
    }

    fn fallocate(
        &self,
        caller: &Caller,
        inode: NodeId,
        handle: Handle,
        mode: u32,
        offset: u64,
        length: u64,
    ) -> Result<()> {
        let call = format!("fallocate {inode} {handle} {mode} {offset} {length}");
        self.call(caller, call, ())
    }

    fn lseek(
        &self,
        caller: &Caller,
        inode: NodeId,
        handle: Handle,
        offset: u64,
        whence: u32,
    ) -> Result<u64> {
        let call = format!("lseek {inode} {handle} {offset} {whence}");
        self.call(caller, call, 61)
    }
}
