//! The one line that a user reads.

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;

/// The message of `error` and of every cause, separated by colons. A message
/// that repeats its cause's text is not printed twice.
#[must_use]
pub(crate) fn of_error(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            let _ = write!(text, ": {message}");
        }
        cause = error.source();
    }
    text.replace(['\n', '\r'], " ")
}

/// The text without control characters, so that it cannot start a new line or
/// drive the user's terminal, and of a length that one reads.
#[must_use]
pub(crate) fn of_text(text: &str) -> String {
    const LONGEST: usize = 1000;
    text.trim()
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .take(LONGEST)
        .collect()
}

/// Writes `lines` to standard error as one write: others write there too, and
/// a message must not be torn apart by theirs.
pub(crate) fn tell(lines: &str) {
    let _ = std::io::stderr().write_all(format!("{lines}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot do it")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn causes_follow_on_the_same_line() {
        let error = Outer(std::io::Error::other("because\nof this"));
        assert_eq!(of_error(&error), "cannot do it: because of this");
    }
}
