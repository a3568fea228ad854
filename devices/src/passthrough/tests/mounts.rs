//! Other file systems under the share, and shares of other file systems.
//! Mounting needs a mount namespace, so each test runs itself again in one.

use std::ffi::CStr;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use vm_memory::VolatileSlice;

use super::fixture::operations::*;
use super::fixture::{
    GUEST_ROOT, Page, Share, by, c, host_calls, mount, moved_to, name, node, opening, with_mounts,
};
use crate::filesystem::{Agreement, FallocateArgs, ROOT, WOULD_WAIT, WindowPart, WriteArgs};
use crate::passthrough::durability::recorded;
use crate::passthrough::{CachePolicy, Config, Passthrough};
use crate::window::{FilePart, PAGE, UNIT, Window};

fn in_a_namespace(test: &str, body: impl FnOnce()) {
    with_mounts(&format!("mounts::{test}"), body);
}

#[test]
fn a_file_system_below_the_share_is_served_and_told_apart() {
    in_a_namespace(
        "a_file_system_below_the_share_is_served_and_told_apart",
        || {
            let share = Share::cramped(true);
            std::fs::create_dir(share.path("m")).unwrap();
            mount("tmpfs", "size=1m", &share.path("m"));
            std::fs::write(share.path("f"), b"on the share").unwrap();
            for n in 0..100 {
                std::fs::write(share.path(&format!("m/{n}")), n.to_string()).unwrap();
            }
            share.fs.init(Agreement {
                submounts: true,
                ..Agreement::default()
            });
            let fs = &share.fs;

            let below = share.lookup(ROOT, "m").unwrap();
            let inodes: Vec<_> = (0..100)
                .map(|n: u32| share.lookup(below.inode, &n.to_string()).unwrap())
                .collect();
            let file = share.walk("f").unwrap();

            assert!(below.attributes.submount);
            assert!(!inodes[7].attributes.submount);
            let host = std::fs::metadata(share.path("m/7")).unwrap().ino();
            assert_eq!(inodes[7].attributes.ino, host ^ (1 << 48));
            for (n, entry) in inodes.iter().enumerate() {
                let contents = share.contents(entry.inode).unwrap();
                assert_eq!(contents, n.to_string().as_bytes());
            }
            let listed = share.list(below.inode, false, 4096).unwrap();
            let seven = listed.iter().find(|l| l.name == "7").unwrap();
            assert_eq!(seven.ino, inodes[7].attributes.ino);
            let sizes = |inode| fs.statfs(&by(&GUEST_ROOT, inode)).unwrap().blocks;
            assert_eq!(sizes(below.inode) * 4096, 1 << 20);
            assert_ne!(sizes(ROOT), sizes(below.inode));
            let moved = fs.rename(
                &by(&GUEST_ROOT, ROOT),
                c(b"f\0"),
                moved_to(below.inode, c(b"f\0"), 0),
            );
            assert_eq!(moved, Err(Errno::XDEV));
            let linked = fs.link(&by(&GUEST_ROOT, below.inode), &name("g"), file);
            assert_eq!(linked.map(drop), Err(Errno::XDEV));
        },
    );
}

#[test]
fn only_the_root_of_another_file_system_is_a_submount() {
    let test = "only_the_root_of_another_file_system_is_a_submount";
    in_a_namespace(test, || {
        for agreed in [false, true] {
            let share = Share::new();
            share.fs.init(Agreement {
                submounts: agreed,
                ..Agreement::default()
            });
            for directory in ["ordinary", "ordinary/below", "mounted"] {
                std::fs::create_dir(share.path(directory)).unwrap();
            }
            mount("tmpfs", "size=1m", &share.path("mounted"));
            std::fs::create_dir(share.path("mounted/below")).unwrap();
            std::fs::write(share.path("file"), b"").unwrap();
            std::fs::write(share.path("over"), b"").unwrap();
            let bound = Command::new("mount")
                .args(["--bind", "/dev/null"])
                .arg(share.path("over"))
                .status();
            assert!(bound.unwrap().success());

            for (path, expected) in [
                ("ordinary", false),
                ("ordinary/below", false),
                ("mounted", agreed),
                ("mounted/below", false),
                ("file", false),
                // Mounted, but no directory.
                ("over", false),
            ] {
                let node = share.walk(path).unwrap();
                let told = share.attributes(node).unwrap().submount;
                assert_eq!(told, expected, "{path}");
            }
            let made = share.mkdir(ROOT, "made").unwrap();
            assert!(!made.attributes.submount);
            assert!(!share.attributes(ROOT).unwrap().submount);
            for listed in share.list(ROOT, true, 1 << 16).unwrap() {
                let told = listed.entry.is_some_and(|entry| entry.attributes.submount);
                assert_eq!(told, agreed && listed.name == "mounted");
            }
        }
    });
}

#[test]
fn a_sync_of_the_share_is_one_of_every_file_system_that_the_guest_knows() {
    in_a_namespace(
        "a_sync_of_the_share_is_one_of_every_file_system_that_the_guest_knows",
        || {
            for file_handles in [true, false] {
                let share = Share::with(Config {
                    file_handles,
                    ..Config::default()
                });
                for at in ["one", "two", "unknown"] {
                    std::fs::create_dir(share.path(at)).unwrap();
                    mount("tmpfs", "size=1m", &share.path(at));
                }
                std::fs::write(share.path("one/f"), "text").unwrap();
                share.mkdir(ROOT, "made").unwrap();
                let syncs = |node| {
                    recorded::syncs();
                    share.fs.syncfs(&by(&GUEST_ROOT, node)).unwrap();
                    recorded::syncs().len()
                };
                assert_eq!(syncs(ROOT), 1);
                let file = share.walk("one/f").unwrap();
                let two = share.walk("two").unwrap();
                assert_eq!([syncs(ROOT), syncs(file), syncs(two)], [3; 3]);

                share.fs.init(Agreement {
                    submounts: true,
                    ..Agreement::default()
                });
                let two = share.walk("two").unwrap();
                share.walk("one/f").unwrap();
                assert_eq!([syncs(ROOT), syncs(two)], [1; 2]);
            }
        },
    );
}

#[test]
fn what_left_the_mounted_part_of_a_file_system_is_stale() {
    in_a_namespace(
        "what_left_the_mounted_part_of_a_file_system_is_stale",
        || {
            let top = tempfile::tempdir().unwrap();
            let path = |name: &str| top.path().join(name);
            for name in ["all", "share"] {
                std::fs::create_dir(path(name)).unwrap();
            }
            mount("tmpfs", "size=1M", &path("all"));
            std::fs::create_dir_all(path("all/part/d/deep")).unwrap();
            let mut bind = Command::new("mount");
            bind.arg("--bind").args([path("all/part"), path("share")]);
            assert!(bind.status().unwrap().success());
            let fs = Passthrough::new(&path("share"), Config::default()).unwrap();
            fs.init(Agreement::default());
            let lookup = |at, child: &str| fs.lookup(&by(&GUEST_ROOT, at), &name(child));
            let d = lookup(ROOT, "d").unwrap().inode;
            let deep = lookup(d, "deep").unwrap().inode;
            let make = |at| {
                let made = (fs.mkdir(&by(&GUEST_ROOT, at), &name("new"), &node(0o755))).map(drop);
                let _ = fs.rmdir(&by(&GUEST_ROOT, at), &name("new"));
                made
            };
            assert_eq!((make(d), make(deep)), (Ok(()), Ok(())));
            std::fs::rename(path("all/part/d"), path("all/d")).unwrap();
            assert_eq!(
                (make(d), make(deep)),
                (Err(Errno::STALE), Err(Errno::STALE))
            );
            assert_eq!(lookup(deep, "new").map(drop), Err(Errno::STALE));
            assert!(!path("all/d/new").exists());
        },
    );
}

#[test]
fn where_the_host_has_no_files_without_names_linux_may_ask_again_elsewhere() {
    in_a_namespace(
        "where_the_host_has_no_files_without_names_linux_may_ask_again_elsewhere",
        || {
            let share = Share::new();
            std::fs::create_dir(share.path("m")).unwrap();
            mount("devpts", "mode=600", &share.path("m"));
            let made = |directory| {
                let open = opening(libc::O_RDWR.cast_unsigned(), false);
                let request = by(&GUEST_ROOT, directory);
                share.fs.tmpfile(&request, &node(0o600), open).map(drop)
            };
            assert_eq!(made(share.walk("m").unwrap()), Err(Errno::OPNOTSUPP));
            assert_eq!(made(ROOT), Ok(()));
        },
    );
}

#[test]
fn above_the_root_of_a_file_system_is_where_it_is_mounted() {
    in_a_namespace(
        "above_the_root_of_a_file_system_is_where_it_is_mounted",
        || {
            let share = Share::new();
            std::fs::create_dir_all(share.path("d/m")).unwrap();
            mount("tmpfs", "size=1m", &share.path("d/m"));
            std::fs::create_dir(share.path("d/m/below")).unwrap();
            let above = |node| share.fs.lookup_parent(&by(&GUEST_ROOT, node)).unwrap();
            for submounts in [false, true] {
                share.fs.init(Agreement {
                    submounts,
                    ..Agreement::default()
                });
                let directory = share.walk("d").unwrap();
                let root = share.walk("d/m").unwrap();
                let below = share.walk("d/m/below").unwrap();
                assert_eq!(above(below).inode, root);
                assert_eq!(above(root).inode, directory);
                // Linux takes a root of its own for generation 0.
                assert_eq!(above(below).generation == 0, submounts);
                assert_ne!(above(root).generation, 0);
            }
        },
    );
}

#[test]
fn a_file_copied_up_in_an_overlay_stays_the_same_inode() {
    in_a_namespace(
        "a_file_copied_up_in_an_overlay_stays_the_same_inode",
        || {
            let place = tempfile::tempdir().unwrap();
            let at = |below: &str| place.path().join(below);
            std::fs::create_dir(at("layers")).unwrap();
            mount("tmpfs", "size=1m", &at("layers"));
            for layer in ["layers/lower", "layers/upper", "layers/work", "share"] {
                std::fs::create_dir(at(layer)).unwrap();
            }
            std::fs::write(at("layers/lower/f"), b"below").unwrap();
            let layer = |name: &str| at(&format!("layers/{name}")).display().to_string();
            let (lower, upper, work) = (layer("lower"), layer("upper"), layer("work"));
            // Upper and lower files of different ages.
            std::thread::sleep(std::time::Duration::from_millis(20));
            let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
            mount("overlay", &options, &at("share"));
            let config = Config {
                fd_budget: Some(16),
                ..Config::default()
            };
            let fs = Passthrough::new(&at("share"), config).unwrap();
            fs.init(Agreement::default());
            let before = fs.lookup(&by(&GUEST_ROOT, ROOT), c"f").unwrap();

            let flags = (libc::O_RDWR | libc::O_APPEND).cast_unsigned();
            let opened = fs
                .open(&by(&GUEST_ROOT, before.inode), opening(flags, false))
                .unwrap();
            let mut data = super::fixture::Data(b" and above");
            let args = super::fixture::writing(opened.handle, 5, data.0, libc::O_APPEND);
            fs.write(&by(&GUEST_ROOT, before.inode), &args, &mut data)
                .unwrap();
            for n in 0..100 {
                fs.mkdir(
                    &by(&GUEST_ROOT, ROOT),
                    &name(&n.to_string()),
                    &super::fixture::node(0o755),
                )
                .unwrap();
            }

            let after = fs.lookup(&by(&GUEST_ROOT, ROOT), c"f").unwrap();
            assert_eq!(after.inode, before.inode);
            assert_eq!(after.attributes.size, 15);
            assert!(at("layers/upper/f").exists());
            let told = fs.getattr(&by(&GUEST_ROOT, before.inode), None).unwrap().0;
            assert_eq!(told.size, 15);
        },
    );
}

#[test]
fn a_hole_for_which_there_is_no_memory_reads_as_zeros() {
    in_a_namespace("a_hole_for_which_there_is_no_memory_reads_as_zeros", || {
        let place = tempfile::tempdir().unwrap();
        mount("tmpfs", "size=64k", place.path());
        let hole = File::create(place.path().join("hole")).unwrap();
        hole.set_len(PAGE).unwrap();
        let full = std::fs::write(place.path().join("fill"), [1; 128 * 1024]);
        assert!(full.is_err());
        let window = Arc::new(Window::reserve(4 << 30, UNIT).unwrap());
        let fs = Passthrough::new(place.path(), Config::default()).unwrap();
        let fs = fs.with_window(Arc::clone(&window));
        fs.init(Agreement::default());
        let node = fs.lookup(&by(&GUEST_ROOT, ROOT), c"hole").unwrap().inode;
        // As if it had had its blocks when it was mapped to be written to.
        for (writable, torn, expected) in [(false, 1, Ok(0)), (true, 0, Err(Errno::FAULT))] {
            let (offset, len) = (0, PAGE);
            let part = FilePart {
                node,
                offset,
                writable,
            };
            let mut options = File::options();
            let file = options
                .read(true)
                .write(true)
                .open(place.path().join("hole"));
            window
                .map(WindowPart { offset, len }, file.unwrap(), part)
                .unwrap();
            assert_eq!(window.tear(), torn, "{writable}");
            let mut byte = [0xee];
            let read = window.copy_to(0, &VolatileSlice::from(&mut byte[..]));
            assert_eq!(read.map(|()| byte[0]), expected, "{writable}");
        }
    });
}

#[test]
fn a_full_disk_is_told_and_takes_back_nothing() {
    in_a_namespace("a_full_disk_is_told_and_takes_back_nothing", || {
        let place = tempfile::tempdir().unwrap();
        mount("tmpfs", "size=64k", place.path());
        let fs = Passthrough::new(place.path(), Config::default()).unwrap();
        fs.init(Agreement::default());
        let flags = libc::O_RDWR.cast_unsigned();
        let node = super::fixture::node(0o644);
        let (file, opened) = fs
            .create(
                &by(&GUEST_ROOT, ROOT),
                &name("f"),
                &node,
                opening(flags, false),
            )
            .unwrap();
        let write = |at, bytes: &[u8], from_cache| {
            let mut data = super::fixture::Data(bytes);
            let args = WriteArgs {
                from_cache,
                ..super::fixture::writing(opened.handle, at, bytes, 0)
            };
            fs.write(&by(&GUEST_ROOT, file.inode), &args, &mut data)
        };

        let written_back = write(0, &[1; 128 * 1024], true);
        let first = write(0, &[1; 128 * 1024], false).unwrap();
        let second = write(first as u64, &[2; 4096], false);

        assert!((4096..=65_536).contains(&first), "{first}");
        assert_eq!(second, Err(Errno::NOSPC));
        // The same, but nobody would look at the count.
        assert_eq!(written_back, Err(Errno::NOSPC));
        let stored = std::fs::read(place.path().join("f")).unwrap();
        assert_eq!(stored, vec![1; first]);
        let reserve = fs.fallocate(
            &by(&GUEST_ROOT, file.inode),
            &FallocateArgs {
                handle: opened.handle,
                mode: 0,
                offset: 0,
                length: 1 << 20,
            },
        );
        assert_eq!(reserve, Err(Errno::NOSPC));
    });
}

#[test]
fn files_that_do_not_say_their_size_are_read_whole_in_every_mode() {
    for cache in [
        CachePolicy::Never,
        CachePolicy::Metadata,
        CachePolicy::Auto,
        CachePolicy::Always,
    ] {
        for writeback in [false, true] {
            let config = Config {
                cache,
                writeback,
                ..Config::default()
            };
            let fs = Passthrough::new(Path::new("/proc/sys/kernel"), config).unwrap();
            fs.init(Agreement {
                writeback_cache: writeback,
                ..Agreement::default()
            });
            assert!(fs.may_stall(ROOT));
            let node = fs.lookup(&by(&GUEST_ROOT, ROOT), c"ostype").unwrap();
            assert_eq!(node.attributes.size, 0);
            let request = by(&GUEST_ROOT, node.inode);
            let opened = fs.open(&request, opening(0, false)).unwrap();
            assert!(opened.behaviour.direct_io && !opened.behaviour.keep_cache);
            let mut reply = super::fixture::Received::new(100);
            let args = super::fixture::reading(opened.handle, 0, 100);
            assert_eq!(fs.read(&request, &args, &mut reply), Ok(6));
            assert_eq!(reply.bytes, b"Linux\n");
            assert!(fs.may_stall(node.inode) && !fs.may_stall(4242));
        }
    }
}

#[test]
fn files_that_are_made_as_they_are_read_below_a_share_are_told_apart() {
    in_a_namespace(
        "files_that_are_made_as_they_are_read_below_a_share_are_told_apart",
        || {
            let place = tempfile::tempdir().unwrap();
            std::fs::create_dir(place.path().join("below")).unwrap();
            std::fs::write(place.path().join("f"), b"text").unwrap();
            let fs = Passthrough::new(place.path(), Config::default()).unwrap();
            fs.init(Agreement::default());
            let at = |parent, child| fs.lookup(&by(&GUEST_ROOT, parent), child).unwrap().inode;
            let direct = |node| {
                let opened = fs.open(&by(&GUEST_ROOT, node), opening(0, false));
                opened.unwrap().behaviour.direct_io
            };
            let file = at(ROOT, c"f");
            assert!(!fs.may_stall(file) && !direct(file));
            mount("tmpfs", "size=0", &place.path().join("below"));
            std::fs::write(place.path().join("below/f"), b"text").unwrap();
            // tmpfs has files like everybody else's, limit or not.
            assert!(!direct(at(at(ROOT, c"below"), c"f")));
            let bound = Command::new("mount")
                .args(["--rbind", "/proc"])
                .arg(place.path().join("below"))
                .status();
            assert!(bound.unwrap().success());
            let status = at(at(ROOT, c"below"), c"uptime");
            assert!(fs.may_stall(status) && direct(status));
            assert!(!fs.may_stall(file) && !fs.may_stall(ROOT));
            // Who is not to have it finds nothing there, and what is stored.
            let config = Config {
                only_stored: true,
                ..Config::default()
            };
            let stored = Passthrough::new(place.path(), config).unwrap();
            stored.init(Agreement::default());
            for (name, outcome) in [(c"below", Err(Errno::NOENT)), (c"f", Ok(()))] {
                let found = stored.lookup(&by(&GUEST_ROOT, ROOT), name);
                assert_eq!(found.map(drop), outcome);
            }
            // The way to what is mounted there leads over it.
            mount("tmpfs", "size=1m", &place.path().join("below/fs"));
            assert!(fs.may_stall(at(at(ROOT, c"below"), c"fs")));
        },
    );
}

#[test]
fn a_file_system_can_be_unmounted_when_the_guest_knows_nothing_on_it() {
    let test = "a_file_system_can_be_unmounted_when_the_guest_knows_nothing_on_it";
    in_a_namespace(test, || {
        let unmount = |at: &Path| {
            let output = Command::new("umount").arg(at).output().unwrap();
            output.status.success()
        };
        for file_handles in [true, false] {
            let share = Share::cramped(file_handles);
            let at = share.path("m");
            std::fs::create_dir(&at).unwrap();
            // The guest looks about there, and has nothing open any more.
            let visit = || {
                mount("tmpfs", "size=1m", &at);
                std::fs::create_dir(at.join("d")).unwrap();
                std::fs::write(at.join("d/f"), b"there").unwrap();
                let known = ["m", "m/d", "m/d/f"].map(|path| share.walk(path).unwrap());
                assert_eq!(share.contents(known[2]).unwrap(), b"there");
                known
            };

            let known = visit();
            assert!(!unmount(&at), "what the guest knows keeps it busy");
            for (inode, lookups) in known.into_iter().zip([3, 2, 1]) {
                share.fs.forget(inode, lookups);
            }
            assert_eq!(share.fs.inode_count(), 0);
            assert!(unmount(&at), "FORGET, with handles: {file_handles}");

            visit();
            share.fs.destroy();
            assert!(unmount(&at), "DESTROY, with handles: {file_handles}");

            // As after a reset with a file open: the next INIT ends it.
            let [.., file] = visit();
            share.open(file, libc::O_RDWR).unwrap();
            share.fs.init(Agreement::default());
            assert!(unmount(&at), "INIT, with handles: {file_handles}");

            // And what is mounted there next is another file system.
            let [.., file] = visit();
            share.let_all_go();
            assert_eq!(share.contents(file).unwrap(), b"there");
            share.fs.destroy();
            assert!(unmount(&at));
        }
    });
}

/// On a file system of its own, because removing such a tree takes long.
#[test]
fn how_far_up_a_directory_is_looked_for_after_a_move_is_bounded() {
    in_a_namespace(
        "how_far_up_a_directory_is_looked_for_after_a_move_is_bounded",
        || {
            const DEEPEST: usize = crate::passthrough::finding::DEEPEST;
            let share = Share::new();
            let mounted = share.path("m");
            std::fs::create_dir(&mounted).unwrap();
            mount("tmpfs", "mode=755", &mounted);
            std::fs::create_dir(mounted.join("moved")).unwrap();
            let moved = share.walk("m/moved").unwrap();
            // Directories of the host that the guest knows nothing of.
            let open = |at: &File, child: &CStr| {
                rustix::fs::mkdirat(at, child, 0o755.into()).unwrap();
                let flags = rustix::fs::OFlags::RDONLY;
                File::from(rustix::fs::openat(at, child, flags, 0.into()).unwrap())
            };
            let root = File::open(&mounted).unwrap();
            let mut at = open(&root, c"deep");
            // `m` is known, and as far as is looked.
            for _ in 2..DEEPEST {
                at = open(&at, c"d");
            }

            rustix::fs::renameat(&root, c"moved", &at, c"moved").unwrap();
            let (cost, deepest) = host_calls(|| share.attributes(moved).map(drop));
            let deeper = open(&at, c"d");
            rustix::fs::renameat(&at, c"moved", &deeper, c"moved").unwrap();
            let too_deep = share.attributes(moved).map(drop);

            let mut umount = Command::new("umount");
            assert!(umount.arg("-l").arg(&mounted).status().unwrap().success());
            assert_eq!((deepest, too_deep), (Ok(()), Err(Errno::STALE)));
            assert!((DEEPEST..3 * DEEPEST).contains(&cost), "{cost}");
        },
    );
}

/// A file system whose server says nothing, until it is dropped.
fn mount_dead(at: &Path) -> File {
    let flags = rustix::fs::OFlags::RDWR;
    let device = rustix::fs::open("/dev/fuse", flags, 0.into()).unwrap();
    let fd = std::os::fd::AsRawFd::as_raw_fd(&device);
    let options = format!("fd={fd},rootmode=40000,user_id=0,group_id=0");
    let mut mount = Command::new("mount");
    let status = mount.args(["-i", "-t", "fuse", "none", "-o", &options]);
    assert!(status.arg(at).status().unwrap().success());
    device.into()
}

#[test]
fn nobody_who_must_not_wait_waits_for_a_file_system_below() {
    let test = "nobody_who_must_not_wait_waits_for_a_file_system_below";
    in_a_namespace(test, || {
        let share = Share::new();
        for child in ["dead", "live", "plain"] {
            std::fs::create_dir(share.path(child)).unwrap();
        }
        mount("tmpfs", "mode=755", &share.path("live"));
        let device = mount_dead(&share.path("dead"));
        let fs = &share.fs;
        let request = || by(&GUEST_ROOT, ROOT).in_a_hurry();
        let look = |child: &str| fs.lookup(&request(), &name(child)).map(|entry| entry.inode);
        let work = || {
            assert_eq!(look("dead"), Err(WOULD_WAIT));
            // Not known yet, and known.
            assert_eq!(look("live"), Err(WOULD_WAIT));
            let live = share.walk("live").unwrap();
            assert_eq!(look("live"), Ok(live));
            assert!(look("plain").is_ok() && look("missing") == Err(Errno::NOENT));
            let opened = fs.opendir(&request()).unwrap();
            let mut page = Page::new(true, 4096);
            fs.readdir(&request(), opened.handle, 0, &mut page).unwrap();
            let told = |child: &str| page.entries.iter().find(|e| e.name == child).cloned();
            assert!(told("dead").unwrap().entry.is_none());
            assert!(told("live").unwrap().entry.is_some());
            assert!(told("plain").unwrap().entry.is_some());
            assert_eq!(fs.rmdir(&request(), c"dead"), Err(Errno::BUSY));
            let to = moved_to(ROOT, c"other", 0);
            assert_eq!(fs.rename(&request(), c"dead", to), Err(Errno::BUSY));
            assert_eq!(
                fs.mkdir(&request(), c"dead", &node(0o755)).map(drop),
                Err(Errno::EXIST)
            );
        };
        // Whoever does wait does so until the server is gone.
        let (done, finished) = mpsc::channel();
        let outcome = thread::scope(|scope| {
            let worker = scope.spawn(move || {
                work();
                done.send(()).unwrap();
            });
            let outcome = finished.recv_timeout(Duration::from_secs(60));
            drop(device);
            (worker.join(), outcome).1
        });
        assert_eq!(outcome, Ok(()));
        assert_eq!(share.walk("dead"), Err(Errno::NOTCONN));
        let mut umount = Command::new("umount");
        let paths = [share.path("dead"), share.path("live")];
        assert!(umount.arg("-l").args(paths).status().unwrap().success());
    });
}
