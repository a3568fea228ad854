//! What happens once, told by an eventfd from another thread.

use std::os::fd::AsRawFd;

use event_manager::{EventOps, Events, MutEventSubscriber};
use vmm_sys_util::eventfd::EventFd;

use super::queue::{self, Event, Queue};

/// Queues `event` when `eventfd` is written for the first time.
pub(in crate::run) struct OneShot {
    eventfd: EventFd,
    event: Event,
    queue: Queue,
}

impl OneShot {
    pub(in crate::run) fn new(
        eventfd: &EventFd,
        event: Event,
        queue: Queue,
    ) -> std::io::Result<Self> {
        Ok(Self {
            eventfd: eventfd.try_clone()?,
            event,
            queue,
        })
    }
}

impl MutEventSubscriber for OneShot {
    fn process(&mut self, _events: Events, ops: &mut EventOps<'_>) {
        queue::forget(ops, self.eventfd.as_raw_fd());
        self.queue.push(self.event);
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        queue::watch(ops, &self.eventfd, &self.queue);
    }
}
