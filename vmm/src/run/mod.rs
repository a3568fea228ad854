//! A run: the devices and the machine from a configuration, the machine's
//! life, and what is said about it afterwards.

pub(crate) mod watch;

use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use devices::filesystem::FileSystem;
use devices::fuse::Server;
use devices::passthrough::{self, CachePolicy, Passthrough};
use devices::virtio::VirtioDevice;
use devices::virtio::fs::{Fs, FsError, Queues, Tag, TagError};
use guest_init::protocol::SESSION_TAG;

use crate::console::keys::Keys;
use crate::console::log::ConsoleLog;
use crate::console::terminal;
use crate::machine::{self, Ending, Machine, MachineConfig, MachineCounters};
use crate::options::share::{Cache, Share};
use crate::outcome::Outcome;
use crate::outcome::metrics::{Counted, Metrics, ProcessUsage};
use crate::outcome::output_file::OutputFile;
use crate::outcome::report::{Report, Timings};
use crate::outcome::{chain, output_file};
use crate::prepare::{Boot, Configuration};
use crate::session::{Session, Streams};
use watch::{Cause, Watch};

/// Lines of the console that are shown after an abnormal end.
const CONSOLE_TAIL: usize = 40;

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot share {0}")]
    Share(String, #[source] passthrough::Error),
    #[error(transparent)]
    Tag(#[from] TagError),
    #[error(transparent)]
    Device(#[from] FsError),
    #[error(transparent)]
    Machine(#[from] machine::Error),
    #[error(transparent)]
    ConsoleLog(#[from] output_file::Error),
    #[error("cannot describe the run to the guest")]
    Plan(#[from] serde_json::Error),
    #[error("cannot use the standard streams")]
    Streams(#[source] std::io::Error),
    #[error("cannot put the terminal into raw mode")]
    RawMode(#[source] rustix::io::Errno),
    #[error("cannot start the threads of the run")]
    Threads(#[source] std::io::Error),
}

/// What is known of a run from outside while it runs, and after it.
#[derive(Clone, Default)]
struct Observed {
    console: Option<ConsoleLog>,
    session: Option<Arc<Session>>,
    devices: Vec<Counted>,
    counters: Option<Arc<MachineCounters>>,
    /// Taken while the machine lives; the guest's report is such a moment.
    usage: Arc<Mutex<Option<ProcessUsage>>>,
}

/// Runs the machine that `configuration` describes to its end, and writes
/// what was asked for about it.
#[must_use]
pub(crate) fn run(configuration: Configuration, start: Instant) -> Outcome {
    raise_descriptor_limit();
    let records = Records {
        start,
        metrics: configuration.metrics.clone(),
        report: configuration.report.clone(),
    };
    let mut observed = Observed::default();
    let mut outcome = match execute(configuration, records.clone(), &mut observed) {
        Ok(outcome) => outcome,
        Err(error) => Outcome::VmmError(chain::one_line(&error)),
    };
    terminal::restore();
    if let Some(console) = &observed.console {
        console.flush();
        // A machine that was never entered has nothing to say.
        let entered = (observed.counters.as_ref()).and_then(|counters| counters.first_run());
        if outcome.wants_console() && entered.is_some() {
            show_tail(console);
        }
    }
    records.write(&mut outcome, &observed);
    outcome
}

/// The files that say how the run went.
#[derive(Clone)]
struct Records {
    start: Instant,
    metrics: Option<OutputFile>,
    report: Option<OutputFile>,
}

impl Records {
    /// Writes them. A file that cannot be written becomes the outcome.
    fn write(&self, outcome: &mut Outcome, observed: &Observed) {
        let timings = Timings::collect(
            self.start,
            observed.counters.as_deref(),
            observed.session.as_deref(),
        );
        if let Some(file) = &self.metrics {
            let usage = *observed
                .usage
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let metrics = Metrics::collect(
                timings,
                observed.counters.as_deref(),
                &observed.devices,
                usage.unwrap_or_else(ProcessUsage::now),
            );
            if let Err(error) = file.write(&metrics.json()) {
                *outcome = Outcome::VmmError(format!("cannot write the metrics: {error}"));
            }
        }
        if let Some(file) = &self.report
            && let Err(error) = file.write(&Report::new(outcome, timings).json())
        {
            *outcome = Outcome::VmmError(format!("cannot write the report: {error}"));
        }
    }
}

/// A share needs descriptors by the thousand; the soft limit is 1024 for the
/// sake of programs that use select(2).
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}

fn execute(
    configuration: Configuration,
    records: Records,
    observed: &mut Observed,
) -> Result<Outcome, Error> {
    let boot = configuration.boot;
    let log = configuration
        .console_log
        .as_deref()
        .map(|path| output_file::create("--console-log", path))
        .transpose()?;
    let show = match boot {
        Boot::Command if configuration.verbose => Some(duplicate(rustix::stdio::stderr())?),
        Boot::Command => None,
        Boot::System | Boot::Initramfs => Some(duplicate(rustix::stdio::stdout())?),
    };
    let console = ConsoleLog::new(log, show);
    observed.console = Some(console.clone());

    let watch = Watch::default();
    let keys = match &configuration.plan {
        Some(plan) if boot == Boot::Command => Keys::to_command(plan.terminal.is_some()),
        _ => Ok(Keys::Console),
    }
    .map_err(Error::Streams)?;
    let mut devices: Vec<Box<dyn VirtioDevice>> = Vec::with_capacity(configuration.devices());
    let session = match &configuration.plan {
        Some(plan) => {
            let usage = Arc::clone(&observed.usage);
            let teller = watch.teller();
            let streams = Streams {
                stdin: keys.session_input().map_err(Error::Streams)?,
                stdout: duplicate(rustix::stdio::stdout())?,
                stderr: duplicate(rustix::stdio::stderr())?,
            };
            let reported = move || {
                let now = ProcessUsage::now();
                *usage.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
                teller.reported();
            };
            let session = Arc::new(Session::new(plan, streams, reported)?);
            devices.push(export(
                SESSION_TAG,
                session.clone(),
                Queues::default(),
                observed,
            )?);
            Some(session)
        }
        None => None,
    };
    observed.session = session.clone();
    for share in &configuration.shares {
        let passthrough = Passthrough::new(&share.directory, config(share))
            .map_err(|error| Error::Share(share.directory.display().to_string(), error))?;
        devices.push(export(
            &share.tag,
            Arc::new(passthrough),
            Queues {
                requests: share.queues,
                size: share.queue_size,
            },
            observed,
        )?);
    }

    let machine = Machine::new(MachineConfig {
        kernel: configuration.kernel,
        initramfs: Some(configuration.initramfs),
        cmdline: configuration.cmdline,
        cpus: configuration.cpus,
        memory: configuration.memory.bytes(),
        devices,
        console: Box::new(console.writer()),
    })?;
    observed.counters = Some(machine.counters());

    let stopper = machine.stopper();
    let teller = watch.teller();
    let resized = session.clone();
    let start = records.start;
    let seen = observed.clone();
    let watch = watch
        .start(
            configuration.timeout.map(|limit| (limit, start + limit)),
            move || stopper.stop(),
            move || {
                if let (Some(session), Some(size)) = (&resized, terminal::size()) {
                    session.resize(size);
                }
            },
            // Not the console: whoever keeps the machine may hold its lock.
            move |outcome| records.write(&mut outcome.clone(), &seen),
        )
        .map_err(Error::Threads)?;
    let raw = keys.take_terminal().map_err(Error::RawMode)?;
    keys.follow(machine.console_input(), teller)
        .map_err(Error::Threads)?;
    let ending = machine.run();
    let cause = watch.finish();
    drop(raw);
    Ok(outcome(boot, ending?, cause, &console, session.as_deref()))
}

/// How the run ended, from all that is known.
fn outcome(
    boot: Boot,
    ending: Ending,
    cause: Option<Cause>,
    console: &ConsoleLog,
    session: Option<&Session>,
) -> Outcome {
    if let Some(status) = session.and_then(Session::status) {
        return status.into();
    }
    if let (Ending::Stopped, Some(cause)) = (&ending, cause) {
        return cause.outcome();
    }
    if let Some(message) = console.panic() {
        return Outcome::Panic(message);
    }
    match (boot, ending) {
        (_, Ending::Crash(text)) => Outcome::Died(crate::outcome::one_line(&text)),
        (_, Ending::Stopped) => Outcome::Died("it was stopped".into()),
        (Boot::Command, Ending::PowerOff) => {
            Outcome::Died("it switched itself off before the command ended".into())
        }
        (Boot::Command, Ending::Reset) => {
            Outcome::Died("it restarted before the command ended".into())
        }
        (_, Ending::PowerOff) => Outcome::PoweredOff,
        (_, Ending::Reset) => Outcome::Restarted,
    }
}

/// A virtio-fs device for `fs`, counted.
fn export(
    tag: &str,
    fs: Arc<dyn FileSystem>,
    queues: Queues,
    observed: &mut Observed,
) -> Result<Box<dyn VirtioDevice>, Error> {
    let server = Arc::new(Server::new(fs));
    let device = Fs::new(Tag::new(tag)?, server.clone(), queues)?;
    observed.devices.push(Counted {
        tag: tag.to_owned(),
        server,
        queues: device.counters(),
    });
    Ok(Box::new(device))
}

fn config(share: &Share) -> passthrough::Config {
    passthrough::Config {
        cache: match share.cache {
            Cache::Never => CachePolicy::Never,
            Cache::Metadata => CachePolicy::Metadata,
            Cache::Auto => CachePolicy::Auto,
            Cache::Always => CachePolicy::Always,
        },
        writeback: share.writeback,
        read_only: share.read_only,
        xattr: share.xattr,
        ..passthrough::Config::default()
    }
}

fn duplicate(stream: std::os::fd::BorrowedFd<'_>) -> Result<File, Error> {
    Ok(stream.try_clone_to_owned().map_err(Error::Streams)?.into())
}

fn show_tail(console: &ConsoleLog) {
    let lines = console.tail(CONSOLE_TAIL);
    if lines.is_empty() {
        chain::tell("vmm: the guest's console is empty");
    } else {
        let lines = lines.join("\n| ");
        chain::tell(&format!("vmm: the end of the guest's console:\n| {lines}"));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Write;

    fn console(text: &str) -> ConsoleLog {
        let console = ConsoleLog::new(None, None);
        console.writer().write_all(text.as_bytes()).unwrap();
        console
    }

    #[test]
    fn a_guest_that_ends_without_a_report_died_if_it_had_a_command() {
        let quiet = console("");
        for ending in [Ending::PowerOff, Ending::Reset] {
            let outcome = outcome(Boot::Command, ending, None, &quiet, None);
            assert_eq!(outcome.name(), "died");
        }
    }

    #[test]
    fn a_guest_without_a_command_ends_as_it_likes() {
        let quiet = console("");
        for boot in [Boot::System, Boot::Initramfs] {
            let off = outcome(boot, Ending::PowerOff, None, &quiet, None);
            assert_eq!(off, Outcome::PoweredOff);
            let reset = outcome(boot, Ending::Reset, None, &quiet, None);
            assert_eq!(reset, Outcome::Restarted);
        }
    }

    #[test]
    fn a_restart_after_a_panic_is_a_panic() {
        let loud = console("Kernel panic - not syncing: oh no\n");
        let outcome = outcome(Boot::Initramfs, Ending::Reset, None, &loud, None);
        assert_eq!(outcome, Outcome::Panic("oh no".into()));
    }

    #[test]
    fn what_stopped_the_machine_counts_only_if_it_did() {
        let quiet = console("");
        let cause = Some(Cause::Signal(15));
        let stopped = outcome(Boot::Command, Ending::Stopped, cause, &quiet, None);
        assert_eq!(stopped, Outcome::Interrupted(15));
        let ended = outcome(Boot::Initramfs, Ending::PowerOff, cause, &quiet, None);
        assert_eq!(ended, Outcome::PoweredOff);
    }

    #[test]
    fn a_crash_is_a_death_with_its_reason() {
        let crash = Ending::Crash("triple fault\nrip".into());
        let outcome = outcome(Boot::System, crash, None, &console(""), None);
        assert_eq!(outcome, Outcome::Died("triple fault rip".into()));
    }
}
