//! Finds splats in the lines of a console as they come.

use super::heads::{self, Kind, Severity};
use super::{Policy, Splat, Splats};

/// Splats that are kept: a guest may have any number.
const MOST: usize = 64;
/// Lines that are kept of each, and their characters.
const MOST_LINES: usize = 120;
const LONGEST: usize = 500;
/// How far above a head its rule may be, in lines.
const LEAD: usize = 12;
/// How far below the head of an oops the line of `die()` may be, in lines.
const UNTIL_DEATH: usize = 12;
/// How long after a head a panic is what became of it, in seconds and in lines.
const UNTIL_PANIC: f64 = 10.0;
const PANIC_LINES: usize = 120;

/// A line of the kernel's log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line<'a> {
    /// The kernel's time in seconds.
    pub(crate) time: Option<f64>,
    /// Without the time.
    pub(crate) text: &'a str,
    /// Printable, as the console shows it.
    pub(crate) shown: &'a str,
}

/// The splats so far.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    splats: Splats,
    /// What was last found while it is not over.
    open: Option<Open>,
    /// The last one that was kept; what follows is to be shown with it.
    tail: bool,
    lead: Lead,
}

/// A splat whose end was not seen.
#[derive(Debug)]
struct Open {
    splat: Splat,
    /// The line of `die()` has come.
    died: bool,
    /// Lines since its head.
    length: usize,
}

/// What is directly above a head and belongs to it.
#[derive(Debug, Default)]
struct Lead {
    shown: Vec<String>,
    /// The lines below `[ cut here ]`, if that is the first.
    message: Option<Vec<String>>,
    below_rule: bool,
}

impl Scanner {
    pub(crate) fn new(policy: Policy) -> Self {
        Self {
            splats: Splats {
                policy,
                ..Splats::default()
            },
            ..Self::default()
        }
    }

    /// Takes the next line. One that is not the kernel's goes to
    /// [`Self::take_other`].
    pub(crate) fn take(&mut self, line: Line<'_>) {
        let is_die = heads::is_die(line.text);
        let head = heads::of(line.text, self.lead.below_rule).or(is_die.then_some(Kind::Oops));
        if let Some(kind) = head {
            if !self.belongs_to_open(kind, is_die, line.time) {
                self.close();
                self.open(kind, is_die, line);
                return;
            }
        } else if heads::is_rule(line.text) || heads::is_cut(line.text) {
            if heads::is_cut(line.text) || !self.open.as_ref().is_some_and(|open| open.died) {
                self.close();
            }
            self.lead = Lead {
                shown: Vec::new(),
                message: heads::is_cut(line.text).then(Vec::new),
                below_rule: heads::is_rule(line.text),
            };
        } else if let Some(message) = &mut self.lead.message {
            message.push(shortened(line.text));
        }
        self.show(line.shown);
        if let Some(open) = &mut self.open {
            open.length += 1;
            if let Some(place) = kernel_place(line.text)
                && open.splat.location.is_none()
            {
                open.splat.location = Some(shortened(place));
            }
            if heads::is_end(line.text) {
                self.close();
            }
        }
    }

    /// Takes a line that is not the kernel's.
    pub(crate) fn take_other(&mut self, shown: &str) {
        self.show(shown);
    }

    /// What was found, with what may go on.
    pub(crate) fn splats(&self) -> Splats {
        let mut splats = self.splats.clone();
        if let Some(open) = &self.open {
            keep(&mut splats, open.splat.clone());
        }
        splats
    }

    /// Whether the line is a part of what is open, which may thereby become
    /// worse.
    fn belongs_to_open(&mut self, kind: Kind, is_die: bool, time: Option<f64>) -> bool {
        let Some(open) = &mut self.open else {
            return false;
        };
        let belongs = match kind {
            // What happened is told first, and then counted by `die()`.
            _ if is_die => {
                let may_die = matches!(open.splat.kind, Kind::Bug | Kind::Oops);
                may_die && !open.died && open.length < UNTIL_DEATH
            }
            // Some have no last line, and stay open until something else happens.
            Kind::Panic => {
                let began = open.splat.time.zip(time);
                open.length < PANIC_LINES
                    && began.is_none_or(|(then, now)| now - then < UNTIL_PANIC)
            }
            _ => false,
        };
        if belongs {
            open.died |= is_die;
            open.splat.severity = Severity::Oops;
        }
        belongs
    }

    fn open(&mut self, kind: Kind, died: bool, line: Line<'_>) {
        let lead = std::mem::take(&mut self.lead);
        if let Some(last) = self.splats.list.last_mut()
            && last.lines.ends_with(&lead.shown)
        {
            // They were taken for what follows it.
            last.lines.truncate(last.lines.len() - lead.shown.len());
        }
        let message = lead.message.unwrap_or_default().join(" ");
        let mut lines = lead.shown;
        lines.push(shortened(line.shown));
        let splat = Splat {
            kind,
            severity: kind.severity(),
            line: shortened(line.text),
            message: (!message.is_empty()).then(|| shortened(&message)),
            location: None,
            time: line.time,
            allowed: false,
            lines,
        };
        self.open = Some(Open {
            splat,
            died,
            length: 0,
        });
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            self.tail = keep(&mut self.splats, open.splat);
        }
    }

    /// Remembers a line for who wants to see it.
    fn show(&mut self, shown: &str) {
        let last = self.splats.list.last_mut().filter(|_| self.tail);
        let splat = self.open.as_mut().map(|open| &mut open.splat).or(last);
        if let Some(splat) = splat.filter(|splat| splat.lines.len() < MOST_LINES) {
            splat.lines.push(shortened(shown));
        }
        let has_lead = self.lead.below_rule || self.lead.message.is_some();
        if has_lead && self.lead.shown.len() < LEAD {
            self.lead.shown.push(shortened(shown));
        } else {
            self.lead = Lead::default();
        }
    }
}

/// Adds `splat`; says whether there was room for it.
fn keep(splats: &mut Splats, mut splat: Splat) -> bool {
    splat.allowed = splats.policy.allows(&splat);
    if splats.list.len() < MOST {
        splats.list.push(splat);
        return true;
    }
    if !splat.allowed && splats.policy.counts(splat.severity) {
        splats.beyond = splats.beyond.saturating_add(1);
    }
    false
}

/// The place in `RIP: 0010:function+0x1/0x20 [module]`; the selector is the
/// kernel's, not that of a program that was in a system call.
fn kernel_place(text: &str) -> Option<&str> {
    text.strip_prefix("RIP: 0010:")
}

fn shortened(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}
