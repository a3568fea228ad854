//! What the guest's kernel says on its serial console: kept in part for the
//! error message, written to a file, shown, and searched for a panic.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

/// Bytes of the console's end that are kept.
const KEPT: usize = 64 << 10;
/// The longest line that is searched for a panic.
const LONGEST_LINE: usize = 4 << 10;
/// Bytes collected before the log file is written, at most; a line's end
/// writes them too. The guest sends byte by byte.
const BATCH: usize = 4 << 10;
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
    end: VecDeque<u8>,
    line: Vec<u8>,
    panic: Option<String>,
    halted: bool,
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
            end: VecDeque::with_capacity(KEPT),
            line: Vec::new(),
            panic: None,
            halted: false,
            log,
            pending: Vec::new(),
            logged: 0,
            show,
            lost: Vec::new(),
        })))
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

    /// Whether the kernel has said that it halts. So can a program; that the
    /// machine has halted is known from its processors only.
    #[must_use]
    pub(crate) fn halted(&self) -> bool {
        self.lock().halted
    }

    /// The last `lines` lines, printable: a guest's escape sequences never
    /// reach the user's terminal this way.
    #[must_use]
    pub(crate) fn tail(&self, lines: usize) -> Vec<String> {
        let record = self.lock();
        let bytes: Vec<u8> = record.end.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let all: Vec<&str> = text.trim_end().split('\n').collect();
        let first = all.len().saturating_sub(lines);
        all.into_iter()
            .skip(first)
            .map(printable)
            .filter(|line| !line.is_empty())
            .collect()
    }

    /// Writes to the log file what has not been written yet.
    pub(crate) fn flush(&self) {
        self.lock().write_log();
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
    fn take(&mut self, bytes: &[u8]) {
        let surplus = (self.end.len() + bytes.len()).saturating_sub(KEPT);
        self.end.drain(..surplus.min(self.end.len()));
        self.end.extend(
            bytes
                .get(bytes.len().saturating_sub(KEPT)..)
                .unwrap_or(bytes),
        );
        for &byte in bytes {
            if byte == b'\n' {
                self.search_line();
                self.line.clear();
            } else if self.line.len() < LONGEST_LINE {
                self.line.push(byte);
            }
        }
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
        self.halted = self.halted || contains(&self.line, HALT.as_bytes());
        if self.panic.is_none() {
            let line = String::from_utf8_lossy(&self.line);
            self.panic = line
                .split_once(PANIC)
                .map(|(_, message)| crate::outcome::line::of_text(message));
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

fn contains(line: &[u8], text: &[u8]) -> bool {
    line.windows(text.len()).any(|window| window == text)
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
