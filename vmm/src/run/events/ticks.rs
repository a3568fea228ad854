//! The time to look at something again.

use std::time::Duration;

use event_manager::{EventOps, Events, MutEventSubscriber};
use vmm_sys_util::timerfd::TimerFd;

use super::queue::{self, Event, Queue};

/// Queues [`Event::Tick`] at every interval; missed ones count once.
pub(in crate::run) struct Ticks {
    timer: TimerFd,
    queue: Queue,
}

impl Ticks {
    pub(in crate::run) fn new(
        interval: Duration,
        queue: Queue,
    ) -> Result<Self, vmm_sys_util::errno::Error> {
        let mut timer = TimerFd::new()?;
        timer.reset(interval, Some(interval))?;
        Ok(Self { timer, queue })
    }
}

impl MutEventSubscriber for Ticks {
    fn process(&mut self, _events: Events, _ops: &mut EventOps<'_>) {
        if self.timer.wait().is_ok() {
            self.queue.push(Event::Tick);
        }
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        queue::watch(ops, &self.timer, &self.queue);
    }
}
