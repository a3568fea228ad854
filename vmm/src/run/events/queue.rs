//! What subscribers hear of, in the order in which it happened.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;

use event_manager::{EventOps, EventSet, Events};

/// What a run hears of while the machine lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::run) enum Event {
    /// This signal came.
    Signal(i32),
    /// The terminal has another size.
    Resized,
    /// The deadline has passed.
    DeadlinePassed,
    /// Some time has passed.
    Tick,
    /// The user typed the escape.
    Quit,
    /// The guest has reported how its command ended.
    Reported,
    /// The machine has a reason to end.
    Ending,
    /// The machine is gone.
    Down,
}

/// What has happened and is not dealt with yet; a failure of the loop, too.
#[derive(Clone, Debug, Default)]
pub(in crate::run) struct Queue(Rc<RefCell<VecDeque<Result<Event, event_manager::Error>>>>);

impl Queue {
    pub(super) fn push(&self, event: Event) {
        self.0.borrow_mut().push_back(Ok(event));
    }

    pub(super) fn fail(&self, error: event_manager::Error) {
        self.0.borrow_mut().push_back(Err(error));
    }

    pub(super) fn pop(&self) -> Option<Result<Event, event_manager::Error>> {
        self.0.borrow_mut().pop_front()
    }
}

/// Hears of `file` from now on; the next event is an error if that fails.
pub(super) fn watch(ops: &mut EventOps<'_>, file: &impl AsRawFd, queue: &Queue) {
    if let Err(error) = try_watch(ops, file) {
        queue.fail(error);
    }
}

pub(super) fn try_watch(
    ops: &mut EventOps<'_>,
    file: &impl AsRawFd,
) -> Result<(), event_manager::Error> {
    ops.add(Events::new(file, EventSet::IN))
}

/// Hears no more of `file`, if it did.
pub(super) fn forget(ops: &mut EventOps<'_>, file: RawFd) {
    let _ = ops.remove(Events::empty_raw(file));
}
