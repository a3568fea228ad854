//! Runs the user's command with its streams on the session.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process_group};

use crate::account::Account;
use crate::environment;
use crate::protocol::{Status, Text};
use crate::session::Session;
use crate::streams::Streams;
use crate::terminal::PseudoTerminal;

/// A command under way.
#[derive(Debug)]
pub struct Running {
    pid: Pid,
    outputs: Vec<JoinHandle<()>>,
}

/// Starts the command of the session's plan. Its working directory is this
/// process's one.
///
/// # Errors
///
/// The status to report: the command does not exist, cannot be executed, or
/// its streams cannot be set up.
pub fn start(session: &Arc<Session>) -> Result<Running, Status> {
    let plan = &session.plan;
    let user = plan.user.as_ref().map(Text::as_os_str);
    let account = Account::find(Path::new("/etc"), user);
    let account = account.map_err(|error| Status::SetupFailed {
        message: error.to_string(),
    })?;
    let (program, arguments) = match plan.command.split_first() {
        Some((program, arguments)) => (program.as_os_str(), arguments),
        None => (account.shell_or_default(), &[][..]),
    };
    let mut command = Command::new(program);
    command.args(arguments.iter().map(Text::as_os_str));
    command.env_clear();
    command.envs(account.environment());
    // The user's come last and win.
    command.envs(environment::variables(&plan.environment));

    let terminal = session.plan.terminal.and_then(|size| {
        // A kernel without pseudo-terminals still runs the command.
        PseudoTerminal::open(size)
            .inspect_err(|error| eprintln!("guest-init: cannot open a pseudo-terminal: {error}"))
            .ok()
    });
    let streams = match terminal {
        Some(terminal) => {
            account.own(&terminal.slave);
            Streams::on_terminal(&mut command, terminal)
        }
        // On a terminal it leads a session, and thereby a group as well.
        None => Streams::on_pipes(command.process_group(0), &account),
    };
    let streams = streams.map_err(|error| Status::SetupFailed {
        message: format!("cannot set up the command's streams: {error}"),
    })?;

    account.take_on(&mut command);
    let child = command
        .spawn()
        .map_err(|error| not_started(program, arguments.is_empty(), &error))?;
    // The child has its own copies now; ours would keep the streams open
    // after its end.
    drop(command);
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    Ok(Running {
        pid: pid.ok_or_else(|| Status::SetupFailed {
            message: "the command has no process ID".into(),
        })?,
        outputs: streams.relay(session),
    })
}

impl Running {
    /// Waits until the command ended; reaps whatever else ends meanwhile, as
    /// PID 1 has to.
    #[must_use]
    pub fn wait(&self) -> Status {
        loop {
            match rustix::process::wait(WaitOptions::empty()) {
                Ok(Some((pid, status))) if pid == self.pid => return ended(status),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    return Status::SetupFailed {
                        message: format!("cannot wait for the command: {error}"),
                    };
                }
            }
        }
    }

    /// Passes the host's signals on to the command and its children: a shell
    /// runs its trap when what it waits for has ended, too.
    pub fn pass_signals(&self, session: &Arc<Session>) {
        let (group, session) = (self.pid, Arc::clone(session));
        std::thread::spawn(move || {
            while let Some(signal) = session.next_signal() {
                let _ = kill_process_group(group, signal);
                // What is stopped would not hear of it.
                let _ = kill_process_group(group, Signal::CONT);
            }
        });
    }

    /// Waits until the host has taken the last byte of the output. Call it
    /// when no process is left that could write more.
    pub fn deliver_output(self) {
        for output in self.outputs {
            let _ = output.join();
        }
    }

    /// The command's process ID.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }
}

/// What `wait(2)` says about a process that ended.
fn ended(status: WaitStatus) -> Status {
    let number = |value: Option<i32>| value.and_then(|value| u8::try_from(value).ok());
    if let Some(code) = number(status.exit_status()) {
        Status::Exited { code }
    } else if let Some(signal) = number(status.terminating_signal()) {
        Status::Signaled { signal }
    } else {
        Status::SetupFailed {
            message: format!("unknown wait status {:#x}", status.as_raw()),
        }
    }
}

/// The status for a command that `execve(2)` refused with `error`. A line for a shell
/// is `alone`.
fn not_started(program: &OsStr, alone: bool, error: &io::Error) -> Status {
    let name = program.display();
    let exists = program.as_encoded_bytes().contains(&b'/') && Path::new(program).exists();
    match Errno::from_io_error(error) {
        Some(Errno::NOENT) if exists => Status::CannotExecute {
            message: format!("cannot execute {name}: its interpreter or loader is missing"),
        },
        Some(Errno::NOENT | Errno::NOTDIR) => Status::NotFound {
            message: if alone && program.as_encoded_bytes().contains(&b' ') {
                format!("command not found: {name}: a line for a shell is written sh -c '{name}'")
            } else {
                format!("command not found: {name}")
            },
        },
        // The channel that a child tells its parent by why it cannot be executed.
        Some(Errno::NOSYS) => Status::CannotExecute {
            message: format!(
                "cannot execute {name}: the kernel is built without CONFIG_UNIX or CONFIG_MULTIUSER \
                 (vmm kconfig has what is needed); a COMMAND with a slash needs neither"
            ),
        },
        _ => Status::CannotExecute {
            message: format!("cannot execute {name}: {error}"),
        },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
