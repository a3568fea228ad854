//! SETUPMAPPING and REMOVEMAPPING, and the flag of what is to be mapped.

use rustix::io::Errno;

use super::guest::{Message, exchange};
use super::layout::expected_attr;
use super::recorder::{EVERYTHING, before_session, in_session};
use super::requests::init;
use crate::fuse::Opcode;
use crate::fuse::flags::{ATTR_DAX, ATTR_SUBMOUNT, InitFlags};

#[test]
fn a_file_to_be_mapped_says_so_only_when_agreed_on() {
    for (offer, flags) in [
        (InitFlags::all(), ATTR_SUBMOUNT | ATTR_DAX),
        (InitFlags::all() - InitFlags::HAS_INODE_DAX, ATTR_SUBMOUNT),
    ] {
        let (server, _) = before_session(EVERYTHING);
        exchange(&server, &init(7, 38, offer.bits()), 80).assert_success(64);
        let request = Message::new(Opcode::GETATTR, 1).u64(0).u64(0).finish();
        let answer = exchange(&server, &request, 200);
        assert_eq!(answer.body()[16..], expected_attr(flags));
    }
}

#[test]
fn a_mapping_is_by_handle_only_where_one_is_named() {
    let (server, recorder) = in_session(EVERYTHING);
    let setup = |handle: u64, flags: u64| {
        let message = Message::new(Opcode::SETUPMAPPING, 5).u64(handle);
        message.u64(0).u64(0x1000).u64(flags).u64(0).finish()
    };
    exchange(&server, &setup(u64::MAX, 2), 16).assert_success(0);
    assert!(recorder.calls()[0].contains("handle: None"));
    exchange(&server, &setup(0, 2), 16).assert_success(0);
    let calls = recorder.calls();
    assert!(calls[0].contains("handle: Some(0)") && calls[0].contains("writable: false"));
    exchange(&server, &setup(0, 1), 16).assert_success(0);
    assert!(recorder.calls()[0].contains("writable: true"));
    for flags in [0, 4, 7, u64::MAX] {
        exchange(&server, &setup(0, flags), 16).assert_errno(Errno::INVAL);
    }
    assert_eq!(recorder.calls(), [""; 0]);
}

#[test]
fn as_many_mappings_are_removed_as_are_named_and_fit_a_page() {
    let (server, recorder) = in_session(EVERYTHING);
    let remove = |count: u32, parts: usize| {
        let message = Message::new(Opcode::REMOVEMAPPING, 5).u32(count);
        message.bytes(&vec![0; parts * 16]).finish()
    };
    exchange(&server, &remove(256, 256), 16).assert_success(0);
    assert_eq!(recorder.calls()[0].matches("WindowPart").count(), 256);
    for (count, parts) in [(0, 1), (1, 2), (2, 1), (257, 257), (u32::MAX, 1)] {
        exchange(&server, &remove(count, parts), 16).assert_errno(Errno::INVAL);
    }
    let short = Message::new(Opcode::REMOVEMAPPING, 5).u32(1).u64(0).u32(0);
    exchange(&server, &short.finish(), 16).assert_errno(Errno::INVAL);
    assert_eq!(recorder.calls(), [""; 0]);
}
