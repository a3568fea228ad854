//! Directory listings.

use std::collections::BTreeSet;

use rustix::io::Errno;

use super::fixture::operations::*;
use super::fixture::{GUEST_ROOT, Page, Share, by, names};
use crate::filesystem::ROOT;

fn with_files(count: usize) -> Share {
    let share = Share::new();
    for n in 0..count {
        std::fs::write(share.path(&format!("file-{n:05}")), b"").unwrap();
    }
    share
}

#[test]
fn every_entry_is_listed_once_in_replies_of_any_size() {
    let share = with_files(700);
    for (plus, room) in [(false, 64), (false, 4096), (true, 300), (true, 65536)] {
        let listed = share.list(ROOT, plus, room).unwrap();

        let unique: BTreeSet<_> = listed.iter().map(|l| &l.name).collect();
        assert_eq!((listed.len(), unique.len()), (702, 702), "{plus} {room}");
        let attributes = listed.iter().filter(|l| l.entry.is_some()).count();
        assert_eq!(attributes, if plus { 700 } else { 0 });
    }
}

#[test]
fn a_listing_can_be_taken_up_at_any_offset_and_rewound() {
    let share = with_files(300);
    let opened = share.fs.opendir(&by(&GUEST_ROOT, ROOT)).unwrap();
    let read = |offset| {
        let mut page = Page::new(false, 1024);
        share
            .fs
            .readdir(&by(&GUEST_ROOT, ROOT), opened.handle, offset, &mut page)
            .unwrap();
        page.entries
    };

    let first = read(0);
    let second = read(first.last().unwrap().next_offset);
    let middle = read(first[5].next_offset);
    std::fs::write(share.path("late"), b"").unwrap();
    std::fs::remove_file(share.path(&second[0].name)).unwrap();
    let again = read(0);

    assert_eq!(middle[0].name, first[6].name);
    assert_eq!(again[0].name, first[0].name);
    let all = share.list(ROOT, false, 4096).unwrap();
    assert!(names(&all).contains(&"late"));
    assert!(!names(&all).contains(&second[0].name.as_str()));
}

#[test]
fn an_offset_that_cannot_be_leaves_the_listing_where_it_was() {
    let share = with_files(300);
    let opened = share.fs.opendir(&by(&GUEST_ROOT, ROOT)).unwrap();
    let read = |offset| {
        let mut page = Page::new(false, 1024);
        share
            .fs
            .readdir(&by(&GUEST_ROOT, ROOT), opened.handle, offset, &mut page)
            .map(|()| page.entries)
    };
    let first = read(0).unwrap();
    let at = first.last().unwrap().next_offset;
    let expected = read(at).unwrap()[0].name.clone();
    read(0).unwrap();

    assert_eq!(read(u64::MAX).err(), Some(Errno::INVAL));

    assert_eq!(read(at).unwrap()[0].name, expected);
}

#[test]
fn a_reply_too_small_for_any_entry_is_an_error_and_not_the_end() {
    let share = with_files(1);
    let opened = share.fs.opendir(&by(&GUEST_ROOT, ROOT)).unwrap();
    let mut page = Page::new(true, 16);

    let outcome = share
        .fs
        .readdir(&by(&GUEST_ROOT, ROOT), opened.handle, 0, &mut page);

    assert_eq!(outcome, Err(Errno::INVAL));
}

#[test]
fn an_entry_that_does_not_fit_takes_no_reference() {
    let share = with_files(50);
    let opened = share.fs.opendir(&by(&GUEST_ROOT, ROOT)).unwrap();
    let mut page = Page::new(true, 700);

    share
        .fs
        .readdir(&by(&GUEST_ROOT, ROOT), opened.handle, 0, &mut page)
        .unwrap();

    let told = page.entries.iter().filter(|l| l.entry.is_some()).count();
    assert!(told < 50);
    assert_eq!(share.fs.inode_count(), told);
}

#[test]
fn handles_of_files_and_directories_are_not_mixed_up() {
    let share = with_files(0);
    let (file, opened) = share.create(ROOT, "f").unwrap();
    let directory = share.fs.opendir(&by(&GUEST_ROOT, ROOT)).unwrap();
    let mut page = Page::new(false, 4096);

    let listed = share
        .fs
        .readdir(&by(&GUEST_ROOT, file.inode), opened.handle, 0, &mut page);

    assert_eq!(listed, Err(Errno::NOTDIR));
    assert_eq!(share.read(ROOT, directory.handle, 0, 1), Err(Errno::ISDIR));
    let outcome = share.fs.opendir(&by(&GUEST_ROOT, file.inode));
    assert_eq!(outcome.map(drop), Err(Errno::NOTDIR));
}

#[test]
fn a_hostile_offset_gets_an_answer() {
    let share = with_files(3);
    let opened = share.fs.opendir(&by(&GUEST_ROOT, ROOT)).unwrap();
    for offset in [1, u64::MAX, 1 << 63, (1 << 63) - 1] {
        let mut page = Page::new(false, 4096);
        // Whatever the host makes of it; the next listing is whole again.
        let _ = share
            .fs
            .readdir(&by(&GUEST_ROOT, ROOT), opened.handle, offset, &mut page);
    }

    let mut page = Page::new(false, 4096);
    share
        .fs
        .readdir(&by(&GUEST_ROOT, ROOT), opened.handle, 0, &mut page)
        .unwrap();

    assert_eq!(names(&page.entries).len(), 3);
}
