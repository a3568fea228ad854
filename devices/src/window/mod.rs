//! A window into files of the host: a part of the guest's physical addresses
//! in which the guest has files mapped (DAX), in place of copies in its own
//! memory.
//!
//! The VMM makes a [`Window`], gives it to its hypervisor as memory of the
//! guest, and hands it to the file system that maps files there and to the
//! device that tells the driver where it is. It knows no hypervisor and no
//! names of files: a node is a number.
//!
//! A mapping has no descriptor. It keeps the host's file like any other
//! `mmap(2)`, until the guest gives it up or its session ends.
//!
//! # Files that the host cuts off
//!
//! A page behind the end of a file cannot be had. What touches it here gets
//! `EFAULT` from a system call; what touches it in the guest makes the
//! hypervisor stop. Then the VMM has the window [torn](Window::tear): where a
//! mapped file has no pages any more there are zeros, and the guest goes on. What is
//! not behind its end (`sizes`) cannot be read, and stays as it is.
//! As soon as it may hear that the file is longer again, it is
//! [mended](Window::mend).

mod mappings;
mod mmap;
mod sizes;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
mod tests;
mod windows;
mod zeros;

use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use vm_memory::VolatileSlice;

use self::mappings::{Mapping, Mappings};
use self::mmap::Area;
use self::sizes::{Ask, Sizes};
pub use self::windows::Windows;
use crate::filesystem::{NodeId, Result, WindowPart};

/// What everything in a window is a multiple of, in bytes: the page of the host
/// and the guest.
pub const PAGE: u64 = 0x1000;

/// What Linux divides a window into, in bytes (`FUSE_DAX_SZ`), and what sizes
/// of windows are a multiple of.
pub const UNIT: u64 = 2 << 20;

/// Areas of the address space that a mapping can take at most: its own, one of
/// zeros behind it, and the free part to the next (`vm.max_map_count`); and one more
/// of zeros in each unit.
pub const AREAS_PER_UNIT: u64 = 4;

/// Mappings that are looked at before others get their turn.
const BATCH: usize = 32;

/// A window.
#[derive(Debug)]
pub struct Window {
    base: u64,
    area: Area,
    /// Held while the host maps or unmaps: the table and the pages are to say
    /// the same.
    mappings: Mutex<Mappings>,
    /// How many mappings are torn.
    torn: AtomicUsize,
    /// Where to go on looking for what is cut off.
    look_next: AtomicU64,
    sizes: Sizes,
}

/// What to map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilePart {
    /// The file's node.
    pub node: NodeId,
    /// Where the part begins in the file, in bytes.
    pub offset: u64,
    /// Whether it can be written to.
    pub writable: bool,
}

impl Window {
    /// A window of `len` bytes at the guest's physical address `base`, both
    /// multiples of [`UNIT`]. It takes addresses and no memory.
    ///
    /// # Errors
    ///
    /// `EINVAL` for other numbers, `ENOMEM` when the host has no addresses.
    pub fn reserve(base: u64, len: u64) -> Result<Self> {
        let aligned = base.is_multiple_of(UNIT) && len.is_multiple_of(UNIT) && len > 0;
        if !aligned || base.checked_add(len).is_none() {
            return Err(Errno::INVAL);
        }
        let most = usize::try_from(len / UNIT).map_err(|_| Errno::NOMEM)?;
        Ok(Self {
            base,
            area: Area::reserve(usize::try_from(len).map_err(|_| Errno::NOMEM)?)?,
            mappings: Mutex::new(Mappings::new(most)),
            torn: AtomicUsize::new(0),
            look_next: AtomicU64::new(0),
            sizes: Sizes::default(),
        })
    }

    /// Before anything of a file is torn, `ask` says where it can how many bytes it has,
    /// mapped to be written to or not: what of these cannot be read is not cut off.
    pub(crate) fn ask_sizes(&self, ask: impl Ask) {
        self.sizes.ask(ask);
    }

    /// Where the guest has it.
    #[must_use]
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Its length in bytes.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // It never is.
    pub fn len(&self) -> u64 {
        self.area.len() as u64
    }

    /// Where this process has it, for the hypervisor. It stays there for as long
    /// as the window lives.
    #[must_use]
    pub fn host_address(&self) -> u64 {
        self.area.address()
    }

    /// How many mappings there are.
    #[must_use]
    pub fn mapped(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, Mappings> {
        self.mappings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_torn(&self, mappings: &Mappings) {
        self.torn.store(mappings.torn(), Ordering::SeqCst);
    }

    /// Shows a part of `file` in place of what was in `place` before. `EINVAL`
    /// for a place that is not whole pages of the window, `ENOMEM` for more
    /// mappings than there are units, and what mmap(2) says.
    pub fn map(&self, place: WindowPart, file: impl AsFd, part: FilePart) -> Result<()> {
        let range = self.place_for(place, part.offset)?;
        let mut mappings = self.lock();
        mappings.ensure_room(&range, 1)?;
        self.area
            .map_file((place.offset, place.len), file, part.offset, part.writable)?;
        mappings.remove(&range);
        mappings.put(
            place.offset,
            Mapping {
                node: part.node,
                file_offset: part.offset,
                len: place.len,
                writable: part.writable,
                reach: place.len,
            },
        );
        self.note_torn(&mappings);
        Ok(())
    }

    /// The place for what begins at `offset` in a file, if it is one for that: to be
    /// asked before anything is done to the file.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a place that is not in the window or does not begin and end at
    /// pages, `EOVERFLOW` for a part that no file has.
    pub fn place_for(&self, place: WindowPart, offset: u64) -> Result<Range<u64>> {
        let range = self.range(place)?;
        if !offset.is_multiple_of(PAGE) {
            return Err(Errno::INVAL);
        }
        let end = offset.checked_add(place.len);
        if end.is_none_or(|end| i64::try_from(end).is_err()) {
            return Err(Errno::OVERFLOW);
        }
        Ok(range)
    }

    /// Shows nothing in `place` any more.
    pub fn unmap(&self, place: WindowPart) -> Result<()> {
        let range = self.range(place)?;
        let mut mappings = self.lock();
        mappings.ensure_room(&range, 0)?;
        self.area.map_nothing(place.offset, place.len)?;
        if mappings.remove(&range) {
            self.note_torn(&mappings);
        }
        Ok(())
    }

    /// Shows nothing of `node` any more.
    pub fn forget(&self, node: NodeId) {
        let mut mappings = self.lock();
        if !mappings.has(node) {
            return;
        }
        let of_node = mappings.iter().filter(|(_, mapping)| mapping.node == node);
        let places: Vec<_> = of_node
            .map(|(start, mapping)| start..start + mapping.len)
            .collect();
        for place in places {
            match self.area.map_nothing(place.start, place.end - place.start) {
                Ok(()) => drop(mappings.remove(&place)),
                Err(error) => log::debug!("a mapping of node {node} stays: {error}"),
            }
        }
        self.note_torn(&mappings);
    }

    /// Shows nothing any more.
    pub fn clear(&self) {
        let mut mappings = self.lock();
        if mappings.len() == 0 {
            return;
        }
        // One area in place of many, which the host has room for.
        if let Err(error) = self.area.map_nothing(0, self.len()) {
            log::error!("cannot empty a window: {error}");
            std::process::abort();
        }
        mappings.clear();
        self.note_torn(&mappings);
    }

    /// Puts zeros where the files that are mapped have no pages, and says in
    /// how many mappings.
    #[must_use]
    pub fn tear(&self) -> usize {
        let (mut at, mut torn) = (0, 0);
        loop {
            let (here, next) = self.tear_some(at);
            torn += here;
            match next {
                Some(next) => at = next,
                None => return torn,
            }
        }
    }

    /// The same for so long, and at least for some of the mappings: it goes on where
    /// it stopped, and looks at each once at most. What was stored to zeros is gone.
    pub fn tear_for(&self, limit: Duration) {
        let begun = Instant::now();
        if self.is_torn() {
            self.area.clear_zeros();
        }
        let first = self.look_next.load(Ordering::Relaxed);
        let (mut at, mut wrapped) = (first, false);
        loop {
            match self.tear_some(at).1 {
                Some(next) => at = next,
                None => {
                    at = 0;
                    if std::mem::replace(&mut wrapped, true) {
                        break;
                    }
                }
            }
            if wrapped && at >= first || begun.elapsed() >= limit {
                break;
            }
        }
        self.look_next.store(at, Ordering::Relaxed);
    }

    /// The same for the mappings from `at` on, as many as are one [`BATCH`]; and where
    /// the next begin.
    fn tear_some(&self, at: u64) -> (usize, Option<u64>) {
        let mut mappings = self.lock();
        // Before it is looked which pages there are: who makes a file longer
        // meanwhile, or hears that it is, then asks whether anything is torn,
        // and must not miss what is about to be.
        self.torn.fetch_add(1, Ordering::SeqCst);
        let batch = mappings.some_from(at, BATCH);
        let mut torn = 0;
        for (start, mapping) in &batch {
            let reach = self.reach(*start, mapping);
            let (at, rest) = (start + reach, mapping.reach - reach);
            if rest > 0 && self.area.map_zeros(at, rest, mapping.writable).is_ok() {
                mappings.set_reach(*start, reach);
                torn += 1;
            }
        }
        self.note_torn(&mappings);
        let last = batch.last().filter(|_| batch.len() == BATCH);
        (torn, last.map(|(start, mapping)| start + mapping.len))
    }

    /// How many bytes of the mapping at `start` the file has, by whole pages. It is
    /// cut off in one place only.
    fn reach(&self, start: u64, mapping: &Mapping) -> u64 {
        let has = |page: u64| self.area.is_readable(start + page * PAGE, PAGE);
        let pages = mapping.reach / PAGE;
        if pages == 0 || has(pages - 1) {
            return mapping.reach;
        }
        if let Some(size) = self.sizes.of(mapping.node, mapping.writable) {
            let here = size.saturating_sub(mapping.file_offset);
            return mapping.reach.min(here.div_ceil(PAGE).saturating_mul(PAGE));
        }
        let (mut there, mut missing) = (0, pages);
        while there < missing {
            let middle = there + (missing - there) / 2;
            if has(middle) {
                there = middle + 1;
            } else {
                missing = middle;
            }
        }
        there * PAGE
    }

    /// The size of a file that is mapped.
    #[cfg(test)]
    pub(crate) fn size_of(&self, node: NodeId, writable: bool) -> Option<u64> {
        self.sizes.of(node, writable)
    }

    /// Whether anything is torn. It waits for nothing.
    #[must_use]
    pub fn is_torn(&self) -> bool {
        self.torn.load(Ordering::SeqCst) > 0
    }

    /// Whether something of `node` is torn and `size` bytes of the file would
    /// mend it; and if so whether that has to be writable.
    #[must_use]
    pub fn wants_mending(&self, node: NodeId, size: u64) -> Option<bool> {
        let mappings = self.lock();
        if !mappings.has(node) {
            return None;
        }
        let torn = mappings.iter().filter(|(_, m)| m.mends(node, size));
        torn.map(|(_, mapping)| mapping.writable)
            .reduce(|one, other| one || other)
    }

    /// Shows `file`, which is `node` and has `size` bytes now, where it is torn.
    pub fn mend(&self, node: NodeId, size: u64, file: impl AsFd) {
        let mut mappings = self.lock();
        let torn = mappings.iter().filter(|(_, m)| m.mends(node, size));
        let torn: Vec<_> = torn.map(|(start, mapping)| (start, *mapping)).collect();
        for (start, mapping) in torn {
            let place = (start, mapping.len);
            let mapped = self
                .area
                .map_file(place, &file, mapping.file_offset, mapping.writable);
            match mapped {
                Ok(()) => mappings.set_reach(start, mapping.len),
                Err(error) => log::debug!("a mapping of node {node} stays torn: {error}"),
            }
        }
        self.note_torn(&mappings);
    }

    /// The parts of the file `node` within `of_file` that are mapped to be written to, in
    /// order and none beside another: Linux maps in units, and asks for them all at once.
    #[must_use]
    pub fn written(&self, node: NodeId, of_file: Range<u64>) -> Vec<Range<u64>> {
        self.lock().written(node, &of_file)
    }

    /// Copies from the window to `to`; `EFAULT` where there is nothing.
    pub fn copy_to(&self, offset: u64, to: &VolatileSlice<'_>) -> Result<()> {
        self.area.copy_to(offset, to)
    }

    /// Copies `from` into the window; `EFAULT` where that cannot be.
    pub fn copy_from(&self, offset: u64, from: &VolatileSlice<'_>) -> Result<()> {
        self.area.copy_from(offset, from)
    }

    /// `place` where it is whole pages of the window.
    fn range(&self, place: WindowPart) -> Result<Range<u64>> {
        let end = place.offset.checked_add(place.len).ok_or(Errno::INVAL)?;
        let whole = place.offset.is_multiple_of(PAGE) && place.len.is_multiple_of(PAGE);
        if !whole || place.len == 0 || end > self.len() {
            return Err(Errno::INVAL);
        }
        Ok(place.offset..end)
    }
}
