//! Who gets what comes in on standard input: the command's standard input,
//! the command's terminal, or the guest's serial console.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::pipe::PipeFlags;

use super::terminal::{self, RawMode};

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
        /// For whoever reads the keyboard.
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
}

/// Whether standard input is a terminal in whose background this process is.
pub(crate) fn is_terminal_of_others() -> bool {
    rustix::termios::isatty(rustix::stdio::stdin()) && !terminal::input_is_ours()
}

/// Standard input, as a file of our own.
pub(crate) fn stdin() -> io::Result<File> {
    let owned: OwnedFd = rustix::stdio::stdin().try_clone_to_owned()?;
    Ok(owned.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::console::keyboard;

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
