//! How many instructions the guest itself executed.
//!
//! In the lab the cycle counter counts instructions of the whole emulated
//! machine. KVM's tracepoints say, with the same counter, when it entered the
//! guest and when it was back; what lies between is the guest's. A guest's
//! counter is the machine's plus an offset that KVM traces too.
//!
//! The tracepoints are some instructions away from the guest on either side.
//! The shortest stay in the guest of all that were seen is taken for that
//! distance: it is that and at least one instruction.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

const TRACEFS: &str = "/sys/kernel/tracing";
/// Enough for a call of 64 MiB, which has some thousand exits.
const BUFFER_KIB: &str = "16384";

/// What the tracepoints say of one VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The machine's cycle counter.
    pub at: u64,
    /// Whether the guest was entered or left.
    pub kind: Kind,
}

/// See [`Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `kvm_entry`.
    Entry,
    /// `kvm_exit`.
    Exit,
}

/// The guest's part of a span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Instructions it executed.
    pub instructions: u64,
    /// How often it was left.
    pub exits: u64,
}

/// The tracing of the kernel whose KVM runs the guest.
#[derive(Debug)]
pub struct Tracer {
    offsets: PathBuf,
}

impl Tracer {
    /// To be called before the guest is started, so that its counter's offset
    /// is seen.
    ///
    /// # Errors
    ///
    /// When the kernel has no tracing or no KVM.
    pub fn new() -> Result<Self> {
        let root = Path::new(TRACEFS);
        let offsets = root.join("instances/offsets");
        if !offsets.is_dir() {
            fs::create_dir(&offsets).context("this kernel has no tracing")?;
        }
        for instance in [root, &offsets] {
            write(instance, "trace_clock", "x86-tsc")?;
            write(instance, "trace", "")?;
        }
        write(root, "buffer_size_kb", BUFFER_KIB)?;
        write(&offsets, "events/kvm/kvm_write_tsc_offset/enable", "1")?;
        Ok(Self { offsets })
    }

    /// Starts to record entries and exits.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn start(&self) -> Result<()> {
        let root = Path::new(TRACEFS);
        write(root, "trace", "")?;
        for event in ["kvm_entry", "kvm_exit"] {
            write(root, &format!("events/kvm/{event}/enable"), "1")?;
        }
        Ok(())
    }

    /// Stops, and returns what was recorded.
    ///
    /// # Errors
    ///
    /// When something was lost.
    pub fn stop(&self) -> Result<Vec<Event>> {
        let root = Path::new(TRACEFS);
        for event in ["kvm_entry", "kvm_exit"] {
            write(root, &format!("events/kvm/{event}/enable"), "0")?;
        }
        events(&read(root, "trace")?)
    }

    /// What the guest's counter is ahead of the machine's.
    ///
    /// # Errors
    ///
    /// When KVM has not said.
    pub fn offset(&self) -> Result<u64> {
        last_offset(&read(&self.offsets, "trace")?)
    }
}

fn write(instance: &Path, file: &str, text: &str) -> Result<()> {
    let path = instance.join(file);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn read(instance: &Path, file: &str) -> Result<String> {
    let path = instance.join(file);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// The lines of a trace that are events: (counter, name, what it says).
fn lines(trace: &str) -> impl Iterator<Item = Result<(u64, &str, &str)>> {
    trace
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        .map(|line| {
            // comm-pid [cpu] flags counter: name: text
            let after = line.split_once("] ").map(|(_, after)| after);
            let mut parts = after.unwrap_or_default().splitn(3, ": ");
            let at = parts
                .next()
                .and_then(|head| head.split_whitespace().last())
                .and_then(|number| number.parse().ok());
            match (at, parts.next(), parts.next()) {
                (Some(at), Some(name), Some(text)) => Ok((at, name.trim(), text)),
                _ => bail!("the trace has a line {line:?}"),
            }
        })
}

fn events(trace: &str) -> Result<Vec<Event>> {
    // # entries-in-buffer/entries-written: 140/140   #P:1
    let (kept, written) = trace
        .lines()
        .find_map(|line| line.split_once("entries-written: "))
        .and_then(|(_, numbers)| numbers.split_whitespace().next()?.split_once('/'))
        .context("the trace does not say how many events it had")?;
    ensure!(
        kept == written,
        "of {written} events the trace has {kept} only"
    );
    let mut found = Vec::new();
    for line in lines(trace) {
        let (at, name, _) = line?;
        let kind = match name {
            "kvm_entry" => Kind::Entry,
            "kvm_exit" => Kind::Exit,
            _ => bail!("the trace has an event {name}"),
        };
        found.push(Event { at, kind });
    }
    Ok(found)
}

fn last_offset(trace: &str) -> Result<u64> {
    // vcpu=0 prev=0 next=18446744070000000000
    let line = lines(trace).last().context("KVM set no offset")??;
    line.2
        .split_once("next=")
        .and_then(|(_, text)| text.split_whitespace().next()?.parse().ok())
        .with_context(|| format!("KVM says {:?} of its offset", line.2))
}

/// The guest's part of what is between its own counter's `start` and `end`,
/// at both of which it runs. `distance` is that of the tracepoints.
///
/// # Errors
///
/// When the events do not cover it, or contradict each other.
pub fn share(events: &[Event], start: u64, end: u64, distance: u64) -> Result<Share> {
    ensure!(start < end, "the counter went back");
    let covered = events.first().is_some_and(|event| event.at <= start)
        && events.last().is_some_and(|event| event.at >= end);
    ensure!(covered, "the trace does not cover the call");
    let (mut instructions, mut exits) = (0, 0);
    // The last entry before each exit; the guest is in there when it starts.
    let mut entry = None;
    for event in events {
        match (event.kind, entry) {
            (Kind::Entry, None) => entry = Some(event.at),
            (Kind::Exit, Some(from)) => {
                let (from, to) = (start.max(from), end.min(event.at));
                instructions += to.saturating_sub(from);
                exits += u64::from((start..end).contains(&event.at));
                entry = None;
            }
            // The first event may be the end of a stay that began unseen.
            (Kind::Exit, None) if event == &events[0] => {}
            _ => bail!("the trace has two of {:?} in a row", event.kind),
        }
    }
    if let Some(from) = entry {
        instructions += end.saturating_sub(start.max(from));
    }
    let instructions = instructions
        .checked_sub(exits * distance)
        .context("the guest was left more often than it ran")?;
    Ok(Share {
        instructions,
        exits,
    })
}

/// The shortest stay in the guest.
#[must_use]
pub fn shortest(events: &[Event]) -> Option<u64> {
    events
        .windows(2)
        .filter(|pair| (pair[0].kind, pair[1].kind) == (Kind::Entry, Kind::Exit))
        .map(|pair| pair[1].at - pair[0].at)
        .min()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const TRACE: &str = "# tracer: nop\n#\n# entries-in-buffer/entries-written: 4/4   #P:1\n#\n\
        \x20           vmm-212     [000] d..1. 1000: kvm_entry: vcpu 0, rip 0xffffffff81000000\n\
        \x20        vcpu 0-212     [000] d..1. 1500: kvm_exit: vcpu 0 reason io rip 0x1 info1: 0\n\
        \x20           vmm-212     [000] d..1. 2000: kvm_entry: vcpu 0, rip 0x2\n\
        \x20           vmm-212     [000] d..1. 3000: kvm_exit: vcpu 0 reason hlt rip 0x2 info1 0\n";

    #[test]
    fn what_lies_between_entry_and_exit_is_the_guests() {
        let events = events(TRACE).unwrap();
        assert_eq!(events.len(), 4);
        assert_eq!(shortest(&events), Some(500));
        let all = share(&events, 1100, 2900, 0).unwrap();
        assert_eq!((all.instructions, all.exits), (400 + 900, 1));
        // One exit: the way out and the way in are not the guest's.
        let net = share(&events, 1100, 2900, 60).unwrap();
        assert_eq!(net.instructions, 400 + 900 - 60);
        let one = share(&events, 2100, 2900, 60).unwrap();
        assert_eq!((one.instructions, one.exits), (800, 0));
    }

    #[test]
    fn a_trace_that_lost_events_is_refused() {
        let lost = TRACE.replace("4/4", "4/400");
        assert!(events(&lost).is_err());
        let events = events(TRACE).unwrap();
        assert!(share(&events, 900, 2900, 0).is_err());
        assert!(share(&events, 1100, 3100, 0).is_err());
        let doubled = [events[0], events[0], events[1]];
        assert!(share(&doubled, 1100, 1200, 0).is_err());
    }

    #[test]
    fn the_last_offset_counts() {
        let trace = "# x\n vmm-1 [000] ..... 5: kvm_write_tsc_offset: vcpu=0 prev=0 next=7\n\
            \x20vmm-1 [000] ..... 6: kvm_write_tsc_offset: vcpu=0 prev=7 next=18446744073709551615\n";
        assert_eq!(last_offset(trace).unwrap(), u64::MAX);
        assert!(last_offset("# nothing\n").is_err());
    }
}
