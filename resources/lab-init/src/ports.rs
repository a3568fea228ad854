//! The virtio-serial ports to the host, and the messages on the control port.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lab_init::{FromLab, Port, ToLab};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::relay::Valve;

/// How long ports may take to appear and to be connected.
const PATIENCE: Duration = Duration::from_secs(30);

/// All four ports, connected.
pub(crate) struct Ports {
    control: Control,
    stdin: File,
    stdout: (File, Valve),
    stderr: (File, Valve),
    terminal: Arc<Mutex<Option<OwnedFd>>>,
}

/// The writing half of the control port.
#[derive(Clone)]
pub(crate) struct Control(Arc<Mutex<File>>);

impl Control {
    /// Sends one message.
    pub(crate) fn say(&self, message: &FromLab) -> Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        let mut port = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        port.write_all(&line).context("cannot write to the host")
    }
}

impl Ports {
    /// Waits for the ports to appear and for QEMU to connect them.
    pub(crate) fn open() -> Result<Self> {
        let deadline = Instant::now() + PATIENCE;
        Ok(Self {
            control: Control(Arc::new(Mutex::new(open(Port::Control, deadline)?))),
            stdin: open(Port::Stdin, deadline)?,
            stdout: (open(Port::Stdout, deadline)?, Valve::new()?),
            stderr: (open(Port::Stderr, deadline)?, Valve::new()?),
            terminal: Arc::default(),
        })
    }

    pub(crate) fn control(&self) -> Control {
        self.control.clone()
    }

    pub(crate) fn say(&self, message: &FromLab) -> Result<()> {
        self.control.say(message)
    }

    pub(crate) fn stdin(&self) -> io::Result<File> {
        self.stdin.try_clone()
    }

    /// The port of `stream` and the valve that the host closes when its own
    /// reader is gone.
    pub(crate) fn output(&self, stream: Port) -> io::Result<(File, Valve)> {
        let (port, valve) = if stream == Port::Stderr {
            &self.stderr
        } else {
            &self.stdout
        };
        Ok((port.try_clone()?, valve.clone()))
    }

    /// Says which terminal a new window size is for.
    pub(crate) fn set_terminal(&self, controller: OwnedFd) {
        *self.terminal.lock().unwrap_or_else(PoisonError::into_inner) = Some(controller);
    }

    /// Starts to follow the host's messages. When the host is gone there is
    /// nobody left to work for, and the lab stops.
    pub(crate) fn listen(&self) {
        let port = self
            .control
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .try_clone();
        let terminal = Arc::clone(&self.terminal);
        let (stdout, stderr) = (self.stdout.1.clone(), self.stderr.1.clone());
        thread::spawn(move || {
            let Ok(port) = port else { crate::stop() };
            for line in BufReader::new(port).lines() {
                let Ok(line) = line else { break };
                match serde_json::from_str(&line) {
                    Ok(ToLab::Closed(Port::Stderr)) => stderr.close(),
                    Ok(ToLab::Closed(_)) => stdout.close(),
                    Ok(ToLab::Resized(size)) => {
                        let terminal = terminal.lock().unwrap_or_else(PoisonError::into_inner);
                        if let Some(terminal) = terminal.as_ref() {
                            // A size that cannot be set is not worth a word.
                            let _ = crate::command::resize(terminal, size);
                        }
                    }
                    Ok(ToLab::Nudge) => {}
                    Err(error) => eprintln!("lab: the host sent {line:?}: {error}"),
                }
            }
            eprintln!("lab: the host is gone");
            crate::stop()
        });
    }
}

fn open(port: Port, deadline: Instant) -> Result<File> {
    loop {
        if let Some(file) = open_now(port)? {
            // QEMU connects a port with a message that may come after the
            // port; until then a read would say that the stream has ended.
            if is_connected(&file)? {
                return Ok(file);
            }
        }
        if Instant::now() > deadline {
            bail!("the port {} did not appear", port.name());
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn open_now(port: Port) -> Result<Option<File>> {
    let Ok(ports) = fs::read_dir("/sys/class/virtio-ports") else {
        return Ok(None);
    };
    for entry in ports {
        let entry = entry?;
        // The name comes a moment after the port.
        let Ok(name) = fs::read_to_string(entry.path().join("name")) else {
            continue;
        };
        if name.trim_end() == port.name() {
            let path = std::path::Path::new("/dev").join(entry.file_name());
            let file = OpenOptions::new().read(true).write(true).open(&path);
            return Ok(Some(
                file.with_context(|| format!("cannot open {}", path.display()))?,
            ));
        }
    }
    Ok(None)
}

fn is_connected(port: &File) -> Result<bool> {
    let mut events = [PollFd::new(port, PollFlags::OUT)];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut events, Some(&at_once))?;
    Ok(!events[0].revents().contains(PollFlags::HUP))
}
