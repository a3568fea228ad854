//! A window without a guest: what system calls see in it is what a guest would.

mod torn;

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

use proptest::prelude::*;

use super::*;

const BASE: u64 = 4 << 30;

fn window(units: u64) -> Window {
    Window::reserve(BASE, units * UNIT).unwrap()
}

/// A file of `pages` pages, each full of `first` and the numbers after it.
fn file(pages: u8, first: u8) -> File {
    let mut file = tempfile::tempfile().unwrap();
    for page in 0..pages {
        file.write_all(&[first + page; PAGE as usize]).unwrap();
    }
    file
}

fn place(offset: u64, len: u64) -> WindowPart {
    WindowPart { offset, len }
}

fn part(node: NodeId, offset: u64, writable: bool) -> FilePart {
    FilePart {
        node,
        offset,
        writable,
    }
}

/// The byte at the beginning of a page of the window.
fn byte(window: &Window, offset: u64) -> Result<u8> {
    let mut byte = [0xee];
    window.copy_to(offset, &VolatileSlice::from(&mut byte[..]))?;
    Ok(byte[0])
}

fn store(window: &Window, offset: u64, byte: u8) -> Result<()> {
    window.copy_from(offset, &VolatileSlice::from(&mut [byte][..]))
}

#[test]
fn a_window_shows_the_file_and_what_is_stored_there_is_in_it() {
    let window = window(1);
    let file = file(4, 1);
    let mapped = window.map(place(2 * PAGE, 3 * PAGE), &file, part(7, PAGE, true));
    assert_eq!(mapped, Ok(()));
    assert_eq!(window.mapped(), 1);
    assert_eq!(byte(&window, 2 * PAGE), Ok(2));
    assert_eq!(byte(&window, 4 * PAGE), Ok(4));
    assert_eq!(byte(&window, PAGE), Err(Errno::FAULT));
    assert_eq!(byte(&window, 5 * PAGE), Err(Errno::FAULT));
    store(&window, 3 * PAGE, 99).unwrap();
    let mut stored = [0];
    file.read_exact_at(&mut stored, 2 * PAGE).unwrap();
    assert_eq!(stored, [99]);
    // Without a descriptor it is there all the same.
    drop(file);
    assert_eq!(byte(&window, 3 * PAGE), Ok(99));
    window.unmap(place(0, 8 * PAGE)).unwrap();
    assert_eq!(window.mapped(), 0);
    assert_eq!(byte(&window, 3 * PAGE), Err(Errno::FAULT));
}

#[test]
fn the_hypervisor_is_told_where_the_window_is() {
    let window = window(1);
    let mapped = window.map(place(PAGE, PAGE), file(2, 1), part(7, PAGE, false));
    assert_eq!(mapped, Ok(()));
    let memory = File::open("/proc/self/mem").unwrap();
    let mut byte = [0];
    let at = window.host_address() + PAGE;
    memory.read_exact_at(&mut byte, at).unwrap();
    assert_eq!(byte, [2]);
}

#[test]
fn a_window_takes_its_addresses_with_it() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(PAGE).unwrap();
    let is_mapped = || {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        maps.contains(file.path().to_str().unwrap())
    };
    let window = window(1);
    let mapped = window.map(place(0, PAGE), file.as_file(), part(7, 0, false));
    assert_eq!(mapped, Ok(()));
    assert!(is_mapped());
    drop(window);
    assert!(!is_mapped());
}

#[test]
fn what_is_only_read_cannot_be_stored_to() {
    let window = window(1);
    let file = file(2, 1);
    window
        .map(place(0, PAGE), &file, part(7, 0, false))
        .unwrap();
    assert_eq!(byte(&window, 0), Ok(1));
    assert_eq!(store(&window, 0, 9), Err(Errno::FAULT));
    // The same place, now to be written to as well.
    window.map(place(0, PAGE), &file, part(7, 0, true)).unwrap();
    assert_eq!(store(&window, 0, 9), Ok(()));
    assert_eq!(window.mapped(), 1);
}

#[test]
fn what_is_mapped_to_be_written_is_told_in_whole_parts() {
    let window = window(8);
    let file = file(9, 1);
    let map = |at, from, writable| {
        let to = place(at * PAGE, PAGE);
        window.map(to, &file, part(7, from * PAGE, writable))
    };
    // In the file: 0, 1 and 2 are written to, 3 is read, 5 is written to.
    let all = [(3, 1, true), (0, 0, true), (8, 2, true), (5, 3, false)];
    for (at, from, writable) in all.into_iter().chain([(6, 5, true), (2, 1, true)]) {
        map(at, from, writable).unwrap();
    }
    let pages = |from: u64, to: u64| from * PAGE..to * PAGE;
    assert_eq!(window.written(7, 0..u64::MAX), [pages(0, 3), pages(5, 6)]);
    assert_eq!(window.written(7, pages(1, 2)), [pages(1, 2)]);
    let bytes = 100..PAGE + 1;
    assert_eq!(
        window.written(7, bytes.clone()),
        std::slice::from_ref(&bytes)
    );
    assert_eq!(window.written(7, pages(3, 5)), []);
    assert_eq!(window.written(8, 0..u64::MAX), []);
}

#[test]
fn a_file_that_refuses_changes_nothing() {
    let window = window(1);
    window
        .map(place(0, PAGE), file(1, 5), part(7, 0, true))
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, "text").unwrap();
    let read_only = File::open(&path).unwrap();
    let mapped = window.map(place(0, PAGE), &read_only, part(8, 0, true));
    assert_eq!(mapped, Err(Errno::ACCESS));
    let no_file = File::open(directory.path()).unwrap();
    let mapped = window.map(place(0, PAGE), &no_file, part(8, 0, false));
    assert_eq!(mapped, Err(Errno::NODEV));
    assert_eq!(byte(&window, 0), Ok(5));
    window.forget(8);
    assert_eq!(byte(&window, 0), Ok(5));
}

#[test]
fn places_and_parts_that_cannot_be_are_refused() {
    let window = window(1);
    let file = file(1, 1);
    for (offset, len) in [
        (0, 0),
        (1, PAGE),
        (PAGE / 2, PAGE),
        (0, PAGE - 1),
        (0, UNIT + PAGE),
        (UNIT, PAGE),
        (PAGE, UNIT),
        (u64::MAX - PAGE + 1, PAGE),
        (u64::MAX - PAGE + 1, 2 * PAGE),
        (PAGE, u64::MAX - PAGE + 1),
        (0, u64::MAX - PAGE + 1),
        (1 << 63, 1 << 63),
    ] {
        let place = place(offset, len);
        let mapped = window.map(place, &file, part(7, 0, false));
        assert_eq!(mapped, Err(Errno::INVAL), "{offset:#x} {len:#x}");
        assert_eq!(window.unmap(place), Err(Errno::INVAL));
    }
    for (offset, errno) in [
        (1, Errno::INVAL),
        (PAGE - 1, Errno::INVAL),
        (1 << 63, Errno::OVERFLOW),
        ((1 << 63) - PAGE, Errno::OVERFLOW),
        (u64::MAX - PAGE + 1, Errno::OVERFLOW),
    ] {
        let mapped = window.map(place(0, PAGE), &file, part(7, offset, false));
        assert_eq!(mapped, Err(errno), "{offset:#x}");
    }
    assert_eq!(window.mapped(), 0);
    for (offset, len) in [(UNIT, 1), (UNIT - 1, 2), (u64::MAX, 2)] {
        let mut bytes = vec![0; len];
        let bytes = VolatileSlice::from(&mut bytes[..]);
        assert_eq!(window.copy_to(offset, &bytes), Err(Errno::INVAL));
        assert_eq!(window.copy_from(offset, &bytes), Err(Errno::INVAL));
    }
}

#[test]
fn only_whole_units_make_a_window() {
    for (base, len) in [
        (BASE, 0),
        (BASE, UNIT / 2),
        (BASE, UNIT + PAGE),
        (BASE + PAGE, UNIT),
        (u64::MAX - UNIT + 1, UNIT),
    ] {
        assert_eq!(Window::reserve(base, len).unwrap_err(), Errno::INVAL);
    }
    let error = Window::reserve(BASE, 1 << 60).unwrap_err();
    assert_eq!(error, Errno::NOMEM);
    // Addresses, not memory.
    assert_eq!(Window::reserve(BASE, 1 << 40).unwrap().len(), 1 << 40);
}

#[test]
fn there_are_as_many_mappings_as_units_at_most() {
    let window = window(2);
    let file = file(8, 1);
    let map =
        |offset, pages| window.map(place(offset * PAGE, pages * PAGE), &file, part(7, 0, false));
    map(0, 3).unwrap();
    map(4, 1).unwrap();
    assert_eq!(map(6, 1), Err(Errno::NOMEM));
    // In the middle of one there would be three.
    assert_eq!(map(1, 1), Err(Errno::NOMEM));
    assert_eq!(window.unmap(place(PAGE, PAGE)), Err(Errno::NOMEM));
    assert_eq!(byte(&window, PAGE), Ok(2));
    // In place of others there is room.
    map(0, 3).unwrap();
    map(2, 3).unwrap();
    assert_eq!(window.mapped(), 2);
    assert_eq!(byte(&window, PAGE), Ok(2));
    assert_eq!(byte(&window, 2 * PAGE), Ok(1));
    window.clear();
    assert_eq!(window.mapped(), 0);
    assert_eq!(byte(&window, PAGE), Err(Errno::FAULT));
    map(6, 1).unwrap();
}

#[test]
fn a_node_that_is_forgotten_is_not_mapped_any_more() {
    let window = window(4);
    let file = file(2, 1);
    for (at, node) in [(0, 7), (1, 8), (2, 7)] {
        let place = place(at * PAGE, PAGE);
        window.map(place, &file, part(node, 0, false)).unwrap();
    }
    window.forget(9);
    assert_eq!(window.mapped(), 3);
    window.forget(7);
    assert_eq!(window.mapped(), 1);
    assert_eq!(byte(&window, 0), Err(Errno::FAULT));
    assert_eq!(byte(&window, PAGE), Ok(1));
    assert_eq!(byte(&window, 2 * PAGE), Err(Errno::FAULT));
}

#[test]
fn where_a_file_was_cut_off_there_are_zeros_until_it_is_longer_again() {
    let window = window(4);
    let (cut, whole) = (file(3, 1), file(8, 1));
    window
        .map(place(0, 8 * PAGE), &cut, part(7, 0, true))
        .unwrap();
    window
        .map(place(8 * PAGE, 8 * PAGE), &whole, part(8, 0, true))
        .unwrap();
    cut.set_len(PAGE + 1).unwrap();
    assert_eq!(byte(&window, 2 * PAGE), Err(Errno::FAULT));
    assert!(!window.is_torn());

    assert_eq!(window.tear(), 1);
    assert!(window.is_torn());
    assert_eq!(byte(&window, 0), Ok(1));
    assert_eq!(byte(&window, PAGE), Ok(2));
    assert_eq!(byte(&window, 2 * PAGE), Ok(0));
    assert_eq!(byte(&window, 7 * PAGE), Ok(0));
    assert_eq!(byte(&window, 15 * PAGE), Ok(8));
    // What is stored there is nobody's.
    store(&window, 2 * PAGE, 9).unwrap();
    assert_eq!(cut.metadata().unwrap().len(), PAGE + 1);
    assert_eq!(window.tear(), 0);

    // Shorter still.
    cut.set_len(0).unwrap();
    assert_eq!(byte(&window, 0), Err(Errno::FAULT));
    assert_eq!(window.tear(), 1);
    assert_eq!(byte(&window, PAGE), Ok(0));

    assert_eq!(window.wants_mending(7, 0), None);
    assert_eq!(window.wants_mending(8, u64::MAX), None);
    assert_eq!(window.wants_mending(7, 1), Some(true));
    cut.set_len(3 * PAGE).unwrap();
    cut.write_all_at(b"x", 2 * PAGE).unwrap();
    window.mend(7, 3 * PAGE, &cut);
    assert!(!window.is_torn());
    assert_eq!(byte(&window, 2 * PAGE), Ok(b'x'));
    assert_eq!(byte(&window, 3 * PAGE), Err(Errno::FAULT));
}

#[test]
fn a_torn_mapping_is_whole_when_it_is_mapped_again_and_gone_with_all_others() {
    let window = window(2);
    let file = file(2, 1);
    let map = || window.map(place(0, 2 * PAGE), &file, part(7, 0, false));
    for _ in 0..2 {
        file.set_len(2 * PAGE).unwrap();
        map().unwrap();
        assert!(!window.is_torn());
        file.set_len(PAGE).unwrap();
        assert_eq!(window.tear(), 1);
        assert!(window.is_torn());
    }
    assert_eq!(window.wants_mending(7, 2 * PAGE), Some(false));
    window.clear();
    assert!(!window.is_torn());
    assert_eq!(window.wants_mending(7, 2 * PAGE), None);
}

/// Pages of the window that the random test uses.
const PAGES: u64 = 24;

#[derive(Clone, Copy, Debug)]
enum Act {
    Map {
        at: u64,
        pages: u64,
        file: usize,
        from: u64,
        writable: bool,
    },
    Unmap {
        at: u64,
        pages: u64,
    },
    Forget(usize),
    Clear,
}

fn act() -> impl Strategy<Value = Act> {
    let span = || (0..PAGES).prop_flat_map(|at| (Just(at), 1..=PAGES - at));
    prop_oneof![
        6 => (span(), 0..2_usize, 0..8_u64, any::<bool>()).prop_map(
            |((at, pages), file, from, writable)| Act::Map { at, pages, file, from, writable }
        ),
        3 => span().prop_map(|(at, pages)| Act::Unmap { at, pages }),
        1 => (0..2_usize).prop_map(Act::Forget),
        1 => Just(Act::Clear),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A page shows what was mapped there last, whatever was mapped over what.
    #[test]
    fn the_last_to_be_mapped_is_seen(acts in prop::collection::vec(act(), 1..30)) {
        let window = window(64);
        let files = [file(32, 1), file(32, 101)];
        let mut model = [None; PAGES as usize];
        for act in acts {
            match act {
                Act::Map { at, pages, file, from, writable } => {
                    let place = place(at * PAGE, pages * PAGE);
                    let part = part(file as u64, from * PAGE, writable);
                    prop_assert_eq!(window.map(place, &files[file], part), Ok(()));
                    for page in 0..pages {
                        model[(at + page) as usize] = Some((file, from + page, writable));
                    }
                }
                Act::Unmap { at, pages } => {
                    let place = place(at * PAGE, pages * PAGE);
                    prop_assert_eq!(window.unmap(place), Ok(()));
                    model[at as usize..(at + pages) as usize].fill(None);
                }
                Act::Forget(file) => {
                    window.forget(file as u64);
                    for page in &mut model {
                        page.take_if(|(of, ..)| *of == file);
                    }
                }
                Act::Clear => {
                    window.clear();
                    model.fill(None);
                }
            }
            for (at, page) in (0..).zip(model) {
                let first = |file: usize| if file == 0 { 1 } else { 101 };
                let expected = page.map(|(file, page, _)| first(file) + page as u8);
                prop_assert_eq!(byte(&window, at * PAGE).ok(), expected);
                let same = expected.unwrap_or(0);
                let stored = store(&window, at * PAGE, same).is_ok();
                prop_assert_eq!(stored, page.is_some_and(|(.., writable)| writable));
            }
            let mapped = model.chunk_by(|one, next| match (one, next) {
                (Some((file, page, _)), Some((of, next, _))) => file == of && page + 1 == *next,
                _ => false,
            });
            let least = mapped.filter(|pages| pages[0].is_some()).count();
            prop_assert!(window.mapped() >= least);
            prop_assert_eq!(window.mapped() == 0, least == 0);
        }
    }

    /// A part of the table that is cut keeps what belongs to it.
    #[test]
    fn a_cut_mapping_keeps_its_place_in_the_file(
        len in 1..50_u64,
        reach in 0..50_u64,
        from in 0..50_u64,
        to in 1..51_u64,
    ) {
        let (reach, from) = (reach.min(len), from.min(len - 1));
        let to = to.clamp(from + 1, len);
        let mut mappings = Mappings::new(3);
        let whole = Mapping { node: 7, file_offset: 1000, len, writable: false, reach };
        mappings.put(100, whole);
        let range = 100 + from..100 + to;
        prop_assert_eq!(mappings.ensure_room(&range, 0), Ok(()));
        let torn = |mappings: &Mappings| mappings.iter().filter(|(_, m)| m.reach < m.len).count();
        prop_assert_eq!(mappings.torn(), torn(&mappings));
        prop_assert!(mappings.remove(&range));
        prop_assert_eq!(mappings.torn(), torn(&mappings));
        let left: Vec<_> = mappings.iter().map(|(start, m)| (start, *m)).collect();
        prop_assert_eq!(left.len(), usize::from(from > 0) + usize::from(to < len));
        prop_assert_eq!(mappings.has(7), !left.is_empty());
        for (start, mapping) in left {
            prop_assert_eq!(mapping.file_offset - 1000, start - 100);
            prop_assert!(start + mapping.len <= 100 + from || start >= 100 + to);
            let torn_at = (1000 + reach).clamp(mapping.file_offset, mapping.file_offset + mapping.len);
            prop_assert_eq!(mapping.file_offset + mapping.reach, torn_at);
            mappings.set_reach(start, mapping.len);
            prop_assert_eq!(mappings.torn(), torn(&mappings));
            mappings.set_reach(start, 0);
            prop_assert_eq!(mappings.torn(), torn(&mappings));
        }
        mappings.clear();
        prop_assert_eq!(mappings.torn(), 0);
    }
}
