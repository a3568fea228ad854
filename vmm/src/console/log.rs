//! What the guest's kernel says on its serial console: kept in part for the
//! error message, written to a file, shown, and searched for a panic and other
//! splats.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use super::marks::{Entry, Evidence, Format, Unmarking};
use super::traces::Traces;
use crate::splats::{self, Policy, Scanner, Splats};

/// Bytes of the console's end that are kept.
const KEPT: usize = 64 << 10;
/// The longest line that is searched for a panic.
const LONGEST_LINE: usize = 4 << 10;
/// Bytes collected before the log file is written, at most; a line's end
/// writes them too. The guest sends byte by byte.
const BATCH: usize = 4 << 10;
/// Lines of its end before back traces that are kept.
const MOST_BEFORE: usize = 400;
/// Where a log file ends for good: a guest that floods its console must not
/// fill the host's disk.
const LARGEST_LOG: u64 = 1 << 30;
/// What the kernel writes first when it panics.
const PANIC: &str = "Kernel panic - not syncing: ";

/// What the kernel writes last when it was asked to halt.
const HALT: &str = "reboot: System halted";

/// The console's record, shared between the serial port and whoever reports.
#[derive(Clone)]
pub(crate) struct ConsoleLog(Arc<Mutex<Record>>);

struct Record {
    format: Format,
    /// If the kernel marks its lines.
    unmarking: Option<Unmarking>,
    end: VecDeque<u8>,
    /// The line that has no end yet, with its mark.
    line: Vec<u8>,
    /// What the kernel's lines have been known by; what shows less is not its.
    evidence: Evidence,
    scanner: Scanner,
    panic: Option<String>,
    halted: bool,
    /// Bytes so far.
    said: u64,
    /// Where the guest hangs, once that was asked.
    traces: Traces,
    /// The last lines before the answer.
    before_traces: Option<Vec<String>>,
    log: Option<File>,
    pending: Vec<u8>,
    logged: u64,
    /// By its name.
    show: Option<(&'static str, File)>,
    /// What took no more, and why.
    lost: Vec<(&'static str, Errno)>,
}

impl fmt::Debug for ConsoleLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsoleLog").finish_non_exhaustive()
    }
}

impl ConsoleLog {
    /// A console that goes to the file `log` and is copied to `show`, which
    /// is given with its name, as it comes.
    #[must_use]
    pub(crate) fn new(log: Option<File>, show: Option<(&'static str, File)>) -> Self {
        Self(Arc::new(Mutex::new(Record {
            format: Format::of(false, ""),
            unmarking: None,
            end: VecDeque::with_capacity(KEPT),
            line: Vec::new(),
            evidence: Evidence::default(),
            scanner: Scanner::default(),
            panic: None,
            halted: false,
            said: 0,
            traces: Traces::default(),
            before_traces: None,
            log,
            pending: Vec::new(),
            logged: 0,
            show,
            lost: Vec::new(),
        })))
    }

    /// One whose splats `policy` judges, and whose kernel writes its lines in this
    /// `format`. Marks are not to be seen.
    #[must_use]
    pub(crate) fn judged_by(self, policy: Policy, format: Format) -> Self {
        let mut record = self.lock();
        record.scanner = Scanner::new(policy);
        record.format = format;
        record.unmarking = format.marked.then(|| Unmarking::new(format.timed));
        drop(record);
        self
    }

    /// The end of the serial port that takes the guest's bytes.
    #[must_use]
    pub(crate) fn writer(&self) -> ConsoleWriter {
        ConsoleWriter(self.clone())
    }

    /// The message of the kernel's panic, if there was one.
    #[must_use]
    pub(crate) fn panic(&self) -> Option<String> {
        let mut record = self.lock();
        if record.panic.is_none() {
            // The last line may have no end.
            record.search_line();
        }
        record.panic.clone()
    }

    /// What the kernel has reported of its own bugs.
    #[must_use]
    pub(crate) fn splats(&self) -> Splats {
        self.lock().scanner.splats()
    }

    /// How much it has said, in bytes.
    #[must_use]
    pub(crate) fn said(&self) -> u64 {
        self.lock().said
    }

    /// The guest is asked where it hangs by a SysRq key, to which the kernel says
    /// `action` first. With `shows` that begins the answer.
    pub(crate) fn expect_traces(&self, action: &'static str, shows: bool) {
        self.lock().traces.expect(action, shows);
    }

    /// From here on all that the kernel says is where the guest hangs.
    pub(crate) fn take_all_for_traces(&self) {
        let mut record = self.lock();
        record.begin_traces(None);
        record.traces.take_all();
    }

    /// Where a processor was, which is known from elsewhere.
    pub(crate) fn add_registers(&self, line: &str) {
        self.lock().traces.add(line);
    }

    /// Where the guest hangs; empty where that was not asked.
    #[must_use]
    pub(crate) fn traces(&self) -> Traces {
        self.lock().traces.clone()
    }

    /// Whether the kernel has said that it halts. So can a program; that the
    /// machine has halted is known from its processors only.
    #[must_use]
    pub(crate) fn halted(&self) -> bool {
        self.lock().halted
    }

    /// The last `lines` lines, those before [`Self::traces`] if there are any.
    /// Printable: a guest's escape sequences never reach the user's terminal this
    /// way.
    #[must_use]
    pub(crate) fn tail(&self, lines: usize) -> Vec<String> {
        let record = self.lock();
        match &record.before_traces {
            Some(before) => before
                .iter()
                .skip(before.len().saturating_sub(lines))
                .cloned()
                .collect(),
            None => record.tail(lines),
        }
    }

    /// Ends the last line, and writes to the log file what has not been
    /// written yet.
    pub(crate) fn flush(&self) {
        let mut record = self.lock();
        let mut rest = Vec::new();
        if let Some(unmarking) = &mut record.unmarking {
            unmarking.flush(&mut rest);
        }
        record.keep(&rest);
        if !record.line.is_empty() {
            record.search_line();
            record.line.clear();
        }
        record.write_log();
    }

    /// The copies that could not take all that the guest said, and why.
    pub(crate) fn lost_output(&self) -> Vec<(&'static str, Errno)> {
        self.lock().lost.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        // The record is consistent between any two of its statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record {
    fn tail(&self, lines: usize) -> Vec<String> {
        let bytes: Vec<u8> = self.end.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let all: Vec<&str> = text.trim_end().split('\n').collect();
        let first = all.len().saturating_sub(lines);
        all.into_iter()
            .skip(first)
            .map(printable)
            .filter(|line| !line.is_empty())
            .collect()
    }

    fn take(&mut self, bytes: &[u8]) {
        self.said = self.said.saturating_add(bytes.len() as u64);
        for &byte in bytes {
            if byte == b'\n' {
                self.search_line();
                self.line.clear();
            } else if self.line.len() < LONGEST_LINE {
                self.line.push(byte);
            }
        }
        match &mut self.unmarking {
            None => self.keep(bytes),
            Some(unmarking) => {
                let mut seen = Vec::with_capacity(bytes.len());
                unmarking.take(bytes, &mut seen);
                self.keep(&seen);
            }
        }
    }

    /// Keeps, shows and logs what is to be seen.
    fn keep(&mut self, bytes: &[u8]) {
        let surplus = (self.end.len() + bytes.len()).saturating_sub(KEPT);
        self.end.drain(..surplus.min(self.end.len()));
        self.end.extend(
            bytes
                .get(bytes.len().saturating_sub(KEPT)..)
                .unwrap_or(bytes),
        );
        if let Some((name, show)) = &self.show
            && let Err(error) = write_all(show, bytes)
        {
            // The guest need not know. With EPIPE nobody looks any more.
            if error != Errno::PIPE {
                self.lost.push((name, error));
            }
            self.show = None;
        }
        if self.log.is_some() {
            self.pending.extend(bytes);
            if self.pending.len() >= BATCH || bytes.contains(&b'\n') {
                self.write_log();
            }
        }
    }

    fn search_line(&mut self) {
        let line = printable(&String::from_utf8_lossy(&self.line));
        let Format { marked, timed } = self.format;
        let (entry, shown) = if marked {
            let entry = Entry::read(&line, timed);
            (entry, entry.shown)
        } else {
            (Entry::unmarked(&line), line.as_str())
        };
        let shown = shown.to_owned();
        let is_kernels = !entry.by_program && entry.evidence >= self.evidence;
        // Without marks nobody knows, and an end that is missed is worse.
        if is_kernels || !marked {
            self.search_end(entry.text);
        }
        if !is_kernels {
            self.scanner.take_other(&shown);
            return;
        }
        if marked || timed {
            self.evidence = entry.evidence;
        }
        if self.traces.take(entry.text, &shown) {
            self.begin_traces(Some(&shown));
        }
        self.scanner.take(splats::Line {
            time: entry.time,
            text: entry.text,
            shown: &shown,
        });
    }

    /// Looks for what the kernel says when it cannot or will not go on.
    fn search_end(&mut self, text: &str) {
        self.halted = self.halted || text.contains(HALT);
        if self.panic.is_none() {
            self.panic = text
                .split_once(PANIC)
                .map(|(_, message)| crate::outcome::line::of_text(message));
        }
    }

    /// Keeps what came before the answer, which follows. That may begin with the last
    /// line, `head`.
    fn begin_traces(&mut self, head: Option<&str>) {
        if self.before_traces.is_none() {
            let mut before = self.tail(MOST_BEFORE);
            before.pop_if(|last| Some(last.as_str()) == head);
            self.before_traces = Some(before);
        }
    }

    fn write_log(&mut self) {
        let Some(log) = &self.log else { return };
        self.logged += self.pending.len() as u64;
        let full = self.logged > LARGEST_LOG;
        let written = if full {
            write_all(log, b"\n[the log ends here: it has reached 1 GiB]\n")
        } else {
            write_all(log, &self.pending)
        };
        if let Err(error) = written
            && error != Errno::PIPE
        {
            self.lost.push(("the --console-log", error));
        }
        if full || written.is_err() {
            // A full disk ends the log, not the guest.
            self.log = None;
        }
        self.pending.clear();
    }
}

/// Writes all of `bytes`, and waits for room where `file` does not: its flags
/// are those of whoever gave it to us.
fn write_all(file: &File, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let _ = rustix::event::poll(&mut [PollFd::new(file, PollFlags::OUT)], None);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The line without carriage returns and control characters.
fn printable(line: &str) -> String {
    line.trim_end_matches('\r')
        .chars()
        .map(|letter| match letter {
            '\t' => '\t',
            letter if letter.is_control() => '.',
            letter => letter,
        })
        .collect()
}

/// Takes the guest's bytes; never fails.
#[derive(Debug)]
pub(crate) struct ConsoleWriter(ConsoleLog);

impl Write for ConsoleWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().take(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        // The serial port flushes after every byte. Whole lines go to the
        // file by themselves, and the rest when the run ends.
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
