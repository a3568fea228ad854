//! Who may do what to a node of which the guest sees more than the host has.

use super::acl::Acl;
use super::stat::{Kind, Seen};
use crate::filesystem::Caller;

/// ACCESS: whether `caller` may do to a node what `mask` says, where an `acl` may be
/// in force.
pub(super) fn permits(seen: &Seen, acl: Option<&Acl>, caller: &Caller, mask: u32) -> bool {
    let granted = if caller.uid == 0 {
        let runs = Kind::of(seen.mode) == Kind::Directory || seen.mode & 0o111 != 0;
        0o6 | u32::from(runs)
    } else if let Some(acl) = acl {
        return acl.permits(seen, caller, mask);
    } else if caller.uid == seen.uid {
        seen.mode >> 6
    } else if caller.gid == seen.gid || caller.supplementary_gid == Some(seen.gid) {
        seen.mode >> 3
    } else {
        seen.mode
    };
    mask & 0o7 & !granted == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: Caller = Caller {
        uid: 1234,
        gid: 2345,
        pid: 7,
        supplementary_gid: None,
    };

    fn seen(uid: u32, gid: u32, mode: u32) -> Seen {
        Seen {
            uid,
            gid,
            mode,
            device: (0, 0),
        }
    }

    #[test]
    fn access_goes_by_what_the_guest_sees() {
        let file = |mode| seen(1234, 77, libc::S_IFREG | mode);
        let other = Caller { uid: 1, ..ALICE };
        let member = Caller { gid: 77, ..other };
        let root = Caller { uid: 0, ..ALICE };
        assert!(permits(&file(0o640), None, &ALICE, 6) && !permits(&file(0o640), None, &ALICE, 1));
        assert!(
            permits(&file(0o640), None, &member, 4) && !permits(&file(0o640), None, &member, 2)
        );
        assert!(permits(&file(0o640), None, &other, 0) && !permits(&file(0o640), None, &other, 4));
        assert!(permits(&file(0), None, &root, 6) && !permits(&file(0), None, &root, 1));
        assert!(permits(&file(0o100), None, &root, 7));
        assert!(permits(&seen(1, 1, libc::S_IFDIR), None, &root, 7));
    }
}
