//! The host's terminal in raw mode, and back.

use std::io::{IsTerminal, stderr, stdin, stdout};

use lab_init::{Terminal, WindowSize};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Raw mode as long as this lives.
#[derive(Debug)]
pub(super) struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Sets the terminal on standard input to raw mode.
    pub(super) fn enter() -> rustix::io::Result<Self> {
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Flush, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // The terminal may be gone; then there is nothing to restore.
        let _ = tcsetattr(stdin(), OptionalActions::Drain, &self.before);
    }
}

/// The terminal the command is to get: one like ours, if input and output are
/// one.
pub(super) fn wanted() -> Option<Terminal> {
    (stdin().is_terminal() && stdout().is_terminal()).then(|| Terminal {
        size: size(),
        stderr: stderr().is_terminal(),
    })
}

/// The window size of the terminal on standard input.
pub(super) fn size() -> WindowSize {
    match tcgetwinsize(stdin()) {
        Ok(size) if size.ws_row > 0 => WindowSize {
            rows: size.ws_row,
            columns: size.ws_col,
        },
        _ => WindowSize {
            rows: 24,
            columns: 80,
        },
    }
}
