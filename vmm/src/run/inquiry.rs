//! Where a guest hangs whose time is up: asked of its kernel, or else of its
//! processors.

use std::time::{Duration, Instant};

use crate::console::log::ConsoleLog;
use crate::console::traces::{Heard, Reply};
use crate::machine::{ConsoleInput, RunningMachine};

/// A key of SysRq.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    byte: u8,
    /// What the kernel says first when it does that.
    action: &'static str,
    /// It shows where the guest is.
    shows: bool,
}

/// The keys in turn. Without the first a kernel with `quiet`, or one after `dmesg -n 1`,
/// would say nothing to the others but their heads.
const KEYS: [Key; 3] = [
    Key {
        byte: b'9',
        action: "Changing Loglevel",
        shows: false,
    },
    Key {
        byte: b'l',
        action: "Show backtrace of all active CPUs",
        shows: true,
    },
    // The tasks that wait without being interruptible.
    Key {
        byte: b'w',
        action: "Show Blocked State",
        shows: true,
    },
];
/// For how long the kernel has to say nothing after an answer.
const QUIET: Duration = Duration::from_secs(1);
/// How long the kernel may take to begin with an answer, and then for all of it: one
/// that floods its console comes to no end.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long all of it may take.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

/// An inquiry under way.
#[derive(Debug)]
pub(super) struct Inquiry {
    step: Phase,
    /// When that began.
    since: Instant,
    /// Lines of the answer so far, and when the last one came.
    lines: u64,
    last: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// To type the key with this index.
    Key(usize),
    /// Typed, and waited for.
    Typed(usize),
    /// Answered, and waited for the end of that.
    Answered(usize),
    /// The processors were alarmed.
    Alarmed,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Wait,
    Type(Key),
    Alarm,
    End,
}

impl Inquiry {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            step: Phase::Key(0),
            since: now,
            lines: 0,
            last: now,
        }
    }

    /// Goes on; to be called from time to time. Says whether it is over.
    pub(super) fn go_on(
        &mut self,
        console: &ConsoleLog,
        input: &ConsoleInput,
        machine: &RunningMachine,
    ) -> bool {
        match self.next(console.traces().heard(), Instant::now()) {
            Action::Wait => {}
            Action::Type(key) => {
                console.expect_traces(key.action, key.shows);
                if input.sysrq(key.byte) {
                    self.typed(Instant::now());
                }
            }
            Action::Alarm => {
                console.take_all_for_traces();
                machine.alarm();
            }
            Action::End => return true,
        }
        false
    }

    fn next(&mut self, heard: Heard, now: Instant) -> Action {
        if heard.lines != self.lines {
            self.lines = heard.lines;
            self.last = now;
        }
        let past = |then: Instant| now.saturating_duration_since(then);
        let (taken, quiet) = (past(self.since), past(self.last));
        match self.step {
            Phase::Key(_) | Phase::Typed(_) if taken > PATIENCE => self.alarm(now),
            Phase::Key(index) => self.key(index, now),
            Phase::Typed(index) => match heard.reply {
                Reply::Nothing => Action::Wait,
                Reply::Refused => self.alarm(now),
                Reply::Done if KEYS.get(index).is_some_and(|key| key.shows) => {
                    self.begin(Phase::Answered(index), now);
                    Action::Wait
                }
                Reply::Done => self.key(index + 1, now),
            },
            Phase::Answered(index) if quiet >= QUIET || taken > PATIENCE => {
                self.key(index + 1, now)
            }
            Phase::Alarmed if quiet.min(taken) >= 2 * QUIET || taken > PATIENCE => Action::End,
            Phase::Answered(_) | Phase::Alarmed => Action::Wait,
        }
    }

    /// The key with this index is to be typed, if there is one.
    fn key(&mut self, index: usize, now: Instant) -> Action {
        if self.step != Phase::Key(index) {
            self.begin(Phase::Key(index), now);
        }
        KEYS.get(index)
            .map_or(Action::End, |key| Action::Type(*key))
    }

    fn typed(&mut self, now: Instant) {
        if let Phase::Key(index) = self.step {
            self.begin(Phase::Typed(index), now);
        }
    }

    fn alarm(&mut self, now: Instant) -> Action {
        self.begin(Phase::Alarmed, now);
        Action::Alarm
    }

    fn begin(&mut self, step: Phase, now: Instant) {
        self.step = step;
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Half a second, as the supervisor calls.
    const TICK: Duration = Duration::from_millis(500);

    /// What a guest does to an inquiry, until its end: `answers` says what was heard
    /// after so many keys were typed, or none if it does not listen; `chatter` is how
    /// many lines of the kernel's come with each tick once there is an answer.
    fn inquire(listens: bool, answers: &[Reply], chatter: u64) -> (Vec<char>, Duration) {
        let start = Instant::now();
        let mut inquiry = Inquiry {
            step: Phase::Key(0),
            since: start,
            lines: 0,
            last: start,
        };
        let (mut now, mut heard, mut done) = (start, Heard::default(), Vec::new());
        let mut typed = 0;
        loop {
            let passed = now.saturating_duration_since(start);
            assert!(passed <= 2 * LIMIT, "it comes to no end: {done:?}");
            match inquiry.next(heard, now) {
                Action::Wait => {}
                Action::Type(key) => {
                    heard.reply = Reply::Nothing;
                    if listens {
                        done.push(char::from(key.byte));
                        inquiry.typed(now);
                        heard.reply = answers.get(typed).copied().unwrap_or_default();
                        heard.lines += u64::from(heard.reply == Reply::Done && key.shows);
                        typed += 1;
                    }
                }
                Action::Alarm => done.push('!'),
                Action::End => return (done, passed),
            }
            if heard.lines > 0 || done.contains(&'!') {
                heard.lines += chatter;
            }
            now += TICK;
        }
    }

    #[test]
    fn a_kernel_that_answers_is_asked_for_all() {
        let (done, passed) = inquire(true, &[Reply::Done; 3], 0);
        assert_eq!(done, ['9', 'l', 'w']);
        assert!(passed <= 4 * QUIET, "{passed:?}");
    }

    #[test]
    fn a_kernel_whose_answer_has_no_end_is_asked_for_all() {
        let (done, passed) = inquire(true, &[Reply::Done; 3], 1);
        assert_eq!(done, ['9', 'l', 'w']);
        assert!(passed <= LIMIT, "{passed:?}");
    }

    #[test]
    fn a_kernel_that_does_not_listen_is_alarmed() {
        for chatter in [0, 1] {
            let (done, passed) = inquire(false, &[], chatter);
            assert_eq!(done, ['!']);
            assert!(passed <= 2 * PATIENCE + 2 * TICK, "{passed:?}");
        }
    }

    #[test]
    fn a_kernel_that_does_not_answer_is_alarmed() {
        for answers in [
            &[][..],
            &[Reply::Done],
            &[Reply::Done, Reply::Done],
            &[Reply::Refused],
            &[Reply::Done, Reply::Refused],
        ] {
            for chatter in [0, 1] {
                let (done, passed) = inquire(true, answers, chatter);
                assert_eq!(done.last(), Some(&'!'), "{answers:?}");
                assert!(passed <= LIMIT + PATIENCE, "{answers:?}: {passed:?}");
            }
        }
    }
}
