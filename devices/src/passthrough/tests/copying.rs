//! COPY_FILE_RANGE.

use std::os::unix::fs::PermissionsExt;

use rustix::io::Errno;

use super::fixture::operations::*;
use super::fixture::{GUEST_ROOT, Share, by, opening};
use crate::filesystem::{Caller, CopyFileRangeArgs, Handle, NodeId, ROOT, Result};
use crate::passthrough::{Config, Passthrough};

const MEBIBYTE: u64 = 1 << 20;

/// A file that the guest has open.
#[derive(Clone, Copy)]
struct Open {
    node: NodeId,
    handle: Handle,
}

/// Two files that the guest has open, the first with `bytes` in it.
fn files(share: &Share, bytes: &[u8]) -> [Open; 2] {
    std::fs::write(share.path("from"), bytes).unwrap();
    std::fs::write(share.path("to"), "").unwrap();
    ["from", "to"].map(|name| {
        let node = share.walk(name).unwrap();
        let handle = share.open(node, libc::O_RDWR).unwrap().handle;
        Open { node, handle }
    })
}

fn copying([from, to]: [Open; 2], at: [u64; 2], length: u64) -> CopyFileRangeArgs {
    CopyFileRangeArgs {
        handle: from.handle,
        offset: at[0],
        to_node: to.node,
        to_handle: to.handle,
        to_offset: at[1],
        length,
        flags: 0,
    }
}

fn copy(share: &Share, files: [Open; 2], at: [u64; 2], length: u64) -> Result<u64> {
    let args = copying(files, at, length);
    let request = by(&GUEST_ROOT, files[0].node);
    share.fs.copy_file_range(&request, &args)
}

#[test]
fn a_part_of_one_file_gets_into_another() {
    let share = Share::new();
    let files = files(&share, b"0123456789");

    assert_eq!(copy(&share, files, [2, 4], 5), Ok(5));
    assert_eq!(std::fs::read(share.path("to")).unwrap(), b"\0\0\0\x0023456");
    assert_eq!(copy(&share, files, [8, 0], 100), Ok(2));
    assert_eq!(std::fs::read(share.path("to")).unwrap(), b"89\0\x0023456");
    assert_eq!(copy(&share, files, [0, 0], 0), Ok(0));
}

#[test]
fn one_file_can_be_both_but_not_where_they_overlap() {
    let share = Share::new();
    let [file, _] = files(&share, b"0123456789");

    assert_eq!(copy(&share, [file; 2], [0, 10], 4), Ok(4));
    assert_eq!(
        std::fs::read(share.path("from")).unwrap(),
        b"01234567890123"
    );
    assert_eq!(copy(&share, [file; 2], [0, 2], 4), Err(Errno::INVAL));
}

#[test]
fn what_takes_too_long_for_one_request_is_copied_in_part() {
    let share = Share::new();
    let files = files(&share, b"");
    let length = 65 * MEBIBYTE;
    let file = std::fs::File::options()
        .write(true)
        .open(share.path("from"));
    file.unwrap().set_len(length).unwrap();

    assert_eq!(
        copy(&share, files, [0, 0], u64::MAX >> 1),
        Ok(64 * MEBIBYTE)
    );
    let rest = copy(&share, files, [64 * MEBIBYTE; 2], u64::MAX >> 1);
    assert_eq!(rest, Ok(MEBIBYTE));
    assert_eq!(share.path("to").metadata().unwrap().len(), length);
}

#[test]
fn where_there_is_nothing_to_copy_the_guest_is_to_read() {
    let share = Share::new();
    let files = files(&share, b"text");

    assert_eq!(copy(&share, files, [4, 0], 9), Err(Errno::OPNOTSUPP));
}

#[test]
fn what_is_no_part_of_a_file_is_refused() {
    let share = Share::new();
    let both = files(&share, b"text");
    let [from, to] = both;

    for at in [[1 << 63, 0], [0, 1 << 63], [u64::MAX, 0], [0, u64::MAX]] {
        assert_eq!(copy(&share, both, at, 4), Err(Errno::INVAL), "{at:?}");
    }
    let last = i64::MAX.cast_unsigned();
    let refused = copy(&share, both, [0, last], 4);
    assert!(
        matches!(refused, Err(Errno::OVERFLOW | Errno::FBIG)),
        "{refused:?}"
    );
    let flags = CopyFileRangeArgs {
        flags: 1,
        ..copying(both, [0, 0], 4)
    };
    let request = by(&GUEST_ROOT, from.node);
    assert_eq!(
        share.fs.copy_file_range(&request, &flags),
        Err(Errno::INVAL)
    );
    assert_eq!(share.contents(to.node).unwrap(), b"");
}

#[test]
fn handles_belong_to_their_nodes_and_are_files() {
    let share = Share::new();
    let [from, to] = files(&share, b"text");
    let node = share.mkdir(ROOT, "d").unwrap().inode;
    let handle = share.fs.opendir(&by(&GUEST_ROOT, node)).unwrap().handle;
    let directory = Open { node, handle };
    let invented = Open { handle: 77, ..from };
    let swapped = Open {
        handle: to.handle,
        ..from
    };

    for (files, errno) in [
        ([invented, to], Errno::BADF),
        ([from, invented], Errno::BADF),
        ([swapped, to], Errno::BADF),
        ([from, swapped], Errno::BADF),
        ([directory, to], Errno::ISDIR),
        ([from, directory], Errno::ISDIR),
    ] {
        assert_eq!(copy(&share, files, [0, 0], 4), Err(errno));
    }
    let handle = share.open(to.node, libc::O_RDONLY).unwrap().handle;
    let for_reading = Open { handle, ..to };
    assert_eq!(
        copy(&share, [from, for_reading], [0, 0], 4),
        Err(Errno::BADF)
    );
    assert_eq!(share.contents(to.node).unwrap(), b"");
}

#[test]
fn what_the_host_makes_up_is_left_to_the_guest_to_read() {
    let fs = Passthrough::new("/proc/self".as_ref(), Config::default()).unwrap();
    let node = fs.lookup(&by(&GUEST_ROOT, ROOT), c"status").unwrap().inode;
    let reading = opening(libc::O_RDONLY.cast_unsigned(), false);
    let handle = fs.open(&by(&GUEST_ROOT, node), reading).unwrap().handle;
    let file = Open { node, handle };

    let args = copying([file; 2], [0, 0], 10);
    let copied = fs.copy_file_range(&by(&GUEST_ROOT, node), &args);
    assert_eq!(copied, Err(Errno::OPNOTSUPP));
}

#[test]
fn a_read_only_share_takes_no_copy() {
    let share = Share::with(Config {
        read_only: true,
        ..Config::default()
    });
    std::fs::write(share.path("f"), "text").unwrap();
    let node = share.walk("f").unwrap();
    let handle = share.open(node, libc::O_RDONLY).unwrap().handle;

    let file = Open { node, handle };
    assert_eq!(copy(&share, [file; 2], [0, 4], 4), Err(Errno::ROFS));
}

#[test]
fn set_id_bits_go_unless_root_copies() {
    let share = Share::new();
    let files = files(&share, b"text");
    let user = Caller {
        uid: 1234,
        ..GUEST_ROOT
    };

    // As of an ID-mapped mount.
    let unknown = Caller {
        uid: u32::MAX,
        gid: u32::MAX,
        ..GUEST_ROOT
    };

    for (caller, left) in [(GUEST_ROOT, 0o6777), (user, 0o777), (unknown, 0o777)] {
        let privileged = PermissionsExt::from_mode(0o6777);
        std::fs::set_permissions(share.path("to"), privileged).unwrap();
        let args = copying(files, [0, 0], 4);
        let request = by(&caller, files[0].node);
        assert_eq!(share.fs.copy_file_range(&request, &args), Ok(4));
        let mode = share.path("to").metadata().unwrap().permissions().mode();
        // A process without CAP_FSETID has them cleared for root as well.
        if caller != GUEST_ROOT || rustix::process::geteuid().is_root() {
            assert_eq!(mode & 0o7777, left, "{caller:?}");
        }
    }
}
