//! What ends a machine from outside: the time limit, a signal, the user.
//!
//! One thread waits for all of them and stops the machine once. A machine
//! that does not stop is left behind after a while: a hang of ours must not
//! become a hang of whoever waits for this process.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGWINCH};
use signal_hook::iterator::{Handle, Signals};

use crate::console::terminal;
use crate::outcome::Outcome;
use crate::outcome::chain;

/// How long the machine may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// How long the guest may take to switch itself off after its report. What it
/// wrote is on the host by then.
const POWER_OFF_PATIENCE: Duration = Duration::from_secs(10);
/// How long the last words about a machine that did not stop may take.
const LAST_WORDS_PATIENCE: Duration = Duration::from_secs(2);

/// Why the machine was stopped from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Timeout(Duration),
    /// This signal came.
    Signal(i32),
    /// The user typed the escape.
    Quit,
}

impl Cause {
    /// The outcome of a run that this ended.
    #[must_use]
    pub(crate) fn outcome(self) -> Outcome {
        match self {
            Self::Timeout(limit) => Outcome::Timeout(limit),
            Self::Signal(signal) => Outcome::Interrupted(signal),
            Self::Quit => Outcome::Quit,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Signal(i32),
    Quit,
    Reported,
    Ended,
}

/// Tells the watch what happened.
#[derive(Clone, Debug)]
pub(crate) struct Teller(Sender<Event>);

impl Teller {
    /// The user typed the escape.
    pub(crate) fn quit(&self) {
        let _ = self.0.send(Event::Quit);
    }

    /// The guest has reported how its command ended.
    pub(crate) fn reported(&self) {
        let _ = self.0.send(Event::Reported);
    }
}

/// The watch before it is set: things can be told already.
#[derive(Debug)]
pub(crate) struct Watch {
    sender: Sender<Event>,
    events: Receiver<Event>,
}

/// A watch over a machine.
#[derive(Debug)]
pub(crate) struct Running {
    sender: Sender<Event>,
    thread: JoinHandle<Option<Cause>>,
    signals: Handle,
}

impl Default for Watch {
    fn default() -> Self {
        let (sender, events) = channel();
        Self { sender, events }
    }
}

impl Watch {
    /// Somebody who tells the watch what happened.
    #[must_use]
    pub(crate) fn teller(&self) -> Teller {
        Teller(self.sender.clone())
    }

    /// Starts to watch. `stop` stops the machine, `resized` is called when
    /// the terminal's size changed, `limit` with its deadline is the time the
    /// machine has, and `record` writes down how a run ended whose machine is
    /// left behind.
    pub(crate) fn start(
        self,
        limit: Option<(Duration, Instant)>,
        stop: impl Fn() + Send + 'static,
        resized: impl Fn() + Send + 'static,
        record: impl Fn(&Outcome) + Send + Sync + 'static,
    ) -> std::io::Result<Running> {
        let mut signals = Signals::new(wanted_signals())?;
        let handle = signals.handle();
        let teller = self.sender.clone();
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                for signal in &mut signals {
                    if signal == SIGWINCH {
                        resized();
                    } else {
                        let _ = teller.send(Event::Signal(signal));
                    }
                }
            })?;
        let events = self.events;
        let thread = std::thread::Builder::new()
            .name("watch".into())
            .spawn(move || {
                let record = Arc::new(record);
                watch(&events, limit, stop, |cause| {
                    let record = Arc::clone(&record);
                    leave(cause, move |outcome| record(outcome));
                })
            })?;
        Ok(Running {
            sender: self.sender,
            thread,
            signals: handle,
        })
    }
}

impl Running {
    /// The machine has ended; says what ended it from outside, if anything.
    #[must_use]
    pub(crate) fn finish(self) -> Option<Cause> {
        let _ = self.sender.send(Event::Ended);
        let cause = self.thread.join().ok().flatten();
        self.signals.close();
        cause
    }
}

/// Waits for the machine's end; makes it happen where it has to.
fn watch(
    events: &Receiver<Event>,
    limit: Option<(Duration, Instant)>,
    stop: impl Fn(),
    leave: impl Fn(Option<Cause>),
) -> Option<Cause> {
    let mut cause = None;
    let mut deadline = limit.map(|(_, deadline)| deadline);
    let (mut reported, mut stopping) = (false, false);
    loop {
        let event = match deadline {
            None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(deadline) => {
                events.recv_timeout(deadline.saturating_duration_since(Instant::now()))
            }
        };
        let new_cause = match event {
            Ok(Event::Ended) | Err(RecvTimeoutError::Disconnected) => return cause,
            Ok(Event::Reported) => {
                // From here on the command's own end is the run's.
                if !stopping {
                    reported = true;
                    deadline = Some(Instant::now() + POWER_OFF_PATIENCE);
                }
                continue;
            }
            // Somebody in a hurry sends a second signal.
            Ok(Event::Signal(_) | Event::Quit) | Err(RecvTimeoutError::Timeout) if stopping => {
                leave(cause);
                return cause;
            }
            Ok(Event::Signal(signal)) => Some(Cause::Signal(signal)),
            Ok(Event::Quit) => Some(Cause::Quit),
            Err(RecvTimeoutError::Timeout) if reported => None,
            Err(RecvTimeoutError::Timeout) => limit.map(|(limit, _)| Cause::Timeout(limit)),
        };
        cause = new_cause;
        stopping = true;
        deadline = Some(Instant::now() + STOP_PATIENCE);
        stop();
    }
}

/// Ends the process although the machine does not end.
fn leave(cause: Option<Cause>, record: impl FnOnce(&Outcome) + Send + 'static) {
    terminal::restore();
    let outcome = cause.map_or_else(
        || Outcome::VmmError("the machine did not stop".into()),
        Cause::outcome,
    );
    let code = outcome.code();
    // What keeps the machine may keep these words, too: a standard error that
    // nobody reads.
    within(LAST_WORDS_PATIENCE, move || {
        record(&outcome);
        let message = outcome.message().unwrap_or_else(|| outcome.name().into());
        chain::tell(&format!(
            "vmm: error: {message}; the machine did not stop and was left behind"
        ));
    });
    std::process::exit(i32::from(code));
}

/// Does `work`, but does not wait for its end longer than `limit`.
fn within(limit: Duration, work: impl FnOnce() + Send + 'static) {
    let (sender, done) = channel();
    let thread = std::thread::Builder::new()
        .name("last words".into())
        .spawn(move || {
            work();
            let _ = sender.send(());
        });
    if thread.is_ok() {
        let _ = done.recv_timeout(limit);
    }
}

/// The signals to handle: those that were ignored when the process started,
/// as under nohup(1), stay ignored.
fn wanted_signals() -> Vec<i32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = ignored_signals(&status);
    [SIGINT, SIGTERM, SIGHUP, SIGWINCH]
        .into_iter()
        .filter(|signal| ignored & (1 << (signal - 1)) == 0)
        .collect()
}

/// The `SigIgn` mask in the text of `/proc/PID/status`.
fn ignored_signals(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Runs a watch over these events and the machine's end; says how often
    /// the machine was stopped and left, and the cause.
    fn watched(events: &[Event], limit: Option<Duration>) -> (u32, u32, Option<Cause>) {
        let (sender, receiver) = channel();
        for event in events {
            let _ = sender.send(*event);
        }
        let (stops, leaves) = (AtomicU32::new(0), AtomicU32::new(0));
        let limit = limit.map(|limit| (limit, Instant::now() + limit));
        let cause = watch(
            &receiver,
            limit,
            || {
                stops.fetch_add(1, Ordering::Relaxed);
                if limit.is_some() {
                    let _ = sender.send(Event::Ended);
                }
            },
            |_| {
                leaves.fetch_add(1, Ordering::Relaxed);
            },
        );
        (stops.into_inner(), leaves.into_inner(), cause)
    }

    #[test]
    fn a_machine_that_ends_by_itself_is_not_stopped() {
        assert_eq!(
            watched(&[Event::Reported, Event::Ended], None),
            (0, 0, None)
        );
    }

    #[test]
    fn the_first_signal_stops_and_names_the_cause() {
        let cause = Some(Cause::Signal(15));
        assert_eq!(
            watched(&[Event::Signal(15), Event::Ended], None),
            (1, 0, cause)
        );
    }

    #[test]
    fn a_second_signal_leaves_at_once() {
        let cause = Some(Cause::Signal(2));
        assert_eq!(
            watched(&[Event::Signal(2), Event::Signal(2)], None),
            (1, 1, cause)
        );
    }

    #[test]
    fn the_time_limit_stops() {
        let limit = Duration::from_millis(5);
        assert_eq!(
            watched(&[], Some(limit)),
            (1, 0, Some(Cause::Timeout(limit)))
        );
    }

    #[test]
    fn after_the_report_the_time_limit_is_over() {
        let limit = Duration::ZERO;
        assert_eq!(
            watched(&[Event::Reported, Event::Ended], Some(limit)),
            (0, 0, None)
        );
    }

    #[test]
    fn last_words_that_nobody_takes_are_not_waited_for() {
        let (_open, never) = channel::<()>();
        let started = Instant::now();
        within(Duration::from_millis(5), move || {
            let _ = never.recv();
        });
        assert!(started.elapsed() >= Duration::from_millis(5));

        let (sender, said) = channel();
        within(Duration::from_secs(60), move || {
            let _ = sender.send("said");
        });
        assert_eq!(said.try_recv(), Ok("said"));
    }

    #[test]
    fn the_mask_of_ignored_signals_is_read() {
        assert_eq!(
            ignored_signals("Name:\tvmm\nSigIgn:\t0000000000000003\n"),
            3
        );
        assert_eq!(ignored_signals(""), 0);
    }
}
