//! The time at which something has to have happened.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use event_manager::{EventOps, Events, MutEventSubscriber};
use vmm_sys_util::timerfd::TimerFd;

use super::queue::{self, Event, Queue};

/// Queues [`Event::DeadlinePassed`] at a time that can be moved. Clones share it.
#[derive(Clone)]
pub(in crate::run) struct Deadline {
    timer: Rc<RefCell<TimerFd>>,
    queue: Queue,
}

impl Deadline {
    pub(in crate::run) fn new(queue: Queue) -> Result<Self, vmm_sys_util::errno::Error> {
        Ok(Self {
            timer: Rc::new(RefCell::new(TimerFd::new()?)),
            queue,
        })
    }

    /// Moves the deadline; without a time there is none.
    pub(in crate::run) fn set(
        &self,
        time: Option<Instant>,
    ) -> Result<(), vmm_sys_util::errno::Error> {
        let mut timer = self.timer.borrow_mut();
        match time {
            None => timer.clear(),
            // Zero would mean never.
            Some(time) => {
                let left = time.saturating_duration_since(Instant::now());
                timer.reset(left.max(Duration::from_nanos(1)), None)
            }
        }
    }
}

impl MutEventSubscriber for Deadline {
    fn process(&mut self, _events: Events, _ops: &mut EventOps<'_>) {
        if self.timer.borrow_mut().wait().is_ok() {
            self.queue.push(Event::DeadlinePassed);
        }
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        queue::watch(ops, &*self.timer.borrow(), &self.queue);
    }
}
