//! The end of a process whose machine does not end.

use std::sync::mpsc::channel;
use std::time::Duration;

use crate::console::terminal;
use crate::outcome::{Outcome, line};

/// How long it may take to write the report and to say that the machine did not
/// stop. On a busy host the report of the run must not be what is missing.
const RECORD_TIMEOUT: Duration = Duration::from_secs(10);

/// Ends the process although the machine does not end, with `outcome` if there is a
/// reason for it to end. `record` writes down how the run ended.
pub(super) fn abandon(
    outcome: Option<Outcome>,
    record: impl FnOnce(&Outcome) + Send + 'static,
) -> ! {
    terminal::restore();
    let outcome = outcome.unwrap_or_else(|| Outcome::VmmError("the machine did not stop".into()));
    let code = outcome.code();
    // What keeps the machine may keep this thread, too: a standard error that
    // nobody reads.
    within(RECORD_TIMEOUT, move || {
        record(&outcome);
        let message = outcome.message().unwrap_or_else(|| outcome.name().into());
        line::tell(&format!(
            "vmm: error: {message}; the machine did not stop and was left behind"
        ));
    });
    std::process::exit(i32::from(code));
}

/// Does `work`, but does not wait for its end longer than `limit`.
fn within(limit: Duration, work: impl FnOnce() + Send + 'static) {
    let (sender, done) = channel();
    let thread = std::thread::Builder::new()
        .name("abandon".into())
        .spawn(move || {
            work();
            let _ = sender.send(());
        });
    if thread.is_ok() {
        let _ = done.recv_timeout(limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_message_that_nobody_takes_is_not_waited_for() {
        let (_open, never) = channel::<()>();
        let started = Instant::now();
        within(Duration::from_millis(5), move || {
            let _ = never.recv();
        });
        assert!(started.elapsed() >= Duration::from_millis(5));

        let (sender, said) = channel();
        within(Duration::from_secs(60), move || {
            let _ = sender.send("said");
        });
        assert_eq!(said.try_recv(), Ok("said"));
    }
}
