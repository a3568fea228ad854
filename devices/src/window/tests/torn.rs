//! How much it takes where files are cut off: memory, and time.

use std::os::fd::AsFd;
use std::time::Duration;

use super::*;

/// Bytes of memory behind a window's zeros.
fn taken(window: &Window) -> u64 {
    let status = rustix::fs::fstat(window.area.zeros().as_fd()).unwrap();
    512 * status.st_blocks.cast_unsigned()
}

#[test]
fn zeros_take_the_memory_of_one_unit_however_much_is_torn() {
    const UNITS: u64 = 8;
    let window = window(UNITS);
    let file = file(1, 1);
    let len = UNITS * UNIT - 3 * PAGE;
    file.set_len(len).unwrap();
    let all = place(2 * PAGE, len);
    window.map(all, &file, part(7, 0, true)).unwrap();
    file.set_len(0).unwrap();
    assert_eq!(window.tear(), 1);
    for page in 2..UNITS * UNIT / PAGE - 1 {
        assert_eq!(store(&window, page * PAGE, 9), Ok(()), "{page}");
    }
    assert_eq!(taken(&window), UNIT);
    assert_eq!(byte(&window, UNITS * UNIT - PAGE), Err(Errno::FAULT));
    // They are zeros again before long.
    window.tear_for(Duration::ZERO);
    assert_eq!(taken(&window), 0);
    for page in [2, 511, 512, UNITS * UNIT / PAGE - 2] {
        assert_eq!(byte(&window, page * PAGE), Ok(0));
    }
    assert_eq!(file.metadata().unwrap().len(), 0);
}

#[test]
fn what_only_can_be_read_is_torn_to_be_read() {
    let window = window(1);
    let file = file(2, 1);
    window
        .map(place(0, 2 * PAGE), &file, part(7, 0, false))
        .unwrap();
    file.set_len(PAGE).unwrap();
    assert_eq!(window.tear(), 1);
    assert_eq!(byte(&window, PAGE), Ok(0));
    assert_eq!(store(&window, PAGE, 1), Err(Errno::FAULT));
}

#[test]
fn many_mappings_are_looked_at_by_turns() {
    const MAPPINGS: u64 = 3 * BATCH as u64 + 1;
    let window = window(MAPPINGS);
    let file = file(2, 1);
    for at in 0..MAPPINGS {
        let part = part(at, 0, false);
        window.map(place(at * UNIT, 2 * PAGE), &file, part).unwrap();
    }
    file.set_len(PAGE).unwrap();
    let torn = || window.lock().torn();
    for batch in 1..=3 {
        window.tear_for(Duration::ZERO);
        assert_eq!(torn(), batch * BATCH);
    }
    window.tear_for(Duration::ZERO);
    assert_eq!(torn() as u64, MAPPINGS);
    // With time, all at once.
    window.clear();
    for at in 0..MAPPINGS {
        let part = part(at, 0, false);
        window.map(place(at * UNIT, 2 * PAGE), &file, part).unwrap();
    }
    window.tear_for(Duration::from_secs(60));
    assert_eq!(torn() as u64, MAPPINGS);
    assert_eq!(byte(&window, (MAPPINGS - 1) * UNIT + PAGE), Ok(0));
}

#[test]
fn what_a_file_has_and_cannot_be_read_is_not_zeros() {
    for (size, torn) in [
        (4 * PAGE, 0),
        (3 * PAGE + 1, 0),
        (3 * PAGE, 1),
        (2 * PAGE, 1),
    ] {
        let window = window(1);
        let file = file(5, 1);
        let of_file = part(7, PAGE, false);
        window.map(place(0, 3 * PAGE), &file, of_file).unwrap();
        // As if the rest could not be read, up to this size.
        window.ask_sizes(move |node, _| (node == 7).then_some(size));
        file.set_len(2 * PAGE).unwrap();
        assert_eq!(window.tear(), torn, "{size}");
        assert_eq!(byte(&window, 0), Ok(2));
        let behind = [PAGE, 2 * PAGE].map(|at| byte(&window, at));
        let fault = Err(Errno::FAULT);
        let expected = match size / PAGE {
            2 => [Ok(0); 2],
            3 if torn == 1 => [fault, Ok(0)],
            _ => [fault; 2],
        };
        assert_eq!(behind, expected, "{size}");
    }
}
