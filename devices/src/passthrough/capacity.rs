//! How much a guest can make us remember.
//!
//! Each node that the guest holds takes a place, and so does each name of it
//! beyond the first. Whoever wants one more than there are gets `ENOMEM`, before
//! anything is made, until something was forgotten; a name is not remembered.
//! A place stands for up to 600 bytes; a node with a name of 20 bytes takes 300.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::io::Errno;

use crate::filesystem::Result;

/// The places that are left.
#[derive(Debug)]
pub(super) struct Capacity {
    left: AtomicUsize,
}

/// A place, given back when this is dropped.
#[derive(Debug)]
pub(super) struct Room<'c>(&'c Capacity);

impl Capacity {
    pub(super) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self {
            left: AtomicUsize::new(places),
        })
    }

    /// Takes a place; `ENOMEM` when there is none.
    pub(super) fn room(&self) -> Result<Room<'_>> {
        let order = Ordering::Relaxed;
        let taken = self
            .left
            .fetch_update(order, order, |left| left.checked_sub(1));
        taken.map(|_| Room(self)).map_err(|_| Errno::NOMEM)
    }

    /// Gives back places that were [kept](Room::keep).
    pub(super) fn give_back(&self, places: usize) {
        self.left.fetch_add(places, Ordering::Relaxed);
    }

    /// Whether there is no place.
    pub(super) fn is_full(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }

    #[cfg(test)]
    pub(super) fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }
}

impl Room<'_> {
    /// Keeps the place for what gives it back by itself.
    pub(super) fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.0.give_back(1);
    }
}
