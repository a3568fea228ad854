//! Who wrote a line of the console.
//!
//! With `console_msg_format=syslog` the kernel puts `<N>` before each of its
//! records, N being the facility times 8 and the level. Its own facility is 0,
//! and no program can have that: what one writes to `/dev/kmsg` has another
//! (`devkmsg_write` of `kernel/printk/printk.c`, since Linux 4.15). So a text
//! that only quotes a kernel is told from the kernel's own.

/// The kernel's parameter.
pub(crate) const PARAMETER: &str = "console_msg_format=syslog";

/// How the kernel writes its lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    /// With a mark.
    pub(crate) marked: bool,
    /// With the time, which then follows the mark. Early lines may have one in any case.
    pub(crate) timed: bool,
}

impl Format {
    /// That of a kernel which was asked for marks or was not, and for the time unless
    /// `user`, the end of its command line, says otherwise (`kstrtobool()`).
    pub(crate) fn of(marked: bool, user: &str) -> Self {
        let words = user.split_whitespace().take_while(|&word| word != "--");
        let values = words.filter_map(|word| word.strip_prefix("printk.time="));
        let is_false = |value: &str| value.starts_with(['n', 'N', '0', 'f', 'F']);
        let is_false = |value: &str| is_false(value) || value.to_lowercase().starts_with("of");
        Self {
            marked,
            timed: !values.last().is_some_and(is_false),
        }
    }
}

/// The digits of a mark, at most: facilities have 8 bits.
const MOST_DIGITS: usize = 4;
/// The levels of a facility.
const LEVELS: u32 = 8;

/// What shows that a line is the kernel's. A later one is better evidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Evidence {
    #[default]
    Nothing,
    /// The time of the kernel's clock.
    Stamp,
    Mark,
}

/// A line of the kernel's log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Entry<'a> {
    pub(super) evidence: Evidence,
    /// A program wrote it.
    pub(super) by_program: bool,
    /// The kernel's time in seconds.
    pub(super) time: Option<f64>,
    pub(super) text: &'a str,
    /// With the time, without the mark.
    pub(super) shown: &'a str,
}

impl<'a> Entry<'a> {
    /// Reads a line with its mark. What comes before the first mark is a
    /// program's, which had not ended its line.
    pub(super) fn read(line: &'a str, timed: bool) -> Self {
        let line = line.trim_end_matches('\r');
        let marked = line
            .match_indices('<')
            .find_map(|(at, _)| mark(line.get(at..)?, timed));
        Self::of(line, marked)
    }

    /// Reads a line of a kernel that was not asked for marks: what looks like
    /// one is a text.
    pub(super) fn unmarked(line: &'a str) -> Self {
        Self::of(line.trim_end_matches('\r'), None)
    }

    fn of(line: &'a str, marked: Option<(u32, &'a str)>) -> Self {
        let (number, rest) = match marked {
            Some((number, rest)) => (Some(number), rest),
            None => (None, line),
        };
        let stamped = stamp(rest);
        let evidence = match (number, stamped) {
            (Some(_), _) => Evidence::Mark,
            (None, Some(_)) => Evidence::Stamp,
            (None, None) => Evidence::Nothing,
        };
        Self {
            evidence,
            by_program: number.is_some_and(|number| number >= LEVELS),
            time: stamped.map(|(time, _)| time),
            text: stamped.map_or(rest, |(_, text)| text).trim_start(),
            shown: rest,
        }
    }
}

/// The number of the mark that `text` begins with, and what follows it, which is
/// the time if the kernel is `timed`.
fn mark(text: &str, timed: bool) -> Option<(u32, &str)> {
    let (number, rest) = text.strip_prefix('<')?.split_once('>')?;
    let is_number = (1..=MOST_DIGITS).contains(&number.len())
        && number.bytes().all(|byte| byte.is_ascii_digit());
    let goes_on = !timed || rest.starts_with(['[', ' ']);
    (is_number && goes_on).then_some((number.parse().ok()?, rest))
}

/// The time in a `[   12.345678]`, and the text.
fn stamp(text: &str) -> Option<(f64, &str)> {
    let (time, rest) = text.strip_prefix('[')?.split_once(']')?;
    let time = time.trim_start();
    let is_time = time.len() < 24
        && time.contains('.')
        && time
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let time = is_time.then(|| time.parse().ok()).flatten()?;
    Some((time, after_caller(rest).unwrap_or(rest)))
}

/// What follows a `[    T1]`, by which a kernel with `CONFIG_PRINTK_CALLER`
/// names the thread or the processor.
fn after_caller(text: &str) -> Option<&str> {
    let (caller, rest) = text.strip_prefix('[')?.split_once(']')?;
    let number = caller.trim_start().strip_prefix(['T', 'C'])?;
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some(rest)
}

/// Takes the marks out of what the console says, byte by byte as it comes.
#[derive(Debug)]
pub(super) struct Unmarking {
    /// The time follows a mark.
    timed: bool,
    /// Within a line, where no mark begins.
    inside: bool,
    /// What may become a mark.
    held: Vec<u8>,
}

impl Unmarking {
    pub(super) fn new(timed: bool) -> Self {
        Self {
            timed,
            inside: false,
            held: Vec::new(),
        }
    }

    /// Appends what is to be seen of `bytes` to `seen`.
    pub(super) fn take(&mut self, bytes: &[u8], seen: &mut Vec<u8>) {
        for &byte in bytes {
            if self.inside || !self.hold(byte, seen) {
                seen.append(&mut self.held);
                seen.push(byte);
                self.inside = byte != b'\n';
            }
        }
    }

    /// The rest, at the end.
    pub(super) fn flush(&mut self, seen: &mut Vec<u8>) {
        seen.append(&mut self.held);
        self.inside = true;
    }

    /// Whether the byte belongs to what may become a mark, or has ended one.
    fn hold(&mut self, byte: u8, seen: &mut Vec<u8>) -> bool {
        let digits = self.held.len().saturating_sub(1);
        let may_become = match (self.held.last(), byte) {
            (None, b'<') => true,
            (Some(b'<' | b'0'..=b'9'), b'0'..=b'9') => digits < MOST_DIGITS,
            (Some(b'0'..=b'9'), b'>') => true,
            (Some(b'>'), b'[' | b' ') if self.timed || byte == b'[' => {
                self.held.clear();
                self.inside = true;
                if byte == b'[' {
                    seen.push(byte);
                }
                return true;
            }
            (Some(b'>'), _) if !self.timed => {
                self.held.clear();
                false
            }
            _ => false,
        };
        if may_become {
            self.held.push(byte);
        }
        may_become
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(text: &str) -> String {
        seen_of(true, text)
    }

    fn seen_of(timed: bool, text: &str) -> String {
        let mut unmarking = Unmarking::new(timed);
        let mut seen = Vec::new();
        for byte in text.as_bytes() {
            unmarking.take(&[*byte], &mut seen);
        }
        unmarking.flush(&mut seen);
        String::from_utf8_lossy(&seen).into_owned()
    }

    #[test]
    fn marks_are_taken_out_and_nothing_else() {
        assert_eq!(
            seen("<6>[    0.1] a <6>[ b\r\n<12>[    0.2] c\r\n"),
            "[    0.1] a <6>[ b\r\n[    0.2] c\r\n"
        );
        // Without the time.
        assert_eq!(seen("<6> a\n<2047> b\n"), "a\nb\n");
        for text in [
            "<6>a\n",
            "<>[\n",
            "<12345>[\n",
            "<6",
            "<\n<6\n",
            "<<6>[a\n",
            "a<6>[\n",
            "<6>",
        ] {
            assert_eq!(seen(text), text);
        }
    }

    #[test]
    fn without_times_a_mark_is_before_the_text() {
        assert_eq!(
            seen_of(
                false,
                "<6>[    0.1] a\n<4>b <3>c\n<4> f+0x1\n<12>d\n<6>\n<6x\n<6>[T1] e\n<6>"
            ),
            "[    0.1] a\nb <3>c\n f+0x1\nd\n\n<6x\n[T1] e\n<6>"
        );
        let entry = Entry::read("<1>BUG: x", false);
        assert_eq!(
            (entry.evidence, entry.time, entry.text, entry.shown),
            (Evidence::Mark, None, "BUG: x", "BUG: x")
        );
        assert!(Entry::read("<12>BUG: x", false).by_program);
        assert_eq!(Entry::read("<1>BUG: x", true).evidence, Evidence::Nothing);
    }

    #[test]
    fn times_are_there_unless_the_user_says_otherwise() {
        for (line, timed) in [
            ("", true),
            ("quiet printk.time=0 x", false),
            ("printk.time=N", false),
            ("printk.time=off", false),
            ("printk.time=on", true),
            ("printk.time=0 printk.time=1", true),
            ("printk.time=nonsense", false),
            ("-- printk.time=0", true),
        ] {
            let format = Format::of(true, line);
            assert_eq!((format.marked, format.timed), (true, timed), "{line}");
        }
    }

    #[test]
    fn a_program_is_told_from_the_kernel() {
        let entry = Entry::read("<4>[    1.500000] WARNING: x\r", true);
        assert_eq!(entry.evidence, Evidence::Mark);
        assert!(!entry.by_program);
        assert_eq!((entry.time, entry.text), (Some(1.5), "WARNING: x"));
        for line in ["<12>[    1.5] WARNING: x", "<12> WARNING: <4>[ 1.5] x"] {
            assert!(Entry::read(line, true).by_program, "{line}");
        }
        let entry = Entry::read("login: <4>[    1.5] BUG: x", true);
        assert_eq!((entry.by_program, entry.text), (false, "BUG: x"));
    }

    #[test]
    fn the_time_is_read_with_a_caller_and_without() {
        for line in [
            "[   12.345678] BUG: x",
            "[   12.345678][    T1] BUG: x",
            "<0>[   12.345678][   C0]  BUG: x",
        ] {
            let entry = Entry::read(line, true);
            assert_eq!((entry.time, entry.text), (Some(12.345_678), "BUG: x"));
        }
        for line in ["[ BUG: x ]", "BUG: x", "[1] y", "[1.2.3] z", "[] .", "["] {
            let entry = Entry::read(line, true);
            assert_eq!((entry.evidence, entry.time), (Evidence::Nothing, None));
            assert_eq!(entry.text, line);
        }
    }
}
