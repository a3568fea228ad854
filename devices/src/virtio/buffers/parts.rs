//! A place in a list of slices.

use vm_memory::VolatileSlice;

use super::Short;

/// What is left of a list of slices.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts<'a> {
    /// The first is begun, but none is over.
    parts: &'a [VolatileSlice<'a>],
    /// Bytes of the first that are gone.
    skip: usize,
    /// Bytes that are left; what the parts have beyond them is not ours.
    remaining: usize,
}

impl<'a> Parts<'a> {
    /// All of `parts`.
    pub(super) fn new(parts: &'a [VolatileSlice<'a>]) -> Self {
        let remaining = (parts.iter()).fold(0_usize, |sum, part| sum.saturating_add(part.len()));
        Self {
            parts,
            skip: 0,
            remaining,
        }
    }

    pub(super) fn remaining(&self) -> usize {
        self.remaining
    }

    /// The slices of the first `count` bytes, or of what is left.
    pub(super) fn slices(&self, count: usize) -> impl Iterator<Item = VolatileSlice<'a>> {
        let mut left = count.min(self.remaining);
        let mut skip = self.skip;
        self.parts.iter().map_while(move |part| {
            if left == 0 {
                return None;
            }
            let skip = std::mem::take(&mut skip);
            let len = part.len().saturating_sub(skip).min(left);
            left -= len;
            part.subslice(skip, len).ok()
        })
    }

    /// Goes on by `count` bytes, at most to the end.
    pub(super) fn advance(&mut self, count: usize) {
        let mut count = count.min(self.remaining);
        self.remaining -= count;
        while let Some((first, rest)) = self.parts.split_first() {
            let len = first.len() - self.skip;
            if count < len {
                break;
            }
            count -= len;
            self.skip = 0;
            self.parts = rest;
        }
        self.skip += count;
    }

    /// Calls `each` with the slices of the next `count` bytes, and how many
    /// bytes were in those before, and goes on behind them.
    pub(super) fn transfer(
        &mut self,
        count: usize,
        mut each: impl FnMut(VolatileSlice<'a>, usize),
    ) -> Result<(), Short> {
        if self.remaining < count {
            return Err(Short);
        }
        let mut done = 0;
        for part in self.slices(count) {
            let len = part.len();
            each(part, done);
            done += len;
        }
        self.advance(count);
        Ok(())
    }

    /// Keeps `count` bytes, and gives those behind them.
    pub(super) fn split_off(&mut self, count: usize) -> Result<Self, Short> {
        if self.remaining < count {
            return Err(Short);
        }
        let mut behind = *self;
        behind.advance(count);
        self.remaining = count;
        Ok(behind)
    }
}
