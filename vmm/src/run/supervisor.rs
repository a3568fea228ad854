//! Waits for the end of a machine that runs, and makes it happen where it has
//! to.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use guest_init::protocol::Mark;
use nix::sys::signal::Signal;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EventFd};

use super::abandon;
use super::activity::Activity;
use super::events::{Deadline, Event, EventLoop, OneShot};
use super::inquiry::Inquiry;
use super::watch::{Cause, Decision, Watch};
use crate::console::log::ConsoleLog;
use crate::console::terminal;
use crate::machine::{self, ConsoleInput, Ending, RunningMachine, Stopper};
use crate::outcome::Outcome;
use crate::outcome::metrics::{MeteredDevice, ProcessUsage};
use crate::outcome::standing::Standing;
use vmm_session::Session;

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("cannot wait for the machine")]
    Loop(#[from] event_manager::Error),
    #[error("cannot watch the time")]
    Timer(#[from] vmm_sys_util::errno::Error),
    #[error("the host has no eventfd left; raise the limit of open files (ulimit -n)")]
    EventFd(#[source] io::Error),
    #[error("cannot start the thread that takes the machine down")]
    Thread(#[source] io::Error),
    #[error(transparent)]
    Machine(#[from] machine::Error),
}

/// How often to see whether the guest has halted.
pub(super) const HALT_INTERVAL: Duration = Duration::from_millis(500);

/// The signals with which people and programs ask for an end.
const TOLD: [Signal; 4] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
];

/// Who looks after a machine while it runs.
pub(super) struct Supervisor<R> {
    pub(super) watch: Watch,
    pub(super) deadline: Deadline,
    pub(super) stopper: Stopper,
    pub(super) console: ConsoleLog,
    pub(super) input: ConsoleInput,
    pub(super) session: Option<Arc<Session>>,
    /// What the guest uses files of.
    pub(super) devices: Vec<MeteredDevice>,
    pub(super) activity: Activity,
    /// There is a COMMAND to be started.
    pub(super) has_command: bool,
    /// What the process uses when the guest reports.
    pub(super) usage: Arc<Mutex<Option<ProcessUsage>>>,
    /// The command is a shell for the user.
    pub(super) interactive: bool,
    /// Writes down how a run ended whose machine is left behind.
    pub(super) record: R,
}

/// A machine, before and while it is taken down. That may take long, or for
/// ever, so the loop does not wait for it: signals still come.
enum Stage {
    Running(Box<RunningMachine>),
    GoingDown(JoinHandle<Result<Ending, machine::Error>>),
}

impl Stage {
    /// Whether a debugger has stopped the guest.
    fn is_paused(&self) -> bool {
        match self {
            Self::Running(machine) => machine.is_paused(),
            Self::GoingDown(_) => false,
        }
    }
}

impl<R: FnOnce(&Outcome) + Send + 'static> Supervisor<R> {
    /// Waits until the machine is gone; says how it ended, what stopped it
    /// from outside, if anything did, and what was known of a guest whose time was up.
    pub(super) fn run(
        mut self,
        machine: RunningMachine,
        events: &mut EventLoop,
    ) -> Result<(Ending, Option<Cause>, Option<Standing>), Error> {
        let gone = EventFd::new(EFD_CLOEXEC).map_err(Error::EventFd)?;
        for (eventfd, event) in [(machine.ended(), Event::Ending), (&gone, Event::Down)] {
            let one_shot = OneShot::new(eventfd, event, events.queue()).map_err(Error::EventFd)?;
            events.add(one_shot);
        }
        let mut stage = Stage::Running(Box::new(machine));
        let mut inquiry = None;
        let mut standing: Option<Standing> = None;
        self.deadline.set(self.watch.deadline())?;
        loop {
            let event = events.next()?;
            if let Stage::Running(machine) = &stage {
                let pause = machine.take_pause();
                self.watch.paused(pause);
                self.activity.paused(pause);
            }
            let decision = match event {
                Event::Ending => {
                    stage = match stage {
                        Stage::Running(machine) => {
                            self.end_inquiry(&mut inquiry, &machine, standing.as_mut());
                            take_down(*machine, &gone)?
                        }
                        going_down => going_down,
                    };
                    continue;
                }
                Event::Down => break,
                Event::Tick => match &mut stage {
                    Stage::Running(machine) => self.look(machine, inquiry.as_mut()),
                    Stage::GoingDown(_) => continue,
                },
                Event::Resized => {
                    if let (Some(session), Some(size)) = (&self.session, terminal::size()) {
                        session.resize(size);
                    }
                    continue;
                }
                Event::Reported => {
                    // Here, as no thread that serves the guest may look at the process.
                    let mut usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
                    *usage = Some(ProcessUsage::now());
                    drop(usage);
                    self.watch.reported();
                    Decision::Wait
                }
                Event::DeadlinePassed => self.watch.deadline_passed(),
                Event::Signal(signal) if self.can_tell(signal, &stage) => {
                    self.watch.asked_to_tell(signal)
                }
                Event::Signal(signal) => self.watch.asked_to_end(Cause::Signal(signal)),
                Event::Quit => self.watch.asked_to_end(Cause::Quit),
            };
            match decision {
                Decision::Wait => {}
                Decision::Tell(signal) => self.tell(signal),
                Decision::Inquire => {
                    standing = Some(self.standing());
                    inquiry = Some(Inquiry::new());
                }
                Decision::Stop => {
                    if let Stage::Running(machine) = &stage {
                        self.end_inquiry(&mut inquiry, machine, standing.as_mut());
                    }
                    self.stopper.stop();
                }
                Decision::Abandon => {
                    let outcome = self.watch.cause().map(Cause::outcome);
                    let outcome = outcome.map(|outcome| outcome.with_standing(standing));
                    abandon::abandon(outcome, self.record)
                }
            }
            // While the guest stands still the deadline is as far away as ever; the
            // next tick sees to it.
            let deadline = (!stage.is_paused())
                .then(|| self.watch.deadline())
                .flatten();
            self.deadline.set(deadline)?;
        }
        let ending = match stage {
            Stage::Running(machine) => machine.finish(),
            Stage::GoingDown(thread) => match thread.join() {
                Ok(ending) => ending,
                Err(panic) => std::panic::resume_unwind(panic),
            },
        };
        Ok((ending?, self.watch.cause(), standing))
    }
}

impl<R> Supervisor<R> {
    /// Looks from time to time whether the guest has halted, and what it has
    /// said to an inquiry.
    fn look(&mut self, machine: &mut RunningMachine, inquiry: Option<&mut Inquiry>) -> Decision {
        machine.look_for_halt();
        self.activity.note(self.done(), Instant::now());
        if inquiry.is_some_and(|inquiry| inquiry.go_on(&self.console, &self.input, machine)) {
            self.watch.inquired()
        } else {
            Decision::Wait
        }
    }

    /// How much the guest has done that is seen from outside: what it said and which
    /// requests it made.
    fn done(&self) -> u64 {
        let counts = self
            .devices
            .iter()
            .flat_map(|device| device.queues.snapshot());
        let requests: u64 = counts.map(|queue| queue.requests).sum();
        requests.saturating_add(self.console.said())
    }

    /// What is known of the guest before it is asked.
    fn standing(&self) -> Standing {
        let has_started = |session: &Arc<Session>| session.reached(Mark::CommandStarted).is_some();
        Standing {
            panic: self.console.panic(),
            booting: self.has_command && !self.session.as_ref().is_some_and(has_started),
            quiet: self.activity.quiet(Instant::now()),
            ..Standing::default()
        }
    }

    /// What an inquiry that is over, if there was one, has brought to light.
    fn end_inquiry(
        &self,
        inquiry: &mut Option<Inquiry>,
        machine: &RunningMachine,
        standing: Option<&mut Standing>,
    ) {
        if inquiry.take().is_some() {
            for answer in machine.alarm_answers() {
                self.console.add_registers(&answer);
            }
        }
        if let Some(standing) = standing {
            standing.place = self.console.traces().place();
        }
    }

    /// Whether there is a command that knows this signal as a request to end, and
    /// can act on it.
    fn can_tell(&self, signal: i32, stage: &Stage) -> bool {
        if stage.is_paused() {
            return false;
        }
        let runs = |session: &Arc<Session>| session.reached(Mark::CommandStarted).is_some();
        TOLD.iter().any(|told| *told as i32 == signal) && self.session.as_ref().is_some_and(runs)
    }

    fn tell(&self, signal: i32) {
        if let Some(session) = &self.session {
            // A shell for the user takes no notice of the others.
            let hangs_up = self.interactive && signal != Signal::SIGKILL as i32;
            let signal = if hangs_up {
                Signal::SIGHUP as i32
            } else {
                signal
            };
            session.signal(signal);
        }
    }
}

/// Takes the machine down on a thread of its own; `gone` is written at its
/// end.
fn take_down(machine: RunningMachine, gone: &EventFd) -> Result<Stage, Error> {
    let gone = gone.try_clone().map_err(Error::EventFd)?;
    std::thread::Builder::new()
        .name("take-down".into())
        .spawn(move || {
            let _gone = WriteOnDrop(gone);
            machine.finish()
        })
        .map(Stage::GoingDown)
        .map_err(Error::Thread)
}

/// Also after a panic, where that unwinds.
struct WriteOnDrop(EventFd);

impl Drop for WriteOnDrop {
    fn drop(&mut self) {
        let _ = self.0.write(1);
    }
}
