//! The signals that end a run, and the one that says that the terminal's size
//! changed.

use event_manager::{EventOps, Events, MutEventSubscriber};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::queue::{self, Event, Queue};

/// Everything that would end the process if nothing were done about it, and
/// is not an error of its own: the terminal has to be restored first.
const ENDING: [Signal; 13] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGVTALRM,
    Signal::SIGPROF,
    Signal::SIGIO,
    Signal::SIGPWR,
    Signal::SIGSTKFLT,
    Signal::SIGXCPU,
];

#[derive(Debug, thiserror::Error)]
#[error("cannot take over the signals of this process")]
pub(in crate::run) struct Error(#[from] Errno);

/// Queues signals. They are blocked in the thread that makes this and in every
/// thread that it starts afterwards, so no such thread may be there before.
/// Dropped, it leaves them to do what they do by default, so that what is
/// still to be written then can be interrupted.
pub(in crate::run) struct Signals {
    signals: SignalFd,
    taken: SigSet,
    queue: Queue,
}

impl Signals {
    pub(in crate::run) fn new(queue: Queue) -> Result<Self, Error> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let set = wanted(ignored(&status));
        set.thread_block()?;
        Ok(Self {
            signals: SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?,
            taken: set,
            queue,
        })
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // Those that have come ask for the end that this is.
        while let Ok(Some(_)) = self.signals.read_signal() {}
        let _ = self.taken.thread_unblock();
    }
}

impl MutEventSubscriber for Signals {
    fn process(&mut self, _events: Events, _ops: &mut EventOps<'_>) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let number = i32::try_from(info.ssi_signo).unwrap_or(i32::MAX);
            self.queue.push(if number == Signal::SIGWINCH as i32 {
                Event::Resized
            } else {
                Event::Signal(number)
            });
        }
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        queue::watch(ops, &self.signals, &self.queue);
    }
}

/// Signals that were ignored when the process started, as under nohup(1),
/// stay ignored; a signalfd would hear of them once they are blocked.
fn wanted(ignored: u64) -> SigSet {
    ENDING
        .into_iter()
        .chain([Signal::SIGWINCH])
        .filter(|signal| ignored & (1 << (*signal as i32 - 1)) == 0)
        .collect()
}

/// The `SigIgn` mask in the text of `/proc/PID/status`.
fn ignored(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_is_read() {
        assert_eq!(ignored("Name:\tvmm\nSigIgn:\t0000000000000003\n"), 3);
        assert_eq!(ignored(""), 0);
    }

    #[test]
    fn what_was_ignored_stays_so() {
        let hangup = 1;
        assert!(!wanted(hangup).contains(Signal::SIGHUP));
        assert!(wanted(hangup).contains(Signal::SIGQUIT));
        assert!(wanted(0).contains(Signal::SIGHUP));
    }

    #[test]
    #[allow(clippy::unwrap_used)]
    fn signals_are_left_alone_again_when_nobody_reads_them() {
        let signals = Signals::new(Queue::default()).unwrap();
        assert!(SigSet::thread_get_mask().unwrap().contains(Signal::SIGUSR2));
        // It would end the process, were it still there.
        nix::sys::signal::raise(Signal::SIGUSR2).unwrap();
        drop(signals);
        let mask = SigSet::thread_get_mask().unwrap();
        assert!(!mask.contains(Signal::SIGUSR2) && !mask.contains(Signal::SIGTERM));
    }
}
