//! A share over a temporary directory, and the server's side of the seam kept
//! in memory.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustix::io::Errno;
use tempfile::TempDir;

use crate::filesystem::{
    Agreement, Attributes, Caller, DirectoryEntry, Entry, Handle, Listing, NewNode, NodeId,
    OpenArgs, Opened, Position, ROOT, ReadArgs, ReleaseArgs, RenameArgs, ReplyData, Request,
    RequestData, Result, SetXattrArgs, Waiters, WriteArgs,
};
use crate::passthrough::descriptors::Eviction;
use crate::passthrough::sys::calls;
use crate::passthrough::{Config, DescriptorPool, Error, Passthrough};

/// The traits of the seam, for their methods.
pub(super) mod operations {
    pub(in crate::passthrough::tests) use crate::filesystem::{
        AttributeOperations, CreateOperations, DirectoryOperations, FileOperations, FileSystem,
        IoctlOperations, LockOperations, LookupOperations, MappingOperations, RemoveOperations,
        XattrOperations,
    };
}
use operations::*;

/// The guest's root user.
pub(super) const GUEST_ROOT: Caller = Caller {
    uid: 0,
    gid: 0,
    pid: 1,
    supplementary_gid: None,
};

/// Space for a READ reply.
pub(super) struct Received {
    pub(super) bytes: Vec<u8>,
    limit: usize,
}

impl Received {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            bytes: Vec::new(),
            limit,
        }
    }
}

impl ReplyData for Received {
    fn space(&self) -> usize {
        self.limit - self.bytes.len()
    }

    fn fill_from(&mut self, file: &File, count: usize, position: Position) -> Result<usize> {
        let mut buffer = vec![0; count.min(self.space())];
        let mut slices = [IoSliceMut::new(&mut buffer)];
        let read = match position {
            Position::At(offset) => rustix::io::preadv(file, &mut slices, offset)?,
            Position::Current | Position::End => rustix::io::readv(file, &mut slices)?,
        };
        self.bytes.extend_from_slice(&buffer[..read]);
        Ok(read)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.len() > self.space() {
            return Err(Errno::IO);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

/// The data of a WRITE.
pub(super) struct Data<'a>(pub(super) &'a [u8]);

impl RequestData for Data<'_> {
    fn remaining(&self) -> usize {
        self.0.len()
    }

    fn drain_to(&mut self, file: &File, count: usize, position: Position) -> Result<usize> {
        let slices = [IoSlice::new(&self.0[..count.min(self.0.len())])];
        let written = match position {
            Position::At(offset) => rustix::io::pwritev(file, &slices, offset)?,
            Position::Current => rustix::io::writev(file, &slices)?,
            Position::End => {
                let flags = rustix::io::ReadWriteFlags::APPEND;
                rustix::io::pwritev2(file, &slices, 0, flags)?
            }
        };
        self.0 = &self.0[written..];
        Ok(written)
    }

    fn take(&mut self, bytes: &mut [u8]) -> Result<()> {
        if bytes.len() > self.0.len() {
            return Err(Errno::IO);
        }
        let (taken, rest) = self.0.split_at(bytes.len());
        bytes.copy_from_slice(taken);
        self.0 = rest;
        Ok(())
    }
}

/// One entry of a listing as the guest got it.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) ino: u64,
    pub(super) next_offset: u64,
    pub(super) kind: u32,
    pub(super) entry: Option<Entry>,
}

/// A reply to READDIR or READDIRPLUS of limited size.
pub(super) struct Page {
    pub(super) entries: Vec<Listed>,
    plus: bool,
    room: usize,
}

impl Page {
    pub(super) fn new(plus: bool, room: usize) -> Self {
        Self {
            entries: Vec::new(),
            plus,
            room,
        }
    }

    /// What an entry takes in a reply (`FUSE_DIRENT_SIZE`).
    fn size(&self, name: usize) -> usize {
        (24 + name).next_multiple_of(8) + if self.plus { 128 } else { 0 }
    }
}

impl Listing for Page {
    fn wants_entries(&self) -> bool {
        self.plus
    }

    fn fits(&self, name_len: usize) -> bool {
        self.size(name_len) <= self.room
    }

    fn push(&mut self, entry: DirectoryEntry<'_>, node: Option<&Entry>) -> bool {
        if !self.fits(entry.name.len()) {
            return false;
        }
        self.room -= self.size(entry.name.len());
        self.entries.push(Listed {
            name: String::from_utf8_lossy(entry.name).into_owned(),
            ino: entry.ino,
            next_offset: entry.next_offset,
            kind: entry.kind,
            entry: node.copied(),
        });
        true
    }
}

/// A share of a fresh directory.
pub(super) struct Share {
    pub(super) fs: Passthrough,
    directory: TempDir,
}

/// A directory in memory where the host has any for everybody, else one like
/// all others.
fn in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// The options of a share that holds as few descriptors as possible, and finds
/// its inodes again by file handles or by names alone.
pub(super) fn few_descriptors(file_handles: bool) -> Config {
    Config {
        fd_budget: Some(32),
        file_handles,
        ..Config::default()
    }
}

pub(super) fn name(text: &str) -> CString {
    CString::new(text).unwrap()
}

/// A node with this mode and no umask.
pub(super) fn node(mode: u32) -> NewNode {
    NewNode {
        mode,
        umask: 0,
        rdev: 0,
    }
}

impl Share {
    pub(super) fn new() -> Self {
        Self::with(Config::default())
    }

    pub(super) fn with(config: Config) -> Self {
        let new = |path: &Path| Passthrough::new(path, config);
        Self::of(tempfile::tempdir().unwrap(), config, new)
    }

    /// One for more files or levels than a slow disk makes in no time.
    pub(super) fn large(config: Config) -> Self {
        let new = |path: &Path| Passthrough::new(path, config);
        Self::of(in_memory(), config, new)
    }

    /// One in memory, below an overlay: for those with mounts of their own.
    pub(super) fn layered(config: Config) -> Self {
        let new = |path: &Path| {
            let layer = |name: &str| {
                let layer = path.with_file_name(name);
                std::fs::create_dir(&layer).unwrap();
                layer.display().to_string()
            };
            let [lower, upper, work] = ["lower", "upper", "work"].map(layer);
            let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
            mount("overlay", &options, path);
            Passthrough::new(path, config)
        };
        Self::of(in_memory(), config, new)
    }

    /// One of several shares.
    pub(super) fn in_pool(config: Config, pool: &Arc<DescriptorPool>) -> Self {
        let new = |path: &Path| Passthrough::in_pool(path, config, pool);
        Self::of(in_memory(), config, new)
    }

    fn of(
        directory: TempDir,
        config: Config,
        new: impl FnOnce(&Path) -> std::result::Result<Passthrough, Error>,
    ) -> Self {
        std::fs::create_dir(directory.path().join("share")).unwrap();
        let fs = new(&directory.path().join("share")).unwrap();
        fs.init(Agreement {
            kill_privileges: true,
            writeback_cache: config.writeback,
            locks: config.locks,
            ..Agreement::default()
        });
        Self { fs, directory }
    }

    /// A share that holds as few descriptors as possible.
    pub(super) fn cramped(file_handles: bool) -> Self {
        Self::with(few_descriptors(file_handles))
    }

    /// Lets every inode go that can be.
    pub(super) fn let_all_go(&self) {
        while self.fs.evict_one().0 == Eviction::Done {}
    }

    /// The shared directory on the host.
    pub(super) fn path(&self, below: &str) -> PathBuf {
        self.directory.path().join("share").join(below)
    }

    /// A place on the host that is not shared.
    pub(super) fn outside(&self) -> &Path {
        self.directory.path()
    }

    pub(super) fn lookup(&self, parent: NodeId, child: &str) -> Result<Entry> {
        self.fs.lookup(&by(&GUEST_ROOT, parent), &name(child))
    }

    /// Looks a whole path up, as the guest's kernel does.
    pub(super) fn walk(&self, path: &str) -> Result<NodeId> {
        path.split('/')
            .try_fold(ROOT, |at, part| Ok(self.lookup(at, part)?.inode))
    }

    pub(super) fn attributes(&self, inode: NodeId) -> Result<Attributes> {
        Ok(self.fs.getattr(&by(&GUEST_ROOT, inode), None)?.0)
    }

    pub(super) fn mkdir(&self, parent: NodeId, child: &str) -> Result<Entry> {
        self.fs
            .mkdir(&by(&GUEST_ROOT, parent), &name(child), &node(0o755))
    }

    pub(super) fn create(&self, parent: NodeId, child: &str) -> Result<(Entry, Opened)> {
        let flags = libc::O_RDWR.cast_unsigned();
        self.fs.create(
            &by(&GUEST_ROOT, parent),
            &name(child),
            &node(0o644),
            opening(flags, false),
        )
    }

    pub(super) fn open(&self, inode: NodeId, flags: i32) -> Result<Opened> {
        self.fs.open(
            &by(&GUEST_ROOT, inode),
            opening(flags.cast_unsigned(), false),
        )
    }

    pub(super) fn read(
        &self,
        inode: NodeId,
        handle: Handle,
        at: u64,
        size: u32,
    ) -> Result<Vec<u8>> {
        let mut reply = Received::new(size as usize);
        let count = self.fs.read(
            &by(&GUEST_ROOT, inode),
            &reading(handle, at, size),
            &mut reply,
        )?;
        assert_eq!(count, reply.bytes.len());
        Ok(reply.bytes)
    }

    pub(super) fn write(
        &self,
        inode: NodeId,
        handle: Handle,
        at: u64,
        data: &[u8],
    ) -> Result<usize> {
        self.write_with(inode, data, &writing(handle, at, data, 0))
    }

    pub(super) fn write_with(&self, inode: NodeId, data: &[u8], args: &WriteArgs) -> Result<usize> {
        self.fs
            .write(&by(&GUEST_ROOT, inode), args, &mut Data(data))
    }

    pub(super) fn release(&self, inode: NodeId, opened: &Opened) {
        self.fs
            .release(&by(&GUEST_ROOT, inode), closing(opened.handle))
            .unwrap();
    }

    /// The whole contents of a file, by OPEN, READ and RELEASE.
    pub(super) fn contents(&self, inode: NodeId) -> Result<Vec<u8>> {
        let opened = self.open(inode, libc::O_RDONLY)?;
        let mut all = Vec::new();
        loop {
            let part = self.read(inode, opened.handle, all.len() as u64, 4096)?;
            if part.is_empty() {
                break;
            }
            all.extend(part);
        }
        self.release(inode, &opened);
        Ok(all)
    }

    /// A whole directory, in replies of `room` bytes.
    pub(super) fn list(&self, inode: NodeId, plus: bool, room: usize) -> Result<Vec<Listed>> {
        let opened = self.fs.opendir(&by(&GUEST_ROOT, inode))?;
        let mut all: Vec<Listed> = Vec::new();
        loop {
            let offset = all.last().map_or(0, |last| last.next_offset);
            let mut page = Page::new(plus, room);
            self.fs
                .readdir(&by(&GUEST_ROOT, inode), opened.handle, offset, &mut page)?;
            if page.entries.is_empty() {
                break;
            }
            all.extend(page.entries);
        }
        self.fs
            .releasedir(&by(&GUEST_ROOT, inode), opened.handle)
            .unwrap();
        Ok(all)
    }
}

/// What a caller asks of a node.
pub(super) fn by(caller: &Caller, node: NodeId) -> Request<'static> {
    static WAITERS: Waiters = Waiters::new();
    Request::new(1, node, *caller, &WAITERS)
}

pub(super) fn opening(flags: u32, kill_privileges: bool) -> OpenArgs {
    OpenArgs {
        flags,
        kill_privileges,
    }
}

/// RELEASE of a file without a lock of `flock(2)`.
pub(super) fn closing(handle: Handle) -> ReleaseArgs {
    ReleaseArgs {
        handle,
        unlock: false,
    }
}

pub(super) fn reading(handle: Handle, offset: u64, size: u32) -> ReadArgs {
    ReadArgs {
        handle,
        size,
        offset,
        flags: 0,
    }
}

pub(super) fn writing(handle: Handle, offset: u64, data: &[u8], flags: i32) -> WriteArgs {
    WriteArgs {
        handle,
        size: u32::try_from(data.len()).unwrap(),
        offset,
        flags: flags.cast_unsigned(),
        from_cache: false,
        kill_privileges: false,
    }
}

/// Where a rename leads.
pub(super) fn moved_to(parent: NodeId, name: &CStr, flags: u32) -> RenameArgs<'_> {
    RenameArgs {
        parent,
        name,
        flags,
    }
}

pub(super) fn attribute(value: &[u8], flags: u32, clear_set_gid: bool) -> SetXattrArgs<'_> {
    SetXattrArgs {
        value,
        flags,
        clear_set_gid,
    }
}

/// Sorted names of a listing without the dots.
pub(super) fn names(listed: &[Listed]) -> Vec<&str> {
    let mut names: Vec<_> = listed.iter().map(|l| l.name.as_str()).collect();
    names.retain(|name| !matches!(*name, "." | ".."));
    names.sort_unstable();
    names
}

pub(super) fn c(text: &'static [u8]) -> &'static CStr {
    CStr::from_bytes_with_nul(text).unwrap()
}

/// Runs `body` with mounts of its own, as [`unshared`] does.
pub(super) fn with_mounts(test: &str, body: impl FnOnce()) {
    let root = rustix::process::geteuid().is_root();
    let how = if root { "-m" } else { "-rm" };
    unshared(how, test, body);
}

pub(super) fn mount(kind: &str, options: &str, at: &Path) {
    let status = Command::new("mount")
        .args(["-t", kind, "none", "-o", options])
        .arg(at)
        .status()
        .unwrap();
    assert!(status.success());
}

/// Runs `body` in namespaces of its own: here if these are, else by running
/// the test called `test` again under `unshare(1)` with the option `how`.
pub(super) fn unshared(how: &str, test: &str, body: impl FnOnce()) {
    let mut command = Command::new("unshare");
    command.arg(how).arg(std::env::current_exe().unwrap());
    again(command, test, body);
}

/// Runs `body` in a process of its own: here if this is one, else by running
/// the test called `test` again.
pub(super) fn alone(test: &str, body: impl FnOnce()) {
    again(Command::new(std::env::current_exe().unwrap()), test, body);
}

fn again(mut command: Command, test: &str, body: impl FnOnce()) {
    const INSIDE: &str = "PASSTHROUGH_TEST_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        body();
        println!("went through");
        return;
    }
    let run = command
        .args(["--exact", "--nocapture"])
        .arg(format!("passthrough::tests::{test}"))
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{said}");
    assert!(said.contains("went through"), "{said}");
}

/// How often `act` asks the host to find or examine a node.
pub(super) fn host_calls<T>(act: impl FnOnce() -> T) -> (usize, T) {
    let before = calls();
    let outcome = act();
    (calls() - before, outcome)
}
