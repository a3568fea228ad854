//! Nodes that a guest knows take no descriptor each, and little memory, all of
//! which is given back.
//!
//! A program of its own: it counts what is allocated in all of it, and sets its
//! limit of open files.
#![allow(clippy::unwrap_used)]
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::CString;
use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use devices::filesystem::{
    Agreement, AttributeOperations, Caller, FileOperations, FileSystem, LookupOperations, NodeId,
    OpenArgs, ROOT, ReleaseArgs, Request, Waiters,
};
use devices::passthrough::{Config, Passthrough};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Bytes that are allocated.
static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: all of it is the system's allocator's, to which every call goes on as
// it came; the count changes nothing of what it answers.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const DESCRIPTORS: u64 = 1024;
const DIRECTORIES: usize = 200;
const FILES: usize = 1000;
const ALL: usize = DIRECTORIES * (1 + FILES);

/// For a node with a name of 20 bytes.
const BYTES_EACH: usize = 300;
/// What may be left of all of them: a few tables and queues.
const BYTES_LEFT: usize = 64 << 10;

fn directory_name(number: usize) -> CString {
    CString::new(format!("directory-{number:010}")).unwrap()
}

fn file_name(number: usize) -> CString {
    CString::new(format!("file-{number:015}")).unwrap()
}

fn make_tree(root: &Path) {
    for directory in 0..DIRECTORIES {
        let path = root.join(directory_name(directory).to_str().unwrap());
        fs::create_dir(&path).unwrap();
        for file in 0..FILES {
            File::create(path.join(file_name(file).to_str().unwrap())).unwrap();
        }
    }
}

fn of(node: NodeId) -> Request<'static> {
    static WAITERS: Waiters = Waiters::new();
    let caller = Caller {
        pid: 1,
        ..Caller::default()
    };
    Request::new(1, node, caller, &WAITERS)
}

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Looks every node up.
fn walk(share: &Passthrough) -> Vec<NodeId> {
    let mut nodes = Vec::with_capacity(ALL);
    for directory in 0..DIRECTORIES {
        let above = share.lookup(&of(ROOT), &directory_name(directory)).unwrap();
        nodes.push(above.inode);
        for file in 0..FILES {
            let entry = share.lookup(&of(above.inode), &file_name(file)).unwrap();
            nodes.push(entry.inode);
        }
    }
    nodes
}

/// Asks for the attributes of all, and opens some.
fn use_all(share: &Passthrough, nodes: &[NodeId]) {
    for (number, node) in nodes.iter().enumerate() {
        let (attributes, _) = share.getattr(&of(*node), None).unwrap();
        let is_file = attributes.mode & libc::S_IFMT == libc::S_IFREG;
        if is_file && number % 100 == 1 {
            let flags = libc::O_RDWR.cast_unsigned();
            let args = OpenArgs {
                flags,
                kill_privileges: false,
            };
            let handle = share.open(&of(*node), args).unwrap().handle;
            let args = ReleaseArgs {
                handle,
                unlock: false,
            };
            share.release(&of(*node), args).unwrap();
        }
    }
}

fn try_with(root: &Path, file_handles: bool) {
    let config = Config {
        file_handles,
        ..Config::default()
    };
    let share = Passthrough::new(root, config).unwrap();
    share.init(Agreement::default());
    // What is made once is none of theirs.
    let first = share.lookup(&of(ROOT), &directory_name(0)).unwrap();
    share.forget(first.inode, 1);

    let descriptors = open_descriptors();
    let before = ALLOCATED.load(Ordering::Relaxed);
    let nodes = walk(&share);
    let list = nodes.capacity() * size_of::<NodeId>();
    use_all(&share, &nodes);
    let taken = ALLOCATED.load(Ordering::Relaxed) - before - list;
    let each = taken / ALL;
    println!("{each} bytes for each of {ALL} nodes, file handles: {file_handles}");
    assert!(each <= BYTES_EACH, "{each} bytes for each node");
    assert!(
        open_descriptors() < nodes.len() / 100,
        "they have descriptors"
    );

    for node in nodes {
        share.forget(node, 1);
    }
    let left = ALLOCATED.load(Ordering::Relaxed).saturating_sub(before);
    println!("{left} bytes are left");
    assert!(left <= BYTES_LEFT, "{left} bytes are left");
    assert_eq!(open_descriptors(), descriptors);
}

#[test]
fn two_hundred_thousand_files_with_a_thousand_descriptors() {
    let top = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    make_tree(top.path());
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = Some(DESCRIPTORS);
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
    for file_handles in [true, false] {
        try_with(top.path(), file_handles);
    }
}
