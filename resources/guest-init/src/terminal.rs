//! A pseudo-terminal for a command that runs on the user's terminal.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::process::Command;

use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use crate::protocol::WindowSize;

/// Both sides of a pseudo-terminal.
#[derive(Debug)]
pub struct PseudoTerminal {
    /// The side of whoever plays the terminal.
    pub master: File,
    /// The side of the command.
    pub slave: OwnedFd,
}

impl PseudoTerminal {
    /// Opens a pseudo-terminal of that size.
    pub fn open(size: WindowSize) -> Result<Self, Errno> {
        let flags = OpenptFlags::RDWR
            .union(OpenptFlags::NOCTTY)
            .union(OpenptFlags::CLOEXEC);
        let master = rustix::pty::openpt(flags)?;
        rustix::pty::grantpt(&master)?;
        rustix::pty::unlockpt(&master)?;
        let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
        let terminal = Self {
            master: master.into(),
            slave,
        };
        set_size(&terminal.master, size)?;
        Ok(terminal)
    }
}

/// Gives the terminal another size; the command gets SIGWINCH.
pub fn set_size(master: &File, size: WindowSize) -> Result<(), Errno> {
    rustix::termios::tcsetwinsize(
        master,
        Winsize {
            ws_row: size.rows,
            ws_col: size.columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        },
    )
}

/// Makes the child that `command` starts the leader of a session of its own
/// with its standard input as the controlling terminal: without one, Ctrl-C
/// and job control do nothing.
#[allow(unsafe_code)]
pub fn lead_session(command: &mut Command) {
    use std::os::unix::process::CommandExt;

    let lead = || -> io::Result<()> {
        rustix::process::setsid()?;
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
        Ok(())
    };
    // SAFETY: between fork and exec only what is async-signal-safe may run.
    // The closure makes two system calls and takes no lock and no memory:
    // rustix enters the kernel directly, and an errno becomes an `io::Error`
    // without an allocation.
    unsafe { command.pre_exec(lead) };
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn the_command_has_a_controlling_terminal_of_the_given_size() {
        let size = WindowSize {
            rows: 12,
            columns: 34,
        };
        let terminal = PseudoTerminal::open(size).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "stty size </dev/tty"]);
        command.stdin(terminal.slave.try_clone().unwrap());
        command.stdout(terminal.slave);
        lead_session(&mut command);

        let mut child = command.spawn().unwrap();
        drop(command);
        let mut output = Vec::new();
        // EIO marks the end: nobody has the other side open any more.
        let _ = (&terminal.master).read_to_end(&mut output);

        assert!(child.wait().unwrap().success());
        assert_eq!(output, b"12 34\r\n");
    }
}
