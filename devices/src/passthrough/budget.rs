//! How the descriptors of the process are divided among its shares.
//!
//! A process may have `RLIMIT_NOFILE` descriptors, and is to have raised the
//! soft limit to the hard one. Some are for what is no share: the machine and its
//! queues, the console, the session, the report. What this *reserve* leaves is
//! the pool of the shares:
//!
//! ```text
//! pool       = limit - reserve
//! guaranteed = pool               with one share
//!              pool / 2 / shares  with several, for each
//! common     = pool - shares * guaranteed
//! working    = guaranteed / 8, at least 16 and at most 1024
//! ```
//!
//! Nobody but a share uses its guaranteed part. Open files take from the common
//! part first, so that one share that is busy among idle ones has most of what
//! there is, then from the guaranteed part of their own share. Inodes, and what
//! one operation opens for itself, take from the guaranteed part only. Inodes
//! give way to open files there, down to the working minimum, which open files
//! cannot take: whoever has as many files open as can be can still look names
//! up. So these are the bounds of one share, with a reserve of 128:
//!
//! | limit | shares | pool | guaranteed | working | open files | all but open files |
//! | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
//! | 256 | 1 | 128 | 128 | 16 | 112 | 128 |
//! | 1024 | 1 | 896 | 896 | 112 | 784 | 896 |
//! | 1024 | 3 | 896 | 149 | 18 | 580 | 149 |
//! | 4096 | 1 | 3968 | 3968 | 496 | 3472 | 3968 |
//! | 4096 | 3 | 3968 | 661 | 82 | 2564 | 661 |
//! | 20 000 | 1 | 19 872 | 19 872 | 1024 | 18 848 | 19 872 |
//! | 20 000 | 3 | 19 872 | 3312 | 414 | 12 834 | 3312 |
//!
//! Everything that a guest makes us hold has a [`Permit`], taken before it is
//! opened and given back after it was closed. So the sum of the shares never
//! exceeds the pool, and the reserve is there when it is needed.

use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Resource, getrlimit};

use super::error::Error;
use super::sys;
use crate::filesystem;

/// What a process with one share keeps for everything else.
const RESERVE: usize = 128;
/// Bounds of the working minimum. With fewer several operations at once would
/// be in each other's way; more would only cost open files.
const WORKING: std::ops::RangeInclusive<usize> = 16..=1024;

/// The descriptors that the shares of a process divide among themselves.
#[derive(Debug)]
pub struct DescriptorPool {
    /// Of each share.
    guaranteed: usize,
    /// What is left of the common part.
    common: AtomicUsize,
    /// Shares that may still join.
    places: AtomicUsize,
}

impl DescriptorPool {
    /// Divides what this process may have among `shares` shares, but for
    /// `reserve` that are for everything else: the limit of open files
    /// (`RLIMIT_NOFILE`) as it is now.
    #[must_use]
    pub fn of_process(shares: usize, reserve: usize) -> Arc<Self> {
        let limit = getrlimit(Resource::Nofile)
            .current
            .map_or(usize::MAX, |l| usize::try_from(l).unwrap_or(usize::MAX));
        Self::new(limit.saturating_sub(reserve), shares)
    }

    /// Divides `descriptors` among `shares` shares.
    #[must_use]
    pub fn new(descriptors: usize, shares: usize) -> Arc<Self> {
        let guaranteed = match shares {
            0 | 1 => descriptors,
            _ => descriptors / 2 / shares,
        };
        Arc::new(Self {
            guaranteed,
            common: AtomicUsize::new(descriptors - guaranteed * shares.max(1)),
            places: AtomicUsize::new(shares.max(1)),
        })
    }

    /// The pool of a process with one share.
    pub(super) fn of_one() -> Arc<Self> {
        Self::of_process(1, RESERVE)
    }

    /// The part of one more share, of which at most `most` are for anything
    /// but open files.
    ///
    /// # Errors
    ///
    /// There is none left, or it is too small to work with.
    pub(super) fn part(self: &Arc<Self>, most: Option<usize>) -> Result<Arc<Part>, Error> {
        let least = *WORKING.start();
        if self.guaranteed < least || !take_one(&self.places) {
            return Err(Error::Descriptors);
        }
        let working = (self.guaranteed / 8).clamp(least, *WORKING.end());
        let most = most.unwrap_or(usize::MAX).max(least);
        Ok(Arc::new(Part {
            working: working.min(most),
            most: most.min(self.guaranteed),
            guaranteed: self.guaranteed,
            held: Mutex::default(),
            pool: Arc::clone(self),
        }))
    }
}

/// Takes one of what is left.
fn take_one(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
        left.checked_sub(1)
    })
    .is_ok()
}

/// What a descriptor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// An inode, or something that one operation needs.
    Work,
    /// As the others that are not open files, but for as long as anything on
    /// a mount is known.
    Mount,
    /// A file or directory that the guest opened.
    Open,
}

/// Why there is no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// There will be one when an inode's descriptor was let go.
    UntilEviction,
    /// All that could be let go is needed for work.
    Exhausted,
}

/// What one share may hold.
#[derive(Debug)]
pub(super) struct Part {
    pool: Arc<DescriptorPool>,
    guaranteed: usize,
    /// What of the guaranteed part open files cannot have.
    working: usize,
    /// The most descriptors that are not for open files.
    most: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// All but the open ones.
    work: usize,
    mounts: usize,
    open: usize,
    /// Of the open ones, those from the common part.
    common: usize,
}

impl Part {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leave to open one descriptor.
    pub(super) fn permit(self: &Arc<Self>, purpose: Purpose) -> Result<Permit, Refused> {
        let mut held = self.lock();
        let open_here = held.open - held.common;
        match purpose {
            Purpose::Work | Purpose::Mount => {
                let fits = held.work < self.working || held.work + open_here < self.guaranteed;
                if held.work >= self.most || !fits {
                    return Err(Refused::UntilEviction);
                }
                held.work += 1;
                held.mounts += usize::from(purpose == Purpose::Mount);
            }
            Purpose::Open => {
                if take_one(&self.pool.common) {
                    held.common += 1;
                } else if held.work.max(self.working) + open_here >= self.guaranteed {
                    return Err(if held.work > self.working {
                        Refused::UntilEviction
                    } else {
                        Refused::Exhausted
                    });
                }
                held.open += 1;
            }
        }
        drop(held);
        Ok(Permit {
            part: Arc::clone(self),
            purpose,
        })
    }

    fn give_back(&self, purpose: Purpose) {
        let mut held = self.lock();
        match purpose {
            Purpose::Work => held.work -= 1,
            Purpose::Mount => {
                held.work -= 1;
                held.mounts -= 1;
            }
            Purpose::Open => {
                held.open -= 1;
                if held.common > 0 {
                    held.common -= 1;
                    self.pool.common.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// How many are held for inodes and by operations.
    pub(super) fn work(&self) -> usize {
        let held = self.lock();
        held.work - held.mounts
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.pool.places.fetch_add(1, Ordering::Relaxed);
    }
}

/// Leave to hold one descriptor, until this is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    part: Arc<Part>,
    purpose: Purpose,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.part.give_back(self.purpose);
    }
}

/// A descriptor, or the file it is of, that counts for as long as it is open.
#[derive(Debug)]
pub(super) struct Descriptor<T = OwnedFd> {
    // In this order: closed, then given back.
    file: T,
    _permit: Permit,
}

impl<T> Descriptor<T> {
    /// Counts `file` by the permit it was opened with.
    pub(super) fn new(file: T, permit: Permit) -> Self {
        Self {
            file,
            _permit: permit,
        }
    }
}

impl Descriptor {
    /// Closes it and reports what `close(2)` says.
    pub(super) fn close(self) -> filesystem::Result<()> {
        sys::close(self.file)
    }
}

impl<T> Deref for Descriptor<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.file
    }
}

impl<T: AsFd> AsFd for Descriptor<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
