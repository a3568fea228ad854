//! A host that fails half way, or has no descriptors left to give.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, setrlimit};

use super::fixture::operations::*;
use super::fixture::{GUEST_ROOT, Page, Share, alone, by, host_calls, node, with_mounts};
use crate::filesystem::{Agreement, DirectoryEntry, Entry, Listing, ROOT};
use crate::passthrough::descriptors::Eviction;
use crate::passthrough::durability::Durability::Data;
use crate::passthrough::durability::recorded;
use crate::passthrough::{Config, Passthrough};

/// A process with more open files than are listed at once. The directory that
/// lists them cannot be read any more once it is gone.
struct Crowd {
    process: Child,
}

impl Crowd {
    fn new() -> Self {
        let script = "for n in {1..900}; do exec {fd}</dev/null; done; echo ready; read -r line";
        let process = Command::new("bash")
            .args(["-ec", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut process = process.unwrap();
        let mut line = String::new();
        let output = process.stdout.as_mut().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self { process }
    }

    fn directory(&self) -> PathBuf {
        format!("/proc/{}/fd", self.process.id()).into()
    }

    fn end(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A listing during which, after its first entry, the directory fails.
struct Failing<'a> {
    page: Page,
    crowd: &'a mut Crowd,
}

impl Listing for Failing<'_> {
    fn wants_entries(&self) -> bool {
        false
    }

    fn fits(&self, name_len: usize) -> bool {
        self.page.fits(name_len)
    }

    fn push(&mut self, entry: DirectoryEntry<'_>, node: Option<&Entry>) -> bool {
        if self.page.entries.is_empty() {
            self.crowd.end();
        }
        self.page.push(entry, node)
    }
}

#[test]
fn an_error_half_way_through_a_directory_comes_after_what_was_read() {
    let mut crowd = Crowd::new();
    let fs = Passthrough::new(&crowd.directory(), Config::default()).unwrap();
    fs.init(Agreement::default());
    let root = by(&GUEST_ROOT, ROOT);
    let opened = fs.opendir(&root).unwrap();
    let mut failing = Failing {
        page: Page::new(false, 1 << 20),
        crowd: &mut crowd,
    };

    let outcome = fs.readdir(&root, opened.handle, 0, &mut failing);

    let told = failing.page.entries;
    assert_eq!(outcome, Ok(()));
    assert!((100..900).contains(&told.len()), "{}", told.len());
    // Who goes on meets it, and not an end.
    let mut rest = Page::new(false, 1 << 20);
    let next = told.last().unwrap().next_offset;
    let outcome = fs.readdir(&root, opened.handle, next, &mut rest);
    assert_eq!(outcome, Err(Errno::NOENT));
    assert!(rest.entries.is_empty());
}

/// Takes every descriptor that the process can still have.
fn take_all(share: &Share) -> Vec<File> {
    let mut taken = Vec::new();
    loop {
        match File::open("/dev/null") {
            Ok(file) => taken.push(file),
            Err(_) if share.fs.evict_one().0 == Eviction::Done => {}
            Err(_) => return taken,
        }
    }
}

#[test]
fn a_close_without_a_descriptor_for_it_tells_of_what_was_not_stored() {
    let test = "host_failures::a_close_without_a_descriptor_for_it_tells_of_what_was_not_stored";
    with_mounts(test, || {
        let share = Share::layered(Config::default());
        let (file, reads_and_writes) = share.create(ROOT, "f").unwrap();
        let reads = share.open(file.inode, libc::O_RDONLY).unwrap();
        let writes = share.open(file.inode, libc::O_WRONLY).unwrap();
        let limit = Rlimit {
            current: Some(64),
            maximum: Some(64),
        };
        setrlimit(Resource::Nofile, limit).unwrap();
        let flush = |handle| share.fs.flush(&by(&GUEST_ROOT, file.inode), handle, 0);
        recorded::syncs();

        for opened in [&reads_and_writes, &writes, &reads] {
            assert_eq!(host_calls(|| flush(opened.handle)), (1, Ok(())));
            assert_eq!(recorded::syncs(), [], "the close of a copy tells");
        }
        let taken = take_all(&share);
        for opened in [&reads_and_writes, &writes] {
            assert_eq!(flush(opened.handle), Ok(()));
            assert_eq!(recorded::syncs(), [Data]);
            recorded::fail(Errno::IO);
            assert_eq!(flush(opened.handle), Err(Errno::IO));
            recorded::syncs();
        }
        assert_eq!(flush(reads.handle), Ok(()));
        assert_eq!(recorded::syncs(), []);
        drop(taken);
        assert!(share.open(file.inode, libc::O_RDONLY).is_ok());
    });
}

#[test]
fn without_a_descriptor_nothing_is_opened_and_nothing_made() {
    let test = "host_failures::without_a_descriptor_nothing_is_opened_and_nothing_made";
    alone(test, || {
        let share = Share::new();
        let (file, _) = share.create(ROOT, "f").unwrap();
        let limit = Rlimit {
            current: Some(64),
            maximum: Some(64),
        };
        setrlimit(Resource::Nofile, limit).unwrap();
        let root = by(&GUEST_ROOT, ROOT);
        let taken = take_all(&share);

        // As often as is asked.
        for _ in 0..3 {
            let fs = &share.fs;
            let outcomes = [
                share.open(file.inode, libc::O_RDONLY).map(drop),
                fs.opendir(&root).map(drop),
                share.lookup(ROOT, "f").map(drop),
                share.create(ROOT, "made").map(drop),
                share.mkdir(ROOT, "made").map(drop),
                fs.mknod(&root, c"made", &node(0o644)).map(drop),
                fs.symlink(&root, c"made", c"f").map(drop),
                fs.link(&root, c"made", file.inode).map(drop),
            ];
            assert_eq!(outcomes, [Err(Errno::NFILE); 8]);
        }
        assert!(share.path("made").symlink_metadata().is_err());
        drop(taken);
        assert!(share.mkdir(ROOT, "made").is_ok());
        assert!(share.open(file.inode, libc::O_RDONLY).is_ok());
    });
}
