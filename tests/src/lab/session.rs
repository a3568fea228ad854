//! The conversation with a running lab: carries the streams, follows the
//! messages, and never takes silence for success.

use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow, bail};
use lab_init::{Collection, Ending, FromLab, Port, ToLab, frame};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::SendFlags;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGWINCH};
use signal_hook::iterator::Signals;

use super::machine::{Machine, Timing};
use super::terminal;

/// How long the lab may take until its first process speaks. It takes 3 s when
/// the host has nothing else to do.
const BOOT_PATIENCE: Duration = Duration::from_secs(180);
/// How long a lab that runs may be silent: its heartbeat is every 3 s of its
/// own clock. Where that counts instructions, a busy lab on a busy host has one in
/// a minute.
const SILENCE_PATIENCE: Duration = Duration::from_secs(600);
/// How long saying something to the lab may take before it is left unsaid.
const SAY_PATIENCE: Duration = Duration::from_secs(1);
/// How often a lab whose clock is the host's is nudged.
///
/// QEMU's VMRUN changes the requests for interrupts of its processor without the
/// lock under which the timers' thread does (7.2). When both do at the same time
/// the request to look at the local APIC is lost, and with it the only timer that
/// an idle Linux waits for. It is found again with the next interrupt.
const NUDGE: Duration = Duration::from_millis(200);
/// How often to look whether QEMU still runs.
const GLANCE: Duration = Duration::from_millis(50);

/// How a lab run ended.
#[derive(Debug)]
pub(super) enum End {
    /// The command ended, and all it left behind is on the drive.
    Command(Ending, Vec<(usize, Collection)>),
    /// A signal told us to stop.
    Signal(i32),
}

enum Event {
    Said(FromLab),
    /// The control port closed or carried nonsense.
    ControlLost(String),
    StreamEnded,
    StreamLost(io::Error),
    Signal(i32),
}

/// Follows the lab to its end.
///
/// # Errors
///
/// Whatever keeps the lab from running the command to its end: the caller
/// shows the console's tail.
pub(super) fn follow(
    machine: &mut Machine,
    ports: Vec<(Port, UnixStream)>,
    timeout: Option<Duration>,
    timing: Timing,
) -> Result<End> {
    let (events, inbox) = channel();
    // A port whose socket closes is a port the lab cannot open: ours stay open
    // to the end, even that of an input that has ended before the lab booted.
    let ours = ports
        .iter()
        .map(|(_, stream)| stream.try_clone())
        .collect::<io::Result<Vec<_>>>();
    let _ours = ours.context("cannot copy a socket")?;
    let control = connect(ports, &events)?;
    watch_signals(events, Arc::clone(&control))?;
    let mut progress = Progress::new(timeout);
    let mut nudged = Instant::now();
    loop {
        if timing == Timing::Live && progress.ready && nudged.elapsed() >= NUDGE {
            nudge(&control);
            nudged = Instant::now();
        }
        match inbox.recv_timeout(GLANCE) {
            Ok(event) => match progress.advance(event) {
                Ok(Some(end)) => return Ok(end),
                Ok(None) => continue,
                Err(error) => return Err(explain(machine, error)),
            },
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => bail!("nobody listens to the lab any more"),
        }
        if let Some(status) = machine.ended()? {
            // What it said last may still be on its way.
            thread::sleep(GLANCE);
            while let Ok(event) = inbox.try_recv() {
                if let Ok(Some(end)) = progress.advance(event) {
                    return Ok(end);
                }
            }
            let lost = anyhow!("the lab's machine ended before the command did (QEMU: {status})");
            return Err(explain(machine, lost));
        }
        progress.check_time()?;
    }
}

/// A lost port is what we see first when the machine ends; says why it ended.
fn explain(machine: &mut Machine, error: Error) -> Error {
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(1) && matches!(machine.ended(), Ok(None)) {
        thread::sleep(GLANCE);
    }
    let console = machine.console();
    let panic = b"Kernel panic - not syncing";
    if console.windows(panic.len()).any(|window| window == panic) {
        error.context("the lab's kernel panicked")
    } else {
        error
    }
}

/// What is known of the run so far.
struct Progress {
    last_sign: Instant,
    ready: bool,
    deadline: Option<Instant>,
    ending: Option<Ending>,
    collections: Vec<(usize, Collection)>,
    open_streams: usize,
    finished: bool,
}

impl Progress {
    fn new(timeout: Option<Duration>) -> Self {
        let now = Instant::now();
        Self {
            last_sign: now,
            ready: false,
            deadline: timeout.and_then(|timeout| now.checked_add(timeout)),
            ending: None,
            collections: Vec::new(),
            open_streams: 2,
            finished: false,
        }
    }

    /// Takes in one event; the end, once everything has arrived.
    fn advance(&mut self, event: Event) -> Result<Option<End>> {
        self.last_sign = Instant::now();
        match event {
            Event::Signal(signal) => return Ok(Some(End::Signal(signal))),
            Event::StreamEnded => self.open_streams = self.open_streams.saturating_sub(1),
            Event::StreamLost(error) => {
                return Err(error).context("lost one of the command's streams");
            }
            Event::ControlLost(reason) => bail!("lost the lab: {reason}"),
            Event::Said(message) => match message {
                FromLab::Ready => self.ready = true,
                FromLab::Started | FromLab::Alive => {}
                FromLab::Ended(ending) => self.ending = Some(ending),
                FromLab::Collected(index, collection) => {
                    self.collections.push((index, collection));
                }
                FromLab::Finished => self.finished = true,
                FromLab::Failed(message) => bail!("{message}"),
            },
        }
        if self.finished && self.open_streams == 0 {
            let ending = self
                .ending
                .take()
                .context("the lab did not say how the command ended")?;
            return Ok(Some(End::Command(
                ending,
                std::mem::take(&mut self.collections),
            )));
        }
        Ok(None)
    }

    fn check_time(&self) -> Result<()> {
        let silence = self.last_sign.elapsed();
        if !self.ready && silence > BOOT_PATIENCE {
            bail!("the lab did not boot within {} s", BOOT_PATIENCE.as_secs());
        }
        if silence > SILENCE_PATIENCE {
            bail!(
                "the lab has been silent for {} s: it hangs",
                SILENCE_PATIENCE.as_secs()
            );
        }
        if self
            .deadline
            .is_some_and(|deadline| Instant::now() > deadline)
        {
            bail!("the command did not end in the time --timeout of the lab allows");
        }
        Ok(())
    }
}

/// The sending half of the control port.
type Control = Arc<Mutex<UnixStream>>;

fn say(control: &Control, message: &ToLab) {
    let mut port = control.lock().unwrap_or_else(PoisonError::into_inner);
    if let Ok(mut line) = serde_json::to_vec(message) {
        line.push(b'\n');
        // A lab that is gone is noticed by those who listen to it.
        let _ = port.write_all(&line);
    }
}

/// Makes the lab take an interrupt. One that does not read what it is told need
/// not be nudged: nothing is waited for here.
fn nudge(control: &Control) {
    let Ok(port) = control.try_lock() else { return };
    if let Ok(mut line) = serde_json::to_vec(&ToLab::Nudge) {
        line.push(b'\n');
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let _ = rustix::net::send(port.as_fd(), &line, flags);
    }
}

/// Starts one thread per port.
fn connect(ports: Vec<(Port, UnixStream)>, events: &Sender<Event>) -> Result<Control> {
    let mut streams = Vec::new();
    let mut control = None;
    for (port, stream) in ports {
        if port == Port::Control {
            control = Some(stream);
        } else {
            streams.push((port, stream));
        }
    }
    let control = control.context("no control port")?;
    let listener = control.try_clone().context("cannot copy a socket")?;
    // A lab that does not listen must not keep us from noticing.
    let limited = control.set_write_timeout(Some(SAY_PATIENCE));
    limited.context("cannot set a time limit")?;
    let control = Arc::new(Mutex::new(control));
    let sender = events.clone();
    thread::spawn(move || listen(listener, &sender));
    for (port, stream) in streams {
        let (events, control) = (events.clone(), Arc::clone(&control));
        thread::spawn(move || match port {
            Port::Stdin => send_stdin(stream),
            Port::Stdout => receive(stream, &mut io::stdout(), port, &control, &events),
            _ => receive(stream, &mut io::stderr(), port, &control, &events),
        });
    }
    Ok(control)
}

fn listen(port: UnixStream, events: &Sender<Event>) {
    let mut lost = String::from("its control port closed");
    for line in BufReader::new(port).lines() {
        let message = line.map_err(|error| error.to_string()).and_then(|line| {
            serde_json::from_str(&line).map_err(|error| format!("{error}: {line}"))
        });
        match message {
            Ok(message) => {
                if events.send(Event::Said(message)).is_err() {
                    return;
                }
            }
            Err(error) => {
                lost = error;
                break;
            }
        }
    }
    // Nobody to tell means that the run is over.
    let _ = events.send(Event::ControlLost(lost));
}

/// Carries the command's output to ours. When our reader is gone, the
/// command's writer has to notice, as it would without a lab between them.
fn receive(
    mut port: UnixStream,
    sink: &mut dyn Write,
    stream: Port,
    control: &Control,
    events: &Sender<Event>,
) {
    let mut buffer = Vec::new();
    let mut open = true;
    let event = loop {
        match frame::receive(&mut port, &mut buffer) {
            Ok(false) => break Event::StreamEnded,
            Ok(true) if open => {
                if sink.write_all(&buffer).and_then(|()| sink.flush()).is_err() {
                    open = false;
                    say(control, &ToLab::Closed(stream));
                }
            }
            Ok(true) => {}
            Err(error) => break Event::StreamLost(error),
        }
    };
    // Nobody to tell means that the run is over.
    let _ = events.send(event);
}

/// Carries our input to the command until either ends. An input that cannot be
/// read is one that has ended.
fn send_stdin(mut port: UnixStream) {
    let mut buffer = vec![0; frame::LARGEST];
    loop {
        match rustix::io::read(rustix::stdio::stdin(), buffer.as_mut_slice()) {
            Ok(0) => break,
            Ok(count) => {
                if frame::send(&mut port, &buffer[..count]).is_err() {
                    return;
                }
            }
            Err(Errno::INTR) => {}
            // Somebody we share it with made it so.
            Err(Errno::AGAIN) => {
                let stdin = rustix::stdio::stdin();
                let mut events = [PollFd::new(&stdin, PollFlags::IN)];
                if poll(&mut events, None).is_err() {
                    break;
                }
            }
            Err(_) => break,
        }
    }
    // The lab may be gone by now.
    let _ = frame::end(&mut port);
}

fn watch_signals(events: Sender<Event>, control: Control) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGWINCH])
        .context("cannot take over the signals")?;
    thread::spawn(move || {
        for signal in signals.forever() {
            if signal == SIGWINCH {
                say(&control, &ToLab::Resized(terminal::size()));
            } else if events.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    });
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_end_comes_only_when_everything_has_arrived() {
        let mut progress = Progress::new(None);
        let events = [
            Event::Said(FromLab::Ready),
            Event::StreamEnded,
            Event::Said(FromLab::Ended(Ending::Exited(3))),
            Event::Said(FromLab::Finished),
        ];
        for event in events {
            assert!(progress.advance(event).unwrap().is_none());
        }
        let end = progress.advance(Event::StreamEnded).unwrap();
        assert!(matches!(end, Some(End::Command(Ending::Exited(3), _))));
    }

    #[test]
    fn a_lab_that_finishes_without_a_status_is_an_error() {
        let mut progress = Progress::new(None);
        progress.open_streams = 0;
        assert!(progress.advance(Event::Said(FromLab::Finished)).is_err());
    }

    #[test]
    fn a_lost_port_is_an_error_even_after_the_command_ended() {
        let mut progress = Progress::new(None);
        progress
            .advance(Event::Said(FromLab::Ended(Ending::Exited(0))))
            .unwrap();
        assert!(
            progress
                .advance(Event::ControlLost("gone".to_owned()))
                .is_err()
        );
    }
}
