//! Extended attributes: names that are no paths, values with a length of
//! their own, and the two layouts of SETXATTR.

use rustix::io::Errno;

use super::guest::{Message, exchange};
use super::recorder::{EVERYTHING, in_session};
use crate::filesystem::Capabilities;
use crate::fuse::Opcode;

fn getxattr(size: u32, name: &[u8]) -> Vec<u8> {
    let message = Message::new(Opcode::GETXATTR, 5).u32(size).u32(0);
    message.bytes(name).finish()
}

/// SETXATTR in the extended layout.
fn setxattr(size: u32, name: &[u8], value: &[u8]) -> Vec<u8> {
    let message = Message::new(Opcode::SETXATTR, 5).u32(size).u32(0).u64(0);
    message.bytes(name).bytes(value).finish()
}

#[test]
fn a_size_of_zero_asks_for_the_length() {
    let (server, recorder) = in_session(EVERYTHING);
    recorder.set_content(&[1; 300]);
    let answer = exchange(&server, &getxattr(0, b"user.a\0"), 24);
    answer.assert_success(8);
    assert_eq!((answer.u32(16), answer.u32(20)), (300, 0));
    let list = Message::new(Opcode::LISTXATTR, 5).u64(0).finish();
    assert_eq!(exchange(&server, &list, 24).u32(16), 300);
    assert_eq!(
        recorder.calls(),
        [r#"getxattr 5 "user.a" 0"#, "listxattr 5 0"]
    );
    exchange(&server, &list, 23).assert_errno(Errno::IO);
    assert!(recorder.calls().is_empty());
}

#[test]
fn a_huge_size_asks_for_no_more_than_there_is_room_for() {
    let (server, recorder) = in_session(EVERYTHING);
    exchange(&server, &getxattr(u32::MAX, b"a\0"), 16 + 100).assert_success(7);
    exchange(&server, &getxattr(u32::MAX, b"a\0"), 1 << 20).assert_success(7);
    assert_eq!(
        recorder.calls(),
        [r#"getxattr 5 "a" 100"#, r#"getxattr 5 "a" 65536"#]
    );
}

#[test]
fn a_value_longer_than_asked_for_is_erange() {
    let (server, recorder) = in_session(EVERYTHING);
    recorder.set_content(&[1; 65]);
    exchange(&server, &getxattr(64, b"a\0"), 4096).assert_errno(Errno::RANGE);
    exchange(&server, &getxattr(65, b"a\0"), 4096).assert_success(65);
}

#[test]
fn an_attribute_name_has_1_to_255_bytes() {
    let (server, recorder) = in_session(EVERYTHING);
    let named = |name: &[u8]| {
        let remove = Message::new(Opcode::REMOVEXATTR, 5).bytes(name).finish();
        [getxattr(9, name), setxattr(0, name, &[]), remove]
    };
    let of_length = |len| [vec![b'a'; len], vec![0]].concat();
    for request in named(&of_length(255)) {
        assert_eq!(exchange(&server, &request, 64).errno(), 0);
    }
    assert_eq!(recorder.calls().len(), 3);
    for name in [of_length(0), of_length(256), of_length(5000)] {
        for request in named(&name) {
            exchange(&server, &request, 64).assert_errno(Errno::RANGE);
        }
    }
    for name in [&b""[..], b"a", b"a\0b\0"] {
        for request in named(name) {
            exchange(&server, &request, 64).assert_errno(Errno::INVAL);
        }
    }
    assert!(recorder.calls().is_empty());
}

#[test]
fn a_value_has_the_length_it_announces_and_at_most_64_kib() {
    let (server, recorder) = in_session(EVERYTHING);
    exchange(&server, &setxattr(65536, b"a\0", &[7; 65536]), 16).assert_success(0);
    assert_eq!(recorder.calls().len(), 1);
    let metrics = server.metrics();
    let operation = metrics.operation(Opcode::SETXATTR).unwrap();
    assert_eq!(operation.bytes_written, 65536);
    let too_long = setxattr(65537, b"a\0", &[7; 65537]);
    exchange(&server, &too_long, 16).assert_errno(Errno::TOOBIG);
    for size in [0, 2, 4, 5, u32::MAX] {
        let request = setxattr(size, b"a\0", &[7; 3]);
        exchange(&server, &request, 16).assert_errno(Errno::INVAL);
    }
    // All value and no name.
    exchange(&server, &setxattr(5, b"a\0", &[7; 3]), 16).assert_errno(Errno::INVAL);
    assert!(recorder.calls().is_empty());
}

#[test]
fn setxattr_is_short_when_nothing_else_was_agreed_on() {
    let (server, recorder) = in_session(Capabilities::default());
    let short = Message::new(Opcode::SETXATTR, 5)
        .u32(2)
        .u32(1)
        .bytes(b"user.a\0")
        .bytes(&[1, 2])
        .finish();
    exchange(&server, &short, 16).assert_success(0);
    assert_eq!(
        recorder.calls(),
        [r#"setxattr 5 "user.a" SetXattrArgs { value: [1, 2], flags: 1, clear_set_gid: false }"#]
    );
}
