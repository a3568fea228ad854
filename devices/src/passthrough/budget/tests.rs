use super::*;

/// Takes permits for `purpose` until there are no more.
fn all(part: &Arc<Part>, purpose: Purpose) -> Vec<Permit> {
    std::iter::from_fn(|| part.permit(purpose).ok()).collect()
}

/// The parts of `shares` shares that divide `descriptors`.
fn parts(descriptors: usize, shares: usize) -> Vec<Arc<Part>> {
    let pool = DescriptorPool::new(descriptors, shares);
    (0..shares).map(|_| pool.part(None).unwrap()).collect()
}

#[test]
fn the_bounds_are_those_of_the_table() {
    for (limit, shares, open, work) in [
        (256, 1, 112, 128),
        (1024, 1, 784, 896),
        (1024, 3, 580, 149),
        (4096, 1, 3472, 3968),
        (4096, 3, 2564, 661),
        (20_000, 1, 18_848, 19_872),
        (20_000, 3, 12_834, 3312),
    ] {
        let parts = parts(limit - RESERVE, shares);
        let taken = all(&parts[0], Purpose::Open);
        assert_eq!(taken.len(), open, "open files, {limit} for {shares}");
        drop(taken);
        let taken = all(&parts[0], Purpose::Work);
        assert_eq!(taken.len(), work, "all but those, {limit} for {shares}");
    }
}

#[test]
fn no_share_takes_what_is_guaranteed_to_another() {
    let parts = parts(1000, 2);
    let greedy = all(&parts[0], Purpose::Open);
    let work = all(&parts[0], Purpose::Work);
    assert_eq!((greedy.len(), work.len()), (500 + 250 - 31, 31));
    assert_eq!(
        all(&parts[1], Purpose::Work).len(),
        250,
        "inodes and no files"
    );
    let modest = all(&parts[1], Purpose::Open);
    assert_eq!(modest.len(), 250 - 31, "files and the working minimum");
    assert_eq!(all(&parts[1], Purpose::Work).len(), 31);
}

#[test]
fn an_idle_share_with_all_its_inodes_leaves_the_common_part_to_the_others() {
    let parts = parts(1000, 2);
    let _cached = all(&parts[0], Purpose::Work);
    assert_eq!(all(&parts[1], Purpose::Open).len(), 500 + 250 - 31);
}

#[test]
fn open_files_are_asked_to_wait_for_inodes_but_not_below_the_working_minimum() {
    let part = parts(128, 1).remove(0);
    let mut inodes = all(&part, Purpose::Work);
    assert_eq!(inodes.len(), 128);
    assert_eq!(
        part.permit(Purpose::Work).unwrap_err(),
        Refused::UntilEviction
    );
    let mut files = Vec::new();
    while inodes.len() > 16 {
        assert_eq!(
            part.permit(Purpose::Open).unwrap_err(),
            Refused::UntilEviction
        );
        inodes.pop();
        files.push(part.permit(Purpose::Open).unwrap());
    }
    assert_eq!(part.permit(Purpose::Open).unwrap_err(), Refused::Exhausted);
    inodes.clear();
    assert_eq!(part.permit(Purpose::Open).unwrap_err(), Refused::Exhausted);
    assert_eq!(all(&part, Purpose::Work).len(), 16);
    assert_eq!(files.len(), 112);
}

#[test]
fn whatever_is_taken_and_given_back_the_sum_stays_within_the_pool() {
    const POOL: usize = 200;
    let parts = parts(POOL, 3);
    let mut taken: Vec<Vec<Permit>> = vec![Vec::new(), Vec::new(), Vec::new()];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % bound as u64).unwrap()
    };
    let mut refused = 0;
    for _ in 0..20_000 {
        let share = random(3);
        let purpose = [Purpose::Work, Purpose::Open, Purpose::Open][random(3)];
        if random(5) < 2 && !taken[share].is_empty() {
            let at = random(taken[share].len());
            taken[share].swap_remove(at);
        } else if let Ok(permit) = parts[share].permit(purpose) {
            taken[share].push(permit);
        } else {
            refused += 1;
        }
        let sum: usize = taken.iter().map(Vec::len).sum();
        assert!(sum <= POOL, "{sum}");
    }
    assert!(refused > 100, "the pool was never used up: {refused}");
    taken.clear();
    assert_eq!(
        parts[2].pool.common.load(Ordering::Relaxed),
        POOL - 3 * (POOL / 6)
    );
    assert_eq!(all(&parts[2], Purpose::Open).len(), 200 - 2 * 33 - 16);
}

#[test]
fn there_is_a_part_for_as_many_shares_as_were_said() {
    let pool = DescriptorPool::new(128, 2);
    let first = pool.part(None).unwrap();
    let _second = pool.part(None).unwrap();
    assert!(matches!(pool.part(None), Err(Error::Descriptors)));
    drop(first);
    assert!(pool.part(None).is_ok(), "a share that is gone makes room");
    let small = DescriptorPool::new(100, 4);
    assert!(matches!(small.part(None), Err(Error::Descriptors)));
}

#[test]
fn a_bound_of_its_own_is_kept_too() {
    let part = DescriptorPool::new(1000, 1).part(Some(40)).unwrap();
    assert_eq!(all(&part, Purpose::Work).len(), 40);
    let part = DescriptorPool::new(1000, 1).part(Some(1)).unwrap();
    assert_eq!(all(&part, Purpose::Work).len(), 16, "too few to work with");
}
