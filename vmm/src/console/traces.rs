//! What the guest's kernel says when it is asked where it hangs, told from all else
//! on its console.

/// Lines that are kept.
const MOST: usize = 400;

/// What the kernel has said to a SysRq key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reply {
    #[default]
    Nothing,
    /// It does what the key asks for.
    Done,
    /// It has no such key, or is not to do it.
    Refused,
}

/// What was heard so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    /// To the last key.
    pub(crate) reply: Reply,
    /// Lines of the kernel's that are a part of the answer, those not kept included.
    pub(crate) lines: u64,
}

/// Where the guest was, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Place {
    #[default]
    Unknown,
    /// Its kernel did not answer, but its processors have.
    Registers,
    /// In the back traces of its kernel.
    Traces,
    /// In these, and no processor had anything to do.
    Idle,
}

/// The answer as it comes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traces {
    /// What the kernel says first when it does what the last key asks for, and
    /// whether it is a part of the answer.
    expected: Option<(&'static str, bool)>,
    heard: Heard,
    /// What the kernel says is the answer.
    open: bool,
    lines: Vec<String>,
    /// What is known from elsewhere.
    registers: Vec<String>,
}

impl Traces {
    /// A key was typed, to which the kernel says `action` first. With `shows` the
    /// answer begins with that.
    pub(super) fn expect(&mut self, action: &'static str, shows: bool) {
        self.expected = Some((action, shows));
        self.heard.reply = Reply::Nothing;
    }

    /// From here on all that the kernel says is an answer.
    pub(super) fn take_all(&mut self) {
        self.open = true;
    }

    pub(crate) fn heard(&self) -> Heard {
        self.heard
    }

    /// Takes a line of the kernel's: its text, and as the console shows it. Says
    /// whether the answer begins with it.
    pub(super) fn take(&mut self, text: &str, shown: &str) -> bool {
        let was_open = self.open;
        if let Some((action, shows)) = self.expected {
            let reply = reply(text, action);
            if reply != Reply::Nothing {
                self.expected = None;
                self.heard.reply = reply;
                self.open |= shows && reply == Reply::Done;
            }
        }
        if self.open {
            self.heard.lines += 1;
            if self.lines.len() < MOST {
                self.lines.push(shown.to_owned());
            }
        }
        self.open && !was_open
    }

    /// Where a processor was.
    pub(super) fn add(&mut self, registers: &str) {
        self.registers.push(registers.to_owned());
    }

    /// All of it. Registers are few, and first.
    pub(crate) fn all(&self) -> Vec<String> {
        self.registers.iter().chain(&self.lines).cloned().collect()
    }

    pub(crate) fn place(&self) -> Place {
        let mut tasks = self.lines.iter().filter_map(|line| task_on_processor(line));
        let is_idle =
            |line: &String| line.contains("skipped: idling") || line.contains("as idling");
        if !self.registers.is_empty() {
            Place::Registers
        } else if self.lines.is_empty() {
            Place::Unknown
        } else if tasks.clone().any(|task| task != "0") {
            Place::Traces
        } else if tasks.next().is_some() || self.lines.iter().any(is_idle) {
            Place::Idle
        } else {
            Place::Traces
        }
    }
}

/// What the line is to a key to which the kernel says `action`. Before that is, by the
/// kernel's age, `SysRq : `, `sysrq: SysRq : ` or `sysrq: ` (`__handle_sysrq()` of
/// `drivers/tty/sysrq.c`).
fn reply(text: &str, action: &str) -> Reply {
    let new = text.strip_prefix("sysrq: ");
    let old = new.unwrap_or(text).strip_prefix("SysRq : ");
    match old.or(new) {
        Some(said) if said.starts_with(action) => Reply::Done,
        Some(said) if said.starts_with("HELP : ") => Reply::Refused,
        Some(said) if said.starts_with("This sysrq operation is disabled") => Reply::Refused,
        _ => Reply::Nothing,
    }
}

/// The number of the task in the line of a back trace that says what a processor did,
/// `CPU: 0 PID: 7 Comm: sh ...`, since 6.12 with `UID: 0` between. That of the idle task
/// is 0.
fn task_on_processor(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("CPU: ")?;
    let (_, rest) = rest.split_once(" PID: ")?;
    rest.split_once(" Comm: ").map(|(task, _)| task.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOW: &str = "Show backtrace of all active CPUs";

    fn asked() -> Traces {
        let mut traces = Traces::default();
        traces.expect(SHOW, true);
        traces
    }

    #[test]
    fn the_answer_is_known_on_kernels_of_any_age() {
        for head in ["sysrq: ", "sysrq: SysRq : ", "SysRq : "] {
            let mut traces = asked();
            assert!(!traces.take("a driver has something to say", "x"));
            assert_eq!(traces.heard(), Heard::default());
            let line = format!("{head}{SHOW}");
            assert!(traces.take(&line, &line));
            assert!(!traces.take("NMI backtrace for cpu 0", "a trace"));
            assert_eq!(traces.heard().reply, Reply::Done);
            assert_eq!(traces.heard().lines, 2);
            assert_eq!(traces.all(), [line, "a trace".to_owned()]);
            for refusal in ["HELP : loglevel(0-9)", "This sysrq operation is disabled."] {
                let mut traces = asked();
                assert!(!traces.take(&format!("{head}{refusal}"), "x"));
                assert_eq!(traces.heard().reply, Reply::Refused);
                assert!(traces.all().is_empty());
            }
        }
    }

    #[test]
    fn what_another_key_does_is_no_answer() {
        for line in [
            "sysrq: Emergency Sync",
            SHOW,
            "sysrq: sysrq always enabled.",
        ] {
            let mut traces = asked();
            assert!(!traces.take(line, line));
            assert_eq!(traces.heard(), Heard::default(), "{line}");
        }
        // One that shows nothing is answered, and nothing is kept of it.
        let mut traces = Traces::default();
        traces.expect("Changing Loglevel", false);
        assert!(!traces.take("sysrq: Changing Loglevel", "x"));
        assert_eq!(traces.heard().reply, Reply::Done);
        assert!(traces.all().is_empty());
        traces.expect(SHOW, true);
        assert_eq!(traces.heard().reply, Reply::Nothing);
    }

    #[test]
    fn a_flood_leaves_room_for_the_registers() {
        let mut traces = asked();
        traces.take_all();
        for _ in 0..10 * MOST {
            traces.take("flood", "flood");
        }
        traces.add("vCPU 0: rip=0x1");
        let all = traces.all();
        assert_eq!(all.len(), 1 + MOST);
        assert_eq!(all.first().map(String::as_str), Some("vCPU 0: rip=0x1"));
        assert_eq!(traces.heard().lines, 10 * MOST as u64);
    }

    #[test]
    fn the_place_is_what_the_processors_did() {
        let place = |lines: &[&str]| {
            let mut traces = asked();
            let head = format!("sysrq: {SHOW}");
            for line in [head.as_str()].iter().chain(lines) {
                traces.take(line, line);
            }
            traces.place()
        };
        let idle = "CPU: 0 PID: 0 Comm: swapper/0 Not tainted 6.1.0 #1";
        let skipped = "NMI backtrace for cpu 1 skipped: idling at native_halt+0xa/0x10";
        assert_eq!(place(&[idle, skipped]), Place::Idle);
        assert_eq!(place(&[skipped]), Place::Idle);
        for busy in [
            "CPU: 1 PID: 77 Comm: insmod Not tainted 6.1.0 #1",
            "CPU: 1 UID: 0 PID: 77 Comm: insmod Not tainted 6.12.0 #1",
        ] {
            assert_eq!(place(&[idle, busy]), Place::Traces);
        }
        assert_eq!(place(&["a text of another kind"]), Place::Traces);
        assert_eq!(Traces::default().place(), Place::Unknown);
        let mut traces = asked();
        traces.add("vCPU 0: rip=0x1");
        assert_eq!(traces.place(), Place::Registers);
    }
}
