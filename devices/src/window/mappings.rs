//! Which part of a window shows which part of which file. No pages here, only
//! numbers.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use rustix::io::Errno;

use crate::filesystem::{NodeId, Result};

/// A part of a file in a part of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) node: NodeId,
    /// Where it begins in the file, in bytes.
    pub(super) file_offset: u64,
    /// Its length in bytes.
    pub(super) len: u64,
    pub(super) writable: bool,
    /// Bytes that are the file's; behind them it was cut off, and there are
    /// zeros.
    pub(super) reach: u64,
}

impl Mapping {
    fn is_torn(&self) -> bool {
        self.reach < self.len
    }

    /// Whether it is torn where `node` has something if it has `size` bytes.
    pub(super) fn mends(&self, node: NodeId, size: u64) -> bool {
        let begins = self.file_offset.saturating_add(self.reach);
        self.node == node && self.is_torn() && size > begins
    }

    /// What of it is left between `from` and `to`, counted from its beginning.
    fn cut(&self, from: u64, to: u64) -> Self {
        Self {
            file_offset: self.file_offset + from,
            len: to - from,
            reach: self.reach.clamp(from, to) - from,
            ..*self
        }
    }
}

/// All mappings of a window, none over another.
#[derive(Debug)]
pub(super) struct Mappings {
    by_start: BTreeMap<u64, Mapping>,
    /// How many each node has, where it has any.
    of_node: HashMap<NodeId, usize>,
    /// How many are torn.
    torn: usize,
    most: usize,
}

impl Mappings {
    /// Room for at most `most`.
    pub(super) fn new(most: usize) -> Self {
        Self {
            by_start: BTreeMap::new(),
            of_node: HashMap::new(),
            torn: 0,
            most,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_start.len()
    }

    pub(super) fn has(&self, node: NodeId) -> bool {
        self.of_node.contains_key(&node)
    }

    pub(super) fn torn(&self) -> usize {
        self.torn
    }

    /// At most so many, from the first that begins at `start` or later.
    pub(super) fn some_from(&self, start: u64, count: usize) -> Vec<(u64, Mapping)> {
        let all = self.by_start.range(start..).take(count);
        all.map(|(start, mapping)| (*start, *mapping)).collect()
    }

    /// All, by where they begin.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Mapping)> {
        self.by_start
            .iter()
            .map(|(start, mapping)| (*start, mapping))
    }

    /// The parts of the file `node` within `of_file` that are to be written to, in order
    /// and none beside another.
    pub(super) fn written(&self, node: NodeId, of_file: &Range<u64>) -> Vec<Range<u64>> {
        if !self.has(node) {
            return Vec::new();
        }
        let own = self.by_start.values();
        let own = own.filter(|mapping| mapping.node == node && mapping.writable);
        let parts = own.map(|mapping| {
            let end = mapping.file_offset + mapping.len;
            of_file.start.max(mapping.file_offset)..of_file.end.min(end)
        });
        let mut parts: Vec<_> = parts.filter(|part| !part.is_empty()).collect();
        parts.sort_unstable_by_key(|part| part.start);
        parts.dedup_by(|next, last| {
            let touches = next.start <= last.end;
            if touches {
                last.end = last.end.max(next.end);
            }
            touches
        });
        parts
    }

    /// How far the mapping that begins at `start` is the file's from now on.
    pub(super) fn set_reach(&mut self, start: u64, reach: u64) {
        if let Some(mapping) = self.by_start.get_mut(&start) {
            self.torn -= usize::from(mapping.is_torn());
            mapping.reach = reach.min(mapping.len);
            self.torn += usize::from(mapping.is_torn());
        }
    }

    /// `ENOMEM` when there would be too many with `more` added and those in
    /// `range` taken away, of which there can be what is left on both sides.
    pub(super) fn ensure_room(&self, range: &Range<u64>, more: usize) -> Result<()> {
        let (mut gone, mut left) = (0, 0);
        for (start, mapping) in self.overlapping(range) {
            gone += 1;
            left += usize::from(start < range.start);
            left += usize::from(start + mapping.len > range.end);
        }
        if self.by_start.len() - gone + left + more > self.most {
            return Err(Errno::NOMEM);
        }
        Ok(())
    }

    /// Those that have something in `range`.
    fn overlapping(&self, range: &Range<u64>) -> impl Iterator<Item = (u64, Mapping)> {
        let before = self.by_start.range(..range.start).next_back();
        let before = before.filter(|(start, mapping)| **start + mapping.len > range.start);
        (before.into_iter().chain(self.by_start.range(range.clone())))
            .map(|(start, mapping)| (*start, *mapping))
    }

    /// Takes away what is in `range`; says whether there was anything.
    pub(super) fn remove(&mut self, range: &Range<u64>) -> bool {
        let found: Vec<_> = self.overlapping(range).collect();
        for (start, mapping) in &found {
            self.take(*start);
            if *start < range.start {
                self.put(*start, mapping.cut(0, range.start - start));
            }
            if start + mapping.len > range.end {
                self.put(range.end, mapping.cut(range.end - start, mapping.len));
            }
        }
        !found.is_empty()
    }

    /// Puts a mapping where nothing is.
    pub(super) fn put(&mut self, start: u64, mapping: Mapping) {
        self.take(start);
        self.by_start.insert(start, mapping);
        self.torn += usize::from(mapping.is_torn());
        *self.of_node.entry(mapping.node).or_default() += 1;
    }

    fn take(&mut self, start: u64) {
        let Some(mapping) = self.by_start.remove(&start) else {
            return;
        };
        self.torn -= usize::from(mapping.is_torn());
        if let Some(count) = self.of_node.get_mut(&mapping.node) {
            *count -= 1;
            if *count == 0 {
                self.of_node.remove(&mapping.node);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.by_start.clear();
        self.of_node.clear();
        self.torn = 0;
    }
}
