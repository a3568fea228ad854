//! The loop itself.

use event_manager::{EventManager, MutEventSubscriber, SubscriberOps};

use super::queue::{Event, Queue};

/// The subscribers and the queue that they fill.
pub(in crate::run) struct EventLoop {
    pub(super) manager: EventManager<Box<dyn MutEventSubscriber>>,
    pub(super) queue: Queue,
}

impl EventLoop {
    pub(in crate::run) fn new() -> Result<Self, event_manager::Error> {
        Ok(Self {
            manager: EventManager::new()?,
            queue: Queue::default(),
        })
    }

    /// Where subscribers put what they hear of.
    pub(in crate::run) fn queue(&self) -> Queue {
        self.queue.clone()
    }

    pub(in crate::run) fn add(&mut self, subscriber: impl MutEventSubscriber + 'static) {
        self.manager.add_subscriber(Box::new(subscriber));
    }

    /// Waits for the next event.
    pub(in crate::run) fn next(&mut self) -> Result<Event, event_manager::Error> {
        loop {
            if let Some(event) = self.queue.pop() {
                return event;
            }
            self.manager.run()?;
        }
    }
}
