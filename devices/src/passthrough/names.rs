//! The names by which the guest was told of a node.
//!
//! They say whether what the guest may still have in its cache is true (see
//! `coherence`), whether a node is still under the share (`confinement`) and
//! how to find one that was let go (`finding`). Most nodes have one name, and
//! a directory has never more.

use std::ffi::CStr;

use super::capacity::Capacity;
use super::clock::Moment;
use crate::filesystem::NodeId;

/// How many names of one node are remembered.
const MOST: usize = 16;

/// An entry of a directory that led to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// A number and not a reference, so that dropping the end of a deep chain
    /// is not recursive.
    pub(super) parent: NodeId,
    pub(super) name: Box<CStr>,
    /// When the guest was last told.
    pub(super) told: Moment,
}

impl Name {
    fn is(&self, parent: NodeId, name: &CStr) -> bool {
        self.parent == parent && *self.name == *name
    }
}

/// What only nodes with several names need.
#[derive(Debug, Default)]
struct More {
    names: Vec<Name>,
    /// When the guest was last told of a name that had no room here.
    dropped: Option<Moment>,
}

/// All names of a node that are remembered.
#[derive(Debug, Default)]
pub(super) struct Names {
    first: Option<Name>,
    more: Option<Box<More>>,
}

impl Names {
    /// The guest is told at `now` that `name` in `parent` leads here; for a
    /// directory it is the `only` name then.
    pub(super) fn told(
        &mut self,
        parent: NodeId,
        name: &CStr,
        now: Moment,
        only: bool,
        capacity: &Capacity,
    ) {
        if let Some(known) = self.iter_mut().find(|known| known.is(parent, name)) {
            known.told = now;
            return;
        }
        let name = Name {
            parent,
            name: name.into(),
            told: now,
        };
        if only || self.first.is_none() {
            self.first = Some(name);
            return;
        }
        let more = self.more.get_or_insert_default();
        if more.names.len() + 1 < MOST
            && let Ok(room) = capacity.room()
        {
            room.keep();
            more.names.push(name);
            return;
        }
        let oldest = self.first.iter_mut().chain(&mut more.names);
        if let Some(oldest) = oldest.min_by_key(|known| known.told) {
            more.dropped = more.dropped.max(Some(oldest.told));
            *oldest = name;
        }
    }

    /// The guest knows that the name is gone. Says how many places are free now.
    #[must_use]
    pub(super) fn forget(&mut self, parent: NodeId, name: &CStr) -> usize {
        let before = self.beyond_first();
        let gone = |known: &Name| known.is(parent, name);
        let more = self.more.as_mut();
        if self.first.as_ref().is_some_and(gone) {
            self.first = more.and_then(|more| more.names.pop());
        } else if let Some(more) = more {
            more.names.retain(|known| !gone(known));
        }
        if self
            .more
            .as_ref()
            .is_some_and(|more| more.names.is_empty() && more.dropped.is_none())
        {
            self.more = None;
        }
        before - self.beyond_first()
    }

    /// How many names take a place of the capacity.
    pub(super) fn beyond_first(&self) -> usize {
        self.more.as_ref().map_or(0, |more| more.names.len())
    }

    /// The names, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Name> {
        let more = self.more.iter().flat_map(|more| &more.names);
        self.first.iter().chain(more)
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut Name> {
        let more = self.more.iter_mut().flat_map(|more| &mut more.names);
        self.first.iter_mut().chain(more)
    }

    /// When the guest was last told of a name that is not remembered.
    pub(super) fn dropped(&self) -> Option<Moment> {
        self.more.as_ref().and_then(|more| more.dropped)
    }

    /// Whether the node never had a name, or lost all by the guest's own hand.
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none() && self.dropped().is_none()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn listed(names: &Names) -> Vec<(NodeId, &str, u64)> {
        let mut all: Vec<_> = names
            .iter()
            .map(|n| (n.parent, n.name.to_str().unwrap(), n.told.milliseconds()))
            .collect();
        all.sort_unstable();
        all
    }

    fn at(milliseconds: u64) -> Moment {
        Moment::from_milliseconds(milliseconds)
    }

    #[test]
    fn a_name_told_again_is_one_name_told_later() {
        let (mut names, capacity) = (Names::default(), Capacity::new(100));
        names.told(1, c"a", at(5), false, &capacity);
        names.told(1, c"b", at(6), false, &capacity);
        names.told(1, c"a", at(7), false, &capacity);
        names.told(2, c"a", at(8), false, &capacity);

        assert_eq!(listed(&names), [(1, "a", 7), (1, "b", 6), (2, "a", 8)]);
    }

    #[test]
    fn a_directory_has_the_name_it_was_told_of_last() {
        let (mut names, capacity) = (Names::default(), Capacity::new(100));
        names.told(1, c"a", at(5), true, &capacity);
        names.told(2, c"b", at(6), true, &capacity);

        assert_eq!(listed(&names), [(2, "b", 6)]);
    }

    #[test]
    fn any_name_can_be_forgotten_and_the_others_stay() {
        for gone in [c"a", c"b", c"c"] {
            let (mut names, capacity) = (Names::default(), Capacity::new(100));
            for name in [c"a", c"b", c"c"] {
                names.told(1, name, at(1), false, &capacity);
            }
            let _ = names.forget(2, gone);
            assert_eq!(listed(&names).len(), 3);
            let _ = names.forget(1, gone);

            let left: Vec<_> = names.iter().map(|n| &*n.name).collect();
            assert!(left.len() == 2 && !left.contains(&gone), "{left:?}");
            for name in [c"a", c"b", c"c"] {
                let _ = names.forget(1, name);
            }
            assert!(names.is_empty() && names.more.is_none());
        }
    }

    #[test]
    fn names_are_bounded_and_what_had_no_room_is_not_passed_over() {
        let (mut names, capacity) = (Names::default(), Capacity::new(100));
        for n in 0..100_u64 {
            let name = std::ffi::CString::new(n.to_string()).unwrap();
            names.told(1, &name, at(n), false, &capacity);
        }
        assert_eq!(names.iter().count(), MOST);
        assert_eq!(names.dropped(), Some(at(99 - MOST as u64)));
        for n in 0..100_u64 {
            let name = std::ffi::CString::new(n.to_string()).unwrap();
            let _ = names.forget(1, &name);
        }

        assert_eq!(names.iter().count(), 0);
        assert!(!names.is_empty());
    }
}
