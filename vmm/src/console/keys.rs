//! Who gets what comes in on standard input: the command's standard input,
//! the command's terminal, or the guest's serial console.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use rustix::pipe::PipeFlags;

use super::keyboard;
use super::terminal::{self, RawMode};
use crate::machine::ConsoleInput;
use crate::run::watch::Teller;

/// How long to wait before more is typed on a console that takes no more.
const CONSOLE_FULL_PAUSE: Duration = Duration::from_millis(10);

/// Space for keys that the guest has not read.
const TYPED_AHEAD: usize = 1 << 20;

/// Where standard input goes.
#[derive(Debug)]
pub(crate) enum Keys {
    /// To the command as it is; read only when the guest asks for it.
    Stream,
    /// From the terminal through this pipe to the command's terminal.
    Terminal {
        /// For the session.
        reader: File,
        /// For the thread that reads the keyboard.
        writer: File,
    },
    /// To the serial console.
    Console,
}

impl Keys {
    /// The way to a command, with a terminal of its own or without.
    pub(crate) fn to_command(on_terminal: bool) -> io::Result<Self> {
        if !on_terminal {
            return Ok(Self::Stream);
        }
        let flags = PipeFlags::CLOEXEC;
        let (reader, writer) = rustix::pipe::pipe_with(flags)?;
        // The writer alone must not block: the escape has to work whether or
        // not the guest reads.
        let flags = rustix::fs::fcntl_getfl(&writer)?;
        rustix::fs::fcntl_setfl(&writer, flags | rustix::fs::OFlags::NONBLOCK)?;
        // A larger pipe needs no privilege up to 1 MiB, and is not needed.
        let _ = rustix::pipe::fcntl_setpipe_size(&writer, TYPED_AHEAD);
        Ok(Self::Terminal {
            reader: reader.into(),
            writer: writer.into(),
        })
    }

    /// The file that the session reads the command's input from; `None` when
    /// there is nothing to read.
    pub(crate) fn session_input(&self) -> io::Result<Option<File>> {
        match self {
            Self::Terminal { reader, .. } => reader.try_clone().map(Some),
            // A background job that reads from the terminal is stopped, and
            // the guest with it.
            Self::Stream if is_terminal_of_others() => Ok(None),
            Self::Stream => stdin().map(Some),
            Self::Console => Ok(None),
        }
    }

    /// Puts the terminal into raw mode where its keys are for the guest.
    pub(crate) fn take_terminal(&self) -> rustix::io::Result<Option<RawMode>> {
        match self {
            Self::Stream => Ok(None),
            Self::Terminal { .. } => RawMode::enter().map(Some),
            Self::Console if terminal::input_is_ours() => RawMode::enter().map(Some),
            Self::Console => Ok(None),
        }
    }

    /// Starts the thread that carries the keys. It ends with the process: no
    /// read of a terminal can be called off.
    pub(crate) fn follow(self, console: ConsoleInput, teller: Teller) -> io::Result<()> {
        match self {
            Self::Stream => Ok(()),
            Self::Console if is_terminal_of_others() => Ok(()),
            Self::Terminal { writer, .. } => {
                let input = stdin()?;
                spawn(move || {
                    if keyboard::follow(input, |keys| keyboard::deliver(&writer, keys)) {
                        teller.quit();
                    }
                })
            }
            Self::Console if terminal::input_is_ours() => {
                let input = stdin()?;
                spawn(move || {
                    // Keys that a full console does not take are lost, as
                    // they are on any terminal.
                    let type_in = |keys: &[u8]| {
                        let _ = console.enqueue(keys);
                        true
                    };
                    if keyboard::follow(input, type_in) {
                        teller.quit();
                    }
                })
            }
            Self::Console => {
                let input = stdin()?;
                spawn(move || feed(input, |bytes| console.enqueue(bytes)))
            }
        }
    }
}

/// Types everything in `input` on a console that takes some bytes at a time.
fn feed(mut input: impl Read, enqueue: impl Fn(&[u8]) -> usize) {
    let mut buffer = [0; 4096];
    loop {
        let count = match input.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        let mut bytes = buffer.get(..count).unwrap_or_default();
        while !bytes.is_empty() {
            let taken = enqueue(bytes);
            bytes = bytes.get(taken..).unwrap_or_default();
            if taken == 0 {
                thread::sleep(CONSOLE_FULL_PAUSE);
            }
        }
    }
}

fn is_terminal_of_others() -> bool {
    rustix::termios::isatty(rustix::stdio::stdin()) && !terminal::input_is_ours()
}

fn stdin() -> io::Result<File> {
    let owned: OwnedFd = rustix::stdio::stdin().try_clone_to_owned()?;
    Ok(owned.into())
}

fn spawn(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new()
        .name("keyboard".into())
        .spawn(work)
        .map(drop)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn a_console_that_takes_little_at_a_time_gets_everything() {
        let typed = RefCell::new(Vec::new());
        let calls = RefCell::new(0);
        feed(&b"a long text"[..], |bytes| {
            *calls.borrow_mut() += 1;
            let taken = bytes.len().min(*calls.borrow() % 3);
            typed.borrow_mut().extend_from_slice(&bytes[..taken]);
            taken
        });
        assert_eq!(typed.into_inner(), b"a long text");
    }

    #[test]
    fn keys_that_nobody_reads_do_not_block_the_keyboard() {
        let Keys::Terminal { reader, writer } = Keys::to_command(true).unwrap() else {
            panic!("a terminal was asked for");
        };
        let flood = vec![b'x'; 2 * TYPED_AHEAD];
        assert!(keyboard::deliver(&writer, &flood));
        drop(reader);
        assert!(!keyboard::deliver(&writer, b"x"));
    }
}
