//! Tasks that were told to look again.
//!
//! `ESTALE` makes Linux walk a path a second time, and then it asks for every
//! name on it. What that task does with the same node after that is its will:
//! it came there by an open directory, by `/proc/self/fd`, or by names that
//! are true now. A second `ESTALE` would reach the program.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::clock::Moment;
use crate::filesystem::NodeId;

/// How long a task may take to come back.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long after an OPEN its truncation may come.
const SOON: Duration = Duration::from_millis(100);
/// How many refusals are remembered. A guest that has more at once loses some,
/// and a program of its sees `ESTALE`.
const MOST: usize = 256;

/// What was asked for and refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Asked {
    /// Whether a name is there.
    Lookup,
    /// To do something with the node. Whoever was refused that knows more than
    /// after a LOOKUP.
    Use,
    /// The same, to give the node one more name, for which Linux looks on its way
    /// back here, and which had better not be there.
    Link,
}

impl Asked {
    /// Whether who was refused this knows as much as who was refused `other`.
    fn covers(self, other: Self) -> bool {
        self >= other.min(Self::Use)
    }
}

#[derive(Debug)]
struct Refusal {
    task: u32,
    node: NodeId,
    directory: bool,
    what: Asked,
    at: Moment,
    /// What the task looked up last since then, if that is no directory.
    found: Option<NodeId>,
    /// What it came for and has opened, and when.
    opened: Option<(NodeId, Moment)>,
}

impl Refusal {
    /// Whether it still counts, and for this.
    fn counts(&self, task: u32, what: Asked, now: Moment) -> bool {
        let over = self.opened.is_some() || self.at.age(now) >= PATIENCE;
        !over && self.task == task && self.what.covers(what)
    }
}

/// All refusals of one share.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    list: Mutex<VecDeque<Refusal>>,
    /// Length of the list, so that nobody waits for the lock of an empty one.
    length: AtomicUsize,
}

impl Refusals {
    /// Remembers that `task` was told that `node` is not what it takes it for.
    pub(super) fn refuse(&self, task: u32, node: NodeId, directory: bool, what: Asked, at: Moment) {
        let mut list = self.lock();
        let mut what = what;
        list.retain(|r| {
            let late = r.at.age(at) >= PATIENCE;
            let same = (r.task, r.node) == (task, node);
            if same && !late {
                what = what.max(r.what);
            }
            !late && !same
        });
        if list.len() >= MOST {
            list.pop_front();
        }
        list.push_back(Refusal {
            task,
            node,
            directory,
            what,
            at,
            found: None,
            opened: None,
        });
        self.length.store(list.len(), Ordering::Relaxed);
    }

    /// Whether `task` was refused as much a moment ago.
    pub(super) fn excuse(&self, task: u32, node: NodeId, what: Asked, now: Moment) -> bool {
        let same = |r: &Refusal| r.counts(task, what, now) && r.node == node;
        !self.is_empty() && self.lock().iter().any(same)
    }

    /// The name that `task` has just asked for leads to `node`, which is no
    /// directory.
    pub(super) fn found(&self, task: u32, node: NodeId) {
        self.forget(|r| r.task == task && r.opened.is_some());
        self.note_found(task, Some(node));
    }

    /// Whether `task` was refused as much a moment ago, and `node` is what it has
    /// found since: it came there by a name that is true.
    pub(super) fn has_found(&self, task: u32, node: NodeId, what: Asked, now: Moment) -> bool {
        let same = |r: &Refusal| r.counts(task, what, now) && r.found == Some(node);
        !self.is_empty() && self.lock().iter().any(same)
    }

    fn note_found(&self, task: u32, node: Option<NodeId>) {
        if self.is_empty() {
            return;
        }
        let mut list = self.lock();
        let own = list.iter_mut().filter(|r| r.task == task);
        own.for_each(|r| r.found = node);
    }

    /// `task` has come to the end of its way. What it was told of directories
    /// stays: it may go on in one that it has open.
    pub(super) fn arrived(&self, task: u32) {
        self.forget(|r| r.task == task && !r.directory);
        self.note_found(task, None);
    }

    /// `task` has opened `node`, and so arrived.
    pub(super) fn opened(&self, task: u32, node: NodeId, now: Moment) {
        if self.is_empty() {
            return;
        }
        self.forget(|r| r.task == task && r.opened.is_some());
        let mut list = self.lock();
        let found = |r: &&mut Refusal| r.task == task && !r.directory && r.found == Some(node);
        if let Some(refusal) = list.iter_mut().find(found) {
            refusal.opened = Some((node, now));
        }
        drop(list);
        self.forget(|r| r.task == task && !r.directory && r.opened.is_none());
        self.note_found(task, None);
    }

    /// Whether `task` has just opened `node`, having come by a name that is true.
    /// `open(2)` with `O_TRUNC` then truncates it, and Linux says no handle.
    pub(super) fn has_opened(&self, task: u32, node: NodeId, now: Moment) -> bool {
        let same = |r: &Refusal| {
            r.task == task && (r.opened).is_some_and(|(n, at)| n == node && at.age(now) < SOON)
        };
        !self.is_empty() && self.lock().iter().any(same)
    }

    /// `task` has come to where nothing is, which is the end of its way unless it
    /// has found what it wants to make this a name of.
    pub(super) fn found_nothing(&self, task: u32) {
        let links = |r: &Refusal| r.what == Asked::Link && r.found.is_some();
        self.forget(|r| r.task == task && !r.directory && !links(r));
    }

    /// The guest is told anew where a directory is.
    pub(super) fn told(&self, directory: NodeId) {
        self.forget(|r| r.node == directory && r.directory);
    }

    fn forget(&self, which: impl Fn(&Refusal) -> bool) {
        if self.is_empty() {
            return;
        }
        let mut list = self.lock();
        list.retain(|r| !which(r));
        self.length.store(list.len(), Ordering::Relaxed);
    }

    fn is_empty(&self) -> bool {
        self.length.load(Ordering::Relaxed) == 0
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Refusal>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_milliseconds(seconds * 1000)
    }

    #[test]
    fn a_task_is_excused_for_the_node_it_was_told_of() {
        let refusals = Refusals::default();
        refusals.refuse(7, 100, false, Asked::Use, at(10));

        assert!(refusals.excuse(7, 100, Asked::Use, at(10)));
        assert!(refusals.excuse(7, 100, Asked::Use, at(14)));
        assert!(!refusals.excuse(7, 100, Asked::Use, at(15)));
        assert!(!refusals.excuse(8, 100, Asked::Use, at(10)));
        assert!(!refusals.excuse(7, 101, Asked::Use, at(10)));
    }

    #[test]
    fn it_ends_for_a_file_with_the_way_and_for_a_directory_with_what_is_told() {
        let refusals = Refusals::default();
        for (node, directory) in [(1, false), (2, true)] {
            refusals.refuse(7, node, directory, Asked::Use, at(10));
            refusals.refuse(8, node, directory, Asked::Use, at(10));
        }

        refusals.arrived(7);
        assert!(
            !refusals.excuse(7, 1, Asked::Use, at(10)) && refusals.excuse(8, 1, Asked::Use, at(10))
        );
        assert!(refusals.excuse(7, 2, Asked::Use, at(10)));
        refusals.told(1);
        assert!(refusals.excuse(8, 1, Asked::Use, at(10)));
        refusals.told(2);
        assert!(
            !refusals.excuse(7, 2, Asked::Use, at(10))
                && !refusals.excuse(8, 2, Asked::Use, at(10))
        );
        refusals.arrived(8);
        assert!(refusals.is_empty());
    }

    #[test]
    fn what_a_refused_task_finds_it_may_use_until_it_has_arrived() {
        let refusals = Refusals::default();
        let has_found = |node, what| refusals.has_found(7, node, what, at(10));
        refusals.found(7, 3);
        refusals.refuse(7, 1, false, Asked::Use, at(10));
        refusals.refuse(7, 2, true, Asked::Lookup, at(10));
        assert!(!has_found(3, Asked::Lookup));

        refusals.found(8, 3);
        assert!(!has_found(3, Asked::Lookup));
        refusals.found(7, 3);
        assert!(has_found(3, Asked::Use) && !has_found(1, Asked::Use));
        assert!(!refusals.has_found(7, 3, Asked::Use, at(15)));
        // The last is what it came for.
        refusals.found(7, 4);
        assert!(has_found(4, Asked::Use) && !has_found(3, Asked::Use));

        refusals.arrived(7);
        assert!(!has_found(4, Asked::Lookup));
        // What was refused to a LOOKUP excuses no use.
        refusals.found(7, 4);
        assert!(has_found(4, Asked::Lookup) && !has_found(4, Asked::Use));
    }

    #[test]
    fn what_was_opened_may_be_truncated_and_nothing_else() {
        let refusals = Refusals::default();
        let has_opened = |node, milliseconds: u64| {
            let now = Moment::from_milliseconds(10_000 + milliseconds);
            refusals.has_opened(7, node, now)
        };
        refusals.opened(7, 3, at(10));
        assert!(!has_opened(3, 0) && refusals.is_empty());
        refusals.refuse(7, 1, false, Asked::Use, at(10));
        refusals.found(7, 3);
        assert!(!has_opened(3, 0));

        refusals.opened(7, 3, at(10));
        assert!(has_opened(3, 0) && has_opened(3, 99));
        assert!(!has_opened(3, 100) && !has_opened(1, 0) && !refusals.has_opened(8, 3, at(10)));
        for node in [1, 3] {
            assert!(!refusals.excuse(7, node, Asked::Lookup, at(10)));
            assert!(!refusals.has_found(7, node, Asked::Lookup, at(10)));
        }
        // Until it goes on to another.
        refusals.opened(7, 4, at(10));
        assert!(!has_opened(3, 0) && !has_opened(4, 0) && refusals.is_empty());
    }

    #[test]
    fn the_newest_are_kept() {
        let refusals = Refusals::default();
        for task in 0..1000 {
            refusals.refuse(task, 1, false, Asked::Use, at(10));
        }

        assert_eq!(refusals.lock().len(), MOST);
        assert!(
            refusals.excuse(999, 1, Asked::Use, at(10))
                && !refusals.excuse(0, 1, Asked::Use, at(10))
        );
        refusals.refuse(1, 1, false, Asked::Use, at(20));
        assert_eq!(refusals.lock().len(), 1);
    }

    #[test]
    fn a_refused_lookup_excuses_another_one_and_no_use() {
        let refusals = Refusals::default();
        refusals.refuse(7, 1, true, Asked::Lookup, at(10));
        assert!(refusals.excuse(7, 1, Asked::Lookup, at(10)));
        assert!(!refusals.excuse(7, 1, Asked::Use, at(10)));

        refusals.refuse(7, 1, true, Asked::Use, at(10));
        assert!(refusals.excuse(7, 1, Asked::Lookup, at(10)));
        assert!(refusals.excuse(7, 1, Asked::Use, at(10)));
    }
}
