//! What ends a machine from outside: the time limit, a signal, the user.
//!
//! The machine is stopped once. One that does not stop is left behind after a
//! while: a hang of ours must not become a hang of whoever waits for this
//! process.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::inquiry;
use crate::outcome::Outcome;
use crate::prepare::Boot;

/// How long the machine may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the guest may take to switch itself off after its report. What it
/// wrote is on the host by then.
const POWER_OFF_TIMEOUT: Duration = Duration::from_secs(10);

/// The same where the guest's own init ends all of its services first.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(100);

/// How long a guest may take to bring what is written to the host, and to
/// report, once its command was killed because its grace was over.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
/// Within this time a signal that comes again is the same request: a shell that loses
/// its terminal and the kernel both send SIGHUP, and timeout(1) signals its child and
/// then its group.
const ECHO: Duration = Duration::from_millis(200);

/// Why the machine was stopped from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Timeout(Duration),
    Signal(i32),
    /// A signal that the command was told before.
    Told(i32),
    /// The user typed the escape.
    Quit,
}

impl Cause {
    /// The outcome of a run that this ended.
    pub(super) fn outcome(self) -> Outcome {
        match self {
            Self::Timeout(limit) => Outcome::Timeout(limit, None),
            Self::Signal(signal) | Self::Told(signal) => Outcome::Interrupted(signal, None),
            Self::Quit => Outcome::Quit,
        }
    }
}

/// What is to be done with the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Wait,
    /// Pass this signal on to the command, which may end by itself.
    Tell(i32),
    /// Ask the guest where it hangs; [`Watch::inquired`] is to be called at the end of it.
    Inquire,
    Stop,
    /// End the process although the machine does not end.
    Abandon,
}

/// A watch over a machine: what has happened so far.
#[derive(Debug)]
pub(super) struct Watch {
    limit: Option<(Duration, Instant)>,
    deadline: Option<Instant>,
    grace: Duration,
    power_off: Duration,
    reported: bool,
    killed: bool,
    inquiring: bool,
    stopping: bool,
    cause: Option<Cause>,
    last_signal: Option<(i32, Instant)>,
}

impl Watch {
    /// `limit` with its deadline is the time that the machine has, `grace` the
    /// time that the command has after a signal.
    pub(super) fn new(limit: Option<(Duration, Instant)>, grace: Duration) -> Self {
        Self {
            limit,
            deadline: limit.map(|(_, deadline)| deadline),
            grace,
            power_off: POWER_OFF_TIMEOUT,
            reported: false,
            killed: false,
            inquiring: false,
            stopping: false,
            cause: None,
            last_signal: None,
        }
    }

    /// With the time that a guest takes which boots so to switch itself off.
    pub(super) fn with_power_off(self, boot: Boot) -> Self {
        Self {
            power_off: match boot {
                Boot::Unit => SHUTDOWN_TIMEOUT,
                _ => POWER_OFF_TIMEOUT,
            },
            ..self
        }
    }

    /// The guest stood still for so long, which is to cost it no time.
    pub(super) fn paused(&mut self, pause: Duration) {
        if self.stopping {
            return;
        }
        let later = |end: &mut Instant| {
            if let Some(moved) = end.checked_add(pause) {
                *end = moved;
            }
        };
        if let Some((_, end)) = &mut self.limit {
            later(end);
        }
        if let Some(deadline) = &mut self.deadline {
            later(deadline);
        }
    }

    /// When [`Self::deadline_passed`] has to be called.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// What stopped the machine, if anything did.
    pub(super) fn cause(&self) -> Option<Cause> {
        self.cause
    }

    /// The guest has reported how its command ended: from here on that is the
    /// end of the run.
    pub(super) fn reported(&mut self) {
        if !self.stopping && !self.inquiring {
            self.reported = true;
            self.deadline = Some(Instant::now() + self.power_off);
        }
    }

    /// A signal or the user asks for the end.
    pub(super) fn asked_to_end(&mut self, cause: Cause) -> Decision {
        match cause {
            Cause::Signal(signal) if self.is_echo(signal) => Decision::Wait,
            cause => self.decide(Some(cause)),
        }
    }

    /// Whether this signal came a moment ago.
    fn is_echo(&mut self, signal: i32) -> bool {
        let now = Instant::now();
        let last = self.last_signal.replace((signal, now));
        last.is_some_and(|(number, at)| number == signal && now - at < ECHO)
    }

    /// The same for a signal that the command can be told.
    pub(super) fn asked_to_tell(&mut self, signal: i32) -> Decision {
        if self.is_echo(signal) {
            return Decision::Wait;
        }
        if self.grace.is_zero() || self.reported || self.cause.is_some() {
            return self.decide(Some(Cause::Signal(signal)));
        }
        self.cause = Some(Cause::Told(signal));
        self.allow(self.grace);
        Decision::Tell(signal)
    }

    /// Gives the guest so long, but not beyond the time limit.
    fn allow(&mut self, time: Duration) {
        let end = Instant::now().checked_add(time);
        let limit = self.limit.map(|(_, end)| end);
        self.deadline = limit.into_iter().chain(end).min();
    }

    /// The deadline may have passed.
    pub(super) fn deadline_passed(&mut self) -> Decision {
        let now = Instant::now();
        if self.deadline.is_none_or(|deadline| deadline > now) {
            // It was moved in the meantime.
            return Decision::Wait;
        }
        let limit = self.limit.filter(|_| !self.reported);
        let told = matches!(self.cause, Some(Cause::Told(_)));
        let waits = told && !self.reported && !self.killed && !self.stopping;
        if waits && limit.is_none_or(|(_, end)| end > now) {
            self.killed = true;
            self.allow(KILL_TIMEOUT);
            return Decision::Tell(Signal::SIGKILL as i32);
        }
        match limit {
            Some((limit, _)) if self.cause.is_none() && !self.stopping => {
                self.cause = Some(Cause::Timeout(limit));
                self.inquiring = true;
                self.deadline = Some(now + inquiry::LIMIT);
                Decision::Inquire
            }
            limit => self.decide(limit.map(|(limit, _)| Cause::Timeout(limit))),
        }
    }

    /// The guest was asked where it hangs, and has answered or will not.
    pub(super) fn inquired(&mut self) -> Decision {
        self.decide(None)
    }

    fn decide(&mut self, cause: Option<Cause>) -> Decision {
        if self.stopping {
            // Somebody in a hurry sends a second signal.
            return Decision::Abandon;
        }
        self.cause = self.cause.or(cause);
        self.stopping = true;
        self.deadline = Some(Instant::now() + STOP_TIMEOUT);
        Decision::Stop
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(limit: Duration) -> Watch {
        Watch::new(Some((limit, Instant::now() + limit)), GRACE)
    }

    const GRACE: Duration = Duration::from_secs(3600);

    #[test]
    fn the_first_signal_is_told_and_the_second_stops() {
        let mut watch = Watch::new(None, GRACE);
        assert_eq!(watch.asked_to_tell(15), Decision::Tell(15));
        assert!(watch.deadline() > Some(Instant::now() + GRACE / 2));
        assert_eq!(watch.deadline_passed(), Decision::Wait);
        assert_eq!(watch.asked_to_tell(2), Decision::Stop);
        assert_eq!(watch.asked_to_tell(15), Decision::Abandon);
        assert_eq!(watch.cause(), Some(Cause::Told(15)));
    }

    #[test]
    fn a_signal_that_comes_twice_at_once_is_one() {
        let mut watch = Watch::new(None, GRACE);
        assert_eq!(watch.asked_to_tell(1), Decision::Tell(1));
        assert_eq!(watch.asked_to_tell(1), Decision::Wait);
        watch.last_signal = Instant::now().checked_sub(ECHO).map(|at| (1, at));
        assert_eq!(watch.asked_to_tell(1), Decision::Stop);
        assert_eq!(watch.asked_to_tell(1), Decision::Wait);
        let mut watch = Watch::new(None, Duration::ZERO);
        assert_eq!(watch.asked_to_end(Cause::Signal(15)), Decision::Stop);
        assert_eq!(watch.asked_to_end(Cause::Signal(15)), Decision::Wait);
    }

    #[test]
    fn a_command_that_does_not_end_in_its_grace_is_killed_then_stopped() {
        let mut watch = Watch::new(None, Duration::from_nanos(1));
        assert_eq!(watch.asked_to_tell(15), Decision::Tell(15));
        assert_eq!(watch.deadline_passed(), Decision::Tell(9));
        // The guest has time to report.
        assert_eq!(watch.deadline_passed(), Decision::Wait);
        watch.deadline = Some(Instant::now());
        assert_eq!(watch.deadline_passed(), Decision::Stop);
        assert_eq!(watch.cause(), Some(Cause::Told(15)));
    }

    #[test]
    fn the_time_limit_holds_in_the_grace_too() {
        let mut watch = limited(Duration::ZERO);
        assert_eq!(watch.asked_to_tell(15), Decision::Tell(15));
        assert_eq!(watch.deadline_passed(), Decision::Stop);
    }

    #[test]
    fn without_a_grace_or_a_command_nobody_is_told() {
        let mut watch = Watch::new(None, Duration::ZERO);
        assert_eq!(watch.asked_to_tell(15), Decision::Stop);
        assert_eq!(watch.cause(), Some(Cause::Signal(15)));
        let mut watch = Watch::new(None, GRACE);
        watch.reported();
        assert_eq!(watch.asked_to_tell(15), Decision::Stop);
    }

    #[test]
    fn a_command_that_ends_in_its_grace_ends_the_run() {
        let mut watch = Watch::new(None, GRACE);
        assert_eq!(watch.asked_to_tell(15), Decision::Tell(15));
        watch.reported();
        assert!(watch.deadline() < Some(Instant::now() + GRACE / 2));
        assert_eq!(watch.cause(), Some(Cause::Told(15)));
    }

    #[test]
    fn a_machine_that_ends_by_itself_is_not_stopped() {
        let mut watch = Watch::new(None, GRACE);
        assert_eq!(watch.deadline(), None);
        watch.reported();
        assert_eq!(watch.deadline_passed(), Decision::Wait);
        assert_eq!(watch.cause(), None);
    }

    #[test]
    fn the_first_signal_stops_and_names_the_cause() {
        let mut watch = Watch::new(None, GRACE);
        assert_eq!(watch.asked_to_end(Cause::Signal(15)), Decision::Stop);
        assert_eq!(watch.cause(), Some(Cause::Signal(15)));
        assert!(watch.deadline().is_some());
    }

    #[test]
    fn a_second_signal_leaves_at_once() {
        let mut watch = Watch::new(None, GRACE);
        assert_eq!(watch.asked_to_end(Cause::Signal(2)), Decision::Stop);
        assert_eq!(watch.asked_to_end(Cause::Signal(15)), Decision::Abandon);
        assert_eq!(watch.cause(), Some(Cause::Signal(2)));
    }

    #[test]
    fn the_time_limit_asks_and_then_stops() {
        let mut watch = limited(Duration::ZERO);
        assert_eq!(watch.deadline_passed(), Decision::Inquire);
        assert_eq!(watch.cause(), Some(Cause::Timeout(Duration::ZERO)));
        assert_eq!(watch.deadline_passed(), Decision::Wait);
        // Too late to be the end of the run.
        watch.reported();
        assert_eq!(watch.inquired(), Decision::Stop);
        assert_eq!(watch.cause(), Some(Cause::Timeout(Duration::ZERO)));
    }

    #[test]
    fn an_answer_is_not_waited_for_for_ever_or_against_a_signal() {
        let mut watch = limited(Duration::ZERO);
        assert_eq!(watch.deadline_passed(), Decision::Inquire);
        assert!(watch.deadline() <= Some(Instant::now() + inquiry::LIMIT));
        watch.deadline = Some(Instant::now());
        assert_eq!(watch.deadline_passed(), Decision::Stop);

        let mut watch = limited(Duration::ZERO);
        assert_eq!(watch.deadline_passed(), Decision::Inquire);
        assert_eq!(watch.asked_to_tell(15), Decision::Stop);
        assert_eq!(watch.cause(), Some(Cause::Timeout(Duration::ZERO)));
    }

    #[test]
    fn a_machine_that_does_not_stop_in_time_is_left() {
        let mut watch = limited(Duration::ZERO);
        assert_eq!(watch.deadline_passed(), Decision::Inquire);
        assert_eq!(watch.inquired(), Decision::Stop);
        assert_eq!(watch.deadline_passed(), Decision::Wait);
        watch.deadline = Some(Instant::now());
        assert_eq!(watch.deadline_passed(), Decision::Abandon);
    }

    #[test]
    fn a_guest_that_stands_still_loses_no_time() {
        let mut watch = limited(Duration::ZERO);
        watch.paused(Duration::from_secs(3600));
        assert_eq!(watch.deadline_passed(), Decision::Wait);
        // Nor does its command, and the limit holds after that.
        assert_eq!(watch.asked_to_tell(15), Decision::Tell(15));
        assert!(watch.deadline() > Some(Instant::now() + Duration::from_secs(3000)));
        let before = watch.deadline();
        assert_eq!(watch.asked_to_end(Cause::Signal(9)), Decision::Stop);
        let stopping = watch.deadline();
        assert!(stopping < before);
        watch.paused(Duration::from_secs(3600));
        assert_eq!(watch.deadline(), stopping);
    }

    #[test]
    fn after_the_report_the_time_limit_is_over() {
        let mut watch = limited(Duration::ZERO);
        watch.reported();
        assert_eq!(watch.deadline_passed(), Decision::Wait);
        assert_eq!(watch.cause(), None);
    }

    #[test]
    fn a_guest_that_stays_on_after_its_report_is_stopped_without_a_cause() {
        let mut watch = limited(Duration::ZERO);
        watch.reported();
        watch.deadline = Some(Instant::now());
        assert_eq!(watch.deadline_passed(), Decision::Stop);
        assert_eq!(watch.cause(), None);
    }
}
