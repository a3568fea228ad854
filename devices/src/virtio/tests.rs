//! What all devices share.

use super::*;

#[test]
fn a_guest_that_misbehaves_is_loud_ten_times() {
    let complaints = Complaints::default();
    let levels: Vec<_> = (0..100).map(|_| complaints.level()).collect();
    let (loud, quiet) = levels.split_at(10);
    assert_eq!(loud, [log::Level::Warn; 10]);
    assert_eq!(quiet, [log::Level::Debug; 90]);
}
