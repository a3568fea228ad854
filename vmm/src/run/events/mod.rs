//! The event loop of a run. It has the thread that waits for the machine;
//! what it hears of is put in a queue and dealt with one after the other.

mod deadline;
mod event_loop;
mod one_shot;
mod queue;
mod signals;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod ticks;
mod typing;

pub(super) use deadline::Deadline;
pub(super) use event_loop::EventLoop;
pub(super) use one_shot::OneShot;
pub(super) use queue::Event;
pub(super) use signals::{Error as SignalError, Signals};
pub(super) use ticks::Ticks;
pub(super) use typing::follow;
