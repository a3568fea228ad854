//! The init's end of the session.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, UnmountFlags};
use rustix::process::Signal;

use crate::mounts;
use crate::protocol::{self, MAX_STATUS, Mark, Plan, SESSION_TAG, Status, WallTime, WindowSize};

/// How long the device may take to appear after its driver is there.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its file system cannot be mounted.
    #[error("cannot mount the session")]
    Mount(#[source] mounts::Error),
    /// One of its files cannot be opened.
    #[error("cannot open the session's file `{0}`")]
    Open(&'static str, #[source] io::Error),
    /// The plan cannot be read.
    #[error("cannot read the session's plan")]
    Read(#[source] io::Error),
    /// The plan makes no sense.
    #[error("cannot understand the session's plan: is the init from another version of vmm?")]
    Plan(#[source] serde_json::Error),
}

/// The open files of the session.
#[derive(Debug)]
pub struct Session {
    /// What to do.
    pub plan: Plan,
    /// Reads the command's standard input.
    pub stdin: File,
    /// Takes the command's standard output.
    pub stdout: File,
    /// Takes the command's standard error.
    pub stderr: File,
    window_size: File,
    signal: File,
    status: File,
    mark: File,
    tainted: File,
    clock: File,
}

impl Session {
    /// Mounts the session at `directory`, which is made for the time, opens its files
    /// and reads the plan.
    ///
    /// The mount is gone when this returns: the open files keep working, and
    /// the command finds no way to them.
    pub fn attach(directory: &Path) -> Result<Self, Error> {
        mount(directory).map_err(Error::Mount)?;
        let session = Self::open(directory);
        let _ = rustix::mount::unmount(directory, UnmountFlags::DETACH);
        let _ = std::fs::remove_dir(directory);
        session
    }

    /// Opens the files of a session that is mounted at `directory`.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        let reader = |name: &'static str| {
            File::open(directory.join(name)).map_err(|error| Error::Open(name, error))
        };
        let writer = |name: &'static str| {
            OpenOptions::new()
                .write(true)
                .open(directory.join(name))
                .map_err(|error| Error::Open(name, error))
        };
        let mut json = Vec::new();
        reader(protocol::PLAN)?
            .read_to_end(&mut json)
            .map_err(Error::Read)?;
        Ok(Self {
            plan: serde_json::from_slice(&json).map_err(Error::Plan)?,
            stdin: reader(protocol::STDIN)?,
            stdout: writer(protocol::STDOUT)?,
            stderr: writer(protocol::STDERR)?,
            window_size: reader(protocol::WINDOW_SIZE)?,
            signal: reader(protocol::SIGNAL)?,
            status: writer(protocol::STATUS)?,
            mark: writer(protocol::MARK)?,
            tainted: writer(protocol::TAINTED)?,
            clock: reader(protocol::CLOCK)?,
        })
    }

    /// Tells the VMM that `mark` is now.
    pub fn mark(&self, mark: Mark) {
        // A timestamp that is missing is no reason to end the command.
        let _ = (&self.mark).write(mark.name().as_bytes());
    }

    /// Tells the VMM what the kernel says of itself in the file `tainted`. One
    /// without such a file says nothing.
    pub fn pass_on_taint(&self, tainted: &Path) {
        if let Ok(text) = std::fs::read(tainted) {
            let _ = (&self.tainted).write(&text);
        }
    }

    /// Tells the VMM how the command ended.
    pub fn report(&self, status: &Status) -> io::Result<()> {
        let mut json = serde_json::to_vec(status)?;
        if json.len() > MAX_STATUS {
            json = serde_json::to_vec(&shortened(status))?;
        }
        (&self.status).write_all(&json)
    }

    /// Waits until the host's terminal has another size. `None` when it never
    /// will.
    #[must_use]
    pub fn next_window_size(&self) -> Option<WindowSize> {
        let mut json = [0; 128];
        serde_json::from_slice(message(&self.window_size, &mut json)?).ok()
    }

    /// Waits until the command is to get a signal. `None` when it never will.
    #[must_use]
    pub fn next_signal(&self) -> Option<Signal> {
        let mut text = [0; 16];
        let number = std::str::from_utf8(message(&self.signal, &mut text)?).ok()?;
        Signal::from_named_raw(number.parse().ok()?)
    }

    /// What time it is on the host. `None` when that cannot be understood.
    #[must_use]
    pub fn host_time(&self) -> Option<WallTime> {
        let mut text = [0; 64];
        WallTime::from_text(message(&self.clock, &mut text)?)
    }
}

/// What one read of `file` says; every read is a message.
fn message<'b>(mut file: &File, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    loop {
        match file.read(buffer) {
            Ok(count) => return buffer.get(..count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

/// The same status with a message that fits.
fn shortened(status: &Status) -> Status {
    let short = |message: &str| message.chars().take(1000).collect::<String>();
    match status {
        Status::CannotExecute { message } => Status::CannotExecute {
            message: short(message),
        },
        Status::NotFound { message } => Status::NotFound {
            message: short(message),
        },
        Status::SetupFailed { message } => Status::SetupFailed {
            message: short(message),
        },
        other => other.clone(),
    }
}

fn mount(directory: &Path) -> Result<(), mounts::Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match mounts::mount_virtiofs(SESSION_TAG, directory, MountFlags::empty()) {
            // No device with this tag, yet.
            Err(mounts::Error::Mount { .. }) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            result => return result,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;

    fn session(directory: &Path) -> Session {
        let plan = Plan {
            command: vec!["true".into()],
            environment: Vec::new(),
            working_directory: None,
            hostname: "vm".into(),
            init: None,
            user: None,
            root: None,
            modules: None,
            shares: Vec::new(),
            terminal: None,
            interactive: false,
            power_off: true,
        };
        fs::write(
            directory.join(protocol::PLAN),
            serde_json::to_vec(&plan).unwrap(),
        )
        .unwrap();
        for name in [
            protocol::STDIN,
            protocol::STDOUT,
            protocol::STDERR,
            protocol::WINDOW_SIZE,
            protocol::SIGNAL,
            protocol::STATUS,
            protocol::MARK,
            protocol::TAINTED,
            protocol::CLOCK,
        ] {
            fs::write(directory.join(name), "").unwrap();
        }
        Session::open(directory).unwrap()
    }

    #[test]
    fn a_report_that_is_too_long_is_shortened() {
        let directory = tempfile::tempdir().unwrap();
        let session = session(directory.path());

        session
            .report(&Status::NotFound {
                message: "é".repeat(20_000),
            })
            .unwrap();

        let json = fs::read(directory.path().join(protocol::STATUS)).unwrap();
        assert!(json.len() <= MAX_STATUS);
        let status: Status = serde_json::from_slice(&json).unwrap();
        assert_eq!(
            status,
            Status::NotFound {
                message: "é".repeat(1000)
            }
        );
    }

    #[test]
    fn marks_are_written_by_name() {
        let directory = tempfile::tempdir().unwrap();
        session(directory.path()).mark(Mark::CommandStarted);
        let text = fs::read(directory.path().join(protocol::MARK)).unwrap();
        assert_eq!(text, b"command-started");
    }

    #[test]
    fn what_taints_the_kernel_is_passed_on() {
        let directory = tempfile::tempdir().unwrap();
        let session = session(directory.path());
        let said = || fs::read(directory.path().join(protocol::TAINTED)).unwrap();
        session.pass_on_taint(&directory.path().join("none"));
        assert_eq!(said(), b"");
        let tainted = directory.path().join("of-the-kernel");
        fs::write(&tainted, "4608\n").unwrap();
        session.pass_on_taint(&tainted);
        assert_eq!(said(), b"4608\n");
    }

    #[test]
    fn the_hosts_time_is_read_or_not_known() {
        let directory = tempfile::tempdir().unwrap();
        let session = session(directory.path());
        assert_eq!(session.host_time(), None);
        let clock = directory.path().join(protocol::CLOCK);
        fs::write(&clock, "1700000000.000000042").unwrap();
        let time = WallTime {
            seconds: 1_700_000_000,
            nanoseconds: 42,
        };
        assert_eq!(session.host_time(), Some(time));
    }

    #[test]
    fn a_signal_is_read_by_its_number() {
        let directory = tempfile::tempdir().unwrap();
        let session = session(directory.path());
        assert_eq!(session.next_signal(), None);
        let file = directory.path().join(protocol::SIGNAL);
        fs::write(&file, "15").unwrap();
        assert_eq!(session.next_signal(), Some(Signal::TERM));
        fs::write(&file, "1500").unwrap();
        assert_eq!(session.next_signal(), None);
    }

    #[test]
    fn a_plan_that_is_no_plan_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(protocol::PLAN), "{}").unwrap();
        assert!(matches!(
            Session::open(directory.path()),
            Err(Error::Plan(_))
        ));
    }
}
