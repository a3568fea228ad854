//! A process that may do no more than its user: what root is not refused.

use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown as unix_chown};
use std::path::Path;

use rustix::fs::{Gid, OFlags, Uid};
use rustix::io::Errno;
use rustix::thread::{capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use tempfile::TempDir;

use super::fixture::operations::*;
use super::fixture::{
    Data, GUEST_ROOT, Received, Share, attribute, by, name, node, opening, reading, unshared,
    writing,
};
use crate::filesystem::{Agreement, Caller, NodeId, Opened, ROOT, Result, SetAttributes};
use crate::passthrough::{Config, Owners, Passthrough};

const NOBODY: u32 = 65_534;

const ALICE: Caller = Caller {
    uid: 1234,
    gid: 2345,
    pid: 7,
    supplementary_gid: None,
};

/// A directory with the file `f`, which belongs to `owner` and has `mode`.
pub(super) fn directory(owner: u32, mode: u32) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let bits = std::fs::Permissions::from_mode;
    std::fs::set_permissions(path, bits(0o777)).unwrap();
    std::fs::write(path.join("f"), b"text").unwrap();
    std::fs::set_permissions(path.join("f"), bits(mode)).unwrap();
    if rustix::process::geteuid().is_root() {
        unix_chown(path.join("f"), Some(owner), Some(owner)).unwrap();
    }
    directory
}

/// Makes the calling thread nobody's, if it is root's. Credentials are per
/// thread to the kernel, so the other tests keep theirs.
pub(super) fn give_everything_up() {
    if rustix::process::geteuid().is_root() {
        let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        set_thread_groups(&[]).unwrap();
        set_thread_res_gid(gid, gid, gid).unwrap();
        set_thread_res_uid(uid, uid, uid).unwrap();
    }
    assert!(capabilities(None).unwrap().effective.is_empty());
}

/// Runs `body` with a share of the directory at `path` in a thread that is
/// nobody's, if this is root's.
pub(super) fn unprivileged(path: &Path, config: Config, body: impl FnOnce(Passthrough) + Send) {
    // Whoever may pass above it.
    let opened = std::fs::File::open(path).unwrap();
    let path = format!("/proc/self/fd/{}", opened.as_raw_fd());
    let act = || {
        give_everything_up();
        let fs = Passthrough::new(Path::new(&path), config).unwrap();
        fs.init(Agreement {
            writeback_cache: config.writeback,
            ..Agreement::default()
        });
        assert!(!fs.keeps_owners());
        body(fs);
    };
    std::thread::scope(|scope| scope.spawn(act).join().unwrap());
}

fn open(fs: &Passthrough, node: NodeId, flags: i32) -> Result<Opened> {
    fs.open(
        &by(&GUEST_ROOT, node),
        opening(flags.cast_unsigned(), false),
    )
}

fn flags_on_the_host(fs: &Passthrough, node: NodeId, opened: &Opened) -> OFlags {
    let open = fs.handles.get(node, opened.handle).unwrap();
    rustix::fs::fcntl_getfl(open.host()).unwrap()
}

#[test]
fn what_may_only_be_written_is_opened_to_write_also_under_write_back() {
    for writeback in [false, true] {
        let place = directory(NOBODY, 0o200);
        let config = Config {
            writeback,
            ..Config::default()
        };
        unprivileged(place.path(), config, |fs| {
            let node = fs.lookup(&by(&GUEST_ROOT, ROOT), &name("f")).unwrap().inode;

            let opened = open(&fs, node, libc::O_WRONLY).unwrap();

            let access = flags_on_the_host(&fs, node, &opened) & (OFlags::WRONLY | OFlags::RDWR);
            assert_eq!(access, OFlags::WRONLY);
            let request = by(&GUEST_ROOT, node);
            let args = writing(opened.handle, 2, b"NT", libc::O_WRONLY);
            assert_eq!(fs.write(&request, &args, &mut Data(b"NT")), Ok(2));
            // Who wants to read hears of it.
            for flags in [libc::O_RDONLY, libc::O_RDWR] {
                assert_eq!(open(&fs, node, flags).map(drop), Err(Errno::ACCESS));
            }
            let read = fs.read(
                &request,
                &reading(opened.handle, 0, 4),
                &mut Received::new(4),
            );
            assert_eq!(read, Err(Errno::BADF));
        });
        let bits = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(place.path().join("f"), bits).unwrap();
        assert_eq!(std::fs::read(place.path().join("f")).unwrap(), b"teNT");
    }
}

#[test]
fn under_write_back_what_may_be_read_is_opened_to_be_read() {
    let place = directory(NOBODY, 0o600);
    let config = Config {
        writeback: true,
        ..Config::default()
    };
    unprivileged(place.path(), config, |fs| {
        let node = fs.lookup(&by(&GUEST_ROOT, ROOT), &name("f")).unwrap().inode;
        let opened = open(&fs, node, libc::O_WRONLY).unwrap();
        let mut reply = Received::new(4);
        let args = reading(opened.handle, 0, 4);
        assert_eq!(fs.read(&by(&GUEST_ROOT, node), &args, &mut reply), Ok(4));
        assert_eq!(reply.bytes, b"text");
    });
}

#[test]
fn access_times_are_left_alone_only_where_that_is_allowed() {
    // Somebody else's file, and its own.
    let own = rustix::process::geteuid().as_raw();
    let root = own == 0;
    for (owner, allowed) in [(0, !root), (NOBODY, true)] {
        let place = directory(owner, 0o644);
        let path = place.path();
        if root {
            unix_chown(path, Some(owner), Some(owner)).unwrap();
        }
        let config = Config {
            read_only: true,
            ..Config::default()
        };
        unprivileged(path, config, |fs| {
            let node = fs.lookup(&by(&GUEST_ROOT, ROOT), &name("f")).unwrap().inode;
            let file = open(&fs, node, libc::O_RDONLY).unwrap();
            let directory = fs.opendir(&by(&GUEST_ROOT, ROOT)).unwrap();

            for (node, opened) in [(node, file), (ROOT, directory)] {
                let flags = flags_on_the_host(&fs, node, &opened);
                assert_eq!(flags.contains(OFlags::NOATIME), allowed, "of {owner}");
            }
            // The program's own wish is refused no more than that.
            assert!(open(&fs, node, libc::O_RDONLY | libc::O_NOATIME).is_ok());
        });
    }
}

#[test]
fn an_unprivileged_process_serves_every_guest_user() {
    let place = directory(NOBODY, 0o644);
    let path = place.path();
    unprivileged(path, Config::default(), |fs| {
        let who = Caller { uid: 0, ..ALICE };
        for (caller, child) in [(&who, "root"), (&ALICE, "alice")] {
            let flags = libc::O_RDWR.cast_unsigned();
            let child = name(child);
            let directory = fs.mkdir(&by(caller, ROOT), &child, &node(0o755)).unwrap();
            let (file, _) = fs
                .create(
                    &by(caller, directory.inode),
                    &child,
                    &node(0o644),
                    opening(flags, false),
                )
                .unwrap();
            fs.symlink(&by(caller, directory.inode), &name("l"), &child)
                .unwrap();
            fs.link(
                &by(caller, ROOT),
                &name(&format!("{}2", caller.uid)),
                file.inode,
            )
            .unwrap();
            fs.setxattr(
                &by(caller, file.inode),
                c"user.v",
                &attribute(b"1", 0, false),
            )
            .unwrap();
            assert_eq!(
                fs.getxattr(&by(caller, file.inode), c"user.v", 9).unwrap(),
                b"1"
            );
            assert_eq!(fs.access(&by(caller, file.inode), 6), Ok(()));
        }
    });

    let own = rustix::process::geteuid();
    let expected = if own.is_root() { NOBODY } else { own.as_raw() };
    for child in ["root/root", "alice/alice", "alice/l", "02", "12342"] {
        let host = path.join(child).symlink_metadata().unwrap();
        assert_eq!(host.uid(), expected, "of {child}");
    }
}

#[test]
fn an_unprivileged_process_survives_more_files_than_descriptors() {
    let place = directory(NOBODY, 0o644);
    let path = place.path();
    for n in 0..500 {
        std::fs::write(path.join(n.to_string()), n.to_string()).unwrap();
    }
    let config = Config {
        fd_budget: Some(32),
        ..Config::default()
    };
    unprivileged(path, config, |fs| {
        let inodes: Vec<_> = (0..500)
            .map(|n: u32| fs.lookup(&by(&ALICE, ROOT), &name(&n.to_string())).unwrap())
            .collect();
        assert!(fs.descriptor_count() < 40);
        for (n, entry) in inodes.iter().enumerate() {
            let told = fs.getattr(&by(&ALICE, entry.inode), None).unwrap().0;
            assert_eq!(told.size, n.to_string().len() as u64);
        }
    });
}

#[test]
fn an_unprivileged_process_appends_to_what_it_may_not_open_again() {
    let place = directory(NOBODY, 0o644);
    let path = place.path();
    unprivileged(path, Config::default(), |fs| {
        for (child, opened, changed) in [("on", 0, libc::O_APPEND), ("off", libc::O_APPEND, 0)] {
            let flags = (libc::O_RDWR | opened).cast_unsigned();
            let (file, open) = fs
                .create(
                    &by(&ALICE, ROOT),
                    &name(child),
                    &node(0o444),
                    opening(flags, false),
                )
                .unwrap();
            let write = |text: &'static [u8], flags| {
                let args = writing(open.handle, 0, text, flags);
                fs.write(&by(&ALICE, file.inode), &args, &mut Data(text))
            };
            assert_eq!(write(b"0123", opened), Ok(4));
            assert_eq!(write(b"ab", changed), Ok(2));
            assert_eq!(write(b"cd", opened), Ok(2));
        }
    });
    for (child, expected) in [("on", b"cd23ab"), ("off", b"ab23cd")] {
        assert_eq!(std::fs::read(path.join(child)).unwrap(), expected);
    }
}

const ROOT_OF_HOST: (u32, u32) = (65_534, 65_534);

fn chown(fs: &Passthrough, node: NodeId, uid: Option<u32>, gid: Option<u32>) -> Result<(u32, u32)> {
    let changes = SetAttributes {
        uid,
        gid,
        ..SetAttributes::default()
    };
    let told = fs.setattr(&by(&GUEST_ROOT, node), None, &changes)?.0;
    Ok((told.uid, told.gid))
}

#[test]
fn the_user_of_the_process_is_root_in_the_guest() {
    let place = directory(NOBODY, 0o644);
    let path = place.path();
    std::fs::write(path.join("other"), "").unwrap();
    if rustix::process::geteuid().is_root() {
        unix_chown(path.join("other"), Some(1001), Some(1001)).unwrap();
        std::fs::write(path.join("root"), "").unwrap();
    }
    unprivileged(path, Config::default(), |fs| {
        let owner = |child: &str| {
            let entry = fs.lookup(&by(&ALICE, ROOT), &name(child)).unwrap();
            let again = fs.getattr(&by(&ALICE, entry.inode), None).unwrap().0;
            let told = (entry.attributes.uid, entry.attributes.gid);
            assert_eq!(told, (again.uid, again.gid), "{child}");
            (entry.inode, told)
        };
        assert_eq!(owner("f").1, (0, 0));
        // Which only root can make.
        if path.join("root").exists() {
            assert_eq!(owner("root").1, ROOT_OF_HOST);
            assert_eq!(owner("other").1, (1001, 1001));
        }
        for caller in [&GUEST_ROOT, &ALICE] {
            let child = name(&caller.uid.to_string());
            let made = fs.mkdir(&by(caller, ROOT), &child, &node(0o755)).unwrap();
            assert_eq!((made.attributes.uid, made.attributes.gid), (0, 0));
        }
        // What it is already can be said again.
        let own = owner("f").0;
        assert_eq!(chown(&fs, own, Some(0), Some(0)), Ok((0, 0)));
        assert_eq!(chown(&fs, own, Some(0), None), Ok((0, 0)));
        for (uid, gid) in [
            (Some(1001), None),
            (None, Some(1001)),
            (Some(NOBODY), Some(NOBODY)),
            (Some(rustix::process::geteuid().as_raw()), None),
            (Some(0), Some(1001)),
        ] {
            assert_eq!(
                chown(&fs, own, uid, gid),
                Err(Errno::PERM),
                "{uid:?} {gid:?}"
            );
        }
        assert_eq!(chown(&fs, own, Some(u32::MAX), None), Err(Errno::INVAL));
    });
}

#[test]
fn what_cannot_be_given_away_may_be_forgotten() {
    let place = directory(NOBODY, 0o4755);
    let config = Config {
        forget_owners: true,
        ..Config::default()
    };
    unprivileged(place.path(), config, |fs| {
        let node = fs.lookup(&by(&GUEST_ROOT, ROOT), &name("f")).unwrap().inode;
        let changes = SetAttributes {
            uid: Some(1001),
            gid: Some(1001),
            kill_privileges: true,
            ..SetAttributes::default()
        };
        let told = fs
            .setattr(&by(&GUEST_ROOT, node), None, &changes)
            .unwrap()
            .0;
        assert_eq!((told.uid, told.gid), (0, 0));
        // As if it had been.
        assert_eq!(told.mode & 0o7777, 0o755);
    });
}

#[test]
fn owners_can_be_the_hosts_without_the_right_to_change_them() {
    let place = directory(NOBODY, 0o644);
    let config = Config {
        owners: Owners::Host,
        ..Config::default()
    };
    unprivileged(place.path(), config, |fs| {
        let told = fs.lookup(&by(&GUEST_ROOT, ROOT), &name("f")).unwrap();
        let own = rustix::process::geteuid().as_raw();
        assert_eq!(told.attributes.uid, own);
        let given = chown(&fs, told.inode, Some(own + 1), None);
        assert_eq!(given, Err(Errno::PERM));
    });
}

/// In a user namespace that has one user, a process may do for its own files
/// what root does.
#[test]
fn root_of_the_guest_may_do_anything_with_its_own_files() {
    let test = "unprivileged::root_of_the_guest_may_do_anything_with_its_own_files";
    unshared("-r", test, || {
        let config = Config {
            owners: Owners::User,
            ..Config::default()
        };
        let share = Share::with(config);
        std::fs::create_dir(share.path("d")).unwrap();
        for (child, mode) in [("d/none", 0), ("d/read", 0o444), ("d", 0)] {
            if child != "d" {
                std::fs::write(share.path(child), "text").unwrap();
            }
            let bits = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(share.path(child), bits).unwrap();
        }
        for child in ["d/none", "d/read"] {
            let node = share.walk(child).unwrap();
            assert_eq!(share.contents(node).unwrap(), b"text");
            let opened = share.open(node, libc::O_WRONLY).unwrap();
            assert_eq!(share.write(node, opened.handle, 0, b"T"), Ok(1));
        }
        let made = share
            .fs
            .mkdir(&by(&ALICE, ROOT), &name("new"), &node(0o755));
        let made = made.unwrap();
        assert_eq!((made.attributes.uid, made.attributes.gid), (0, 0));
        let given = chown(&share.fs, made.inode, Some(1001), None);
        assert_eq!(given, Err(Errno::PERM));
    });
}

#[test]
fn what_may_not_be_read_has_no_attributes_of_an_overlay_if_nobody_can_set_them() {
    for read_only in [true, false] {
        let place = directory(NOBODY, 0o000);
        let config = Config {
            read_only,
            ..Config::default()
        };
        unprivileged(place.path(), config, |fs| {
            let node = fs.lookup(&by(&GUEST_ROOT, ROOT), &name("f")).unwrap().inode;
            let get = |name| fs.getxattr(&by(&GUEST_ROOT, node), name, 9);

            let overlays = get(c"trusted.overlay.metacopy");

            let expected = if read_only {
                Errno::NODATA
            } else {
                Errno::ACCESS
            };
            assert_eq!(overlays, Err(expected));
            assert_eq!(get(c"user.own"), Err(Errno::ACCESS));
        });
    }
}
