//! Flags: each is its own bit, and nothing follows from the bits beside it.

use super::guest::{Message, exchange};
use super::recorder::{EVERYTHING, OPENED, in_session};
use crate::filesystem::{OpenBehaviour, Opened, SetAttributes, SetTime, Timestamp};
use crate::fuse::Opcode;
use crate::fuse::encoding::open_out;

fn new(opcode: Opcode) -> Message {
    Message::new(opcode, 5)
}

/// A request with these flags.
type WithFlags = fn(u32) -> Message;

#[test]
fn a_flag_of_a_request_is_its_own_bit_and_no_other() {
    let write: WithFlags = |flags| {
        (new(Opcode::WRITE).u64(6).u64(0).u32(1))
            .u32(flags)
            .u64(0)
            .u64(0)
            .bytes(b"x")
    };
    let cases: [(u32, WithFlags, &str, &str); 9] = [
        (
            1,
            |f| new(Opcode::FSYNC).u64(6).u32(f).u32(0),
            "6 true",
            "6 false",
        ),
        (
            1,
            |f| new(Opcode::FSYNCDIR).u64(6).u32(f).u32(0),
            "6 true",
            "6 false",
        ),
        (
            1,
            |f| new(Opcode::OPEN).u32(0).u32(f),
            "kill_privileges: true",
            "kill_privileges: false",
        ),
        (
            1,
            |f| new(Opcode::CREATE).u64(0).u32(0).u32(f).bytes(b"a\0"),
            "kill_privileges: true",
            "kill_privileges: false",
        ),
        (1, write, "from_cache: true", "from_cache: false"),
        (4, write, "kill_privileges: true", "kill_privileges: false"),
        (
            1,
            |f| new(Opcode::GETATTR).u32(f).u32(0).u64(6),
            "Some(6)",
            "None",
        ),
        (
            1,
            |f| {
                new(Opcode::SETXATTR)
                    .u32(1)
                    .u32(0)
                    .u32(f)
                    .u32(0)
                    .bytes(b"a\0x")
            },
            "clear_set_gid: true",
            "clear_set_gid: false",
        ),
        (
            1 << 6,
            |f| {
                new(Opcode::SETATTR)
                    .u32(f & 1 << 6)
                    .u32(0)
                    .u64(6)
                    .bytes(&[0; 72])
            },
            "Some(6)",
            "None",
        ),
    ];
    let (server, recorder) = in_session(EVERYTHING);
    for (bit, request, yes, no) in cases {
        for (flags, expected) in [(0, no), (bit, yes), (!bit, no), (u32::MAX, yes)] {
            let answer = exchange(&server, &request(flags).finish(), 4096);
            answer.assert_well_formed();
            let asked = recorder.calls().concat();
            assert!(asked.contains(expected), "{flags:#x}: {asked}");
        }
    }
}

#[test]
fn setattr_changes_what_its_bit_says_and_nothing_else() {
    let time = |seconds| Timestamp {
        seconds,
        nanoseconds: 9,
    };
    let nothing = SetAttributes::default();
    let cases = [
        (
            0,
            SetAttributes {
                mode: Some(0o644),
                ..nothing
            },
        ),
        (
            1,
            SetAttributes {
                uid: Some(15),
                ..nothing
            },
        ),
        (
            2,
            SetAttributes {
                gid: Some(16),
                ..nothing
            },
        ),
        (
            3,
            SetAttributes {
                size: Some(7),
                ..nothing
            },
        ),
        (
            4,
            SetAttributes {
                atime: Some(SetTime::At(time(1))),
                ..nothing
            },
        ),
        (
            5,
            SetAttributes {
                mtime: Some(SetTime::At(time(2))),
                ..nothing
            },
        ),
        // "Now" says what to set a time to, and not that it is to be set.
        (7, nothing),
        (8, nothing),
        (9, nothing),
        (
            10,
            SetAttributes {
                ctime: Some(time(3)),
                ..nothing
            },
        ),
        (
            11,
            SetAttributes {
                kill_privileges: true,
                ..nothing
            },
        ),
    ];
    let (server, recorder) = in_session(EVERYTHING);
    for (bit, expected) in cases {
        let request = new(Opcode::SETATTR)
            .u32(1 << bit)
            .u32(0)
            .u64(6)
            .u64(7)
            .u64(8)
            .u64(1)
            .u64(2)
            .u64(3)
            .u32(9)
            .u32(9)
            .u32(9)
            .u32(0o100_644)
            .u32(0)
            .u32(15)
            .u32(16)
            .u32(0);
        exchange(&server, &request.finish(), 120).assert_success(104);
        let expected = format!("setattr 5 None {expected:?}");
        assert_eq!(recorder.calls(), [expected], "bit {bit}");
    }
}

#[test]
fn a_flag_of_an_opened_file_is_its_own_bit_and_no_other() {
    let none = OpenBehaviour::default();
    let flags = |behaviour| {
        open_out(&Opened {
            behaviour,
            ..OPENED
        })
        .open_flags
    };
    assert_eq!(flags(none), 0);
    for (bit, behaviour) in [
        (
            0,
            OpenBehaviour {
                direct_io: true,
                ..none
            },
        ),
        (
            1,
            OpenBehaviour {
                keep_cache: true,
                ..none
            },
        ),
        (
            3,
            OpenBehaviour {
                cache_dir: true,
                ..none
            },
        ),
        (
            4,
            OpenBehaviour {
                stream: true,
                ..none
            },
        ),
        (
            5,
            OpenBehaviour {
                no_flush: true,
                ..none
            },
        ),
        (
            6,
            OpenBehaviour {
                parallel_direct_writes: true,
                ..none
            },
        ),
    ] {
        assert_eq!(flags(behaviour), 1 << bit, "{behaviour:?}");
    }
}
