//! Reads that the host does not answer, or not whole.

use std::fs::File;

use rustix::io::Errno;

use super::fixture::operations::*;
use super::fixture::{GUEST_ROOT, Share, by, reading};
use crate::filesystem::{Position, ROOT, ReplyData, Result};

/// Space for data of which a host gives as much as is scripted, or an error.
struct Scripted<'a> {
    steps: &'a [Result<usize>],
    /// Where it was asked, and for how much.
    asked: Vec<(u64, usize)>,
}

impl ReplyData for Scripted<'_> {
    fn space(&self) -> usize {
        1 << 20
    }

    fn fill_from(&mut self, _: &File, count: usize, position: Position) -> Result<usize> {
        let Position::At(at) = position else {
            panic!("not at a position");
        };
        self.asked.push((at, count));
        let (step, rest) = self.steps.split_first().expect("another step");
        self.steps = rest;
        *step
    }

    fn put(&mut self, _: &[u8]) -> Result<()> {
        Err(Errno::IO)
    }
}

/// The answer to a read of 100 bytes at 1000 that goes as `steps` say, and what
/// the host was asked.
fn read(steps: &[Result<usize>]) -> (Result<usize>, Vec<(u64, usize)>) {
    let share = Share::new();
    let (entry, opened) = share.create(ROOT, "f").unwrap();
    let mut data = Scripted {
        steps,
        asked: Vec::new(),
    };
    let args = reading(opened.handle, 1000, 100);
    let outcome = share
        .fs
        .read(&by(&GUEST_ROOT, entry.inode), &args, &mut data);
    assert!(data.steps.is_empty(), "the host was asked too little");
    (outcome, data.asked)
}

#[test]
fn what_is_left_of_a_short_read_is_asked_for_where_it_is() {
    let steps = [Ok(30), Err(Errno::INTR), Ok(50), Ok(20)];
    let asked = vec![(1000, 100), (1030, 70), (1030, 70), (1080, 20)];
    assert_eq!(read(&steps), (Ok(100), asked));
    assert_eq!(read(&[Ok(100)]), (Ok(100), vec![(1000, 100)]));
}

#[test]
fn the_end_of_the_file_is_a_short_answer() {
    assert_eq!(read(&[Ok(0)]).0, Ok(0));
    assert_eq!(read(&[Ok(30), Ok(0)]).0, Ok(30));
}

#[test]
fn an_error_half_way_is_no_end_of_the_file() {
    for error in [Errno::IO, Errno::STALE] {
        assert_eq!(read(&[Err(error)]).0, Err(error));
        assert_eq!(read(&[Ok(30), Err(error)]).0, Err(error));
    }
}
