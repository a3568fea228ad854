//! The wire layout of every operation, byte by byte. Sizes are those of
//! `linux/fuse.h` (7.38).

use std::mem::size_of;

use fuse_backend_rs::abi::fuse_abi as abi;

use super::guest::{Message, UNIQUE, exchange, exchange_scattered};
use super::recorder::{EVERYTHING, in_session};
use super::requests::{copy_file_range, every_request, lock, readdir};
use crate::filesystem::{Caller, Capabilities, Timestamp};
use crate::fuse::Opcode;
use crate::fuse::flags::{ATTR_DAX, ATTR_SUBMOUNT};
use crate::fuse::listing::PackedEntries;

#[test]
fn structures_have_the_sizes_of_the_kernel() {
    let sizes = [
        (size_of::<abi::InHeader>(), 40),
        (size_of::<abi::OutHeader>(), 16),
        (size_of::<abi::Attr>(), 88),
        (size_of::<abi::AttrOut>(), 104),
        (size_of::<abi::EntryOut>(), 128),
        (size_of::<abi::OpenOut>(), 16),
        (size_of::<abi::InitOut>(), 64),
        (size_of::<abi::StatfsOut>(), 80),
        (size_of::<abi::WriteOut>(), 8),
        (size_of::<abi::GetxattrOut>(), 8),
        (size_of::<abi::LseekOut>(), 8),
        (size_of::<abi::Dirent>(), 24),
        (size_of::<abi::ForgetIn>(), 8),
        (size_of::<abi::ForgetOne>(), 16),
        (size_of::<abi::BatchForgetIn>(), 8),
        (size_of::<abi::GetattrIn>(), 16),
        (size_of::<abi::SetattrIn>(), 88),
        (size_of::<abi::MknodIn>(), 16),
        (size_of::<abi::MkdirIn>(), 8),
        (size_of::<abi::RenameIn>(), 8),
        (size_of::<abi::Rename2In>(), 16),
        (size_of::<abi::LinkIn>(), 8),
        (size_of::<abi::OpenIn>(), 8),
        (size_of::<abi::CreateIn>(), 16),
        (size_of::<abi::ReleaseIn>(), 24),
        (size_of::<abi::FlushIn>(), 24),
        (size_of::<abi::ReadIn>(), 40),
        (size_of::<abi::WriteIn>(), 40),
        (size_of::<abi::FsyncIn>(), 16),
        // FUSE_COMPAT_SETXATTR_IN_SIZE; the other 8 bytes are read apart.
        (size_of::<abi::SetxattrIn>(), 8),
        (size_of::<abi::GetxattrIn>(), 8),
        (size_of::<abi::AccessIn>(), 8),
        (size_of::<abi::FallocateIn>(), 32),
        (size_of::<abi::LseekIn>(), 24),
    ];
    for (ours, kernel) in sizes {
        assert_eq!(ours, kernel, "in {sizes:?}");
    }
}

#[test]
fn every_operation_reaches_the_file_system_as_it_was_sent() {
    let (server, recorder) = in_session(EVERYTHING);
    for sound in every_request() {
        let answer = exchange(&server, &sound.message.finish(), 4096 + 16);
        answer.assert_success(sound.reply);
        assert_eq!(recorder.calls(), [sound.call]);
    }
}

#[test]
fn the_caller_comes_from_the_header() {
    let (server, recorder) = in_session(EVERYTHING);
    exchange(&server, &Message::new(Opcode::STATFS, 5).finish(), 96).assert_success(80);
    let caller = recorder.caller.lock().unwrap().unwrap();
    assert_eq!((caller.uid, caller.gid, caller.pid), (1000, 100, 4242));
    assert_eq!(caller.supplementary_gid, None);
}

#[test]
fn every_errno_reaches_the_guest_negated_and_without_a_body() {
    let (server, recorder) = in_session(EVERYTHING);
    recorder.fail(rustix::io::Errno::XDEV);
    for sound in every_request() {
        if sound.call.starts_with("interrupt") || sound.call.starts_with("readdir") {
            continue; // they cannot fail like the others
        }
        let answer = exchange(&server, &sound.message.finish(), 4096 + 16);
        answer.assert_errno(rustix::io::Errno::XDEV);
    }
}

#[test]
fn an_errno_linux_would_not_accept_becomes_eio() {
    let (server, recorder) = in_session(EVERYTHING);
    // ERESTARTSYS, the first one above.
    recorder.fail(rustix::io::Errno::from_raw_os_error(512));
    let answer = exchange(&server, &Message::new(Opcode::STATFS, 5).finish(), 96);
    answer.assert_errno(rustix::io::Errno::IO);
}

#[test]
fn pieces_of_any_size_make_the_same_request_and_reply() {
    let (server, recorder) = in_session(EVERYTHING);
    for sound in every_request() {
        let request = sound.message.finish();
        let whole = exchange(&server, &request, 1024);
        let pieces: Vec<&[u8]> = request.chunks(3).collect();
        let scattered = exchange_scattered(&server, &pieces, &[3; 342]);
        assert_eq!(scattered.used, whole.used);
        assert_eq!(scattered.memory[..whole.used], whole.memory[..whole.used]);
        assert_eq!(recorder.calls(), [sound.call; 2]);
    }
}

#[test]
fn empty_descriptors_change_nothing() {
    let (server, recorder) = in_session(EVERYTHING);
    let request = Message::new(Opcode::LOOKUP, 5).bytes(b"name\0").finish();
    let pieces = [b"", &request[..40], b"", &request[40..], b""];
    exchange_scattered(&server, &pieces, &[0, 16, 0, 0, 128, 0]).assert_success(128);
    assert_eq!(recorder.calls(), [r#"lookup 5 "name""#]);
}

/// `struct fuse_attr` of `ATTRIBUTES`.
pub(super) fn expected_attr(flags: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for long in [11, 12, 13, -14i64, 16, 18] {
        bytes.extend_from_slice(&long.to_le_bytes());
    }
    for word in [15, 17, 19, 20, 21, 22, 23, 24, 25, flags] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// `struct fuse_entry_out` of `ENTRY`.
fn expected_entry() -> Vec<u8> {
    let mut bytes = Vec::new();
    for long in [31u64, 32, 9, 7] {
        bytes.extend_from_slice(&long.to_le_bytes());
    }
    for word in [10u32, 8] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.extend(expected_attr(ATTR_SUBMOUNT | ATTR_DAX));
    bytes
}

/// `struct fuse_open_out` of `OPENED`.
fn expected_opened() -> Vec<u8> {
    let mut bytes = 41u64.to_le_bytes().to_vec();
    bytes.extend_from_slice(&(1u32 | 8 | 32 | 64).to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes
}

#[test]
fn an_entry_has_its_fields_where_the_kernel_looks() {
    let (server, _) = in_session(EVERYTHING);
    let request = Message::new(Opcode::LOOKUP, 1).bytes(b"a\0").finish();
    let answer = exchange(&server, &request, 200);
    assert_eq!(answer.body(), expected_entry());
    assert_eq!(answer.u64(8), UNIQUE);
    assert!(
        answer.memory[answer.used..]
            .iter()
            .all(|byte| *byte == 0xa5)
    );
}

#[test]
fn attributes_have_their_fields_where_the_kernel_looks() {
    let (server, _) = in_session(EVERYTHING);
    let request = Message::new(Opcode::GETATTR, 1).u64(0).u64(0).finish();
    let answer = exchange(&server, &request, 200);
    assert_eq!((answer.u64(16), answer.u32(24), answer.u32(28)), (7, 8, 0));
    assert_eq!(answer.body()[16..], expected_attr(ATTR_SUBMOUNT | ATTR_DAX));
}

#[test]
fn statx_has_its_fields_where_the_kernel_looks() {
    let (server, recorder) = in_session(EVERYTHING);
    let request = Message::new(Opcode::STATX, 5).u32(0).u32(0).u64(6).u64(0);
    for btime in [None, Some((-26, 27))] {
        *recorder.btime.lock().unwrap() = btime.map(|(seconds, nanoseconds)| Timestamp {
            seconds,
            nanoseconds,
        });
        let answer = exchange(&server, &request.clone().finish(), 400);
        answer.assert_success(288);
        assert_eq!(recorder.calls(), ["getattr 5 None"]);
        let long = |at: usize| answer.u64(16 + at);
        let word = |at: usize| answer.u32(16 + at);
        // attr_valid, attr_valid_nsec, flags, and then the statx at 32.
        assert_eq!((long(0), word(8), word(12)), (7, 8, 0));
        assert_eq!(word(32), if btime.is_some() { 0xfff } else { 0x7ff });
        assert_eq!((word(36), long(40)), (25, 0));
        assert_eq!([48, 52, 56, 60].map(word), [21, 22, 23, 20]);
        assert_eq!([64, 72, 80, 88].map(long), [11, 12, 13, 0]);
        let time = |at| (long(at).cast_signed(), word(at + 8), word(at + 12));
        assert_eq!(time(96), (-14, 15, 0));
        let born = btime.unwrap_or_default();
        assert_eq!(time(112), (born.0, born.1, 0));
        assert_eq!((time(128), time(144)), ((18, 19, 0), (16, 17, 0)));
        // Device 0x18 as `new_encode_dev` has it, and no device of its own.
        assert_eq!([160, 164, 168, 172].map(word), [0, 24, 0, 0]);
        assert_eq!(answer.body()[176..], [0; 112]);
    }
}

#[test]
fn submounts_are_announced_only_when_agreed_on() {
    let (server, _) = in_session(Capabilities::default());
    let request = Message::new(Opcode::GETATTR, 1).u64(0).u64(0).finish();
    let answer = exchange(&server, &request, 200);
    assert_eq!(answer.body()[16..], expected_attr(0));
}

#[test]
fn create_answers_with_the_entry_and_the_open_file() {
    let (server, _) = in_session(EVERYTHING);
    for opcode in [Opcode::CREATE, Opcode::TMPFILE] {
        let message = Message::new(opcode, 1).u64(0).u64(0).bytes(b"a\0");
        let answer = exchange(&server, &message.finish(), 200);
        assert_eq!(
            answer.body(),
            [expected_entry(), expected_opened()].concat()
        );
    }
}

#[test]
fn opening_answers_with_handle_and_behaviour() {
    let (server, _) = in_session(EVERYTHING);
    for opcode in [Opcode::OPEN, Opcode::OPENDIR] {
        let answer = exchange(&server, &Message::new(opcode, 1).u64(0).finish(), 200);
        assert_eq!(answer.body(), expected_opened());
    }
}

#[test]
fn statfs_has_its_fields_where_the_kernel_looks() {
    let (server, _) = in_session(EVERYTHING);
    let answer = exchange(&server, &Message::new(Opcode::STATFS, 1).finish(), 96);
    let longs: Vec<u64> = (0..5).map(|index| answer.u64(16 + 8 * index)).collect();
    assert_eq!(longs, [51, 52, 53, 54, 55]);
    let words: Vec<u32> = (0..3).map(|index| answer.u32(56 + 4 * index)).collect();
    assert_eq!(words, [56, 57, 58]);
    assert_eq!(answer.memory[68..96], [0; 28]);
}

#[test]
fn a_copy_answers_with_its_length_and_never_more_than_was_asked_for() {
    let (server, _) = in_session(EVERYTHING);
    for opcode in [Opcode::COPY_FILE_RANGE, Opcode::COPY_FILE_RANGE_64] {
        for (length, answered) in [(1 << 33, 62), (62, 62), (61, 61)] {
            let request = copy_file_range(opcode, length).finish();
            let answer = exchange(&server, &request, 24);
            assert_eq!(answer.u64(16), answered, "{}", opcode.name());
        }
    }
}

#[test]
fn getattr_without_the_flag_has_no_handle() {
    let (server, recorder) = in_session(EVERYTHING);
    let request = Message::new(Opcode::GETATTR, 5).u64(0).u64(6).finish();
    exchange(&server, &request, 120).assert_success(104);
    assert_eq!(recorder.calls(), ["getattr 5 None"]);
}

#[test]
fn setattr_changes_nothing_that_is_not_asked_for() {
    let (server, recorder) = in_session(EVERYTHING);
    let mut request = Message::new(Opcode::SETATTR, 5).u32(0).bytes(&[0xff; 84]);
    exchange(&server, &request.clone().finish(), 120).assert_success(104);
    // ATIME and MTIME with a time of their own, before 1970.
    request.0[40..44].copy_from_slice(&(0x10u32 | 0x20).to_le_bytes());
    request.0[96..104].copy_from_slice(&7u32.to_le_bytes().repeat(2));
    exchange(&server, &request.finish(), 120).assert_success(104);
    let nothing = "mode: None, uid: None, gid: None, size: None";
    let time = "Some(At(Timestamp { seconds: -1, nanoseconds: 7 }))";
    assert_eq!(
        recorder.calls(),
        [
            format!(
                "setattr 5 None SetAttributes {{ {nothing}, atime: None, mtime: None, \
                 ctime: None, kill_privileges: false }}"
            ),
            format!(
                "setattr 5 None SetAttributes {{ {nothing}, atime: {time}, mtime: {time}, \
                 ctime: None, kill_privileges: false }}"
            ),
        ]
    );
}

#[test]
fn a_supplementary_group_reaches_the_file_system() {
    let (server, recorder) = in_session(EVERYTHING);
    // The extension follows the name without padding (fs/fuse/dir.c).
    let message = Message::new(Opcode::MKDIR, 5)
        .u64(0)
        .bytes(b"abc\0")
        .extensions(2)
        .u32(16)
        .u32(32)
        .u32(1)
        .u32(77);
    exchange(&server, &message.finish(), 144).assert_success(128);
    assert_eq!(
        *recorder.caller.lock().unwrap(),
        Some(Caller {
            uid: 1000,
            gid: 100,
            pid: 4242,
            supplementary_gid: Some(77),
        })
    );
    assert_eq!(recorder.calls().len(), 1);
}

#[test]
fn a_label_reaches_the_file_system_and_a_group_after_it() {
    let (server, recorder) = in_session(EVERYTHING);
    // As get_security_context() in fs/fuse/dir.c lays it out.
    let label = b"security.selinux\0system_u\0\0\0\0\0\0\0";
    let labelled = Message::new(Opcode::MKDIR, 5)
        .u64(0)
        .bytes(b"abc\0")
        .extensions(8)
        .u32(16 + 32)
        .u32(1)
        .u32(9)
        .u32(0)
        .bytes(label)
        .u32(16)
        .u32(32)
        .u32(1)
        .u32(77);
    exchange(&server, &labelled.finish(), 144).assert_success(128);
    let expected = (c"security.selinux".to_owned(), b"system_u\0".to_vec());
    assert_eq!(*recorder.label.lock().unwrap(), Some(expected));
    let caller = recorder.caller.lock().unwrap().unwrap();
    assert_eq!(caller.supplementary_gid, Some(77));

    // What a guest without such a module sends.
    let without = Message::new(Opcode::MKDIR, 5)
        .u64(0)
        .bytes(b"abc\0")
        .extensions(1)
        .u32(8)
        .u32(0);
    exchange(&server, &without.finish(), 144).assert_success(128);
    assert_eq!(*recorder.label.lock().unwrap(), None);
}

#[test]
fn extensions_begin_on_multiples_of_eight() {
    let (server, recorder) = in_session(EVERYTHING);
    let message = Message::new(Opcode::MKDIR, 5)
        .u64(0)
        .bytes(b"abc\0")
        .extensions(4)
        .u32(12) // without groups, and 4 bytes of padding
        .u32(32)
        .u32(0)
        .u32(0xffff_ffff)
        .u32(16)
        .u32(32)
        .u32(1)
        .u32(77);
    exchange(&server, &message.finish(), 144).assert_success(128);
    let caller = recorder.caller.lock().unwrap().unwrap();
    assert_eq!(caller.supplementary_gid, Some(77));
}

#[test]
fn a_listing_is_packed_on_multiples_of_eight() {
    let (server, _) = in_session(EVERYTHING);
    let answer = exchange(&server, &readdir(Opcode::READDIR, 4096).finish(), 4112);
    answer.assert_success(64);
    let mut expected = Vec::new();
    for (ino, name) in [(1u64, "a\0\0\0\0\0\0\0"), (2, "bcd\0\0\0\0\0")] {
        expected.extend_from_slice(&(100 + ino).to_le_bytes());
        expected.extend_from_slice(&ino.to_le_bytes());
        expected.extend_from_slice(&(ino as u32 * 2 - 1).to_le_bytes());
        expected.extend_from_slice(&8u32.to_le_bytes());
        expected.extend_from_slice(name.as_bytes());
    }
    assert_eq!(answer.body(), expected);
}

#[test]
fn a_listing_with_attributes_has_an_entry_before_each_name() {
    let (server, _) = in_session(EVERYTHING);
    let answer = exchange(&server, &readdir(Opcode::READDIRPLUS, 4096).finish(), 4112);
    answer.assert_success(320);
    assert_eq!(answer.body()[..128], expected_entry());
    assert_eq!(&answer.body()[152..153], b"a");
    assert_eq!(answer.body()[160..288], expected_entry());
    assert_eq!(&answer.body()[312..315], b"bcd");
}

#[test]
fn a_name_without_a_node_is_listed_with_nodeid_zero() {
    use crate::filesystem::{DirectoryEntry, Listing};
    let mut listing = PackedEntries::new(160, true, crate::fuse::InitFlags::empty());
    let entry = DirectoryEntry {
        ino: 3,
        next_offset: 1,
        kind: 8,
        name: b"a",
    };
    assert!(listing.push(entry, None));
    assert_eq!(listing.bytes()[..128], [0; 128]);
    assert_eq!(listing.bytes().len(), 160);
    assert!(!listing.fits(0));
    assert!(!listing.push(entry, None));
    assert_eq!(listing.bytes().len(), 160);
    assert!(!listing.fits(usize::MAX));
}

#[test]
fn a_listing_ends_with_the_last_name_that_fits() {
    let (server, _) = in_session(EVERYTHING);
    // Whichever is smaller, what is asked for or what there is room for.
    for (size, room) in [(63, 4112), (4096, 16 + 63), (u32::MAX, 16 + 32)] {
        let answer = exchange(&server, &readdir(Opcode::READDIR, size).finish(), room);
        answer.assert_success(32);
    }
    exchange(&server, &readdir(Opcode::READDIR, 31).finish(), 4112).assert_success(0);
}

#[test]
fn a_listing_that_fails_late_delivers_what_it_has() {
    let (server, recorder) = in_session(EVERYTHING);
    *recorder.listing_failure.lock().unwrap() = Some(rustix::io::Errno::NFILE);
    let request = readdir(Opcode::READDIRPLUS, 4096).finish();
    exchange(&server, &request, 4112).assert_success(320);
    recorder.names.lock().unwrap().clear();
    exchange(&server, &request, 4112).assert_errno(rustix::io::Errno::NFILE);
}

#[test]
fn a_lock_that_is_found_has_its_fields_where_the_kernel_looks() {
    let (server, recorder) = in_session(EVERYTHING);
    let answer = exchange(&server, &lock(Opcode::GETLK, 0, 0).finish(), 40);
    answer.assert_success(24);
    assert_eq!((answer.u64(16), answer.u64(24)), (71, 72));
    assert_eq!((answer.u32(32), answer.u32(36)), (1, 73));
    recorder.calls();
    // Without one it is what was asked for, and none.
    let mut request = lock(Opcode::GETLK, 0, 0);
    request.0[56..72].fill(0);
    let answer = exchange(&server, &request.finish(), 40);
    answer.assert_success(24);
    assert_eq!((answer.u64(16), answer.u64(24)), (0, 0));
    assert_eq!((answer.u32(32), answer.u32(36)), (2, 10));
}

#[test]
fn a_lock_that_is_none_is_refused() {
    use rustix::io::Errno;
    let (server, recorder) = in_session(EVERYTHING);
    let opcodes = [Opcode::GETLK, Opcode::SETLK, Opcode::SETLKW];
    for opcode in opcodes {
        for kind in [3, 4, 32, u32::MAX] {
            exchange(&server, &lock(opcode, kind, 0).finish(), 40).assert_errno(Errno::INVAL);
        }
        let end = i64::MAX as u64;
        for (start, end) in [
            (9, 8),
            (0, end + 1),
            (end + 1, end + 1),
            (u64::MAX, u64::MAX),
        ] {
            let mut request = lock(opcode, 1, 0);
            request.0[56..64].copy_from_slice(&start.to_le_bytes());
            request.0[64..72].copy_from_slice(&end.to_le_bytes());
            exchange(&server, &request.finish(), 40).assert_errno(Errno::INVAL);
        }
        let longer = lock(opcode, 1, 0).u32(0);
        exchange(&server, &longer.finish(), 40).assert_errno(Errno::INVAL);
    }
    exchange(&server, &lock(Opcode::GETLK, 1, 1).finish(), 40).assert_errno(Errno::INVAL);
    assert_eq!(recorder.calls(), [""; 0]);
    exchange(&server, &lock(Opcode::GETLK, 1, 0).finish(), 39).assert_errno(Errno::IO);
    assert_eq!(recorder.calls(), [""; 0]);
}

#[test]
fn a_file_that_was_locked_says_so_when_it_is_closed() {
    let (server, recorder) = in_session(EVERYTHING);
    let release = Message::new(Opcode::RELEASE, 5).u64(6).u32(0).u32(2).u64(7);
    exchange(&server, &release.finish(), 16).assert_success(0);
    let calls = recorder.calls();
    assert_eq!(calls, ["release 5 ReleaseArgs { handle: 6, unlock: true }"]);
}

#[test]
fn an_ioctl_brings_what_it_says_and_gets_what_there_is_room_for() {
    use rustix::io::Errno;
    let (server, recorder) = in_session(EVERYTHING);
    let ioctl = |input: u32, output: u32, bytes: &[u8]| {
        let message = Message::new(Opcode::IOCTL, 5).u64(6).u32(0).u32(9).u64(0);
        message.u32(input).u32(output).bytes(bytes).finish()
    };
    let answer = exchange(&server, &ioctl(0, 6, b""), 60);
    answer.assert_success(22);
    assert_eq!(answer.body()[..16], [0; 16]);
    assert_eq!(&answer.body()[16..], b"answer");
    assert_eq!(recorder.calls().len(), 1);
    for (input, bytes) in [(3, b"12".as_slice()), (1, b"12"), (u32::MAX, b"12")] {
        exchange(&server, &ioctl(input, 0, bytes), 60).assert_errno(Errno::INVAL);
    }
    let long = vec![0; 32769];
    exchange(&server, &ioctl(32769, 0, &long), 60).assert_errno(Errno::NOTTY);
    exchange(&server, &ioctl(0, 6, b""), 16 + 16 + 5).assert_errno(Errno::IO);
    assert_eq!(recorder.calls(), [""; 0]);
    // More room than any command fills is not asked for.
    exchange(&server, &ioctl(0, u32::MAX, b""), 16 + 16 + 4096).assert_success(22);
    assert!(recorder.calls()[0].contains("room: 4096"));
}
