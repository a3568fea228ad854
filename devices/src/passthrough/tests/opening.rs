//! How a file is opened on the host, and what the guest is told of it.

use rustix::fs::{IFlags, OFlags, ioctl_getflags, ioctl_setflags};
use rustix::io::Errno;

use super::fixture::operations::*;
use super::fixture::{GUEST_ROOT, Share, by, name, node, opening, writing};
use crate::filesystem::{NodeId, OpenBehaviour, Opened, ROOT};
use crate::passthrough::{CachePolicy, Config};

/// The `open(2)` flags of the host's file.
fn on_the_host(share: &Share, node: NodeId, opened: &Opened) -> OFlags {
    let open = share.fs.handles.get(node, opened.handle).unwrap();
    rustix::fs::fcntl_getfl(open.host()).unwrap()
}

#[test]
fn only_what_may_have_been_written_is_flushed() {
    for cache in [CachePolicy::Never, CachePolicy::Auto, CachePolicy::Always] {
        for writeback in [false, true] {
            let share = Share::with(Config {
                cache,
                writeback,
                ..Config::default()
            });
            for (flags, quiet) in [
                (libc::O_RDONLY, true),
                (libc::O_WRONLY, false),
                (libc::O_RDWR, false),
                (libc::O_RDONLY | libc::O_TRUNC, true),
                (libc::O_WRONLY | libc::O_APPEND, false),
            ] {
                let new = name(&flags.to_string());
                let flags = flags.cast_unsigned();
                let root = by(&GUEST_ROOT, ROOT);
                let made = share
                    .fs
                    .create(&root, &new, &node(0o644), opening(flags, false));
                let (entry, made) = made.unwrap();
                let file = by(&GUEST_ROOT, entry.inode);
                let opened = share.fs.open(&file, opening(flags, false)).unwrap();
                let told = [made, opened].map(|opened| opened.behaviour.no_flush);
                assert_eq!(told, [quiet; 2], "{flags:#o} {cache:?}");
            }
            // Closing a directory is RELEASEDIR alone in any case.
            let directory = share.fs.opendir(&by(&GUEST_ROOT, ROOT)).unwrap();
            assert!(!directory.behaviour.no_flush);
        }
    }
}

#[test]
fn a_policy_says_how_files_and_directories_are_opened() {
    let none = OpenBehaviour {
        no_flush: true,
        ..OpenBehaviour::default()
    };
    let direct = OpenBehaviour {
        direct_io: true,
        parallel_direct_writes: true,
        ..none
    };
    let kept = OpenBehaviour {
        keep_cache: true,
        ..none
    };
    let listed_once = OpenBehaviour {
        cache_dir: true,
        no_flush: false,
        ..kept
    };
    let nothing = OpenBehaviour::default();
    for (cache, file, directory) in [
        (CachePolicy::Never, direct, nothing),
        (CachePolicy::Metadata, direct, listed_once),
        (CachePolicy::Auto, none, nothing),
        (CachePolicy::Always, kept, listed_once),
    ] {
        let share = Share::with(Config {
            cache,
            ..Config::default()
        });
        std::fs::write(share.path("f"), b"").unwrap();
        let node = share.walk("f").unwrap();
        let opened = share.open(node, libc::O_RDONLY).unwrap();
        assert_eq!(opened.behaviour, file, "{cache:?}");
        let opened = share.fs.opendir(&by(&GUEST_ROOT, ROOT)).unwrap();
        assert_eq!(opened.behaviour, directory, "{cache:?}");
    }
}

#[test]
fn what_the_guest_asked_for_reaches_the_host_as_far_as_it_is_the_hosts() {
    let passed_on = OFlags::SYNC | OFlags::NOATIME;
    let kept_back = libc::O_DIRECT | libc::O_NONBLOCK | libc::O_EXCL | libc::O_NOFOLLOW;
    let share = Share::new();
    std::fs::write(share.path("f"), b"text").unwrap();
    let node = share.walk("f").unwrap();
    for access in [libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR] {
        let opened = share.open(node, access | kept_back).unwrap();
        let flags = on_the_host(&share, node, &opened);
        assert_eq!(flags.bits() & 3, access.cast_unsigned());
        assert!(!flags.intersects(OFlags::DIRECT | OFlags::NONBLOCK | passed_on));
        let asked = access | libc::O_SYNC | libc::O_NOATIME;
        let opened = share.open(node, asked).unwrap();
        assert!(on_the_host(&share, node, &opened).contains(passed_on));
    }
    assert_eq!(share.contents(node).unwrap(), b"text");
    let both = libc::O_RDWR | libc::O_WRONLY;
    assert_eq!(share.open(node, both).map(drop), Err(Errno::INVAL));
    assert!(share.open(node, libc::O_WRONLY | libc::O_TRUNC).is_ok());
    assert_eq!(share.contents(node).unwrap(), b"");
}

#[test]
fn a_file_for_appending_only_is_opened_by_who_wants_to_append() {
    let share = Share::new();
    std::fs::write(share.path("f"), b"one").unwrap();
    let host = std::fs::File::open(share.path("f")).unwrap();
    let before = ioctl_getflags(&host).unwrap();
    match ioctl_setflags(&host, before | IFlags::APPEND) {
        Ok(()) => {}
        // Not for everybody, nor on every file system.
        Err(Errno::PERM) if !share.fs.keeps_owners() => return,
        Err(error) => {
            assert!(matches!(error, Errno::NOTTY | Errno::OPNOTSUPP), "{error}");
            return;
        }
    }
    let node = share.walk("f").unwrap();

    let refused = share.open(node, libc::O_WRONLY).map(drop);
    let opened = share.open(node, libc::O_WRONLY | libc::O_APPEND);
    let written = opened.as_ref().map(|opened| {
        let args = writing(opened.handle, 0, b" two", libc::O_APPEND);
        share.write_with(node, b" two", &args)
    });
    let flags = opened.map(|opened| on_the_host(&share, node, &opened));

    ioctl_setflags(&host, before).unwrap();
    assert_eq!(refused, Err(Errno::PERM));
    assert_eq!(written, Ok(Ok(4)));
    assert!(flags.unwrap().contains(OFlags::APPEND));
    assert_eq!(std::fs::read(share.path("f")).unwrap(), b"one two");
}
