//! What is known of a guest whose time was up, and what helps.

use std::time::Duration;

use crate::console::traces::Place;

/// Of the time that a guest has, the part in which it has to have done something to
/// count as at work, and the least that this is.
const LATELY: u32 = 10;
const LEAST_LATELY: Duration = Duration::from_secs(2);

/// A guest whose time was up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// What its kernel said when it panicked.
    pub(crate) panic: Option<String>,
    /// There was to be a COMMAND, which had not started.
    pub(crate) booting: bool,
    /// For how long it had said nothing and asked for no file; `None` if it never did.
    pub(crate) quiet: Option<Duration>,
    /// Where it was.
    pub(crate) place: Place,
}

impl Standing {
    /// What follows "the guest did not end within `limit`".
    #[must_use]
    pub(crate) fn advice(&self, limit: Duration) -> String {
        if let Some(message) = &self.panic {
            return format!("its kernel had panicked, and went on after that: {message}");
        }
        let lately = (limit / LATELY).max(LEAST_LATELY);
        match self.quiet.filter(|quiet| *quiet < lately) {
            Some(quiet) => self.at_work(quiet),
            None => self.hangs(),
        }
    }

    fn at_work(&self, quiet: Duration) -> String {
        let doing = if self.booting { "booting" } else { "at work" };
        format!(
            "it was still {doing}: {} before that it said something or used a file; raise \
             --timeout if it needs longer",
            seconds(quiet)
        )
    }

    fn hangs(&self) -> String {
        let booting = if self.booting {
            "COMMAND had not started, and "
        } else {
            ""
        };
        let quiet = match self.quiet {
            Some(quiet) => format!(
                "for {} it had said nothing and used no file",
                seconds(quiet)
            ),
            None => "it had said nothing and used no file yet; raise --timeout if it is slow to \
                     boot"
                .to_owned(),
        };
        let place = match self.place {
            Place::Traces => "the back traces say where it hangs",
            Place::Idle => {
                "its processors were idle: it waits, in the kernel if the back traces have a \
                 task that is blocked, and else in a program"
            }
            Place::Registers => {
                "its kernel took no SysRq; the registers say where its processors are \
                 (addr2line -e vmlinux, with --cmdline nokaslr)"
            }
            Place::Unknown => "neither its kernel nor its processors say where it hangs",
        };
        format!("{booting}{quiet}; {place}")
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn advice(change: impl FnOnce(&mut Standing)) -> String {
        let mut standing = Standing {
            quiet: Some(Duration::from_secs(50)),
            ..Standing::default()
        };
        change(&mut standing);
        standing.advice(LIMIT)
    }

    #[test]
    fn a_guest_that_hangs_is_not_to_be_given_more_time() {
        for (place, part) in [
            (Place::Traces, "back traces say where it hangs"),
            (Place::Idle, "processors were idle"),
            (Place::Registers, "took no SysRq"),
            (Place::Unknown, "neither"),
        ] {
            for booting in [false, true] {
                let advice = advice(|standing| {
                    standing.place = place;
                    standing.booting = booting;
                });
                assert!(advice.contains(part), "{advice}");
                assert!(advice.contains("for 50.0 s"), "{advice}");
                assert!(!advice.contains("--timeout"), "{advice}");
                assert_eq!(advice.contains("COMMAND had not started"), booting);
            }
        }
        let mute = advice(|standing| standing.quiet = None);
        assert!(mute.starts_with("it had said nothing"), "{mute}");
        // It may be slow, or not boot at all: nobody knows.
        assert!(
            mute.contains("raise --timeout if it is slow to boot"),
            "{mute}"
        );
        assert!(mute.contains("neither"), "{mute}");
    }

    #[test]
    fn a_guest_that_was_at_work_may_need_more_time() {
        for place in [Place::Traces, Place::Idle, Place::Registers, Place::Unknown] {
            for (booting, doing) in [(false, "still at work"), (true, "still booting")] {
                let advice = advice(|standing| {
                    standing.quiet = Some(Duration::from_millis(5900));
                    standing.place = place;
                    standing.booting = booting;
                });
                assert!(advice.contains(doing), "{advice}");
                assert!(advice.contains("raise --timeout"), "{advice}");
            }
        }
        let slow = advice(|standing| standing.quiet = Some(Duration::from_secs(6)));
        assert!(!slow.contains("--timeout"), "{slow}");
    }

    #[test]
    fn a_short_time_is_long_enough_for_something_to_happen() {
        let standing = Standing {
            quiet: Some(Duration::from_millis(900)),
            ..Standing::default()
        };
        let advice = standing.advice(Duration::from_secs(1));
        assert!(advice.contains("raise --timeout"), "{advice}");
    }

    #[test]
    fn a_panic_is_what_there_is_to_say() {
        let advice = advice(|standing| {
            standing.panic = Some("oh no".into());
            standing.quiet = Some(Duration::ZERO);
        });
        assert!(advice.contains("panicked") && advice.ends_with(": oh no"));
        assert!(!advice.contains("--timeout"), "{advice}");
    }
}
