//! A run: the devices and the machine from a configuration, the machine's
//! life, and what is said about it afterwards.

mod abandon;
mod activity;
mod ending;
mod events;
mod exports;
mod inquiry;
mod records;
#[cfg(test)]
mod sessions;
mod supervisor;
mod tail;
mod watch;

use std::sync::Arc;
use std::time::Instant;

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EventFd};

use crate::console::keys::Keys;
use crate::console::log::ConsoleLog;
use crate::console::marks::Format;
use crate::console::terminal;
use crate::machine::{self, Machine, MachineConfig};
use crate::outcome::{Outcome, line, output_file};
use crate::prepare::{Boot, Configuration};
use activity::Activity;
use events::{Deadline, Event, EventLoop, OneShot, Signals, Ticks};
use exports::{Exports, duplicate};
use records::{Findings, Observed, Records};
use supervisor::Supervisor;
use vmm_sandbox::Role;
use watch::Watch;

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Owners(#[from] vmm_owners::Error),
    #[error(transparent)]
    Sandbox(#[from] vmm_sandbox::Error),
    #[error(transparent)]
    Devices(#[from] exports::Error),
    #[error(transparent)]
    Machine(#[from] machine::Error),
    #[error(transparent)]
    ConsoleLog(#[from] output_file::Error),
    #[error("cannot use standard input")]
    Keys(#[source] std::io::Error),
    #[error("cannot put the terminal into raw mode")]
    RawMode(#[source] rustix::io::Errno),
    #[error("the host has no eventfd left; raise the limit of open files (ulimit -n)")]
    EventFd(#[source] std::io::Error),
    #[error("cannot wait for events")]
    Events(#[from] event_manager::Error),
    #[error(transparent)]
    Signals(#[from] events::SignalError),
    #[error(transparent)]
    Supervisor(#[from] supervisor::Error),
}

/// Runs the machine that `configuration` describes to its end, and writes
/// what was asked for about it.
#[must_use]
pub(crate) fn run(configuration: Configuration, start: Instant) -> Outcome {
    let records = Records {
        start,
        metrics: configuration.metrics.clone(),
        report: configuration.report.clone(),
        junit: configuration.junit.clone(),
        subject: configuration.subject.clone(),
    };
    let mut observed = Observed {
        notes: configuration.notes.clone(),
        ..Observed::default()
    };
    let outcome = match execute(configuration, records.clone(), &mut observed) {
        Ok(outcome) => outcome,
        Err(error) => Outcome::VmmError(line::of_error(&error)),
    };
    terminal::restore();
    conclude(outcome, &records, &observed)
}

/// What the run's end comes to once everything is told and written that is to
/// be. Told first: who reads a record may keep it waiting.
fn conclude(outcome: Outcome, records: &Records, observed: &Observed) -> Outcome {
    if let Some(console) = &observed.console {
        console.flush();
    }
    let mut findings = observed.findings();
    let failure = findings.splats.failure();
    // Of output that could not be written the console says nothing.
    let wants_console = outcome.wants_console() || failure.is_some();
    let mut outcome = outcome
        .unless_lost(&observed.lost_output())
        .unless_splat(failure.clone());
    if let Some(console) = &observed.console {
        // A machine that was never entered has nothing to say.
        let entered = (observed.counters.as_ref()).and_then(|counters| counters.first_run());
        if wants_console && entered.is_some() {
            tail::show(console, &findings);
        }
        findings.shown = tail::text(console, &findings);
    }
    if let Some(failure) = failure.filter(|_| !matches!(outcome, Outcome::Splat(_))) {
        line::tell(&format!(
            "vmm: the guest's kernel reported a bug: {failure}"
        ));
    }
    outcome.tell();
    records.write(&mut outcome, observed, findings);
    outcome
}

fn execute(
    configuration: Configuration,
    records: Records,
    observed: &mut Observed,
) -> Result<Outcome, Error> {
    // Before any thread starts, and before the shares are opened.
    if let Some(refused) = configuration.owners.enter()? {
        observed.notes.tell(&line::of_error(&refused));
    }
    let sandbox = configuration.sandbox.clone();
    sandbox.begin()?;
    observed.sandbox = Some(sandbox.holds());
    let boot = configuration.boot;
    let gdb_line = configuration.gdb_line();
    let log = configuration
        .console_log
        .as_deref()
        .map(|path| output_file::create_log("--console-log", path))
        .transpose()?;
    let show = match boot {
        Boot::Command | Boot::Unit if configuration.verbose => {
            Some(("standard error", duplicate(rustix::stdio::stderr())?))
        }
        Boot::Command | Boot::Unit => None,
        Boot::System | Boot::Initramfs => {
            Some(("standard output", duplicate(rustix::stdio::stdout())?))
        }
    };
    let format = Format::of(boot.has_command(), &configuration.cmdline);
    let console = ConsoleLog::new(log, show).judged_by(configuration.policy, format);
    observed.console = Some(console.clone());

    let mut events = EventLoop::new()?;
    let keys = match &configuration.plan {
        Some(plan) if boot.has_command() => Keys::to_command(plan.terminal.is_some()),
        _ => Ok(Keys::Console),
    }
    .map_err(Error::Keys)?;
    let memory = configuration.memory.bytes();
    let mut exports = Exports::new(configuration.cpus, memory, &configuration.shares, &sandbox)?;
    if let Some(plan) = &configuration.plan {
        let told = EventFd::new(EFD_CLOEXEC).map_err(Error::EventFd)?;
        let one_shot = OneShot::new(&told, Event::Reported, events.queue());
        events.add(one_shot.map_err(Error::EventFd)?);
        let reported = move || {
            // The counter is 0 before this, so there is room for 1.
            let _ = told.write(1);
        };
        observed.session = Some(exports.add_session(plan, &keys, reported)?);
    }
    for (share, owners) in configuration
        .shares
        .iter()
        .zip(&configuration.owners.shares)
    {
        exports.add_share(share, owners, memory, &mut observed.notes)?;
    }
    let (windows, keepers) = (exports.windows(), exports.keepers());
    observed.devices = exports.metered;

    let machine = Machine::new(MachineConfig {
        kernel: configuration.kernel,
        initramfs: Some(configuration.initramfs),
        cmdline: configuration.cmdline,
        cpus: configuration.cpus,
        memory,
        windows,
        devices: exports.devices,
        console: Box::new(console.writer()),
        debugger: configuration.gdb,
        sandbox: sandbox.clone(),
    })?;
    observed.counters = Some(machine.counters());

    // Before any thread starts: in one of those a signal would do what it
    // does by default.
    events.add(Signals::new(events.queue())?);
    let deadline = Deadline::new(events.queue()).map_err(supervisor::Error::from)?;
    events.add(deadline.clone());
    let ticks = Ticks::new(supervisor::HALT_INTERVAL, events.queue());
    events.add(ticks.map_err(supervisor::Error::from)?);
    let raw = keys.take_terminal().map_err(Error::RawMode)?;
    events::follow(keys, machine.console_input(), &mut events).map_err(Error::Keys)?;
    let limit = configuration.timeout;
    let seen = observed.clone();
    let supervisor = Supervisor {
        watch: Watch::new(
            limit.map(|limit| (limit, records.start + limit)),
            configuration.grace,
        )
        .with_power_off(boot),
        deadline,
        stopper: machine.stopper(),
        console: console.clone(),
        input: machine.console_input(),
        session: observed.session.clone(),
        devices: observed.devices.clone(),
        activity: Activity::default(),
        has_command: boot.has_command(),
        usage: Arc::clone(&observed.usage),
        interactive: (configuration.plan.as_ref()).is_some_and(|plan| plan.interactive),
        // Not the console: whoever keeps the machine may hold its lock.
        record: move |outcome: &Outcome| {
            records.write(&mut outcome.clone(), &seen, Findings::default());
        },
    };
    for keeper in keepers {
        keeper.start()?;
    }
    let machine = machine.start()?;
    if let Some(line) = gdb_line {
        line::tell(&format!("vmm: the guest waits for: {line}"));
    }
    sandbox.enter(Role::Main)?;
    let (ending, cause, standing) = supervisor.run(machine, &mut events)?;
    drop(raw);
    let session = observed.session.as_deref();
    let outcome = ending::outcome(boot, ending, cause, &console, session);
    Ok(outcome.with_standing(standing))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::sessions::session_that_lost_output;
    use super::*;
    use crate::outcome::junit::Subject;
    use crate::outcome::output_file::OutputFile;
    use std::fs::File;
    use std::io::Write;

    #[test]
    fn output_that_is_lost_decides_the_outcome_and_the_report_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let report = directory.path().join("report");
        let records = Records {
            start: Instant::now(),
            metrics: None,
            report: Some(OutputFile::check("--report", &report).unwrap()),
            junit: None,
            subject: Subject::default(),
        };
        // Not written before the run ends: there is no whole line.
        let full = File::options().write(true).open("/dev/full").unwrap();
        let log = ConsoleLog::new(Some(full), None);
        log.writer().write_all(b"no end").unwrap();
        let observed = |console, session| Observed {
            console,
            session,
            ..Observed::default()
        };
        let session = Some(Arc::new(session_that_lost_output()));
        for (observed, name) in [
            (observed(Some(log), None), "--console-log"),
            (observed(None, session), "standard output"),
        ] {
            let outcome = conclude(Outcome::Exited(0), &records, &observed);
            assert_eq!(outcome.code(), 125);
            let message = outcome.message().unwrap();
            assert!(message.contains(name), "{message}");
            let json = std::fs::read(&report).unwrap();
            let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
            assert_eq!(json["outcome"], "vmm-error");
            assert_eq!(json["message"], message);
        }
        let all = conclude(Outcome::Exited(0), &records, &Observed::default());
        assert_eq!(all, Outcome::Exited(0));
    }
}
