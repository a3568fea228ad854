//! The command's standard streams, and the threads that carry them.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crate::account::Account;
use crate::relay;
use crate::session::Session;
use crate::terminal::{self, PseudoTerminal};

/// The init's ends of a command's streams.
#[derive(Debug)]
pub enum Streams {
    /// Three pipes, so that output and errors stay apart.
    Pipes {
        /// Feeds the command's standard input.
        input: File,
        /// Reads its standard output.
        output: File,
        /// Reads its standard error.
        error: File,
    },
    /// One pseudo-terminal for everything; this is its master.
    Terminal(File),
}

impl Streams {
    /// Gives `command` pipes, of `account`'s.
    pub fn on_pipes(command: &mut Command, account: &Account) -> io::Result<Self> {
        let (stdin, input) = io::pipe()?;
        let (output, stdout) = io::pipe()?;
        let (error, stderr) = io::pipe()?;
        account.own(&stdin);
        account.own(&stdout);
        account.own(&stderr);
        command.stdin(stdin).stdout(stdout).stderr(stderr);
        Ok(Self::Pipes {
            input: OwnedFd::from(input).into(),
            output: OwnedFd::from(output).into(),
            error: OwnedFd::from(error).into(),
        })
    }

    /// Runs `command` on `terminal`.
    pub fn on_terminal(command: &mut Command, terminal: PseudoTerminal) -> io::Result<Self> {
        command
            .stdin(Stdio::from(terminal.slave.try_clone()?))
            .stdout(Stdio::from(terminal.slave.try_clone()?))
            .stderr(Stdio::from(terminal.slave));
        terminal::lead_session(command);
        Ok(Self::Terminal(terminal.master))
    }

    /// Starts the threads. Returns those that deliver output: each ends when
    /// no process can write to its stream any more.
    ///
    /// A thread closes its end of the command's stream as soon as the host's
    /// end is gone, so that the command learns of it as it would on the host:
    /// end of file on its input, SIGPIPE on its output.
    #[must_use]
    pub fn relay(self, session: &Arc<Session>) -> Vec<JoinHandle<()>> {
        let on_session = |carry: fn(&Session, File), file: File| {
            let session = Arc::clone(session);
            thread::spawn(move || carry(&session, file))
        };
        match self {
            Self::Pipes {
                input,
                output,
                error,
            } => {
                on_session(
                    |session, input| {
                        relay::carry(&session.stdin, &input);
                    },
                    input,
                );
                vec![
                    on_session(
                        |session, file| {
                            relay::carry(&file, &session.stdout);
                        },
                        output,
                    ),
                    on_session(
                        |session, file| {
                            relay::carry(&file, &session.stderr);
                        },
                        error,
                    ),
                ]
            }
            Self::Terminal(master) => {
                if let (Ok(input), Ok(size)) = (master.try_clone(), master.try_clone()) {
                    on_session(
                        |session, input| {
                            relay::carry(&session.stdin, &input);
                        },
                        input,
                    );
                    on_session(follow_window_size, size);
                }
                vec![on_session(
                    |session, master| {
                        relay::carry(&master, &session.stdout);
                    },
                    master,
                )]
            }
        }
    }
}

/// Gives the pseudo-terminal the sizes that the host's terminal takes.
#[allow(clippy::needless_pass_by_value)]
fn follow_window_size(session: &Session, master: File) {
    while let Some(size) = session.next_window_size() {
        let _ = terminal::set_size(&master, size);
    }
}
