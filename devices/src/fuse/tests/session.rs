//! INIT, DESTROY, reset, and what has no reply.

use std::sync::Arc;

use rustix::io::Errno;

use super::guest::{Message, exchange, may_block};
use super::recorder::{EVERYTHING, STREAM, before_session, in_session};
use super::requests::{every_request, init, read, write};
use crate::filesystem::{
    Agreement, AttributeOperations, Capabilities, CreateOperations, DirectoryOperations,
    FileOperations, FileSystem, IoctlOperations, LockOperations, LookupOperations,
    MappingOperations, RemoveOperations, XattrOperations,
};
use crate::fuse::flags::InitFlags;
use crate::fuse::{Opcode, Server};
use crate::virtio::fs::RequestServer;

fn statfs() -> Vec<u8> {
    Message::new(Opcode::STATFS, 1).finish()
}

#[test]
fn init_answers_with_what_is_served() {
    let (server, recorder) = before_session(Capabilities::default());
    let answer = exchange(&server, &init(7, 38, u64::MAX), 80);
    answer.assert_success(64);
    assert_eq!((answer.u32(16), answer.u32(20)), (7, 45));
    assert_eq!(answer.u32(24), 0x20000, "max_readahead");
    // ASYNC_READ BIG_WRITES HAS_IOCTL_DIR ASYNC_DIO PARALLEL_DIROPS
    // MAX_PAGES INIT_EXT
    assert_eq!(answer.u32(28), 0x4044_8821, "flags");
    assert_eq!(answer.u32(32), 256 | 192 << 16, "max_background");
    assert_eq!(answer.u32(36), 1 << 20, "max_write");
    assert_eq!(answer.u32(40), 1, "time_gran");
    assert_eq!(answer.u32(44), 256, "max_pages, map_alignment");
    // CREATE_SUPP_GROUP REQUEST_TIMEOUT
    assert_eq!(answer.u32(48), 1 << 2 | 1 << 10, "flags2");
    assert_eq!(answer.u32(52), 0, "max_stack_depth");
    assert_eq!(answer.u32(56), 65_535, "request_timeout");
    assert_eq!(answer.memory[60..80], [0; 20]);
    let agreement = Agreement::default();
    assert_eq!(recorder.calls(), [format!("init {agreement:?}")]);
}

#[test]
fn what_the_file_system_wants_is_agreed_on_where_the_guest_can() {
    let (server, recorder) = before_session(EVERYTHING);
    let answer = exchange(&server, &init(7, 38, u64::MAX), 80);
    // The above, and ATOMIC_O_TRUNC EXPORT_SUPPORT DONT_MASK AUTO_INVAL_DATA DO_READDIRPLUS
    // READDIRPLUS_AUTO WRITEBACK_CACHE POSIX_ACL CACHE_SYMLINKS SUBMOUNTS
    // HANDLE_KILLPRIV_V2 SETXATTR_EXT POSIX_LOCKS FLOCK_LOCKS MAP_ALIGNMENT
    // NO_OPEN_SUPPORT NO_OPENDIR_SUPPORT
    assert_eq!(answer.u32(28), 0x4044_8821 | 0x3d93_745a);
    // SECURITY_CTX HAS_INODE_DAX DIRECT_IO_ALLOW_MMAP ALLOW_IDMAP
    assert_eq!(answer.u32(48), 1 << 2 | 1 << 10 | 1 << 4 | 1 | 2 | 1 << 8);
    assert_eq!(answer.u32(44), 256 | 12 << 16, "max_pages, map_alignment");
    let agreement = EVERYTHING.agreement;
    assert_eq!(recorder.calls(), [format!("init {agreement:?}")]);
}

#[test]
fn nothing_is_agreed_on_that_the_guest_did_not_offer() {
    let (server, recorder) = before_session(EVERYTHING);
    let answer = exchange(&server, &init(7, 38, 0), 80);
    answer.assert_success(64);
    assert_eq!((answer.u32(28), answer.u32(48)), (0, 0));
    assert_eq!(answer.u32(44), 0, "max_pages without MAX_PAGES");
    let agreement = Agreement::default();
    assert_eq!(recorder.calls(), [format!("init {agreement:?}")]);
}

#[test]
fn acls_need_all_three_flags_they_rest_on() {
    let (server, recorder) = before_session(EVERYTHING);
    let three = [
        InitFlags::POSIX_ACL,
        InitFlags::DONT_MASK,
        InitFlags::SETXATTR_EXT,
    ];
    for missing in three {
        let answer = exchange(&server, &init(7, 38, !missing.bits()), 80);
        answer.assert_success(64);
        assert_eq!(answer.u32(28) & InitFlags::POSIX_ACL.low(), 0);
        assert_eq!(answer.u32(28) & InitFlags::SETXATTR_EXT.low(), 0);
        assert!(
            recorder
                .calls()
                .last()
                .unwrap()
                .contains("posix_acl: false")
        );
    }
}

#[test]
fn acls_bring_dont_mask_even_when_only_they_were_wished_for() {
    let mut capabilities = Capabilities::default();
    capabilities.agreement.posix_acl = true;
    let (server, recorder) = before_session(capabilities);
    exchange(&server, &init(7, 38, u64::MAX), 80).assert_success(64);
    let expected = Agreement {
        posix_acl: true,
        dont_mask: true,
        ..Agreement::default()
    };
    assert_eq!(recorder.calls(), [format!("init {expected:?}")]);
}

#[test]
fn to_truncate_by_open_needs_write_back_on_both_sides() {
    const ATOMIC: u32 = 1 << 3;
    const WRITEBACK: u32 = 1 << 16;
    let mut without = EVERYTHING;
    without.agreement.writeback_cache = false;
    for (capabilities, offered, expected) in [
        (EVERYTHING, ATOMIC | WRITEBACK, ATOMIC | WRITEBACK),
        (EVERYTHING, ATOMIC, 0),
        (EVERYTHING, WRITEBACK, WRITEBACK),
        (without, ATOMIC | WRITEBACK, 0),
    ] {
        let (server, _) = before_session(capabilities);
        let answer = exchange(&server, &init(7, 38, offered.into()), 80);
        assert_eq!(answer.u32(28), expected, "{offered:#x}");
    }
}

#[test]
fn readdirplus_on_demand_needs_readdirplus() {
    let capabilities = Capabilities {
        readdirplus_auto: true,
        ..Capabilities::default()
    };
    let (server, _) = before_session(capabilities);
    let answer = exchange(&server, &init(7, 38, u64::MAX), 80);
    assert_eq!(answer.u32(28) & (1 << 13 | 1 << 14), 0);
}

#[test]
fn an_init_of_16_bytes_is_enough_for_an_older_guest() {
    let (server, _) = before_session(EVERYTHING);
    // Linux 5.4 has 7.31. INIT_EXT without the field it announces counts as
    // a field of 0.
    for flags in [u32::MAX, !InitFlags::INIT_EXT.low()] {
        let message = Message::new(Opcode::INIT, 0).u32(7).u32(31).u32(0);
        let answer = exchange(&server, &message.u32(flags).finish(), 80);
        answer.assert_success(64);
        assert_eq!(answer.u32(48), 0);
    }
}

#[test]
fn a_guest_without_request_timeouts_is_told_none() {
    let (server, _) = before_session(EVERYTHING);
    let offer = InitFlags::all() - InitFlags::REQUEST_TIMEOUT;
    let answer = exchange(&server, &init(7, 38, offer.bits()), 80);
    answer.assert_success(64);
    assert_eq!(answer.u32(48) & (1 << 10), 0);
    assert_eq!(answer.memory[52..80], [0; 28]);
}

#[test]
fn flags2_counts_only_with_init_ext() {
    let (server, _) = before_session(EVERYTHING);
    let answer = exchange(&server, &init(7, 38, !InitFlags::INIT_EXT.bits()), 80);
    answer.assert_success(64);
    assert_eq!(answer.u32(28) & InitFlags::INIT_EXT.low(), 0);
    assert_eq!(answer.u32(48), 0);
}

#[test]
fn a_guest_with_a_newer_major_version_is_told_ours_and_tries_again() {
    let (server, recorder) = before_session(EVERYTHING);
    let request = Message::new(Opcode::INIT, 0).u32(8).u32(0).finish();
    let answer = exchange(&server, &request, 80);
    answer.assert_success(8);
    assert_eq!((answer.u32(16), answer.u32(20)), (7, 45));
    assert!(recorder.calls().is_empty());
    exchange(&server, &statfs(), 96).assert_errno(Errno::IO);
    exchange(&server, &init(7, 45, u64::MAX), 80).assert_success(64);
    exchange(&server, &statfs(), 96).assert_success(80);
}

#[test]
fn a_guest_that_is_too_old_is_refused() {
    let (server, recorder) = before_session(EVERYTHING);
    exchange(&server, &init(7, 26, 0), 80).assert_errno(Errno::PROTO);
    exchange(&server, &init(6, 40, 0), 80).assert_errno(Errno::PROTO);
    assert!(recorder.calls().is_empty());
    exchange(&server, &init(7, 27, 0), 80).assert_success(64);
}

#[test]
fn an_init_without_room_for_its_answer_begins_no_session() {
    let (server, recorder) = before_session(EVERYTHING);
    exchange(&server, &init(7, 38, u64::MAX), 79).assert_errno(Errno::IO);
    exchange(&server, &init(7, 38, u64::MAX), 15).assert_nothing();
    exchange(&server, &init(7, 38, u64::MAX)[..55], 80).assert_errno(Errno::INVAL);
    assert!(recorder.calls().is_empty());
    exchange(&server, &statfs(), 96).assert_errno(Errno::IO);
}

#[test]
fn an_init_cut_short_anywhere_begins_no_session() {
    let (server, recorder) = before_session(EVERYTHING);
    for len in 40..56 {
        let request = Message(init(7, 38, u64::MAX)).cut(len);
        exchange(&server, &request, 80).assert_errno(Errno::INVAL);
    }
    assert!(recorder.calls().is_empty());
}

#[test]
fn everything_before_init_is_answered_with_eio() {
    let (server, recorder) = before_session(EVERYTHING);
    for sound in every_request() {
        let request = sound.message.finish();
        exchange(&server, &request, 4112).assert_errno(Errno::IO);
    }
    assert!(recorder.calls().is_empty());
}

#[test]
fn a_second_init_ends_the_first_session() {
    let (server, recorder) = in_session(EVERYTHING);
    exchange(&server, &init(7, 38, 0), 80).assert_success(64);
    let agreement = Agreement::default();
    assert_eq!(
        recorder.calls(),
        ["destroy".to_owned(), format!("init {agreement:?}")]
    );
    exchange(&server, &statfs(), 96).assert_success(80);
}

#[test]
fn destroy_ends_the_session_once() {
    let (server, recorder) = in_session(EVERYTHING);
    let destroy = Message::new(Opcode::DESTROY, 0).finish();
    exchange(&server, &destroy, 16).assert_success(0);
    exchange(&server, &destroy, 16).assert_success(0);
    assert_eq!(recorder.calls(), ["destroy"]);
    exchange(&server, &statfs(), 96).assert_errno(Errno::IO);
    exchange(&server, &init(7, 38, 0), 80).assert_success(64);
    exchange(&server, &destroy, 0).assert_nothing();
    assert_eq!(recorder.calls().last().unwrap(), "destroy");
}

#[test]
fn reset_forgets_the_session_and_the_next_guest_starts_afresh() {
    let (server, recorder) = in_session(EVERYTHING);
    server.reset();
    server.reset();
    // Twice: a slow request may have opened something between the two.
    assert_eq!(recorder.calls(), ["destroy", "destroy"]);
    exchange(&server, &statfs(), 96).assert_errno(Errno::IO);
    exchange(&server, &init(7, 38, 0), 80).assert_success(64);
    exchange(&server, &statfs(), 96).assert_success(80);
}

#[test]
fn forget_is_done_and_never_answered() {
    let (server, recorder) = in_session(EVERYTHING);
    let forget = Message::new(Opcode::FORGET, 5).u64(u64::MAX).finish();
    exchange(&server, &forget, 0).assert_nothing();
    exchange(&server, &forget, 64).assert_nothing();
    assert_eq!(recorder.calls(), ["forget 5 18446744073709551615"; 2]);
    exchange(&server, &forget[..44], 64).assert_nothing();
    assert!(recorder.calls().is_empty());
}

#[test]
fn batch_forget_does_all_of_a_sound_list_and_nothing_of_another() {
    let (server, recorder) = in_session(EVERYTHING);
    let list = |count| {
        Message::new(Opcode::BATCH_FORGET, 0)
            .u32(count)
            .u32(0)
            .u64(5)
            .u64(6)
            .u64(7)
            .u64(8)
            .finish()
    };
    exchange(&server, &list(2), 64).assert_nothing();
    assert_eq!(recorder.calls(), ["forget 5 6", "forget 7 8"]);
    for count in [0, 1, 3, 0x1000_0000, u32::MAX] {
        exchange(&server, &list(count), 0).assert_nothing();
    }
    assert!(recorder.calls().is_empty());
}

#[test]
fn sessions_begin_and_end_one_at_a_time() {
    let (server, recorder) = in_session(EVERYTHING);
    let destroy = Message::new(Opcode::DESTROY, 0).finish();
    std::thread::scope(|scope| {
        for request in [init(7, 38, 0), init(7, 38, u64::MAX), destroy, statfs()] {
            let server = &server;
            scope.spawn(move || {
                for _ in 0..50 {
                    exchange(server, &request, 96).assert_well_formed();
                }
            });
        }
    });
    server.reset();
    let mut calls = recorder.calls();
    calls.retain(|call| !call.starts_with("statfs"));
    // Where the last session had ended, the reset told the file system anyway.
    if calls.ends_with(&["destroy".to_owned(), "destroy".to_owned()]) {
        calls.pop();
    }
    // The first of all began before this test, and the reset ended the last.
    assert_eq!(calls.len() % 2, 1, "{calls:?}");
    for (index, call) in calls.iter().enumerate() {
        let expected = if index % 2 == 0 { "destroy" } else { "init" };
        assert!(call.starts_with(expected), "{calls:?}");
    }
}

#[test]
fn a_file_system_of_defaults_answers_enosys() {
    struct Defaults;
    impl FileSystem for Defaults {}
    impl LookupOperations for Defaults {}
    impl CreateOperations for Defaults {}
    impl RemoveOperations for Defaults {}
    impl AttributeOperations for Defaults {}
    impl FileOperations for Defaults {}
    impl DirectoryOperations for Defaults {}
    impl XattrOperations for Defaults {}
    impl LockOperations for Defaults {}
    impl IoctlOperations for Defaults {}
    impl MappingOperations for Defaults {}
    let server = Server::new(Arc::new(Defaults));
    exchange(&server, &init(7, 38, !InitFlags::SETXATTR_EXT.bits()), 80).assert_success(64);
    for sound in every_request() {
        // SETXATTR in its extended layout and LOOKUP of `.` were not agreed on.
        if !sound.call.starts_with("setxattr") && !sound.call.starts_with("lookup_") {
            exchange(&server, &sound.message.finish(), 4112).assert_errno(Errno::NOSYS);
        }
    }
}

#[test]
fn a_label_is_only_asked_for_where_its_length_is_told() {
    for (minor, asked) in [(37, 0), (38, 1)] {
        let (server, _) = before_session(EVERYTHING);
        let answer = exchange(&server, &init(7, minor, u64::MAX), 80);
        answer.assert_success(64);
        assert_eq!(answer.u32(48) & 1, asked, "7.{minor}");
    }
}

#[test]
fn a_node_is_looked_up_by_number_only_where_that_was_agreed() {
    let (server, recorder) = before_session(EVERYTHING);
    let offer = InitFlags::all() - InitFlags::EXPORT_SUPPORT;
    exchange(&server, &init(7, 38, offer.bits()), 80).assert_success(64);
    recorder.calls();
    for name in [&b".\0"[..], b"..\0"] {
        let request = Message::new(Opcode::LOOKUP, 5).bytes(name).finish();
        exchange(&server, &request, 144).assert_errno(Errno::INVAL);
    }
    assert!(recorder.calls().is_empty());
}

#[test]
fn requests_that_wait_for_the_disk_are_named() {
    let (server, recorder) = in_session(EVERYTHING);
    let waits = |node| -> Vec<u32> {
        (0..=60)
            .filter(|opcode| {
                let request = Message::new(Opcode(*opcode), node).bytes(&[0; 64]).finish();
                may_block(&server, &request)
            })
            .collect()
    };
    // FSYNC, FSYNCDIR, IOCTL, FALLOCATE, COPY_FILE_RANGE, SYNCFS,
    // COPY_FILE_RANGE_64.
    assert_eq!(waits(5), [20, 30, 39, 43, 47, 50, 53]);
    recorder.calls();
    // READ and WRITE as well.
    assert_eq!(waits(STREAM), [15, 16, 20, 30, 39, 43, 47, 50, 53]);
    assert_eq!(recorder.calls(), ["is_stream 9"; 2]);
}

#[test]
fn what_is_about_two_nodes_waits_for_either() {
    const DEAD: u64 = 7;
    struct Stalls;
    impl FileSystem for Stalls {
        fn may_stall(&self, node: u64) -> bool {
            node == DEAD
        }
    }
    impl LookupOperations for Stalls {}
    impl CreateOperations for Stalls {}
    impl RemoveOperations for Stalls {}
    impl AttributeOperations for Stalls {}
    impl FileOperations for Stalls {}
    impl DirectoryOperations for Stalls {}
    impl XattrOperations for Stalls {}
    impl LockOperations for Stalls {}
    impl IoctlOperations for Stalls {}
    impl MappingOperations for Stalls {}
    let server = Server::new(Arc::new(Stalls));
    let waits = |opcode, node, other: u64| {
        let body = [other.to_ne_bytes(), [0; 8]].concat();
        let request = Message::new(opcode, node).bytes(&body).finish();
        may_block(&server, &request)
    };
    for opcode in [Opcode::RENAME, Opcode::RENAME2, Opcode::LINK] {
        assert!(waits(opcode, 5, DEAD) && waits(opcode, DEAD, 5));
        assert!(!waits(opcode, 5, 5));
    }
    assert!(waits(Opcode::GETATTR, DEAD, 5) && !waits(Opcode::GETATTR, 5, DEAD));
    let short = Message::new(Opcode::LINK, 5).bytes(&[7; 7]).finish();
    assert!(!may_block(&server, &short));
}

#[test]
fn what_has_no_whole_header_does_not_wait() {
    let (server, _) = in_session(EVERYTHING);
    let request = Message::new(Opcode::FSYNC, 5).bytes(&[0; 16]).finish();
    assert!(may_block(&server, &request));
    assert!(!may_block(&server, &request[..39]));
    assert!(!may_block(&server, &[]));
}

#[test]
fn every_operation_is_counted_with_its_bytes_and_errors() {
    let (server, recorder) = in_session(EVERYTHING);
    exchange(&server, &read(4, 0).finish(), 20).assert_success(4);
    exchange(&server, &read(4, 0).finish(), 19).assert_errno(Errno::IO);
    exchange(&server, &write(3, 0, &[1; 3]).finish(), 24).assert_success(8);
    recorder.fail(Errno::NOSPC);
    exchange(&server, &write(3, 0, &[1; 3]).finish(), 24).assert_errno(Errno::NOSPC);
    let forget = Message::new(Opcode::FORGET, 5).u64(1).finish();
    exchange(&server, &forget, 0).assert_nothing();
    exchange(&server, &Message::new(Opcode(7), 5).finish(), 16).assert_errno(Errno::NOSYS);
    exchange(&server, &[1, 2, 3], 16).assert_well_formed();

    let metrics = server.metrics();
    let numbers = |opcode| {
        let operation = metrics.operation(opcode).unwrap();
        assert_eq!(operation.latency.iter().sum::<u64>(), operation.count);
        (
            operation.count,
            operation.errors,
            operation.bytes_read,
            operation.bytes_written,
        )
    };
    assert_eq!(numbers(Opcode::INIT), (1, 0, 64, 0));
    assert_eq!(numbers(Opcode::READ), (2, 1, 4, 0));
    assert_eq!(numbers(Opcode::WRITE), (2, 1, 8, 3));
    assert_eq!(numbers(Opcode::FORGET), (1, 0, 0, 0));
    assert_eq!(numbers(Opcode(0)), (2, 2, 0, 0));
    assert_eq!(metrics.operations.len(), 5);
    assert_eq!(Opcode::READ.name(), "READ");
}
