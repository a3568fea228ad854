//! Requests that are wrong: each is answered with an errno, or with nothing
//! where there is no room, and never reaches the file system.

use rustix::io::Errno;

use super::guest::{Message, UNIQUE, exchange};
use super::recorder::{EVERYTHING, in_session};
use super::requests::{every_request, read, write};
use crate::filesystem::Capabilities;
use crate::fuse::{Opcode, Server};

/// The name-taking opcodes, each with `name` where its (last) name belongs.
fn with_name(name: &[u8]) -> Vec<Vec<u8>> {
    let new = |opcode| Message::new(opcode, 5);
    [
        new(Opcode::LOOKUP).bytes(name),
        new(Opcode::MKNOD).u64(0).u64(0).bytes(name),
        new(Opcode::MKDIR).u64(0).bytes(name),
        new(Opcode::LINK).u64(6).bytes(name),
        new(Opcode::CREATE).u64(0).u64(0).bytes(name),
        new(Opcode::UNLINK).bytes(name),
        new(Opcode::RMDIR).bytes(name),
        new(Opcode::RENAME).u64(6).bytes(b"a\0").bytes(name),
        new(Opcode::RENAME2).u64(6).u64(0).bytes(b"a\0").bytes(name),
    ]
    .into_iter()
    .map(Message::finish)
    .collect()
}

/// The opcodes where another string follows `name`.
fn with_first_name(name: &[u8]) -> Vec<Vec<u8>> {
    let new = |opcode| Message::new(opcode, 5);
    [
        new(Opcode::SYMLINK).bytes(name).bytes(b"target\0"),
        new(Opcode::RENAME).u64(6).bytes(name).bytes(b"b\0"),
        new(Opcode::RENAME2).u64(6).u64(0).bytes(name).bytes(b"b\0"),
    ]
    .into_iter()
    .map(Message::finish)
    .collect()
}

#[track_caller]
fn assert_refused(server: &Server, request: &[u8], errno: Errno) {
    exchange(server, request, 256).assert_errno(errno);
}

#[test]
fn no_name_but_a_single_component_passes() {
    let names: [&[u8]; 9] = [
        b"\0", b".\0", b"..\0", b"/\0", b"a/b\0", b"/a\0", b"../a\0", b"a/\0", b"a/..\0",
    ];
    for export in [false, true] {
        let (server, recorder) = in_session(Capabilities {
            export,
            ..EVERYTHING
        });
        for name in names {
            for request in with_name(name).iter().chain(&with_first_name(name)) {
                let lookup = request[4..8] == Opcode::LOOKUP.0.to_le_bytes();
                if export && lookup && [&b".\0"[..], b"..\0"].contains(&name) {
                    continue; // these it may ask for
                }
                assert_refused(&server, request, Errno::INVAL);
            }
        }
        assert!(recorder.calls().is_empty());
    }
}

#[test]
fn a_name_ends_with_the_one_nul_it_has() {
    let (server, recorder) = in_session(EVERYTHING);
    let names: [&[u8]; 4] = [b"", b"a", b"a\0b", b"a\0b\0"];
    for name in names {
        for request in with_name(name) {
            assert_refused(&server, &request, Errno::INVAL);
        }
    }
    assert!(recorder.calls().is_empty());
}

#[test]
fn a_name_may_have_255_bytes_and_no_more() {
    let (server, recorder) = in_session(EVERYTHING);
    let longest = [vec![b'a'; 255], vec![0]].concat();
    for request in with_name(&longest).iter().chain(&with_first_name(&longest)) {
        assert_eq!(exchange(&server, request, 256).errno(), 0);
        assert_eq!(recorder.calls().len(), 1);
    }
    for len in [256, 257, 511, 512, 5000] {
        let long = [vec![b'a'; len], vec![0]].concat();
        for request in with_name(&long).iter().chain(&with_first_name(&long)) {
            assert_refused(&server, request, Errno::NAMETOOLONG);
        }
    }
    assert!(recorder.calls().is_empty());
}

#[test]
fn a_symbolic_link_may_point_anywhere_in_4095_bytes() {
    let (server, recorder) = in_session(EVERYTHING);
    let symlink = |len| {
        Message::new(Opcode::SYMLINK, 5)
            .bytes(&[b'n'; 255])
            .bytes(b"\0")
            .bytes(&vec![b'/'; len])
            .bytes(b"\0")
            .finish()
    };
    exchange(&server, &symlink(4095), 256).assert_success(128);
    assert_eq!(recorder.calls().len(), 1);
    assert_refused(&server, &symlink(4096), Errno::NAMETOOLONG);
    let short_name = Message::new(Opcode::SYMLINK, 5)
        .bytes(b"n\0")
        .bytes(&[b'/'; 4096])
        .bytes(b"\0");
    assert_refused(&server, &short_name.finish(), Errno::NAMETOOLONG);
    assert!(recorder.calls().is_empty());
}

#[test]
fn a_request_cut_short_anywhere_is_answered_with_einval() {
    let (server, recorder) = in_session(EVERYTHING);
    for sound in every_request() {
        let whole = sound.message.0.len();
        for len in 0..whole {
            let request = sound.message.clone().cut(len);
            let answer = exchange(&server, &request, 4112);
            answer.assert_well_formed();
            let unique = if len < 16 { 0 } else { UNIQUE };
            assert_eq!(answer.u64(8), unique);
            assert_eq!(answer.errno(), Errno::INVAL.raw_os_error(), "{request:?}");
        }
        assert!(recorder.calls().is_empty());
    }
}

#[test]
fn a_request_without_an_answer_has_none_as_soon_as_it_says_what_it_is() {
    let (server, recorder) = in_session(EVERYTHING);
    for opcode in [Opcode::FORGET, Opcode::BATCH_FORGET] {
        for len in 0..40 {
            let request = Message::new(opcode, 5).u64(1).cut(len);
            let answer = exchange(&server, &request, 64);
            if len < 8 {
                answer.assert_well_formed();
                assert_eq!(answer.errno(), Errno::INVAL.raw_os_error());
            } else {
                answer.assert_nothing();
            }
        }
    }
    assert!(recorder.calls().is_empty());
}

#[test]
fn a_length_that_is_not_the_chains_is_answered_with_einval() {
    let (server, recorder) = in_session(EVERYTHING);
    for sound in every_request() {
        let request = sound.message.finish();
        let len = u32::try_from(request.len()).unwrap();
        for wrong in [0, 39, 40, len - 1, len + 1, u32::MAX] {
            if wrong == len {
                continue;
            }
            let mut request = request.clone();
            request[..4].copy_from_slice(&wrong.to_le_bytes());
            assert_refused(&server, &request, Errno::INVAL);
        }
    }
    assert!(recorder.calls().is_empty());
}

#[test]
fn an_answer_that_would_not_fit_is_never_earned() {
    let (server, recorder) = in_session(EVERYTHING);
    for sound in every_request() {
        let name = sound.call;
        let request = sound.message.finish();
        for body in 0..sound.reply {
            let answer = exchange(&server, &request, 16 + body);
            answer.assert_well_formed();
            let calls = recorder.calls();
            match request[4] {
                // The room decides how many entries there are.
                28 | 44 => assert_eq!(answer.errno(), 0),
                // Nothing is given away with these.
                5 => assert_eq!(answer.errno(), Errno::IO.raw_os_error()),
                22 | 23 if body > 0 => {
                    assert_eq!(answer.errno(), Errno::RANGE.raw_os_error());
                }
                _ => {
                    assert_eq!(answer.errno(), Errno::IO.raw_os_error(), "{name}");
                    assert!(calls.is_empty(), "{name} was executed");
                }
            }
        }
    }
}

#[test]
fn nothing_is_done_for_a_request_without_room_for_a_header() {
    let (server, recorder) = in_session(EVERYTHING);
    for sound in every_request() {
        let request = sound.message.finish();
        for room in [0, 1, 15] {
            exchange(&server, &request, room).assert_nothing();
        }
        assert!(recorder.calls().is_empty(), "{} was executed", sound.call);
    }
}

#[test]
fn what_the_protocol_does_not_define_is_answered_with_enosys() {
    let (server, recorder) = in_session(EVERYTHING);
    for opcode in [0, 7, 19, 37, 40, 41] {
        let request = Message::new(Opcode(opcode), 1).bytes(&[0; 64]).finish();
        assert_refused(&server, &request, Errno::NOSYS);
    }
    for opcode in [54, 4096, 1_048_576, 436_207_616, u32::MAX] {
        let request = Message::new(Opcode(opcode), 1).finish();
        assert_refused(&server, &request, Errno::NOSYS);
    }
    assert!(recorder.calls().is_empty());
}

#[test]
fn a_write_has_exactly_the_data_it_announces() {
    let (server, recorder) = in_session(EVERYTHING);
    for size in [0, 2, 4, 0x10_0001, u32::MAX] {
        assert_refused(&server, &write(size, 0, &[1, 2, 3]).finish(), Errno::INVAL);
    }
    assert!(recorder.calls().is_empty());
}

#[test]
fn a_read_is_no_longer_than_a_kernel_can_ask_for() {
    let (server, recorder) = in_session(EVERYTHING);
    let request = read((4 << 20) + 1, 0).finish();
    exchange(&server, &request, 16 + (4 << 20) + 1).assert_errno(Errno::INVAL);
    let request = read(4 << 20, 0).finish();
    exchange(&server, &request, 16 + (4 << 20) - 1).assert_errno(Errno::IO);
    assert!(recorder.calls().is_empty());
    exchange(&server, &request, 16 + (4 << 20)).assert_success(7);
}

#[test]
fn a_request_longer_than_the_largest_write_is_refused() {
    let (server, recorder) = in_session(EVERYTHING);
    let message = |len: usize| Message::new(Opcode::STATFS, 1).bytes(&vec![0; len - 40]);
    let most = (1 << 20) + 4096;
    exchange(&server, &message(most).finish(), 96).assert_success(80);
    assert_eq!(recorder.calls().len(), 1);
    exchange(&server, &message(most + 1).finish(), 96).assert_errno(Errno::INVAL);
    assert!(recorder.calls().is_empty());
}

#[test]
fn times_have_at_most_a_second_of_nanoseconds() {
    let (server, recorder) = in_session(EVERYTHING);
    for (valid, field) in [(0x10u32, 96), (0x20, 100), (0x400, 104)] {
        let mut request = Message::new(Opcode::SETATTR, 5).u32(valid).bytes(&[0; 84]);
        let mut set = |nanoseconds: u32| {
            request.0[field..field + 4].copy_from_slice(&nanoseconds.to_le_bytes());
            request.clone().finish()
        };
        assert_refused(&server, &set(1_000_000_000), Errno::INVAL);
        assert!(recorder.calls().is_empty());
        exchange(&server, &set(999_999_999), 120).assert_success(104);
        assert!(recorder.calls()[0].contains("nanoseconds: 999999999"));
    }
}

#[test]
fn sizes_and_owners_that_there_cannot_be_are_refused_before_anything_is_done() {
    let (server, recorder) = in_session(EVERYTHING);
    let change = |valid: u32, field: usize, value: &[u8]| {
        let mut request = Message::new(Opcode::SETATTR, 5).u32(valid).bytes(&[0; 84]);
        request.0[field..field + value.len()].copy_from_slice(value);
        request.finish()
    };
    let size = |size: u64| change(0x8, 56, &size.to_le_bytes());
    let uid = |uid: u32| change(0x2, 116, &uid.to_le_bytes());
    let gid = |gid: u32| change(0x4, 120, &gid.to_le_bytes());
    for wrong in [size(1 << 63), size(u64::MAX), uid(u32::MAX), gid(u32::MAX)] {
        assert_refused(&server, &wrong, Errno::INVAL);
    }
    assert!(recorder.calls().is_empty());
    for right in [size((1 << 63) - 1), uid(u32::MAX - 1), gid(u32::MAX - 1)] {
        exchange(&server, &right, 120).assert_success(104);
    }
    assert_eq!(recorder.calls().len(), 3);
}

#[test]
fn extensions_that_are_wrong_are_refused() {
    let (server, recorder) = in_session(EVERYTHING);
    let mkdir = |units| {
        Message::new(Opcode::MKDIR, 5)
            .u64(0)
            .bytes(b"abcdefg\0")
            .extensions(units)
    };
    let label = |text: &[u8], length| {
        let size = 16 + u32::try_from(text.len()).unwrap();
        mkdir(u16::try_from(size / 8).unwrap())
            .u32(size)
            .u32(1)
            .u32(length)
            .u32(0)
            .bytes(text)
    };
    let wrong = [
        mkdir(3),                                                     // longer than the request
        mkdir(0xffff),                                                // far longer
        mkdir(1).u32(7).u32(32),                                      // shorter than its header
        mkdir(1).u32(0).u32(32),                                      // no end to it
        mkdir(1).u32(u32::MAX).u32(32),                               // beyond its end
        mkdir(2).u32(24).u32(32).u32(1).u32(7),                       // beyond its end
        mkdir(2).u32(16).u32(1).u32(1).u32(7),                        // a label without a name
        mkdir(2).u32(16).u32(2).u32(0).u32(0),                        // two labels
        mkdir(1).u32(8).u32(1),                                       // one announced, none there
        label(b"security.x\0abc", 6),                                 // longer than there is
        label(b"security.xabcdef", 1),                                // a name without an end
        label(b"user.xyz\0label!!", 1),                               // no label
        label(b"security.capability\0....", 1),                       // worth a set-ID bit
        mkdir(2).u32(16).u32(33).u32(1).u32(7),                       // not defined
        mkdir(1).u32(8).u32(32),                                      // without groups
        mkdir(2).u32(12).u32(32).u32(1).u32(7),                       // one announced, none there
        mkdir(3).u32(24).u32(32).u32(2).u32(7).u64(8),                // two groups
        mkdir(513).u32(4104).u32(32).u32(1).u32(7).bytes(&[0; 4088]), // longer than any
    ];
    for message in wrong {
        assert_refused(&server, &message.finish(), Errno::INVAL);
    }
    assert!(recorder.calls().is_empty());
    let none = mkdir(2).u32(16).u32(32).u32(0).u32(7);
    exchange(&server, &none.finish(), 256).assert_success(128);
    assert_eq!(
        recorder.caller.lock().unwrap().unwrap().supplementary_gid,
        None
    );
}

#[test]
fn extensions_that_were_not_agreed_on_are_refused() {
    let (server, recorder) = super::recorder::before_session(Capabilities::default());
    exchange(&server, &super::requests::init(7, 31, 0), 80).assert_success(64);
    recorder.calls();
    let message = Message::new(Opcode::MKDIR, 5)
        .u64(0)
        .bytes(b"a\0")
        .extensions(2)
        .u32(16)
        .u32(32)
        .u32(1)
        .u32(7);
    assert_refused(&server, &message.finish(), Errno::INVAL);
    assert!(recorder.calls().is_empty());
}
