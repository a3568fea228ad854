//! The user's terminal: its mode, its size, and the certainty that it is left
//! as it was found.

use std::os::fd::AsFd;
use std::sync::{Mutex, Once, PoisonError};

use guest_init::protocol::WindowSize;
use rustix::termios::{OptionalActions, Termios};

/// The mode to go back to, while the terminal is in raw mode. Global, because
/// the paths that must restore it are: panics, and a forced exit.
static SAVED: Mutex<Option<Termios>> = Mutex::new(None);

/// Whether standard input and output are a terminal that belongs to this
/// process at the moment: a background job must neither read from it nor
/// change its mode.
#[must_use]
pub(crate) fn is_interactive() -> bool {
    rustix::termios::isatty(rustix::stdio::stdout()) && input_is_ours()
}

/// Whether standard input is a terminal in whose foreground this process is.
#[must_use]
pub(crate) fn input_is_ours() -> bool {
    rustix::termios::isatty(rustix::stdio::stdin())
        && rustix::termios::tcgetpgrp(rustix::stdio::stdin())
            .is_ok_and(|group| group == rustix::process::getpgrp())
}

/// The size of the terminal on standard output.
#[must_use]
pub(crate) fn size() -> Option<WindowSize> {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stdout()).ok()?;
    Some(WindowSize {
        rows: size.ws_row,
        columns: size.ws_col,
    })
}

/// A terminal in raw mode: every key goes to the guest, Ctrl-C too. Dropping
/// it restores the mode; so do [`restore`] and a panic.
#[derive(Debug)]
pub(crate) struct RawMode(());

impl RawMode {
    /// Puts the terminal on standard input into raw mode.
    pub(crate) fn enter() -> rustix::io::Result<Self> {
        Self::enter_on(rustix::stdio::stdin())
    }

    fn enter_on(terminal: impl AsFd) -> rustix::io::Result<Self> {
        restore_on_panic();
        let mode = rustix::termios::tcgetattr(&terminal)?;
        let mut raw = mode.clone();
        raw.make_raw();
        *SAVED.lock().unwrap_or_else(PoisonError::into_inner) = Some(mode);
        rustix::termios::tcsetattr(&terminal, OptionalActions::Now, &raw)?;
        Ok(Self(()))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

/// Restores the terminal's mode if it was changed. Any number of times, from
/// any thread.
pub(crate) fn restore() {
    restore_on(rustix::stdio::stdin());
}

fn restore_on(terminal: impl AsFd) {
    let saved = SAVED.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(mode) = saved {
        // Not `Drain`: a terminal that was stopped would never drain.
        let _ = rustix::termios::tcsetattr(terminal, OptionalActions::Now, &mode);
    }
}

/// A panic aborts the process without running any destructor.
fn restore_on_panic() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            report(panic);
        }));
    });
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use guest_init::terminal::PseudoTerminal;
    use rustix::termios::LocalModes;

    #[test]
    fn raw_mode_is_left_as_it_was_found() {
        let size = WindowSize::default();
        let slave = PseudoTerminal::open(size).unwrap();
        let local = || {
            rustix::termios::tcgetattr(&slave.slave)
                .unwrap()
                .local_modes
        };
        let before = local();
        assert!(before.contains(LocalModes::ICANON));

        let raw = RawMode::enter_on(&slave.slave).unwrap();
        assert!(!local().contains(LocalModes::ICANON));
        std::mem::forget(raw);
        restore_on(&slave.slave);
        assert_eq!(local(), before);

        // Once restored, it is not touched again.
        let mut mode = rustix::termios::tcgetattr(&slave.slave).unwrap();
        mode.local_modes.remove(LocalModes::ECHO);
        rustix::termios::tcsetattr(&slave.slave, OptionalActions::Now, &mode).unwrap();
        restore_on(&slave.slave);
        assert!(!local().contains(LocalModes::ECHO));
    }
}
