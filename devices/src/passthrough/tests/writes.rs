//! Writes that the host does not take, or not whole.

use std::fs::File;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::fixture::operations::*;
use super::fixture::{GUEST_ROOT, Share, by, writing};
use crate::filesystem::{Position, ROOT, RequestData, Result, WriteArgs};
use crate::passthrough::Config;
use crate::passthrough::budget::{Descriptor, Purpose};

/// Data that a host takes as scripted: so many bytes, or an error.
struct Scripted<'a> {
    steps: &'a [Result<usize>],
    remaining: usize,
    positions: Vec<u64>,
}

impl RequestData for Scripted<'_> {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn drain_to(&mut self, _: &File, count: usize, position: Position) -> Result<usize> {
        if let Position::At(at) = position {
            self.positions.push(at);
        }
        let (step, rest) = self.steps.split_first().expect("another step");
        self.steps = rest;
        let taken = (*step)?.min(count);
        self.remaining -= taken;
        Ok(taken)
    }

    fn take(&mut self, _: &mut [u8]) -> Result<()> {
        Err(Errno::IO)
    }
}

/// The answer to a write of 100 bytes at 1000 that goes as `steps` say, and
/// where the host was asked to put them.
fn write(steps: &[Result<usize>], from_cache: bool) -> (Result<usize>, Vec<u64>) {
    let share = Share::with(Config {
        writeback: from_cache,
        ..Config::default()
    });
    let (entry, opened) = share.create(ROOT, "f").unwrap();
    let args = WriteArgs {
        from_cache,
        ..writing(opened.handle, 1000, &[0; 100], 0)
    };
    let mut data = Scripted {
        steps,
        remaining: 100,
        positions: Vec::new(),
    };
    let outcome = share
        .fs
        .write(&by(&GUEST_ROOT, entry.inode), &args, &mut data);
    (outcome, data.positions)
}

#[test]
fn what_is_left_of_a_short_write_is_written_where_it_belongs() {
    for from_cache in [false, true] {
        let steps = [Ok(30), Err(Errno::INTR), Ok(50), Ok(20)];
        let expected = (Ok(100), vec![1000, 1030, 1030, 1080]);
        assert_eq!(write(&steps, from_cache), expected);
    }
}

#[test]
fn a_program_hears_how_much_of_its_write_was_taken() {
    for error in [Errno::NOSPC, Errno::DQUOT, Errno::IO, Errno::FBIG] {
        assert_eq!(write(&[Ok(30), Err(error)], false).0, Ok(30));
        assert_eq!(write(&[Err(error)], false).0, Err(error));
    }
    assert_eq!(write(&[Ok(30), Ok(0)], false).0, Ok(30));
}

#[test]
fn pages_written_back_in_part_are_an_error() {
    for error in [Errno::NOSPC, Errno::DQUOT, Errno::IO, Errno::FBIG] {
        assert_eq!(write(&[Ok(30), Err(error)], true).0, Err(error));
        assert_eq!(write(&[Err(error)], true).0, Err(error));
    }
}

#[test]
fn a_host_that_takes_nothing_and_gives_no_reason_is_an_error() {
    assert_eq!(write(&[Ok(0)], false).0, Err(Errno::IO));
    assert_eq!(write(&[Ok(0)], true).0, Err(Errno::IO));
    assert_eq!(write(&[Ok(30), Ok(0)], true).0, Err(Errno::IO));
}

#[test]
fn what_the_host_only_appends_to_is_neither_written_elsewhere_nor_back() {
    for writeback in [false, true] {
        let share = Share::with(Config {
            writeback,
            ..Config::default()
        });
        std::fs::write(share.path("f"), b"0123").unwrap();
        let node = share.walk("f").unwrap();
        // As if it were `chattr +a`, which takes root.
        let file = File::options()
            .read(true)
            .append(true)
            .open(share.path("f"));
        let permit = share.fs.permit(Purpose::Open).unwrap();
        let opened = share.fs.opened(
            share.fs.inodes.get(node).unwrap(),
            Descriptor::new(file.unwrap(), permit),
            OFlags::RDWR | OFlags::APPEND,
        );

        assert_eq!(opened.behaviour.direct_io, writeback);
        let appended = writing(opened.handle, 4, b"x", libc::O_APPEND);
        assert_eq!(share.write_with(node, b"x", &appended), Ok(1));
        let elsewhere = writing(opened.handle, 0, b"y", 0);
        assert_eq!(share.write_with(node, b"y", &elsewhere), Err(Errno::PERM));
        let back = WriteArgs {
            from_cache: true,
            ..writing(opened.handle, 0, b"0123x", libc::O_APPEND)
        };
        assert_eq!(share.write_with(node, b"0123x", &back), Err(Errno::PERM));
        assert_eq!(std::fs::read(share.path("f")).unwrap(), b"0123x");
    }
}
