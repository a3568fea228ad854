//! Where processors wait while a debugger has them.
//!
//! A processor comes in from its own thread, between two runs of the guest: at a
//! breakpoint, or because it was told to and kicked. While it waits the debugger
//! may use it; nobody else does.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kvm_ioctls::VcpuFd;
use rustix::event::{EventfdFlags, eventfd};

use super::processor::Vcpu;

/// A debug exception of the guest, which KVM has not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::machine) struct DebugExit {
    /// The vector: 1 is `#DB`, 3 is `#BP`.
    pub(in crate::machine) vector: u32,
    /// The linear address of the instruction.
    pub(in crate::machine) pc: u64,
    /// What DR6 says of a `#DB`.
    pub(in crate::machine) dr6: u64,
}

/// The places of all processors of a machine.
#[derive(Debug)]
pub(in crate::machine) struct Parking {
    state: Mutex<State>,
    /// Somebody may go, or all have to.
    go: Condvar,
    /// Readable when a processor has come in, and when the machine ends.
    news: OwnedFd,
}

#[derive(Debug)]
struct State {
    places: Vec<Place>,
    closed: bool,
    pause: Pause,
}

#[derive(Debug, Default)]
struct Place {
    /// Whether its processor is to wait.
    hold: bool,
    vcpu: Option<Vcpu>,
    /// Why it came in, if not because it was told to.
    exit: Option<DebugExit>,
}

/// For how long the guest has stood still.
#[derive(Debug)]
struct Pause {
    since: Option<Instant>,
    earlier: Duration,
}

impl Parking {
    /// A place for each of `cpus` processors, which are to wait there before
    /// their first instruction.
    pub(in crate::machine) fn new(cpus: u8) -> io::Result<Self> {
        let place = || Place {
            hold: true,
            ..Place::default()
        };
        Ok(Self {
            state: Mutex::new(State {
                places: (0..cpus).map(|_| place()).collect(),
                closed: false,
                pause: Pause {
                    since: Some(Instant::now()),
                    earlier: Duration::ZERO,
                },
            }),
            go: Condvar::new(),
            news: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A processor passes by: it waits if it has to, or if it comes for an `exit`.
    /// `None` when the machine ends.
    pub(super) fn pass(&self, vcpu: Vcpu, exit: Option<DebugExit>) -> Option<Vcpu> {
        let index = usize::from(vcpu.index());
        let mut state = self.state();
        let place = state.places.get_mut(index)?;
        if exit.is_none() && !place.hold {
            return Some(vcpu);
        }
        *place = Place {
            hold: true,
            vcpu: Some(vcpu),
            exit,
        };
        self.tell();
        loop {
            let closed = state.closed;
            let place = state.places.get_mut(index)?;
            if closed {
                place.vcpu = None;
                return None;
            }
            if !place.hold {
                return place.vcpu.take();
            }
            state = (self.go.wait(state)).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends all waiting: the machine ends.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.go.notify_all();
        self.tell();
    }

    fn tell(&self) {
        // Fails only when the counter is full, and then it is readable.
        let _ = rustix::io::write(&self.news, &1_u64.to_ne_bytes());
    }

    /// Readable when there is something to look at.
    pub(in crate::machine) fn news(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }

    /// Takes the news, so that there are none.
    pub(in crate::machine) fn take_news(&self) {
        // It fails when there are none.
        let _ = rustix::io::read(&self.news, &mut [0; 8]);
    }

    /// Whether the machine ends.
    pub(in crate::machine) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Has every processor come in the next time it passes.
    pub(in crate::machine) fn hold_all(&self) {
        let mut state = self.state();
        for place in &mut state.places {
            place.hold = true;
        }
        state.pause.since.get_or_insert_with(Instant::now);
    }

    /// Whether every processor waits.
    pub(in crate::machine) fn is_full(&self) -> bool {
        self.state().places.iter().all(|place| place.vcpu.is_some())
    }

    /// Lets processors go.
    pub(in crate::machine) fn release(&self, indices: impl Iterator<Item = usize>) {
        let mut state = self.state();
        for index in indices {
            if let Some(place) = state.places.get_mut(index) {
                place.hold = false;
            }
        }
        state.pause.end();
        self.go.notify_all();
    }

    /// Uses a processor that waits.
    pub(in crate::machine) fn with<T>(
        &self,
        index: usize,
        use_it: impl FnOnce(&VcpuFd) -> T,
    ) -> Option<T> {
        let state = self.state();
        let vcpu = state.places.get(index)?.vcpu.as_ref()?;
        Some(use_it(&vcpu.fd))
    }

    /// Why the processors came in that have not been looked at.
    pub(in crate::machine) fn take_exits(&self) -> Vec<(usize, DebugExit)> {
        let mut state = self.state();
        let exits = state.places.iter_mut().enumerate();
        exits
            .filter_map(|(index, place)| Some((index, place.exit.take()?)))
            .collect()
    }

    /// How long the guest has stood still since this was asked last.
    pub(in crate::machine) fn take_pause(&self) -> Duration {
        let mut state = self.state();
        let paused = state.pause.since.is_some();
        state.pause.end();
        if paused {
            state.pause.since = Some(Instant::now());
        }
        std::mem::take(&mut state.pause.earlier)
    }

    /// Whether the guest stands still.
    pub(in crate::machine) fn is_paused(&self) -> bool {
        self.state().pause.since.is_some()
    }
}

impl Pause {
    fn end(&mut self) {
        if let Some(since) = self.since.take() {
            self.earlier += since.elapsed();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_time_that_the_guest_stands_still_is_counted_once() {
        let parking = Parking::new(2).unwrap();
        let moment = Duration::from_millis(5);
        std::thread::sleep(moment);
        assert!(parking.is_paused());
        assert!(parking.take_pause() >= moment);
        assert!(parking.take_pause() < moment);
        parking.release(0..2);
        assert!(!parking.is_paused());
        parking.take_pause();
        std::thread::sleep(moment);
        assert_eq!(parking.take_pause(), Duration::ZERO);
        parking.hold_all();
        std::thread::sleep(moment);
        parking.release(0..1);
        assert!(parking.take_pause() >= moment);
    }
}
