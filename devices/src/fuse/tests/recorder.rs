//! A file system that notes what it is asked and answers with numbers a test
//! knows.

use std::ffi::{CStr, CString};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::io::Errno;

use crate::filesystem::*;
use crate::fuse::Server;
use crate::fuse::tests::guest::exchange;
use crate::fuse::tests::requests::init;

#[derive(Default)]
pub(super) struct Recorder {
    pub(super) capabilities: Capabilities,
    /// What was asked, in words.
    calls: Mutex<Vec<String>>,
    /// The last caller.
    pub(super) caller: Mutex<Option<Caller>>,
    /// The time of creation that GETATTR answers.
    pub(super) btime: Mutex<Option<Timestamp>>,
    /// The last label, and what it is called.
    pub(super) label: Mutex<Option<(CString, Vec<u8>)>>,
    /// What every operation fails with, if anything.
    pub(super) failure: Mutex<Option<Errno>>,
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

    /// Notes an operation, the node it is about, and what is asked of it.
    fn call<T>(&self, request: &Request<'_>, operation: &str, asked: &str, answer: T) -> Result<T> {
        let call = format!("{operation} {} {asked}", request.node);
        self.note(call.trim_end().to_owned());
        *self.caller.lock().unwrap() = Some(request.caller);
        let label = |label: Label<'_>| (label.name.to_owned(), label.value.to_vec());
        *self.label.lock().unwrap() = request.label.map(label);
        match *self.failure.lock().unwrap() {
            Some(errno) => Err(errno),
            None => Ok(answer),
        }
    }
}

/// The node that is a stream.
pub(super) const STREAM: NodeId = 9;

/// What makes a server agree on all it can.
pub(super) const EVERYTHING: Capabilities = Capabilities {
    agreement: Agreement {
        writeback_cache: true,
        kill_privileges: true,
        dont_mask: true,
        posix_acl: true,
        submounts: true,
        direct_mappings: true,
        locks: true,
        no_open: true,
    },
    readdirplus: true,
    readdirplus_auto: true,
    export: true,
    atomic_truncate: true,
    idmap: true,
    labels: true,
    cache_symlinks: true,
    auto_invalidate: true,
    mappings: true,
};

/// A server in session with a guest that knows every flag, and what its file
/// system sees.
pub(super) fn in_session(capabilities: Capabilities) -> (Server, Arc<Recorder>) {
    let (server, recorder) = before_session(capabilities);
    exchange(&server, &init(7, 38, u64::MAX), 80).assert_success(64);
    recorder.calls();
    (server, recorder)
}

/// A server that waits for INIT.
pub(super) fn before_session(capabilities: Capabilities) -> (Server, Arc<Recorder>) {
    let recorder = Arc::new(Recorder {
        capabilities,
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
    mapped: true,
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
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn init(&self, agreement: Agreement) {
        self.note(format!("init {agreement:?}"));
    }

    fn destroy(&self) {
        self.note("destroy".into());
    }

    fn is_stream(&self, node: NodeId) -> bool {
        self.note(format!("is_stream {node}"));
        node == STREAM
    }
}

impl LookupOperations for Recorder {
    fn lookup(&self, request: &Request<'_>, name: &CStr) -> Result<Entry> {
        self.call(request, "lookup", &format!("{name:?}"), ENTRY)
    }

    fn lookup_itself(&self, request: &Request<'_>) -> Result<Entry> {
        self.call(request, "lookup_itself", "", ENTRY)
    }

    fn lookup_parent(&self, request: &Request<'_>) -> Result<Entry> {
        self.call(request, "lookup_parent", "", ENTRY)
    }

    fn forget(&self, node: NodeId, count: u64) {
        self.note(format!("forget {node} {count}"));
    }

    fn readlink(&self, request: &Request<'_>) -> Result<Vec<u8>> {
        self.call(request, "readlink", "", self.content_now())
    }
}

impl CreateOperations for Recorder {
    fn symlink(&self, request: &Request<'_>, name: &CStr, target: &CStr) -> Result<Entry> {
        self.call(request, "symlink", &format!("{name:?} {target:?}"), ENTRY)
    }

    fn mknod(&self, request: &Request<'_>, name: &CStr, new: &NewNode) -> Result<Entry> {
        self.call(request, "mknod", &format!("{name:?} {new:?}"), ENTRY)
    }

    fn mkdir(&self, request: &Request<'_>, name: &CStr, new: &NewNode) -> Result<Entry> {
        self.call(request, "mkdir", &format!("{name:?} {new:?}"), ENTRY)
    }

    fn link(&self, request: &Request<'_>, name: &CStr, node: NodeId) -> Result<Entry> {
        self.call(request, "link", &format!("{name:?} {node}"), ENTRY)
    }

    fn create(
        &self,
        request: &Request<'_>,
        name: &CStr,
        new: &NewNode,
        open: OpenArgs,
    ) -> Result<(Entry, Opened)> {
        let asked = format!("{name:?} {new:?} {open:?}");
        self.call(request, "create", &asked, (ENTRY, OPENED))
    }

    fn tmpfile(
        &self,
        request: &Request<'_>,
        new: &NewNode,
        open: OpenArgs,
    ) -> Result<(Entry, Opened)> {
        let asked = format!("{new:?} {open:?}");
        self.call(request, "tmpfile", &asked, (ENTRY, OPENED))
    }
}

impl RemoveOperations for Recorder {
    fn unlink(&self, request: &Request<'_>, name: &CStr) -> Result<()> {
        self.call(request, "unlink", &format!("{name:?}"), ())
    }

    fn rmdir(&self, request: &Request<'_>, name: &CStr) -> Result<()> {
        self.call(request, "rmdir", &format!("{name:?}"), ())
    }

    fn rename(&self, request: &Request<'_>, name: &CStr, to: RenameArgs<'_>) -> Result<()> {
        self.call(request, "rename", &format!("{name:?} {to:?}"), ())
    }
}

impl AttributeOperations for Recorder {
    fn getattr(
        &self,
        request: &Request<'_>,
        handle: Option<Handle>,
    ) -> Result<(Attributes, Duration)> {
        let attributes = Attributes {
            btime: *self.btime.lock().unwrap(),
            ..ATTRIBUTES
        };
        let answer = (attributes, TIMEOUT);
        self.call(request, "getattr", &format!("{handle:?}"), answer)
    }

    fn setattr(
        &self,
        request: &Request<'_>,
        handle: Option<Handle>,
        changes: &SetAttributes,
    ) -> Result<(Attributes, Duration)> {
        let answer = (ATTRIBUTES, TIMEOUT);
        self.call(
            request,
            "setattr",
            &format!("{handle:?} {changes:?}"),
            answer,
        )
    }

    fn access(&self, request: &Request<'_>, mask: u32) -> Result<()> {
        self.call(request, "access", &mask.to_string(), ())
    }

    fn statfs(&self, request: &Request<'_>) -> Result<Statistics> {
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
        self.call(request, "statfs", "", statistics)
    }
}

impl FileOperations for Recorder {
    fn open(&self, request: &Request<'_>, args: OpenArgs) -> Result<Opened> {
        self.call(request, "open", &format!("{args:?}"), OPENED)
    }

    fn read(
        &self,
        request: &Request<'_>,
        args: &ReadArgs,
        data: &mut dyn ReplyData,
    ) -> Result<usize> {
        let content = self.content_now();
        let count = content.len().min(data.space());
        data.put(&content[..count])?;
        let asked = format!("{:#x} {args:?}", request.unique);
        self.call(request, "read", &asked, count)
    }

    fn write(
        &self,
        request: &Request<'_>,
        args: &WriteArgs,
        data: &mut dyn RequestData,
    ) -> Result<usize> {
        let mut bytes = vec![0; data.remaining()];
        data.take(&mut bytes)?;
        let asked = format!("{args:?} {bytes:?}");
        self.call(request, "write", &asked, bytes.len())
    }

    fn flush(&self, request: &Request<'_>, handle: Handle, owner: LockOwner) -> Result<()> {
        self.call(request, "flush", &format!("{handle} {owner}"), ())
    }

    fn release(&self, request: &Request<'_>, args: ReleaseArgs) -> Result<()> {
        self.call(request, "release", &format!("{args:?}"), ())
    }

    fn fsync(&self, request: &Request<'_>, handle: Handle, data_only: bool) -> Result<()> {
        self.call(request, "fsync", &format!("{handle} {data_only}"), ())
    }

    fn syncfs(&self, request: &Request<'_>) -> Result<()> {
        self.call(request, "syncfs", "", ())
    }

    fn fallocate(&self, request: &Request<'_>, args: &FallocateArgs) -> Result<()> {
        self.call(request, "fallocate", &format!("{args:?}"), ())
    }

    fn lseek(&self, request: &Request<'_>, args: &LseekArgs) -> Result<u64> {
        self.call(request, "lseek", &format!("{args:?}"), 61)
    }

    fn copy_file_range(&self, request: &Request<'_>, args: &CopyFileRangeArgs) -> Result<u64> {
        self.call(request, "copy_file_range", &format!("{args:?}"), 62)
    }
}

impl DirectoryOperations for Recorder {
    fn opendir(&self, request: &Request<'_>) -> Result<Opened> {
        self.call(request, "opendir", "", OPENED)
    }

    fn readdir(
        &self,
        request: &Request<'_>,
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
        self.call(request, "readdir", &format!("{handle} {offset} {plus}"), ())?;
        failure.map_or(Ok(()), Err)
    }

    fn releasedir(&self, request: &Request<'_>, handle: Handle) -> Result<()> {
        self.call(request, "releasedir", &handle.to_string(), ())
    }

    fn fsyncdir(&self, request: &Request<'_>, handle: Handle, data_only: bool) -> Result<()> {
        self.call(request, "fsyncdir", &format!("{handle} {data_only}"), ())
    }
}

impl XattrOperations for Recorder {
    fn setxattr(&self, request: &Request<'_>, name: &CStr, args: &SetXattrArgs<'_>) -> Result<()> {
        self.call(request, "setxattr", &format!("{name:?} {args:?}"), ())
    }

    fn getxattr(&self, request: &Request<'_>, name: &CStr, size: u32) -> Result<Vec<u8>> {
        let asked = format!("{name:?} {size}");
        self.call(request, "getxattr", &asked, self.content_now())
    }

    fn listxattr(&self, request: &Request<'_>, size: u32) -> Result<Vec<u8>> {
        self.call(request, "listxattr", &size.to_string(), self.content_now())
    }

    fn removexattr(&self, request: &Request<'_>, name: &CStr) -> Result<()> {
        self.call(request, "removexattr", &format!("{name:?}"), ())
    }
}

impl LockOperations for Recorder {
    fn getlk(&self, request: &Request<'_>, args: &LockArgs) -> Result<Option<Lock>> {
        let found = Lock {
            range: LockRange { start: 71, end: 72 },
            kind: LockKind::Write,
            pid: 73,
        };
        let there = args.lock.range.end > 0;
        let asked = format!("{args:?}");
        self.call(request, "getlk", &asked, there.then_some(found))
    }

    fn setlk(&self, request: &Request<'_>, args: &LockArgs) -> Result<()> {
        self.call(request, "setlk", &format!("{args:?}"), ())
    }
}

impl MappingOperations for Recorder {
    fn setup_mapping(&self, request: &Request<'_>, args: &SetupMappingArgs) -> Result<()> {
        self.call(request, "setup_mapping", &format!("{args:?}"), ())
    }

    fn remove_mapping(&self, request: &Request<'_>, parts: &[WindowPart]) -> Result<()> {
        self.call(request, "remove_mapping", &format!("{parts:?}"), ())
    }
}

impl IoctlOperations for Recorder {
    fn ioctl(&self, request: &Request<'_>, args: &IoctlArgs<'_>) -> Result<Vec<u8>> {
        let answer = b"answer".get(..args.room).unwrap_or(b"answer");
        self.call(request, "ioctl", &format!("{args:?}"), answer.to_vec())
    }
}
