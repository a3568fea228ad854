//! What the thread in [`Machine::run`](super::Machine::run) waits for.

/// How a machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The guest switched it off.
    PowerOff,
    /// The guest asked for a reset.
    Reset,
    /// The guest cannot go on; in words, with the registers.
    Crash(String),
    /// A [`Stopper`](super::Stopper) stopped it.
    Stopped,
}

/// What the running thread waits for.
#[derive(Debug)]
pub(super) enum Event {
    Ended(Ending),
    Failed(kvm_ioctls::Error),
}
