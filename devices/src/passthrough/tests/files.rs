//! Files: made, opened, read, written, measured, removed.

use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};

use rustix::io::Errno;

use super::fixture::operations::*;
use super::fixture::{GUEST_ROOT, Share, by, closing, name, node, opening, writing};
use crate::filesystem::{FallocateArgs, LseekArgs, ROOT, SetAttributes, WriteArgs};
use crate::passthrough::{CachePolicy, Config};

#[test]
fn what_is_written_is_on_the_host_and_read_back() {
    let share = Share::new();
    let (entry, opened) = share.create(ROOT, "f").unwrap();

    assert_eq!(share.write(entry.inode, opened.handle, 3, b"hello"), Ok(5));

    assert_eq!(std::fs::read(share.path("f")).unwrap(), b"\0\0\0hello");
    assert_eq!(share.contents(entry.inode).unwrap(), b"\0\0\0hello");
    assert_eq!(share.attributes(entry.inode).unwrap().size, 8);
}

#[test]
fn a_read_past_the_end_is_short_and_then_empty() {
    let share = Share::new();
    std::fs::write(share.path("f"), b"0123456789").unwrap();
    let inode = share.walk("f").unwrap();
    let opened = share.open(inode, libc::O_RDONLY).unwrap();

    assert_eq!(share.read(inode, opened.handle, 8, 100).unwrap(), b"89");
    assert_eq!(share.read(inode, opened.handle, 10, 100).unwrap(), b"");
    assert_eq!(
        share.read(inode, opened.handle, u64::MAX, 8),
        Err(Errno::INVAL)
    );
}

#[test]
fn positions_that_no_file_has_are_refused() {
    let share = Share::new();
    let (entry, opened) = share.create(ROOT, "f").unwrap();
    share.write(entry.inode, opened.handle, 0, b"0123").unwrap();

    for at in [1 << 63, u64::MAX, u64::MAX - 2] {
        let read = share.read(entry.inode, opened.handle, at, 4);
        let written = share.write(entry.inode, opened.handle, at, b"x");
        assert_eq!((read, written), (Err(Errno::INVAL), Err(Errno::INVAL)));
    }
    assert_eq!(share.contents(entry.inode).unwrap(), b"0123");
}

#[test]
fn a_handle_of_another_inode_is_refused() {
    let share = Share::new();
    let (one, opened) = share.create(ROOT, "one").unwrap();
    let (two, _) = share.create(ROOT, "two").unwrap();

    assert_eq!(share.read(two.inode, opened.handle, 0, 1), Err(Errno::BADF));
    assert_eq!(
        share
            .fs
            .release(&by(&GUEST_ROOT, two.inode), closing(opened.handle)),
        Err(Errno::BADF)
    );
    assert_eq!(share.read(one.inode, opened.handle, 0, 1), Ok(vec![]));
}

#[test]
fn a_released_handle_is_gone() {
    let share = Share::new();
    let (entry, opened) = share.create(ROOT, "f").unwrap();
    share.release(entry.inode, &opened);

    assert_eq!(share.fs.open_count(), 0);
    assert_eq!(
        share.read(entry.inode, opened.handle, 0, 1),
        Err(Errno::BADF)
    );
    assert_eq!(
        share
            .fs
            .flush(&by(&GUEST_ROOT, entry.inode), opened.handle, 0),
        Err(Errno::BADF)
    );
    assert_eq!(
        share
            .fs
            .fsync(&by(&GUEST_ROOT, entry.inode), opened.handle, false),
        Err(Errno::BADF)
    );
}

#[test]
fn an_unlinked_file_lives_as_long_as_it_is_open() {
    let share = Share::new();
    let (entry, opened) = share.create(ROOT, "f").unwrap();
    share.write(entry.inode, opened.handle, 0, b"kept").unwrap();

    share.fs.unlink(&by(&GUEST_ROOT, ROOT), &name("f")).unwrap();

    assert_eq!(share.lookup(ROOT, "f").map(|e| e.inode), Err(Errno::NOENT));
    assert_eq!(
        share.read(entry.inode, opened.handle, 0, 10).unwrap(),
        b"kept"
    );
    assert_eq!(share.attributes(entry.inode).unwrap().nlink, 0);
    let grown = SetAttributes {
        size: Some(2),
        ..SetAttributes::default()
    };
    let set = share
        .fs
        .setattr(&by(&GUEST_ROOT, entry.inode), Some(opened.handle), &grown);
    assert_eq!(set.unwrap().0.size, 2);
}

#[test]
fn exclusive_creation_refuses_what_is_there_and_plain_creation_opens_it() {
    let share = Share::new();
    std::fs::write(share.path("f"), b"old").unwrap();
    let create = |flags: i32| {
        let flags = flags.cast_unsigned();
        share.fs.create(
            &by(&GUEST_ROOT, ROOT),
            &name("f"),
            &node(0o600),
            opening(flags, false),
        )
    };

    let exclusive = create(libc::O_RDWR | libc::O_EXCL).map(|_| ());
    let (entry, _) = create(libc::O_RDWR).unwrap();
    let (truncated, _) = create(libc::O_RDWR | libc::O_TRUNC).unwrap();

    assert_eq!(exclusive, Err(Errno::EXIST));
    assert_eq!(entry.attributes.size, 3);
    assert_eq!(truncated.attributes.size, 0);
    assert_eq!(truncated.inode, entry.inode);
}

#[test]
fn appending_goes_to_the_end_whatever_the_host_did_meanwhile() {
    let share = Share::new();
    std::fs::write(share.path("f"), b"one").unwrap();
    let inode = share.walk("f").unwrap();
    let opened = share.open(inode, libc::O_WRONLY | libc::O_APPEND).unwrap();
    std::fs::write(share.path("f"), b"one two").unwrap();

    let append = writing(opened.handle, 3, b" three", libc::O_APPEND);
    share.write_with(inode, b" three", &append).unwrap();

    assert_eq!(std::fs::read(share.path("f")).unwrap(), b"one two three");
}

#[test]
fn append_mode_follows_the_flags_of_each_write() {
    let share = Share::new();
    std::fs::write(share.path("f"), b"0123").unwrap();
    let inode = share.walk("f").unwrap();
    let opened = share.open(inode, libc::O_RDWR).unwrap();

    let append = writing(opened.handle, 0, b"A", libc::O_APPEND);
    share.write_with(inode, b"A", &append).unwrap();
    share.write(inode, opened.handle, 0, b"B").unwrap();
    let again = writing(opened.handle, 0, b"C", libc::O_APPEND);
    share.write_with(inode, b"C", &again).unwrap();

    assert_eq!(std::fs::read(share.path("f")).unwrap(), b"B123AC");
}

#[test]
fn a_writeback_guest_reads_what_it_opened_to_write_and_places_appends_itself() {
    let share = Share::with(Config {
        writeback: true,
        ..Config::default()
    });
    std::fs::write(share.path("f"), b"0123").unwrap();
    let inode = share.walk("f").unwrap();
    let opened = share.open(inode, libc::O_WRONLY | libc::O_APPEND).unwrap();

    assert_eq!(share.read(inode, opened.handle, 0, 4).unwrap(), b"0123");
    let cached = WriteArgs {
        from_cache: true,
        ..writing(opened.handle, 1, b"x", libc::O_APPEND)
    };
    share.write_with(inode, b"x", &cached).unwrap();

    assert_eq!(std::fs::read(share.path("f")).unwrap(), b"0x23");
}

#[test]
fn set_id_bits_go_when_a_write_asks_for_it() {
    let share = Share::new();
    std::fs::write(share.path("f"), b"old").unwrap();
    let mode = |bits| std::fs::Permissions::from_mode(bits);
    std::fs::set_permissions(share.path("f"), mode(0o6755)).unwrap();
    let inode = share.walk("f").unwrap();
    let opened = share.open(inode, libc::O_WRONLY).unwrap();

    share.write(inode, opened.handle, 0, b"a").unwrap();
    let kept = share.attributes(inode).unwrap().mode & 0o7777;
    let kill = WriteArgs {
        kill_privileges: true,
        ..writing(opened.handle, 0, b"b", 0)
    };
    share.write_with(inode, b"b", &kill).unwrap();

    // The host does not ask unprivileged processes.
    let asked = share.fs.keeps_owners();
    assert_eq!(kept, if asked { 0o6755 } else { 0o755 });
    assert_eq!(share.attributes(inode).unwrap().mode & 0o7777, 0o755);
    std::fs::set_permissions(share.path("f"), mode(0o4755)).unwrap();
    assert_eq!(share.walk("f"), Ok(inode));
    let flags = (libc::O_WRONLY | libc::O_TRUNC).cast_unsigned();
    share
        .fs
        .open(&by(&GUEST_ROOT, inode), opening(flags, true))
        .unwrap();
    assert_eq!(share.attributes(inode).unwrap().mode & 0o7777, 0o755);
}

#[test]
fn only_regular_files_are_opened() {
    let share = Share::new();
    let fifo = share
        .fs
        .mknod(
            &by(&GUEST_ROOT, ROOT),
            &name("fifo"),
            &node(libc::S_IFIFO | 0o644),
        )
        .unwrap();
    std::os::unix::fs::symlink("fifo", share.path("link")).unwrap();
    let directory = share.mkdir(ROOT, "d").unwrap();
    let link = share.walk("link").unwrap();

    let outcome = |inode| share.open(inode, libc::O_RDONLY).map(|_| ());

    assert_eq!(outcome(fifo.inode), Err(Errno::NXIO));
    assert_eq!(outcome(link), Err(Errno::LOOP));
    assert_eq!(outcome(directory.inode), Err(Errno::ISDIR));
    assert_eq!(outcome(4242), Err(Errno::STALE));
    let flags = libc::O_RDWR.cast_unsigned();
    let made = share.fs.create(
        &by(&GUEST_ROOT, ROOT),
        &name("fifo"),
        &node(0o644),
        opening(flags, false),
    );
    assert_eq!(made.map(|_| ()), Err(Errno::NXIO));
}

#[test]
fn fallocate_extends_and_punches() {
    let share = Share::new();
    let (entry, opened) = share.create(ROOT, "f").unwrap();
    let fallocate = |mode: i32, offset, length| {
        let mode = mode.cast_unsigned();
        share.fs.fallocate(
            &by(&GUEST_ROOT, entry.inode),
            &FallocateArgs {
                handle: opened.handle,
                mode,
                offset,
                length,
            },
        )
    };

    fallocate(0, 0, 8192).unwrap();
    assert_eq!(share.attributes(entry.inode).unwrap().size, 8192);
    share
        .write(entry.inode, opened.handle, 0, &[7; 8192])
        .unwrap();
    let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    match fallocate(punch, 0, 4096) {
        Ok(()) => assert_eq!(
            share.read(entry.inode, opened.handle, 4095, 2).unwrap(),
            [0, 7]
        ),
        Err(error) => assert_eq!(error, Errno::OPNOTSUPP),
    }
    assert_eq!(fallocate(0, 0, 0), Err(Errno::INVAL));
    assert_eq!(fallocate(0, u64::MAX, 1), Err(Errno::INVAL));
}

#[test]
fn data_and_holes_are_found() {
    let share = Share::new();
    let (entry, made) = share.create(ROOT, "f").unwrap();
    share.release(entry.inode, &made);
    let opened = share.open(entry.inode, libc::O_RDONLY).unwrap();
    let file = std::fs::File::options()
        .write(true)
        .open(share.path("f"))
        .unwrap();
    file.write_all_at(b"x", 1 << 20).unwrap();
    let lseek = |offset, whence: i32| {
        let whence = whence.cast_unsigned();
        share.fs.lseek(
            &by(&GUEST_ROOT, entry.inode),
            &LseekArgs {
                handle: opened.handle,
                offset,
                whence,
            },
        )
    };

    assert_eq!(lseek(0, libc::SEEK_DATA), Ok(1 << 20));
    assert_eq!(lseek(0, libc::SEEK_HOLE), Ok(0));
    assert_eq!(lseek(1 << 20, libc::SEEK_HOLE), Ok((1 << 20) + 1));
    assert_eq!(lseek(2 << 20, libc::SEEK_DATA), Err(Errno::NXIO));
    assert_eq!(lseek(u64::MAX, libc::SEEK_DATA), Err(Errno::NXIO));
    assert_eq!(lseek(0, libc::SEEK_END), Err(Errno::INVAL));
}

#[test]
fn flush_and_both_syncs_work_on_files_and_directories() {
    let share = Share::new();
    let (entry, opened) = share.create(ROOT, "f").unwrap();
    let directory = share.mkdir(ROOT, "d").unwrap();
    let listing = share.fs.opendir(&by(&GUEST_ROOT, directory.inode)).unwrap();
    let fs = &share.fs;

    assert_eq!(
        fs.flush(&by(&GUEST_ROOT, entry.inode), opened.handle, 0),
        Ok(())
    );
    assert_eq!(
        fs.fsync(&by(&GUEST_ROOT, entry.inode), opened.handle, true),
        Ok(())
    );
    assert_eq!(
        fs.fsync(&by(&GUEST_ROOT, entry.inode), opened.handle, false),
        Ok(())
    );
    assert_eq!(
        fs.fsyncdir(&by(&GUEST_ROOT, directory.inode), listing.handle, false),
        Ok(())
    );
    assert_eq!(
        fs.fsyncdir(&by(&GUEST_ROOT, directory.inode), 0, true),
        Ok(())
    );
    assert_eq!(
        fs.fsync(&by(&GUEST_ROOT, directory.inode), listing.handle, true),
        Ok(())
    );
}

#[test]
fn the_cache_policy_decides_how_files_are_opened() {
    let behaviour = |cache| {
        let share = Share::with(Config {
            cache,
            ..Config::default()
        });
        let (_, opened) = share.create(ROOT, "f").unwrap();
        (opened.behaviour.direct_io, opened.behaviour.keep_cache)
    };

    assert_eq!(behaviour(CachePolicy::Never), (true, false));
    assert_eq!(behaviour(CachePolicy::Metadata), (true, false));
    assert_eq!(behaviour(CachePolicy::Auto), (false, false));
    assert_eq!(behaviour(CachePolicy::Always), (false, true));
}

#[test]
fn truncating_by_attribute_needs_no_handle() {
    let share = Share::new();
    std::fs::write(share.path("f"), b"0123456789").unwrap();
    let inode = share.walk("f").unwrap();
    let shorter = SetAttributes {
        size: Some(4),
        ..SetAttributes::default()
    };

    share
        .fs
        .setattr(&by(&GUEST_ROOT, inode), None, &shorter)
        .unwrap();

    assert_eq!(std::fs::metadata(share.path("f")).unwrap().size(), 4);
    let read_only = share.open(inode, libc::O_RDONLY).unwrap();
    let set = share
        .fs
        .setattr(&by(&GUEST_ROOT, inode), Some(read_only.handle), &shorter);
    assert_eq!(set.unwrap().0.size, 4);
}
