//! Chains, good and hostile, and the buffers that they name.

use vm_memory::Bytes;

use super::*;
use crate::virtio::driver::{DriverQueue, INDIRECT, NEXT, WRITE};

/// Indirect tables and buffers of these tests.
const SCRATCH: u64 = 0x8_0000;
const END: u64 = 0x20_0000;
const SIZE: u16 = 16;

fn setup() -> (GuestMemoryMmap, DriverQueue) {
    let len = usize::try_from(END).unwrap();
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), len)]).unwrap();
    let driver = DriverQueue::new(&memory, 0x1000, SIZE);
    (memory, driver)
}

fn table_of(driver: &DriverQueue) -> DescriptorTable {
    DescriptorTable {
        address: GuestAddress(driver.descriptors()),
        size: SIZE,
    }
}

/// Checks the one chain that these descriptors make at head 0.
fn check_of(descriptors: &[(u64, u32, u16, u16)]) -> Result<(), ChainError> {
    let (memory, driver) = setup();
    for (index, descriptor) in (0..).zip(descriptors) {
        driver.describe(index, *descriptor);
    }
    Walk::new(&memory).walk(table_of(&driver), 0)
}

#[test]
fn ordinary_chains_are_served() {
    assert_eq!(check_of(&[(SCRATCH, 40, 0, 0)]), Ok(()));
    assert_eq!(check_of(&[(SCRATCH, 40, WRITE, 0)]), Ok(()));
    let (a, b) = (SCRATCH, SCRATCH + 0x1000);
    assert_eq!(
        check_of(&[(a, 40, NEXT, 2), (0, 0, 0, 0), (b, 16, WRITE, 0)]),
        Ok(())
    );
    // Lengths of zero and overlaps are the driver's business.
    assert_eq!(
        check_of(&[(a, 0, NEXT, 1), (a, 16, NEXT | WRITE, 2), (a, 8, WRITE, 0)]),
        Ok(())
    );
}

#[test]
fn chains_that_do_not_end_are_refused() {
    let loop_to_itself = [(SCRATCH, 8, NEXT, 0)];
    assert_eq!(check_of(&loop_to_itself), Err(ChainError::Unfinished));
    let loop_of_two = [(SCRATCH, 8, NEXT, 1), (SCRATCH, 8, NEXT, 0)];
    assert_eq!(check_of(&loop_of_two), Err(ChainError::Unfinished));
    let out_of_the_table = [(SCRATCH, 8, NEXT, SIZE)];
    assert_eq!(check_of(&out_of_the_table), Err(ChainError::Unfinished));
    let over_4_gib = [(SCRATCH, u32::MAX, NEXT, 1), (SCRATCH, 8, 0, 0)];
    assert_eq!(check_of(&over_4_gib), Err(ChainError::Unfinished));
}

#[test]
fn a_readable_descriptor_behind_a_writable_one_is_refused() {
    let chain = [(SCRATCH, 8, NEXT | WRITE, 1), (SCRATCH, 8, 0, 0)];
    assert_eq!(check_of(&chain), Err(ChainError::Order));
}

/// Checks a chain of an indirect table with these descriptors.
fn check_table(len: u32, descriptors: &[(u64, u32, u16, u16)]) -> Result<(), ChainError> {
    let (memory, driver) = setup();
    for (index, descriptor) in (0..).zip(descriptors) {
        driver.describe_at(GuestAddress(SCRATCH + 16 * index), *descriptor);
    }
    driver.describe(0, (SCRATCH, len, INDIRECT, 0));
    Walk::new(&memory).walk(table_of(&driver), 0)
}

#[test]
fn indirect_tables_are_served_up_to_the_limit() {
    let table = |count: u16| -> Vec<_> {
        (0..count)
            .map(|index| {
                (
                    SCRATCH,
                    8,
                    if index + 1 < count { NEXT } else { 0 },
                    index + 1,
                )
            })
            .collect()
    };
    assert_eq!(check_table(16, &table(1)), Ok(()));
    assert_eq!(check_table(16 * 1024, &table(1024)), Ok(()));
    assert_eq!(
        check_table(16 * 1025, &table(1025)),
        Err(ChainError::TooLong)
    );
    assert_eq!(
        check_table(16 * 9999, &table(9999)),
        Err(ChainError::TooLong)
    );
}

#[test]
fn bad_indirect_tables_are_refused() {
    let good = (SCRATCH, 8, 0, 0);
    assert_eq!(check_table(0, &[good]), Err(ChainError::Empty));
    assert_eq!(check_table(15, &[good]), Err(ChainError::Empty));
    assert_eq!(check_table(16 * 0x1_0000, &[good]), Err(ChainError::Empty));
    let nested = (SCRATCH, 16, INDIRECT, 0);
    assert_eq!(check_table(16, &[nested]), Err(ChainError::Empty));
    let outside = [(u64::MAX - 15, 32, INDIRECT, 0)];
    assert_eq!(check_of(&outside), Err(ChainError::Empty));
    let behind_a_good_one = [(SCRATCH, 8, NEXT, 1), (SCRATCH, 7, INDIRECT, 0)];
    assert_eq!(check_of(&behind_a_good_one), Err(ChainError::Unfinished));
}

#[test]
fn a_head_outside_the_table_is_no_chain() {
    let (memory, driver) = setup();
    let outcome = Walk::new(&memory).walk(table_of(&driver), SIZE);
    assert_eq!(outcome, Err(ChainError::Empty));
}

#[test]
fn buffers_that_are_not_in_memory_are_told_from_bad_chains() {
    let outside = ChainError::Outside;
    assert_eq!(check_of(&[(END, 8, 0, 0)]), Err(outside));
    assert_eq!(check_of(&[(END - 4, 8, 0, 0)]), Err(outside));
    assert_eq!(check_of(&[(u64::MAX, 8, WRITE, 0)]), Err(outside));
    assert_eq!(
        check_of(&[(END, 8, NEXT, 1), (SCRATCH, 8, WRITE, 0)]),
        Err(outside)
    );
    // What is wrong with the chain itself goes first.
    let unfinished = [(END, 8, NEXT, 1), (SCRATCH, 8, NEXT, 1)];
    assert_eq!(check_of(&unfinished), Err(ChainError::Unfinished));
    // Nothing is nowhere.
    assert_eq!(check_of(&[(END, 0, 0, 0)]), Ok(()));
}

#[test]
fn the_buffers_are_those_of_the_chain_in_their_order() {
    let (memory, driver) = setup();
    driver.describe(3, (SCRATCH, 4, NEXT, 1));
    driver.describe(1, (SCRATCH + 0x100, 0, NEXT, 5));
    driver.describe(5, (SCRATCH + 0x200, 2, NEXT, 0));
    driver.describe(0, (SCRATCH + 0x300, 3, NEXT | WRITE, 2));
    driver.describe(2, (SCRATCH + 0x400, 5, WRITE, 0));
    memory.write_slice(b"abcd", GuestAddress(SCRATCH)).unwrap();
    (memory.write_slice(b"ef", GuestAddress(SCRATCH + 0x200))).unwrap();
    let mut walk = Walk::new(&memory);
    walk.walk(table_of(&driver), 3).unwrap();

    let mut request = [0; 6];
    let mut readable = walk.readable();
    readable.read(&mut request).unwrap();
    assert_eq!((&request, readable.remaining()), (b"abcdef", 0));
    let mut writable = walk.writable();
    writable.write(b"12345678").unwrap();
    assert_eq!(writable.remaining(), 0);
    let mut reply = [0; 3];
    (memory.read_slice(&mut reply, GuestAddress(SCRATCH + 0x300))).unwrap();
    assert_eq!(&reply, b"123");
    let mut reply = [0; 5];
    (memory.read_slice(&mut reply, GuestAddress(SCRATCH + 0x400))).unwrap();
    assert_eq!(&reply, b"45678");
}

#[test]
fn nothing_is_left_of_the_chain_before() {
    let (memory, driver) = setup();
    driver.describe(0, (SCRATCH, 4, NEXT, 1));
    driver.describe(1, (SCRATCH, 4, WRITE, 0));
    driver.describe(2, (SCRATCH, 2, WRITE, 0));
    driver.describe(3, (SCRATCH, 2, NEXT, 3));
    let mut walk = Walk::new(&memory);
    walk.walk(table_of(&driver), 0).unwrap();
    assert_eq!(walk.readable().remaining(), 4);
    walk.walk(table_of(&driver), 2).unwrap();
    assert_eq!(walk.readable().remaining(), 0);
    assert_eq!(walk.writable().remaining(), 2);
    walk.walk(table_of(&driver), 3).unwrap_err();
    assert_eq!(walk.readable().remaining(), 0);
    assert_eq!(walk.writable().remaining(), 0);
}
