//! What a guest can make us hold is bounded. Descriptors belong to the whole
//! process, so these tests run in processes of their own and count them all.

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, setrlimit};

use super::fixture::operations::*;
use super::fixture::{GUEST_ROOT, Share, alone, by, name, writing};
use crate::filesystem::{NodeId, Opened, ROOT};
use crate::passthrough::budget::Purpose;
use crate::passthrough::{Config, DescriptorPool};

/// How many descriptors this process has, the one for counting included.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn limit(most: u64) {
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    setrlimit(Resource::Nofile, limit).unwrap();
}

/// Opens `inode` until that fails, which it must for want of descriptors.
fn open_all(share: &Share, inode: NodeId) -> Vec<Opened> {
    let mut all = Vec::new();
    loop {
        match share.open(inode, libc::O_RDWR) {
            Ok(opened) => all.push(opened),
            Err(error) => {
                assert_eq!(error, Errno::NFILE);
                return all;
            }
        }
    }
}

/// A tree of `count` files below a directory.
fn grow(share: &Share, count: usize) -> NodeId {
    std::fs::create_dir(share.path("d")).unwrap();
    for n in 0..count {
        std::fs::write(share.path(&format!("d/{n}")), n.to_string()).unwrap();
    }
    share.walk("d").unwrap()
}

#[test]
fn what_is_known_is_found_though_others_have_every_descriptor() {
    let share = Share::with(Config {
        fd_budget: Some(32),
        ..Config::default()
    });
    let (file, _) = share.create(ROOT, "f").unwrap();
    let inode = share.fs.inodes.get(file.inode).unwrap();
    // In use, as what others have.
    let descriptor = share.fs.descriptor(&inode).unwrap();
    let mut permits = Vec::new();
    while let Ok(permit) = share.fs.permit(Purpose::Work) {
        permits.push(permit);
    }
    let found = share.lookup(ROOT, "f").map(|entry| entry.inode);
    assert_eq!(found, Ok(file.inode));
    assert_eq!(share.lookup(ROOT, "none").map(drop), Err(Errno::NOENT));
    drop((descriptor, permits));
}

#[test]
fn a_small_limit_is_enough_for_a_hundred_files_and_everything_else() {
    alone(
        "limits::a_small_limit_is_enough_for_a_hundred_files_and_everything_else",
        || {
            limit(256);
            let before = descriptors();
            let share = Share::new();
            let directory = grow(&share, 500);
            share.list(directory, true, 4096).unwrap();
            let inodes: Vec<_> = (0..100)
                .map(|n| share.walk(&format!("d/{n}")).unwrap())
                .collect();

            let open: Vec<_> = (inodes.iter())
                .map(|inode| share.open(*inode, libc::O_RDWR).unwrap())
                .collect();

            // What must still go: listing, looking up, reading, making, syncing.
            assert_eq!(share.list(directory, true, 4096).unwrap().len(), 502);
            for n in 100..500 {
                let inode = share.walk(&format!("d/{n}")).unwrap();
                assert_eq!(share.contents(inode).unwrap(), n.to_string().as_bytes());
            }
            share.mkdir(directory, "new").unwrap();
            for (inode, opened) in inodes.iter().zip(&open) {
                let node = by(&GUEST_ROOT, *inode);
                share.fs.flush(&node, opened.handle, 0).unwrap();
            }
            share
                .fs
                .fsyncdir(&by(&GUEST_ROOT, directory), 99_999, false)
                .unwrap();

            // And then there is an end, far from that of the process.
            let more = open_all(&share, inodes[0]);
            assert_eq!(open.len() + more.len(), 112);
            assert_eq!(
                share.fs.opendir(&by(&GUEST_ROOT, ROOT)).map(drop),
                Err(Errno::NFILE)
            );
            assert_eq!(share.create(ROOT, "none").map(drop), Err(Errno::NFILE));
            assert!(!share.path("none").exists());
            assert!(share.mkdir(directory, "another").is_ok());
            assert!(descriptors() - before <= 128 + 2, "{}", descriptors());
            share.release(inodes[0], &more[0]);
            assert!(share.open(inodes[0], libc::O_RDONLY).is_ok());
        },
    );
}

#[test]
fn a_guest_meets_its_own_limit_of_open_files_first() {
    alone(
        "limits::a_guest_meets_its_own_limit_of_open_files_first",
        || {
            limit(4096);
            let pool = DescriptorPool::of_process(3, 128);
            let shares = [(); 3].map(|()| Share::in_pool(Config::default(), &pool));
            // Idle, but they know as much as they may.
            for share in &shares {
                let directory = grow(share, 1000);
                share.list(directory, true, 4096).unwrap();
                assert_eq!(share.fs.descriptor_count(), 660);
            }
            let inode = shares[1].walk("d/1").unwrap();
            assert_eq!(open_all(&shares[1], inode).len(), 2564);
            let inode = shares[0].walk("d/1").unwrap();
            assert_eq!(open_all(&shares[0], inode).len(), 661 - 82);
            assert_eq!(shares[2].walk("d/999").map(drop), Ok(()));
        },
    );
}

#[test]
fn a_guest_that_holds_what_it_can_stays_within_its_part() {
    alone(
        "limits::a_guest_that_holds_what_it_can_stays_within_its_part",
        || {
            for file_handles in [true, false] {
                hold_everything(file_handles);
            }
        },
    );
}

fn hold_everything(file_handles: bool) {
    const POOL: usize = 400;
    let before = descriptors();
    let pool = DescriptorPool::new(POOL, 2);
    let config = Config {
        file_handles,
        ..Config::default()
    };
    let hostile = Share::in_pool(config, &pool);
    let other = Share::in_pool(config, &pool);
    let directory = grow(&other, 200);
    other.list(directory, true, 4096).unwrap();
    let within = |most: usize| {
        // Beyond the pool: a share's root and `/proc`, and the test's own.
        let held = descriptors() - before;
        assert!(
            held <= most + 2 * 2 + 1,
            "{held} with handles: {file_handles}"
        );
    };

    // Files without a name that it never forgets.
    for n in 0..500 {
        let file = name(&n.to_string());
        let (entry, opened) = hostile.create(ROOT, &n.to_string()).unwrap();
        hostile.release(entry.inode, &opened);
        hostile.fs.unlink(&by(&GUEST_ROOT, ROOT), &file).unwrap();
        within(200);
    }
    // Files that it opens to append and then does not, and the other way round.
    let (file, _) = hostile.create(ROOT, "f").unwrap();
    let mut refused = 0;
    for n in 0..300 {
        let (opened, asked) = match n % 2 {
            0 => (libc::O_RDWR, libc::O_APPEND),
            _ => (libc::O_RDWR | libc::O_APPEND, 0),
        };
        match hostile.open(file.inode, opened) {
            Ok(opened) => {
                let args = writing(opened.handle, 0, b"x", asked);
                let written = hostile.write_with(file.inode, b"x", &args);
                assert!(matches!(written, Ok(1) | Err(Errno::NFILE)), "{written:?}");
            }
            Err(error) => {
                assert_eq!(error, Errno::NFILE);
                refused += 1;
            }
        }
    }
    assert!(refused > 0);
    // Directories.
    let directories = std::iter::from_fn(|| hostile.fs.opendir(&by(&GUEST_ROOT, ROOT)).ok());
    assert!(directories.count() < POOL);
    within(POOL);

    // The other one has what is its own.
    let inode = other.walk("d/7").unwrap();
    assert_eq!(open_all(&other, inode).len(), 100 - 16);
    for n in 0..200 {
        assert!(other.walk(&format!("d/{n}")).is_ok());
    }
    within(POOL);
    // And the hostile one still what it needs to give something back.
    hostile.fs.destroy();
    assert_eq!(hostile.fs.descriptor_count(), 1);
    assert!(hostile.create(ROOT, "g").is_ok());
}
