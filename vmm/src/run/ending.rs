//! How a run ended, from all that is known.

use super::watch::Cause;
use crate::console::log::ConsoleLog;
use crate::machine::Ending;
use crate::outcome::{Outcome, line};
use crate::prepare::Boot;
use vmm_session::Session;

/// The outcome of a run whose machine is gone.
pub(super) fn outcome(
    boot: Boot,
    ending: Ending,
    cause: Option<Cause>,
    console: &ConsoleLog,
    session: Option<&Session>,
) -> Outcome {
    if let Some(timeout @ Cause::Timeout(_)) = cause {
        // However it ended while it was asked where it hangs.
        return timeout.outcome();
    }
    let status = session.and_then(Session::status);
    if let (Some(_), Some(Cause::Told(signal))) = (&status, cause) {
        return Outcome::Interrupted(signal, status);
    }
    if let Some(status) = status {
        return status.into();
    }
    if let (Ending::Stopped, Some(cause)) = (&ending, cause) {
        return cause.outcome();
    }
    if let Some(message) = console.panic() {
        return Outcome::Panic(message);
    }
    if let (Ending::PowerOff | Ending::Reset | Ending::Halted, Some(Cause::Told(signal))) =
        (&ending, cause)
    {
        // The command has ended the machine with itself.
        return Outcome::Interrupted(signal, None);
    }
    match (boot, ending) {
        (_, Ending::Crash(text)) => Outcome::Died(line::of_text(&text)),
        (_, Ending::Killed) => Outcome::Quit,
        (_, Ending::Stopped) => Outcome::Died("it was stopped".into()),
        (Boot::Command | Boot::Unit, Ending::PowerOff) => {
            Outcome::Died("it switched itself off before the command ended".into())
        }
        (Boot::Command | Boot::Unit, Ending::Reset) => {
            Outcome::Died("it restarted before the command ended".into())
        }
        (Boot::Command | Boot::Unit, Ending::Halted) => {
            Outcome::Died("it halted before the command ended".into())
        }
        // By what the kernel said, not because it could not go on.
        (_, Ending::Halted) if console.halted() => Outcome::Halted,
        (_, Ending::Halted) => {
            Outcome::Died("every processor halted with its interrupts off".into())
        }
        (_, Ending::PowerOff) => Outcome::PoweredOff,
        (_, Ending::Reset) => Outcome::Restarted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::sessions::session_that_reported;
    use guest_init::protocol::Status;
    use std::io::Write;
    use std::time::Duration;

    #[allow(clippy::unwrap_used)]
    fn console(text: &str) -> ConsoleLog {
        let console = ConsoleLog::new(None, None);
        console.writer().write_all(text.as_bytes()).unwrap();
        console
    }

    #[test]
    fn a_guest_that_ends_without_a_report_died_if_it_had_a_command() {
        let quiet = console("");
        for boot in [Boot::Command, Boot::Unit] {
            for ending in [Ending::PowerOff, Ending::Reset, Ending::Halted] {
                let outcome = outcome(boot, ending, None, &quiet, None);
                assert_eq!(outcome.name(), "died");
            }
        }
    }

    #[test]
    fn a_guest_without_a_command_ends_as_it_likes() {
        let quiet = console("");
        for boot in [Boot::System, Boot::Initramfs] {
            let off = outcome(boot, Ending::PowerOff, None, &quiet, None);
            assert_eq!(off, Outcome::PoweredOff);
            let reset = outcome(boot, Ending::Reset, None, &quiet, None);
            assert_eq!(reset, Outcome::Restarted);
            let said = console("[ 1.0] reboot: System halted\n");
            let halted = outcome(boot, Ending::Halted, None, &said, None);
            assert_eq!(halted, Outcome::Halted);
            let stuck = outcome(boot, Ending::Halted, None, &quiet, None);
            assert_eq!(stuck.name(), "died");
        }
    }

    #[test]
    fn a_restart_after_a_panic_is_a_panic() {
        let loud = console("Kernel panic - not syncing: oh no\n");
        let outcome = outcome(Boot::Initramfs, Ending::Reset, None, &loud, None);
        assert_eq!(outcome, Outcome::Panic("oh no".into()));
    }

    #[test]
    fn what_stopped_the_machine_counts_only_if_it_did() {
        let quiet = console("");
        let cause = Some(Cause::Signal(15));
        let stopped = outcome(Boot::Command, Ending::Stopped, cause, &quiet, None);
        assert_eq!(stopped, Outcome::Interrupted(15, None));
        let ended = outcome(Boot::Initramfs, Ending::PowerOff, cause, &quiet, None);
        assert_eq!(ended, Outcome::PoweredOff);
        let told = Some(Cause::Told(15));
        let ended = outcome(Boot::Command, Ending::PowerOff, told, &quiet, None);
        assert_eq!(ended, Outcome::Interrupted(15, None));
    }

    #[test]
    fn a_command_that_was_told_to_end_was_interrupted_however_it_ended() {
        let quiet = console("");
        let session = session_that_reported(3);
        let end = |cause| {
            let ending = Ending::PowerOff;
            outcome(Boot::Command, ending, cause, &quiet, Some(&session))
        };
        let status = Some(Status::Exited { code: 3 });
        assert_eq!(end(Some(Cause::Told(15))), Outcome::Interrupted(15, status));
        // It had ended when the signal came.
        assert_eq!(end(Some(Cause::Signal(15))), Outcome::Exited(3));
        assert_eq!(end(None), Outcome::Exited(3));
    }

    #[test]
    fn after_the_time_limit_nothing_else_is_the_end() {
        let session = session_that_reported(0);
        let cause = Some(Cause::Timeout(Duration::from_secs(1)));
        for ending in [Ending::PowerOff, Ending::Reset, Ending::Stopped] {
            let quiet = console("");
            let outcome = outcome(Boot::Command, ending, cause, &quiet, Some(&session));
            assert_eq!(outcome.code(), 124);
        }
    }

    #[test]
    fn what_gdb_kills_ends_as_what_the_user_ends() {
        for boot in [Boot::Command, Boot::System, Boot::Initramfs] {
            let outcome = outcome(boot, Ending::Killed, None, &console(""), None);
            assert_eq!(outcome, Outcome::Quit);
        }
    }

    #[test]
    fn a_crash_is_a_death_with_its_reason() {
        let crash = Ending::Crash("triple fault\nrip".into());
        let outcome = outcome(Boot::System, crash, None, &console(""), None);
        assert_eq!(outcome, Outcome::Died("triple fault rip".into()));
    }
}
