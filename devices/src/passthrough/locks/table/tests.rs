//! Who has which locks.

use proptest::prelude::*;

use super::*;

const BYTES: usize = 16;

fn contains(range: LockRange, byte: usize) -> bool {
    (range.start..=range.end).contains(&(byte as u64))
}

impl Table {
    fn all(&self) -> Vec<HeldLock> {
        let all: Vec<_> = self
            .owners
            .values()
            .flat_map(BTreeMap::values)
            .copied()
            .collect();
        assert_eq!(all.len(), self.len());
        all
    }
}

fn entry(owner: LockOwner, handle: Handle, kind: LockKind, start: u64, end: u64) -> HeldLock {
    HeldLock {
        owner,
        handle,
        lock: Lock {
            range: LockRange { start, end },
            kind,
            pid: 7,
        },
    }
}

fn kind() -> impl Strategy<Value = LockKind> {
    prop_oneof![
        Just(LockKind::Read),
        Just(LockKind::Write),
        Just(LockKind::Unlock)
    ]
}

proptest! {
    /// Held against a table with a row for each byte.
    #[test]
    fn each_byte_has_the_locks_it_was_given(
        steps in prop::collection::vec(
            (0..3_usize, 0..2_u64, kind(), 0..BYTES, 0..BYTES),
            1..40,
        )
    ) {
        let mut table = Table::default();
        let mut model = [[None::<(LockKind, Handle)>; 3]; BYTES];
        for (own, handle, kind, one, two) in steps {
            let (first, last) = (one.min(two), one.max(two));
            let owner = own as u64;
            let asked = entry(owner, handle, kind, first as u64, last as u64);
            let range = asked.lock.range;
            let both_read = |held| (held, kind) == (LockKind::Read, LockKind::Read);
            let clash = |row: &[Option<(LockKind, Handle)>; 3]| {
                let mut others = row.iter().enumerate().filter(|(other, _)| *other != own);
                others.any(|(_, held)| held.is_some_and(|(held, _)| !both_read(held)))
            };
            let clashes = model[first..=last].iter().any(clash);
            prop_assert_eq!(table.conflicts(owner, asked.lock).next().is_some(), clashes);
            if kind == LockKind::Unlock {
                let freed = table.freed(Whose::Owner(owner), range);
                for (byte, row) in model.iter().enumerate() {
                    let alone = (first..=last).contains(&byte)
                        && row[own].is_some()
                        && row.iter().flatten().count() == 1;
                    let is = freed.iter().filter(|part| contains(**part, byte));
                    prop_assert_eq!(is.count(), usize::from(alone));
                }
                table.remove(Whose::Owner(owner), range);
                model[first..=last].iter_mut().for_each(|row| row[own] = None);
            } else if !clashes {
                let same = |row: &[Option<(LockKind, Handle)>; 3]| {
                    row[own].is_some_and(|(held, _)| held == kind)
                };
                let covered = model[first..=last].iter().all(same);
                prop_assert_eq!(table.covers(owner, asked.lock), covered);
                table.insert(asked);
                let rows = model[first..=last].iter_mut();
                rows.for_each(|row| row[own] = Some((kind, handle)));
            }
            for (byte, row) in model.iter().enumerate() {
                for (owner, held) in (0..).zip(row) {
                    let all = table.all();
                    let there = (all.iter())
                        .filter(|entry| entry.owner == owner && contains(entry.lock.range, byte))
                        .map(|entry| (entry.lock.kind, entry.handle));
                    prop_assert_eq!(there.collect::<Vec<_>>(), Vec::from_iter(*held));
                }
            }
        }
    }
}

#[test]
fn locks_that_touch_are_one() {
    let mut table = Table::default();
    for byte in [0, 2, 1, 3] {
        table.insert(entry(1, 1, LockKind::Write, byte, byte));
    }
    assert_eq!(table.all(), [entry(1, 1, LockKind::Write, 0, 3)]);
    table.insert(entry(1, 1, LockKind::Write, LockRange::END, LockRange::END));
    assert_eq!(table.len(), 2);
}

#[test]
fn what_is_told_of_a_lock_is_all_that_touches_of_its_owner() {
    let mut table = Table::default();
    let with_pid = |pid, handle, kind, start, end| {
        let mut taken = entry(1, handle, kind, start, end);
        taken.lock.pid = pid;
        taken
    };
    for (number, (start, end)) in [(10, 19), (0, 9), (20, 29), (40, 49)]
        .into_iter()
        .enumerate()
    {
        let pid = u32::try_from(number).unwrap();
        table.insert(with_pid(pid, u64::from(pid), LockKind::Read, start, end));
    }
    table.insert(with_pid(7, 1, LockKind::Write, 50, 59));
    let told = |start, end| {
        let asked = entry(2, 9, LockKind::Write, start, end).lock;
        table.conflict(2, asked).map(|lock| lock.range)
    };
    for byte in [0, 9, 10, 25] {
        assert_eq!(told(byte, byte), Some(LockRange { start: 0, end: 29 }));
    }
    assert_eq!(told(30, 39), None);
    assert_eq!(told(45, 60), Some(LockRange { start: 40, end: 49 }));
    assert_eq!(
        told(50, LockRange::END),
        Some(LockRange { start: 50, end: 59 })
    );
}

#[test]
fn what_was_taken_with_a_handle_goes_with_it() {
    let mut table = Table::default();
    table.insert(entry(1, 1, LockKind::Read, 0, 9));
    table.insert(entry(2, 2, LockKind::Read, 5, LockRange::END));
    table.insert(entry(1, 2, LockKind::Write, 20, 29));
    assert_eq!(
        table.freed(Whose::Handle(1), ALL),
        [LockRange { start: 0, end: 4 }]
    );
    assert!(table.remove(Whose::Handle(2), ALL));
    assert_eq!(table.all(), [entry(1, 1, LockKind::Read, 0, 9)]);
    assert!(!table.remove(Whose::Handle(2), ALL));
}
