//! Typing on a console that takes some bytes at a time.

use std::ops::Range;

use super::keyboard::READ_SIZE;

/// What was read and is not typed yet.
#[derive(Debug)]
pub(crate) struct Feed {
    buffer: Box<[u8; READ_SIZE]>,
    pending: Range<usize>,
}

/// How far one step came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fed {
    /// Everything that was there is typed.
    Everything,
    /// The console takes no more for the moment.
    Full,
    /// The input is at its end.
    End,
}

impl Default for Feed {
    fn default() -> Self {
        Self {
            buffer: Box::new([0; READ_SIZE]),
            pending: 0..0,
        }
    }
}

impl Feed {
    /// Types what is pending, or else what one `read` gives: `None` when there
    /// is nothing now, 0 at the end.
    pub(crate) fn step(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> Option<usize>,
        enqueue: impl Fn(&[u8]) -> usize,
    ) -> Fed {
        if self.pending.is_empty() {
            match read(self.buffer.as_mut_slice()) {
                None => return Fed::Everything,
                Some(0) => return Fed::End,
                Some(count) => self.pending = 0..count.min(READ_SIZE),
            }
        }
        while let Some(bytes) = self.buffer.get(self.pending.clone()) {
            if bytes.is_empty() {
                break;
            }
            match enqueue(bytes).min(bytes.len()) {
                0 => return Fed::Full,
                taken => self.pending.start += taken,
            }
        }
        Fed::Everything
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::io::Read;

    #[test]
    fn a_console_that_takes_little_at_a_time_gets_everything() {
        let typed = RefCell::new(Vec::new());
        let calls = RefCell::new(0);
        let mut input = &b"a long text"[..];
        let mut feed = Feed::default();
        let mut full = 0;
        loop {
            let fed = feed.step(
                |buffer| input.read(buffer).ok(),
                |bytes| {
                    *calls.borrow_mut() += 1;
                    let taken = bytes.len().min(*calls.borrow() % 3);
                    typed.borrow_mut().extend_from_slice(&bytes[..taken]);
                    taken
                },
            );
            match fed {
                Fed::End => break,
                Fed::Full => full += 1,
                Fed::Everything => {}
            }
        }
        assert_eq!(typed.into_inner(), b"a long text");
        assert!(full > 0);
    }

    #[test]
    fn an_input_that_has_nothing_now_is_not_at_its_end() {
        let mut feed = Feed::default();
        assert_eq!(feed.step(|_| None, <[u8]>::len), Fed::Everything);
        assert_eq!(feed.step(|_| Some(0), <[u8]>::len), Fed::End);
    }
}
