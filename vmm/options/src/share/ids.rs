//! Users and groups of the guest, and who they are on the host.

use std::fmt;

/// Consecutive users or groups of the guest, and as many of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// The first in the guest.
    pub guest: u32,
    /// The first on the host.
    pub host: u32,
    /// How many there are, at least 1. None is beyond 4294967294.
    pub count: u32,
}

impl IdRange {
    /// Reads `GUEST:HOST:COUNT`.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let mut numbers = std::str::from_utf8(text).ok()?.split(':').map(number);
        let (guest, host, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let whole = numbers.next().is_none() && count > 0;
        // -1 is nobody.
        let fits = |first: u32| first.checked_add(count).is_some();
        (whole && fits(guest) && fits(host)).then_some(Self { guest, host, count })
    }

    /// Whether `id` of the guest is among them.
    pub fn has_guest(&self, id: u32) -> bool {
        id.checked_sub(self.guest)
            .is_some_and(|nth| nth < self.count)
    }

    /// Whether `id` of the host is among them.
    pub fn has_host(&self, id: u32) -> bool {
        id.checked_sub(self.host)
            .is_some_and(|nth| nth < self.count)
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.has_guest(other.guest)
            || other.has_guest(self.guest)
            || self.has_host(other.host)
            || other.has_host(self.host)
    }
}

/// A sign is no number's.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

impl fmt::Display for IdRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.guest, self.host, self.count)
    }
}

/// Ranges of which no two have anybody in common, on either side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMap(Vec<IdRange>);

impl IdMap {
    /// As many as Linux takes (`UID_GID_MAP_MAX_EXTENTS`).
    pub const MOST: usize = 340;

    /// Adds a range.
    ///
    /// # Errors
    ///
    /// The range with which it has somebody in common.
    pub fn add(&mut self, range: IdRange) -> Result<(), IdRange> {
        match self.0.iter().find(|other| other.overlaps(&range)) {
            Some(other) => Err(*other),
            None => {
                self.0.push(range);
                Ok(())
            }
        }
    }

    /// The ranges, in the order in which they were added.
    pub fn ranges(&self) -> &[IdRange] {
        &self.0
    }

    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The users and the groups of a share. One without ranges was not given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMaps {
    /// `uid-map=`.
    pub uids: IdMap,
    /// `gid-map=`.
    pub gids: IdMap,
}
