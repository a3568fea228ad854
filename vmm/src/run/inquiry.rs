//! Where a guest hangs whose time is up: asked of its kernel, or else of its
//! processors.

use std::time::{Duration, Instant};

use crate::console::log::ConsoleLog;
use crate::machine::{ConsoleInput, RunningMachine};

/// Keys of SysRq: the back traces of all processors, and the tasks that wait
/// without being interruptible.
const KEYS: [u8; 2] = *b"lw";
/// For how long the console has to be quiet after an answer.
const QUIET: Duration = Duration::from_secs(1);
/// How long the kernel may take to begin with an answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long all of it may take.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

/// An inquiry under way.
#[derive(Debug)]
pub(super) struct Inquiry {
    step: Phase,
    /// Of the last step, or the last time that the console said something.
    since: Instant,
    said: u64,
    answered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// To type the key with this index.
    Key(usize),
    /// Typed, and waited for.
    Typed(usize),
    /// The processors were alarmed.
    Alarmed,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Wait,
    Type(u8),
    Alarm,
    End,
}

impl Inquiry {
    pub(super) fn new(console: &ConsoleLog) -> Self {
        console.expect_traces();
        Self {
            step: Phase::Key(0),
            since: Instant::now(),
            said: console.said(),
            answered: false,
        }
    }

    /// Goes on; to be called from time to time. Says whether it is over.
    pub(super) fn go_on(
        &mut self,
        console: &ConsoleLog,
        input: &ConsoleInput,
        machine: &RunningMachine,
    ) -> bool {
        match self.next(console.said(), Instant::now()) {
            Action::Wait => {}
            Action::Type(key) => {
                if input.sysrq(key) {
                    self.typed(Instant::now());
                }
            }
            Action::Alarm => machine.alarm(),
            Action::End => return true,
        }
        false
    }

    fn next(&mut self, said: u64, now: Instant) -> Action {
        if said != self.said {
            self.said = said;
            self.since = now;
            self.answered = true;
        }
        let quiet = now.saturating_duration_since(self.since);
        match self.step {
            Phase::Key(_) if quiet > PATIENCE => self.alarm(now),
            Phase::Key(index) => KEYS
                .get(index)
                .map_or(Action::End, |key| Action::Type(*key)),
            Phase::Typed(index) if self.answered && quiet >= QUIET => {
                self.step = Phase::Key(index + 1);
                self.since = now;
                match KEYS.get(index + 1) {
                    Some(key) => Action::Type(*key),
                    None => Action::End,
                }
            }
            Phase::Typed(_) if !self.answered && quiet > PATIENCE => self.alarm(now),
            Phase::Alarmed if quiet >= 2 * QUIET => Action::End,
            Phase::Typed(_) | Phase::Alarmed => Action::Wait,
        }
    }

    fn typed(&mut self, now: Instant) {
        if let Phase::Key(index) = self.step {
            self.step = Phase::Typed(index);
            self.since = now;
            self.answered = false;
        }
    }

    fn alarm(&mut self, now: Instant) -> Action {
        self.step = Phase::Alarmed;
        self.since = now;
        Action::Alarm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inquiry() -> (Inquiry, Instant) {
        let now = Instant::now();
        let inquiry = Inquiry {
            step: Phase::Key(0),
            since: now,
            said: 7,
            answered: false,
        };
        (inquiry, now)
    }

    #[test]
    fn a_kernel_that_answers_is_asked_twice() {
        let (mut inquiry, mut now) = inquiry();
        for (key, said) in [(b'l', 8), (b'w', 9)] {
            assert_eq!(inquiry.next(said - 1, now), Action::Type(key));
            inquiry.typed(now);
            assert_eq!(inquiry.next(said - 1, now + QUIET), Action::Wait);
            now += QUIET;
            assert_eq!(inquiry.next(said, now), Action::Wait);
            now += QUIET;
        }
        assert_eq!(inquiry.next(9, now), Action::End);
    }

    #[test]
    fn a_kernel_that_does_not_listen_is_alarmed() {
        let (mut inquiry, now) = inquiry();
        assert_eq!(inquiry.next(7, now + QUIET), Action::Type(b'l'));
        let later = now + PATIENCE + QUIET;
        assert_eq!(inquiry.next(7, later), Action::Alarm);
        assert_eq!(inquiry.next(7, later + QUIET), Action::Wait);
        assert_eq!(inquiry.next(7, later + 2 * QUIET), Action::End);
    }

    #[test]
    fn a_kernel_that_does_not_answer_is_alarmed() {
        let (mut inquiry, now) = inquiry();
        assert_eq!(inquiry.next(7, now), Action::Type(b'l'));
        inquiry.typed(now);
        assert_eq!(inquiry.next(7, now + PATIENCE), Action::Wait);
        assert_eq!(inquiry.next(7, now + PATIENCE + QUIET), Action::Alarm);
    }
}
