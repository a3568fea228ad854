//! Runs the plan's command, with pipes or on a terminal, and waits for it.

use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, bail};
use lab_init::{Ending, Plan, Port, TOOLS_PATH, Terminal, WindowSize, frame};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::ports::Ports;
use crate::relay;

/// The argument with which this program takes the terminal on its standard
/// input and becomes the command.
pub(crate) const ON_TERMINAL: &str = "--on-terminal";
/// End of file on a terminal in its usual mode, Ctrl-D.
const END_OF_FILE: &[u8] = &[4];

/// Runs the command to its end, with all of its output on the way to the host.
pub(crate) fn run(plan: &Plan, ports: &Ports) -> Result<Ending> {
    let Some((program, arguments)) = plan.argv.split_first() else {
        bail!("no command")
    };
    let mut relays = Vec::new();
    let pid = match &plan.terminal {
        Some(terminal) => {
            // Who the command is when it cannot be executed is only known to
            // the process that has the terminal; see `execute_on_terminal`.
            let mut command = Command::new(format!("{TOOLS_PATH}/init"));
            command.arg(ON_TERMINAL).args(&plan.argv);
            start_on_terminal(prepare(&mut command, plan), terminal, ports, &mut relays)
        }
        None => {
            let mut command = Command::new(program);
            command.args(arguments);
            start_with_pipes(prepare(&mut command, plan), ports, &mut relays)
        }
    };
    let ending = match pid {
        Ok(pid) => wait_for(pid)?,
        Err(error) => not_started(program, &error),
    };
    for stream in [Port::Stdout, Port::Stderr] {
        ports.output(stream)?.1.finish();
    }
    for relay in relays {
        if let Ok(Err(error)) = relay.join() {
            return Err(error).context("cannot carry the command's output to the host");
        }
    }
    Ok(ending)
}

type Relays = Vec<JoinHandle<io::Result<()>>>;

fn prepare<'a>(command: &'a mut Command, plan: &Plan) -> &'a mut Command {
    command
        .env_clear()
        .envs(plan.env.iter().map(|(name, value)| (name, value)));
    command.current_dir(&plan.cwd)
}

fn start_with_pipes(command: &mut Command, ports: &Ports, relays: &mut Relays) -> io::Result<Pid> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            // The host waits for the end of both streams whatever happens.
            relay_output(ports, Port::Stdout, None, relays)?;
            relay_output(ports, Port::Stderr, None, relays)?;
            return Err(error);
        }
    };
    relay_output(
        ports,
        Port::Stdout,
        child.stdout.take().map(OwnedFd::from),
        relays,
    )?;
    relay_output(
        ports,
        Port::Stderr,
        child.stderr.take().map(OwnedFd::from),
        relays,
    )?;
    if let Some(stdin) = child.stdin.take() {
        relay_input(ports, stdin.into(), &[])?;
    }
    Ok(Pid::from_child(&child))
}

fn start_on_terminal(
    command: &mut Command,
    terminal: &Terminal,
    ports: &Ports,
    relays: &mut Relays,
) -> io::Result<Pid> {
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    grantpt(&controller)?;
    unlockpt(&controller)?;
    resize(&controller, terminal.size)?;
    let name = ptsname(&controller, Vec::new())?;
    let name = name.to_str().map_err(|_| ErrorKind::InvalidData)?;
    let user = OpenOptions::new().read(true).write(true).open(name)?;
    command.stdin(user.try_clone()?).stdout(user.try_clone()?);
    if terminal.stderr {
        command.stderr(user);
    } else {
        command.stderr(Stdio::piped());
    }
    let mut child = command.spawn()?;
    // The command's ends: as long as we hold them the terminal has a user.
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    relay_output(
        ports,
        Port::Stderr,
        child.stderr.take().map(OwnedFd::from),
        relays,
    )?;
    relay_input(ports, controller.try_clone()?, END_OF_FILE)?;
    ports.set_terminal(controller.try_clone()?);
    relay_output(ports, Port::Stdout, Some(controller), relays)?;
    Ok(Pid::from_child(&child))
}

/// Carries `source` to the port of `stream`; without a source the stream ends
/// at once.
fn relay_output(
    ports: &Ports,
    stream: Port,
    source: Option<OwnedFd>,
    relays: &mut Relays,
) -> io::Result<()> {
    let (mut port, valve) = ports.output(stream)?;
    let Some(source) = source else {
        return frame::end(&mut port);
    };
    relays.push(thread::spawn(move || {
        relay::carry_out(source, port, &valve)
    }));
    Ok(())
}

/// Nobody waits for the input's end: a command may well end before it.
fn relay_input(ports: &Ports, sink: OwnedFd, at_end: &'static [u8]) -> io::Result<()> {
    let port = ports.stdin()?;
    thread::spawn(move || relay::carry_in(port, sink, at_end));
    Ok(())
}

/// Waits for `command`, and reaps everybody whose parent is gone, which is
/// what a first process is for.
fn wait_for(command: Pid) -> Result<Ending> {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == command => return Ok(ending(status)),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for the command"),
        }
    }
}

fn ending(status: WaitStatus) -> Ending {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Ending::Exited(code),
        (None, Some(signal)) => Ending::Signaled(signal),
        // wait() without options only reports these two.
        (None, None) => Ending::CannotExecute(format!("unexpected wait status {status:?}")),
    }
}

/// Tells a command that is not there from one that cannot be executed.
fn not_started(program: &OsStr, error: &io::Error) -> Ending {
    let message = format!("{}: {error}", program.display());
    if error.kind() == ErrorKind::NotFound {
        Ending::NotFound(message)
    } else {
        Ending::CannotExecute(message)
    }
}

/// Sets a terminal's window size.
pub(crate) fn resize(terminal: impl AsFd, size: WindowSize) -> io::Result<()> {
    let size = Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(tcsetwinsize(terminal, size)?)
}

/// Makes the terminal on standard input this session's own and becomes the
/// command. What `env` and `chroot` exit with when that fails: 127 not found,
/// 126 otherwise.
pub(crate) fn execute_on_terminal(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let taken =
        rustix::process::setsid().and_then(|_| rustix::process::ioctl_tiocsctty(std::io::stdin()));
    if let Err(error) = taken {
        eprintln!("lab: cannot take the terminal: {error}");
        return ExitCode::from(126);
    }
    let Some(program) = arguments.next() else {
        return ExitCode::from(127);
    };
    let error = Command::new(&program).args(arguments).exec();
    eprintln!("lab: {}: {error}", program.display());
    ExitCode::from(if error.kind() == ErrorKind::NotFound {
        127
    } else {
        126
    })
}
