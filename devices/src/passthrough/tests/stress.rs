//! Many threads at once, with the host changing things behind their backs.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;

use super::fixture::operations::*;
use super::fixture::{GUEST_ROOT, Share, by, few_descriptors, moved_to, name, opening};
use crate::filesystem::{Entry, NodeId, ROOT, Result};

const THREADS: u64 = 6;
const STEPS: usize = 600;

/// A small generator (xorshift64), so that a failing seed can be run again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// One guest task: does what the dice say and keeps count of its references.
struct Task<'a> {
    share: &'a Share,
    dice: Dice,
    held: HashMap<NodeId, u64>,
}

impl Task<'_> {
    fn hold(&mut self, entry: &Entry) -> NodeId {
        *self.held.entry(entry.inode).or_default() += 1;
        entry.inode
    }

    fn any(&mut self) -> String {
        let (d, f) = (self.dice.roll(4), self.dice.roll(24));
        format!("d{d}/f{f}")
    }

    /// Walks to the parent of a path.
    fn parent(&mut self, path: &str) -> Result<(NodeId, std::ffi::CString)> {
        let (directory, leaf) = path.split_once('/').unwrap();
        let entry = self.share.lookup(ROOT, directory)?;
        Ok((self.hold(&entry), name(leaf)))
    }

    fn step(&mut self) -> Result<()> {
        let (one, two) = (self.any(), self.any());
        let (parent, leaf) = self.parent(&one)?;
        let fs = &self.share.fs;
        let who = &GUEST_ROOT;
        match self.dice.roll(9) {
            0 | 1 => {
                let flags = libc::O_RDWR.cast_unsigned();
                let node = super::fixture::node(0o644);
                let (entry, opened) =
                    fs.create(&by(who, parent), &leaf, &node, opening(flags, false))?;
                self.hold(&entry);
                // Always the same bytes at the same place, so whatever is
                // read anywhere is a part of them.
                let wrote = self.share.write(entry.inode, opened.handle, 0, PATTERN);
                let read = self.share.read(entry.inode, opened.handle, 0, 4096);
                self.share.release(entry.inode, &opened);
                assert_eq!(wrote, Ok(PATTERN.len()));
                assert_eq!(read.unwrap(), PATTERN);
            }
            2 | 3 => {
                let entry = fs.lookup(&by(who, parent), &leaf)?;
                let inode = self.hold(&entry);
                let contents = self.share.contents(inode)?;
                assert!(PATTERN.starts_with(&contents));
            }
            4 => fs.unlink(&by(who, parent), &leaf)?,
            5 | 6 => {
                let (other, new) = self.parent(&two)?;
                let flags = [0, libc::RENAME_EXCHANGE, libc::RENAME_NOREPLACE];
                let flags = flags[usize::try_from(self.dice.roll(3)).unwrap()];
                fs.rename(&by(who, parent), &leaf, moved_to(other, &new, flags))?;
            }
            7 => {
                let listed = self.share.list(parent, true, 2048)?;
                for entry in listed.iter().filter_map(|l| l.entry) {
                    self.hold(&entry);
                }
            }
            _ => self.forget_some(),
        }
        Ok(())
    }

    fn forget_some(&mut self) {
        let half: Vec<_> = self.held.keys().copied().step_by(2).collect();
        for inode in half {
            let count = self.held.remove(&inode).unwrap_or(0);
            self.share.fs.forget(inode, count);
        }
    }

    fn forget_all(&mut self) {
        for (inode, count) in self.held.drain() {
            self.share.fs.forget(inode, count);
        }
    }
}

const PATTERN: &[u8] = b"The same in every file, wherever it is and whoever wrote it.";

/// What a task may meet when others rename and remove at the same time.
const EXPECTED: [Errno; 3] = [Errno::NOENT, Errno::EXIST, Errno::STALE];

fn run(handles: bool, host_interferes: bool) {
    let share = Share::cramped(handles);
    for d in 0..4 {
        std::fs::create_dir(share.path(&format!("d{d}"))).unwrap();
    }
    let done = AtomicBool::new(false);

    std::thread::scope(|scope| {
        let tasks: Vec<_> = (1..=THREADS)
            .map(|seed| {
                let share = &share;
                scope.spawn(move || {
                    let mut task = Task {
                        share,
                        dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
                        held: HashMap::new(),
                    };
                    for step in 0..STEPS {
                        if let Err(error) = task.step() {
                            let place = (seed, step);
                            assert!(EXPECTED.contains(&error), "{error:?} at {place:?}");
                        }
                    }
                    task.forget_all();
                })
            })
            .collect();
        if host_interferes {
            let (share, done) = (&share, &done);
            scope.spawn(move || {
                let mut dice = Dice(42);
                while !done.load(Ordering::Relaxed) {
                    let path = |n: u64| share.path(&format!("d{}/f{}", n % 4, n % 24));
                    let (from, to) = (dice.roll(96), dice.roll(96));
                    // Renaming only: any of these may be gone already.
                    let _ = std::fs::rename(path(from), path(to));
                    std::thread::yield_now();
                }
            });
        }
        let outcomes: Vec<_> = tasks
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect();
        done.store(true, Ordering::Relaxed);
        assert!(outcomes.iter().all(std::result::Result::is_ok));
    });

    assert_eq!(share.fs.inode_count(), 0);
    assert_eq!(share.fs.open_count(), 0);
    assert_eq!(share.fs.descriptor_count(), 1);
}

#[test]
fn many_threads_leave_neither_wrong_data_nor_leaks() {
    run(true, false);
    run(false, false);
}

#[test]
fn a_host_that_renames_meanwhile_makes_no_difference() {
    run(true, true);
    run(false, true);
}

#[test]
fn a_close_never_races_a_read() {
    let share = Share::new();
    std::fs::write(share.path("f"), PATTERN).unwrap();
    let inode = share.walk("f").unwrap();
    for _ in 0..200 {
        let opened = share.open(inode, libc::O_RDONLY).unwrap();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| share.read(inode, opened.handle, 0, 4096));
            let other = scope.spawn(|| share.create(ROOT, "other").unwrap());
            share.release(inode, &opened);
            let (entry, created) = other.join().unwrap();
            // The bytes of this very file, or none: never another's, though
            // the descriptor's number may be in use again.
            match reader.join().unwrap() {
                Ok(read) => assert_eq!(read, PATTERN),
                Err(error) => assert_eq!(error, Errno::BADF),
            }
            share.release(entry.inode, &created);
        });
    }
}

#[test]
fn an_inode_that_is_unlinked_while_descriptors_are_let_go_stays() {
    for handles in [true, false] {
        let share = Share::large(few_descriptors(handles));
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    share.fs.evict_one();
                }
            });
            let mut lost = 0;
            for _ in 0..6_000 {
                let (entry, opened) = share.create(ROOT, "f").unwrap();
                share.release(entry.inode, &opened);
                share.fs.unlink(&by(&GUEST_ROOT, ROOT), &name("f")).unwrap();
                for _ in 0..2 {
                    if share.attributes(entry.inode).is_err() {
                        lost += 1;
                        break;
                    }
                }
                share.fs.forget(entry.inode, 1);
            }
            done.store(true, Ordering::Relaxed);
            assert_eq!(lost, 0, "with handles: {handles}");
        });
    }
}
