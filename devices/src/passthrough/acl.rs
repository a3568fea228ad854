//! A POSIX ACL and the mode that it is one thing with: of a file that has one the
//! owner's bits are an entry, others' are another, and the group's are the mask
//! (acl(5)).

use crate::filesystem::Caller;

use super::stat::Seen;

/// `struct posix_acl_xattr_header`: the version.
const HEADER: [u8; 4] = 2_u32.to_le_bytes();
/// `struct posix_acl_xattr_entry`, in bytes: tag, permissions, id.
const ENTRY: usize = 8;

/// Tags, in the order of the entries.
const OWNER: u16 = 0x01;
const USER: u16 = 0x02;
const OWNING_GROUP: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// `S_IRWXO`.
const ALL: u16 = 0o7;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    tag: u16,
    permissions: u16,
    /// Of a user or a group that is named.
    id: u32,
}

/// Entries as Linux takes them (`posix_acl_valid`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Acl(Vec<Entry>);

impl Acl {
    /// Reads the value of an attribute; nothing if it is none that Linux would take.
    pub(super) fn parse(value: &[u8]) -> Option<Self> {
        let entries = value.strip_prefix(&HEADER)?.chunks_exact(ENTRY);
        let whole = entries.remainder().is_empty();
        let entries = entries.map(|entry| {
            let (tag, rest) = entry.split_first_chunk()?;
            let (permissions, id) = rest.split_first_chunk()?;
            Some(Entry {
                tag: u16::from_le_bytes(*tag),
                permissions: u16::from_le_bytes(*permissions),
                id: u32::from_le_bytes(*id.first_chunk()?),
            })
        });
        let acl = Self(entries.collect::<Option<_>>()?);
        (whole && acl.is_valid()).then_some(acl)
    }

    fn is_valid(&self) -> bool {
        let count = |tag| self.0.iter().filter(|entry| entry.tag == tag).count();
        let known = [OWNER, USER, OWNING_GROUP, GROUP, MASK, OTHER];
        let sound = |entry: &Entry| {
            let named = matches!(entry.tag, USER | GROUP);
            let known = known.contains(&entry.tag) && entry.permissions & !ALL == 0;
            known && (!named || entry.id != u32::MAX)
        };
        let names_somebody = count(USER) + count(GROUP) > 0;
        self.0.iter().all(sound)
            && self.0.is_sorted_by_key(|entry| entry.tag)
            && [OWNER, OWNING_GROUP, OTHER].map(count) == [1; 3]
            && count(MASK) <= 1
            && (!names_somebody || count(MASK) == 1)
    }

    /// The value that says this.
    pub(super) fn value(&self) -> Vec<u8> {
        let mut value = HEADER.to_vec();
        for entry in &self.0 {
            value.extend(entry.tag.to_le_bytes());
            value.extend(entry.permissions.to_le_bytes());
            value.extend(entry.id.to_le_bytes());
        }
        value
    }

    fn of(&mut self, tag: u16) -> Option<&mut u16> {
        let mut entries = self.0.iter_mut();
        let found = entries.find(|entry| entry.tag == tag);
        found.map(|entry| &mut entry.permissions)
    }

    /// The entries that the three parts of a mode are, from the owner's on.
    fn parts(&self) -> [u16; 3] {
        let has_mask = self.0.iter().any(|entry| entry.tag == MASK);
        [OWNER, if has_mask { MASK } else { OWNING_GROUP }, OTHER]
    }

    /// Whether a mode says all of it.
    pub(super) fn is_a_mode(&self) -> bool {
        self.0
            .iter()
            .all(|entry| matches!(entry.tag, OWNER | OWNING_GROUP | OTHER))
    }

    /// The mode of what has it: its last nine bits.
    pub(super) fn mode(&self) -> u32 {
        let part = |tag| self.0.iter().find(|entry| entry.tag == tag);
        let parts = self.parts().into_iter();
        parts.fold(0, |mode, tag| {
            mode << 3 | part(tag).map_or(0, |entry| u32::from(entry.permissions))
        })
    }

    /// The mode that lets nobody do what it does not: its last nine bits.
    pub(super) fn strictest_mode(&self) -> u32 {
        let all = |tags: &[u16]| {
            let some = self.0.iter().filter(|entry| tags.contains(&entry.tag));
            u32::from(some.fold(ALL, |least, entry| least & entry.permissions))
        };
        // Who is named may be of the group, or one of the others.
        let group = all(&[OWNING_GROUP, USER, MASK]);
        all(&[OWNER]) << 6 | group << 3 | all(&[OTHER, USER, GROUP, MASK])
    }

    /// As it is for what has this mode, as `chmod(2)` leaves it.
    #[must_use]
    pub(super) fn with_mode(mut self, mode: u32) -> Self {
        for (tag, shift) in self.parts().into_iter().zip([6, 3, 0]) {
            if let Some(permissions) = self.of(tag) {
                *permissions = permission_bits(mode >> shift);
            }
        }
        self
    }

    /// As it is for what is made with this mode in a directory that has it as its
    /// default.
    #[must_use]
    pub(super) fn for_new(self, mode: u32) -> Self {
        let both = self.mode() & mode;
        self.with_mode(both)
    }

    /// Whether `caller`, who is not root, may do what `mask` says to a node that has
    /// it (acl(5), "access check algorithm").
    pub(super) fn permits(&self, seen: &Seen, caller: &Caller, mask: u32) -> bool {
        let wanted = permission_bits(mask);
        let limit = self.0.iter().find(|entry| entry.tag == MASK);
        let limit = limit.map_or(ALL, |entry| entry.permissions);
        let member = |id| caller.gid == id || caller.supplementary_gid == Some(id);
        let mut is_member = false;
        for entry in &self.0 {
            let grants = entry.permissions & wanted == wanted;
            match entry.tag {
                OWNER if caller.uid == seen.uid => return grants,
                USER if caller.uid == entry.id => return grants && limit & wanted == wanted,
                OWNING_GROUP | GROUP => {
                    let id = if entry.tag == GROUP {
                        entry.id
                    } else {
                        seen.gid
                    };
                    is_member |= member(id);
                    if member(id) && grants {
                        return limit & wanted == wanted;
                    }
                }
                OTHER => return !is_member && grants,
                _ => {}
            }
        }
        false
    }
}

/// The last three bits.
fn permission_bits(mode: u32) -> u16 {
    u16::try_from(mode & 0o7).unwrap_or(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::permissions::permits;
    use super::*;

    /// Tags, permissions and ids.
    fn value(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let entries = entries.iter().map(|&(tag, permissions, id)| Entry {
            tag,
            permissions,
            id,
        });
        Acl(entries.collect()).value()
    }

    const FULL: [(u16, u16, u32); 6] = [
        (OWNER, 7, !0),
        (USER, 6, 33),
        (OWNING_GROUP, 5, !0),
        (GROUP, 7, 44),
        (MASK, 4, !0),
        (OTHER, 1, !0),
    ];
    const LEAST: [(u16, u16, u32); 3] = [(OWNER, 6, !0), (OWNING_GROUP, 4, !0), (OTHER, 0, !0)];

    fn full() -> Acl {
        Acl::parse(&value(&FULL)).unwrap()
    }

    fn least() -> Acl {
        Acl::parse(&value(&LEAST)).unwrap()
    }

    #[test]
    fn what_linux_takes_is_read_and_nothing_else() {
        assert_eq!(full().value(), value(&FULL));
        let without = |tag| {
            let rest = FULL.into_iter().filter(|entry| entry.0 != tag);
            Acl::parse(&value(&rest.collect::<Vec<_>>()))
        };
        for tag in [OWNER, OWNING_GROUP, MASK, OTHER] {
            assert_eq!(without(tag), None, "{tag}");
        }
        assert!(without(USER).is_some() && without(GROUP).is_some());
        for (place, wrong) in [
            (0, (OWNER, 8, !0)),
            (1, (USER, 7, !0)),
            (3, (GROUP, 7, !0)),
            (1, (OWNER, 7, !0)),
            (3, (0x40, 7, 1)),
            (4, (OTHER, 7, !0)),
        ] {
            let mut entries = FULL;
            entries[place] = wrong;
            assert_eq!(Acl::parse(&value(&entries)), None, "{wrong:?}");
        }
        let mut entries = FULL;
        entries.swap(0, 5);
        assert_eq!(Acl::parse(&value(&entries)), None);
        let whole = value(&FULL);
        for length in 0..whole.len() {
            assert_eq!(Acl::parse(&whole[..length]), None, "{length}");
        }
        let other_version = [&[1, 0, 0, 0], &whole[4..]].concat();
        assert_eq!(Acl::parse(&other_version), None);
    }

    #[test]
    fn a_mode_and_an_acl_say_the_same() {
        assert_eq!((full().mode(), least().mode()), (0o741, 0o640));
        assert!(least().is_a_mode() && !full().is_a_mode());
        let mask_alone = value(&[LEAST[0], LEAST[1], (MASK, 7, !0), LEAST[2]]);
        assert!(!Acl::parse(&mask_alone).unwrap().is_a_mode());
        let changed = full().with_mode(0o4356);
        assert_eq!(changed.mode(), 0o356);
        // The group has what it had, as far as the mask lets it.
        let mut expected = FULL;
        (expected[0].1, expected[4].1, expected[5].1) = (3, 5, 6);
        assert_eq!(changed.value(), value(&expected));
        assert_eq!(least().with_mode(0o713).mode(), 0o713);
    }

    #[test]
    fn the_strictest_mode_gives_nobody_more() {
        assert_eq!(least().strictest_mode(), 0o640);
        assert_eq!(full().strictest_mode(), 0o740);
        let caller = |uid, gid, supplementary_gid| Caller {
            uid,
            gid,
            pid: 7,
            supplementary_gid,
        };
        let callers = [
            caller(1000, 44, None),
            caller(33, 1, None),
            caller(33, 60, None),
            caller(35, 60, Some(44)),
            caller(35, 44, None),
            caller(35, 1, None),
        ];
        for number in 0..3_usize.pow(6) {
            let mut entries = FULL;
            for (entry, place) in entries.iter_mut().zip(0..) {
                entry.1 = [0, 4, 7][number / 3_usize.pow(place) % 3];
            }
            let acl = Acl::parse(&value(&entries)).unwrap();
            let seen = Seen {
                uid: 1000,
                gid: 60,
                mode: libc::S_IFCHR | acl.strictest_mode(),
                device: (1, 3),
            };
            for caller in &callers {
                for mask in 1..8 {
                    let by_mode = permits(&seen, None, caller, mask);
                    let by_acl = acl.permits(&seen, caller, mask);
                    assert!(by_acl || !by_mode, "{acl:?} {caller:?} {mask}");
                }
            }
        }
    }

    #[test]
    fn what_is_made_has_what_both_give() {
        assert_eq!(full().for_new(0o666).mode(), 0o640);
        assert_eq!(full().for_new(0o777).mode(), 0o741);
        assert_eq!(least().for_new(0o4022).mode(), 0);
        assert_eq!(full().for_new(0o600).value()[4 + 8 + 2], 6);
    }

    #[test]
    fn who_may_do_what_is_as_acl_5_has_it() {
        let seen = Seen {
            uid: 5,
            gid: 6,
            mode: 0,
            device: (0, 0),
        };
        let caller = |uid, gid, supplementary_gid| Caller {
            uid,
            gid,
            pid: 1,
            supplementary_gid,
        };
        let may = |acl: &Acl, who: Caller| {
            let may = (1..8).filter(|mask| acl.permits(&seen, &who, *mask));
            may.fold(0, |all, mask| all | mask)
        };
        // The owner is not limited by the mask; the others are, to reading.
        assert_eq!(may(&full(), caller(5, 44, None)), 7);
        assert_eq!(may(&full(), caller(33, 9, None)), 4);
        assert_eq!(may(&full(), caller(9, 6, None)), 4);
        assert_eq!(may(&full(), caller(9, 9, Some(44))), 4);
        assert_eq!(may(&full(), caller(9, 9, None)), 1);
        // A member whose groups give nothing is not as others are.
        let mut none = FULL;
        (none[2].1, none[3].1) = (0, 0);
        let none = Acl::parse(&value(&none)).unwrap();
        assert_eq!(may(&none, caller(9, 6, Some(44))), 0);
        assert_eq!(may(&least(), caller(9, 6, None)), 4);
        assert!(full().permits(&seen, &caller(9, 9, None), 0));
    }
}
